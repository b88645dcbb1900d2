//! The routes with who may use them: the one list that requests are routed by, and that is shown and tested.
//!
//! There is no way to a handler but through this list, and what it says is checked before the handler is asked. A token
//! that only reads is good for routes that ask for no more than [`Scope::Read`], which are those of GET (and HEAD), and
//! others that say so.

use std::{future::Future, pin::Pin};

use axum::{
    Router,
    extract::{FromRef, Request},
    handler::Handler,
    response::{IntoResponse, Response},
    routing::{MethodFilter, on},
};
use fanfare_control::{Principal, Scope};
use http::{Extensions, HeaderMap, Method};

use crate::{ApiError, Authenticated, Gate};

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Needs no token.
    Anyone,
    /// Whoever has a token. Where the path names an application, that of another one finds nothing there.
    Application,
    /// Not the token of one application.
    Organization,
}

impl Who {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anyone => "anyone",
            Self::Application => "application",
            Self::Organization => "organization",
        }
    }
}

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub method: Method,
    pub path: &'static str,
    pub who: Who,
    /// What the token has to be good for.
    pub scope: Scope,
}

/// Routes of one state, and the list of them.
pub struct Routes<S = ()> {
    router: Router<S>,
    list: Vec<Route>,
    refused: fn(&S, &ApiError),
}

impl<S: Clone + Send + Sync + 'static> Default for Routes<S> {
    fn default() -> Self {
        Self { router: Router::new(), list: Vec::new(), refused: |_, _| {} }
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    pub fn new() -> Self {
        Self::default()
    }

    /// A route that needs no token.
    #[must_use]
    pub fn anyone<H, T>(mut self, method: Method, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.router = self.router.route(path, on(filter(&method), handler));
        self.list.push(Route { method, path, who: Who::Anyone, scope: Scope::Read });
        self
    }

    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.list.extend(other.list);
        self
    }

    pub fn with_state(self, state: S) -> Routes {
        Routes { router: self.router.with_state(state), list: self.list, refused: |(), _| {} }
    }

    pub fn list(&self) -> &[Route] {
        &self.list
    }
}

impl Routes {
    pub(crate) fn into_router(self) -> Router {
        self.router
    }
}

impl<S> Routes<S>
where
    S: Clone + Send + Sync + 'static,
    Gate: FromRef<S>,
{
    /// `told` hears what is refused before a handler is asked, of the routes that are added from now on.
    #[must_use]
    pub fn on_refused(mut self, told: fn(&S, &ApiError)) -> Self {
        self.refused = told;
        self
    }

    #[must_use]
    pub fn get<H: Handler<T, S>, T: 'static>(self, path: &'static str, who: Who, handler: H) -> Self {
        self.route(Method::GET, path, (who, Scope::Read), handler)
    }

    #[must_use]
    pub fn post<H: Handler<T, S>, T: 'static>(self, path: &'static str, who: Who, handler: H) -> Self {
        self.route(Method::POST, path, (who, Scope::Full), handler)
    }

    #[must_use]
    pub fn put<H: Handler<T, S>, T: 'static>(self, path: &'static str, who: Who, handler: H) -> Self {
        self.route(Method::PUT, path, (who, Scope::Full), handler)
    }

    #[must_use]
    pub fn patch<H: Handler<T, S>, T: 'static>(self, path: &'static str, who: Who, handler: H) -> Self {
        self.route(Method::PATCH, path, (who, Scope::Full), handler)
    }

    #[must_use]
    pub fn delete<H: Handler<T, S>, T: 'static>(self, path: &'static str, who: Who, handler: H) -> Self {
        self.route(Method::DELETE, path, (who, Scope::Full), handler)
    }

    /// A route whose scope is not that of its method: one that shows secrets, or a POST that changes nothing.
    #[must_use]
    pub fn route<H: Handler<T, S>, T: 'static>(
        mut self,
        method: Method,
        path: &'static str,
        (who, scope): (Who, Scope),
        handler: H,
    ) -> Self {
        let guarded = Guarded { handler, who, scope, refused: self.refused };
        self.router = self.router.route(path, on(filter(&method), guarded));
        self.list.push(Route { method, path, who, scope });
        self
    }
}

fn filter(method: &Method) -> MethodFilter {
    MethodFilter::try_from(method.clone()).expect("routes have methods that can be routed")
}

/// A handler that is asked only when the list allows it.
struct Guarded<H, S> {
    handler: H,
    who: Who,
    scope: Scope,
    refused: fn(&S, &ApiError),
}

impl<H: Clone, S> Clone for Guarded<H, S> {
    fn clone(&self) -> Self {
        Self { handler: self.handler.clone(), ..*self }
    }
}

impl<H, T, S> Handler<T, S> for Guarded<H, S>
where
    H: Handler<T, S>,
    S: Clone + Send + Sync + 'static,
    Gate: FromRef<S>,
{
    type Future = Pin<Box<dyn Future<Output = Response> + Send>>;

    fn call(self, mut request: Request, state: S) -> Self::Future {
        Box::pin(async move {
            let gate = Gate::from_ref(&state);
            match admit(&gate, request.headers(), request.extensions(), self.who, self.scope).await {
                Ok(authenticated) => {
                    request.extensions_mut().insert(authenticated);
                    self.handler.call(request, state).await
                }
                Err(error) => {
                    (self.refused)(&state, &error);
                    error.into_response()
                }
            }
        })
    }
}

async fn admit(
    gate: &Gate,
    headers: &HeaderMap,
    extensions: &Extensions,
    who: Who,
    scope: Scope,
) -> Result<Authenticated, ApiError> {
    let authenticated = gate.authenticate(headers, extensions).await?;
    let access = authenticated.access();
    if who == Who::Organization && matches!(access.principal, Principal::Application { .. }) {
        return Err(ApiError::forbidden());
    }
    if access.scope < scope {
        return Err(ApiError::read_only());
    }
    Ok(authenticated)
}
