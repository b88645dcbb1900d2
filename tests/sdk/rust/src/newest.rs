//! What the newest major calls by names of its own.

use serde_json::Value;
pub(super) use svix as sdk;
use svix::{Result, api::Svix};

use crate::check::{input, shown};

#[path = "tour.rs"]
pub(crate) mod tour;

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
    let endpoints = api.endpoint();
    let rotated = endpoints.rotate_secret(app.to_owned(), uid.to_owned(), input(body), None);
    rotated.await.map(|secret| Some(secret.key))
}

pub(super) async fn replace_operational(api: &Svix, uid: &str, body: Value) -> Result<Value> {
    let endpoints = api.operational_webhook().endpoint();
    endpoints.upsert(uid.to_owned(), input(body)).await.map(shown)
}

/// What the major before has not.
pub(super) async fn attempt_stats(api: &Svix, app: &str, uid: &str) -> Result<Option<Value>> {
    let endpoints = api.endpoint();
    let stats = endpoints.get_attempt_stats(app.to_owned(), uid.to_owned(), None);
    stats.await.map(|stats| Some(shown(stats)))
}

/// Likewise.
pub(super) async fn erase_some(api: &Svix, app: &str, ids: Value) -> Result<Option<Value>> {
    let messages = api.message();
    let erased = messages.bulk_expunge_content(app.to_owned(), input(ids), None);
    erased.await.map(|erased| Some(shown(erased)))
}

/// What only the major before has.
pub(super) async fn dashboard(_: &Svix, _: &str) -> Result<Option<Value>> {
    Ok(None)
}
