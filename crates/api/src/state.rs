//! What the routes share, and the list of them.

use std::{future::Future, sync::Arc, time::Duration};

use axum::extract::FromRef;
use fanfare_control::{Applied, Command, CommandError, Control, ControlKey, Envelope, Refusal, decide};
use fanfare_core::{Entropy, guard::Guard};
use fanfare_history::History;
use fanfare_http::{ApiError, Authenticated, Gate, Routes};
use fanfare_log::Log;

use crate::{
    api_key, application, audit_log, auth, background_task, endpoint, endpoint_headers, endpoint_secret,
    event_type, event_type_import, history, messages::Messages, portal, precheck, report, resend,
};

/// A change that lost against another one is made again on what the other left; so often.
pub(crate) const TRIES: usize = 8;

/// What the routes need.
#[derive(Clone)]
pub struct State {
    pub gate: Gate,
    /// For signing secrets.
    pub entropy: Arc<dyn Entropy>,
    /// Which addresses endpoints may have: the guard that requests pass when they leave.
    pub guard: Arc<Guard>,
    /// For what is sent again.
    pub log: Arc<dyn Log>,
    pub messages: Arc<dyn Messages>,
    /// What became of messages; none: it is not kept, or not read here.
    pub history: Option<History>,
    /// So long after an erasure is durable every process honours it; nothing where there is one.
    pub lease: Duration,
}

impl State {
    pub(crate) fn control(&self) -> &Control {
        self.gate.control()
    }

    /// Carries out a command of somebody. One that would be refused, or is a repeat, is not written: `control` is kept for
    /// ever, and anybody can repeat a wrong request.
    pub(crate) async fn submit(
        &self,
        who: Authenticated,
        command: Command,
        key: Option<ControlKey>,
    ) -> Result<Applied, CommandError> {
        let envelope = Envelope { at: self.gate.clock().now(), nonce: 0, key, origin: None, command };
        let foreseen = || decide(&self.control().view(), &envelope);
        if foreseen().is_err() {
            // What another process did since may have made it right.
            self.control().apply_to_end().await?;
        }
        match foreseen() {
            Ok(Applied::Accepted(_)) => self.control().submit_from(who.origin(), envelope.command, key).await,
            Ok(repeated @ Applied::Repeated(_)) => Ok(repeated),
            Err(refusal) => Err(refusal.into()),
        }
    }
}

impl FromRef<State> for Gate {
    fn from_ref(state: &State) -> Self {
        state.gate.clone()
    }
}

/// All routes of the control plane.
pub fn routes() -> Routes<State> {
    Routes::new()
        .merge(api_key::routes())
        .merge(application::routes())
        .merge(audit_log::routes())
        .merge(auth::routes())
        .merge(background_task::routes())
        .merge(endpoint::routes())
        .merge(endpoint_headers::routes())
        .merge(endpoint_secret::routes())
        .merge(event_type::routes())
        .merge(event_type_import::routes())
        .merge(history::routes())
        .merge(portal::routes())
        .merge(precheck::routes())
        .merge(report::routes())
        .merge(resend::routes())
}

/// Makes a change by compare-and-set: `command` reads the present state and names its revision; when somebody was
/// faster, it is asked again.
pub(crate) async fn change<F>(
    state: &State,
    who: Authenticated,
    mut command: impl FnMut() -> F,
) -> Result<Applied, ApiError>
where
    F: Future<Output = Result<Command, ApiError>>,
{
    for _ in 0..TRIES {
        match state.submit(who, command().await?, None).await {
            Err(CommandError::Refused(Refusal::StaleRevision { .. })) => {}
            applied => return Ok(applied?),
        }
    }
    Err(contended())
}

pub(crate) fn contended() -> ApiError {
    ApiError::conflict("others keep changing it at the same time; try again")
}
