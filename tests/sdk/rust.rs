//! The official Rust SDK: one tour for its two newest majors. What they call by other names stands here.

#[path = "rust/check.rs"]
mod check;

pub(crate) use newest::tour::tour as newest;
pub(crate) use previous::tour::tour as previous;

/// Of the server, and of one tour of it.
pub(crate) struct Visit {
    pub(crate) url: String,
    pub(crate) token: String,
    /// Begins all names of the tour.
    pub(crate) name: String,
}

mod newest {
    use serde_json::Value;
    pub(super) use svix as sdk;
    use svix::{Result, api::Svix};

    use super::check::{input, shown};

    #[path = "../rust/tour.rs"]
    pub(super) mod tour;

    pub(super) const MAJOR: u32 = 2;
    pub(super) const TYPES: &str = "eventTypes";

    pub(super) async fn replace_application(api: &Svix, uid: &str, body: Value) -> Result<Value> {
        api.application().upsert(uid.to_owned(), input(body)).await.map(shown)
    }

    pub(super) async fn replace_event_type(api: &Svix, name: &str, body: Value) -> Result<Value> {
        api.event_type().upsert(name.to_owned(), input(body)).await.map(shown)
    }

    pub(super) async fn replace_endpoint(api: &Svix, app: &str, uid: &str, body: Value) -> Result<Value> {
        api.endpoint().upsert(app.to_owned(), uid.to_owned(), input(body)).await.map(shown)
    }

    pub(super) async fn replace_headers(api: &Svix, app: &str, uid: &str, body: Value) -> Result<()> {
        api.endpoint().set_headers(app.to_owned(), uid.to_owned(), input(body)).await
    }

    /// The new secret, where the answer is read.
    pub(super) async fn rotate(api: &Svix, app: &str, uid: &str, body: Value) -> Result<Option<String>> {
        let rotated = api.endpoint().rotate_secret(app.to_owned(), uid.to_owned(), input(body), None);
        rotated.await.map(|secret| Some(secret.key))
    }
}

mod previous {
    use serde_json::Value;
    pub(super) use svix_previous as sdk;
    use svix_previous::{api::Svix, error::Result};

    use super::check::{input, shown};

    #[allow(clippy::duplicate_mod, reason = "the same tour, with the other SDK")]
    #[path = "../rust/tour.rs"]
    pub(super) mod tour;

    pub(super) const MAJOR: u32 = 1;
    pub(super) const TYPES: &str = "filterTypes";

    pub(super) async fn replace_application(api: &Svix, uid: &str, body: Value) -> Result<Value> {
        api.application().update(uid.to_owned(), input(body)).await.map(shown)
    }

    pub(super) async fn replace_event_type(api: &Svix, name: &str, body: Value) -> Result<Value> {
        api.event_type().update(name.to_owned(), input(body)).await.map(shown)
    }

    pub(super) async fn replace_endpoint(api: &Svix, app: &str, uid: &str, body: Value) -> Result<Value> {
        api.endpoint().update(app.to_owned(), uid.to_owned(), input(body)).await.map(shown)
    }

    pub(super) async fn replace_headers(api: &Svix, app: &str, uid: &str, body: Value) -> Result<()> {
        api.endpoint().update_headers(app.to_owned(), uid.to_owned(), input(body)).await
    }

    pub(super) async fn rotate(api: &Svix, app: &str, uid: &str, body: Value) -> Result<Option<String>> {
        let rotated = api.endpoint().rotate_secret(app.to_owned(), uid.to_owned(), input(body), None);
        rotated.await.map(|()| None)
    }
}
