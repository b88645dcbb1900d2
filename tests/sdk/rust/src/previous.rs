//! What the major before it calls by names of its own.

use serde_json::Value;
pub(super) use svix_previous as sdk;
use svix_previous::{api::Svix, error::Result};

use crate::check::{input, shown};

#[allow(clippy::duplicate_mod, reason = "the same tour, with the other SDK")]
#[path = "tour.rs"]
pub(crate) mod tour;

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
    let endpoints = api.endpoint();
    let rotated = endpoints.rotate_secret(app.to_owned(), uid.to_owned(), input(body), None);
    rotated.await.map(|()| None)
}

pub(super) async fn replace_operational(api: &Svix, uid: &str, body: Value) -> Result<Value> {
    let endpoints = api.operational_webhook().endpoint();
    endpoints.update(uid.to_owned(), input(body)).await.map(shown)
}

/// What only the newest has.
pub(super) async fn attempt_stats(_: &Svix, _: &str, _: &str) -> Result<Option<Value>> {
    Ok(None)
}

/// Likewise.
pub(super) async fn erase_some(_: &Svix, _: &str, _: Value) -> Result<Option<Value>> {
    Ok(None)
}

/// What the newest has no more.
#[allow(deprecated, reason = "it is there, and may be used")]
pub(super) async fn dashboard(api: &Svix, app: &str) -> Result<Option<Value>> {
    let authentication = api.authentication();
    let access = authentication.dashboard_access(app.to_owned(), None);
    access.await.map(|access| Some(shown(access)))
}
