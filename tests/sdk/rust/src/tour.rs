//! The tour, with the SDK that the module around it names.

#[path = "again.rs"]
mod again;
#[path = "messages.rs"]
mod messages;
#[path = "organization.rs"]
mod organization;
#[path = "resources.rs"]
mod resources;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::sdk;
use crate::{
    Visit,
    check::{Checks, shown},
    receiver::{Delivery, Receiver},
};
use sdk::api::{Svix, SvixOptions};

/// How many checks were made.
pub(crate) async fn tour(visit: &Visit) -> Result<u32> {
    let tour = Tour { api: connect(visit, &visit.token), visit, receiver: Receiver::start()? };
    let mut checks = Checks::default();
    let application = tour.applications(&mut checks).await?;
    let app = tour.name("-a");
    tour.pages(&mut checks, application).await?;
    let event_type = tour.event_types(&mut checks).await?;
    let imported = tour.import(&mut checks).await?;
    let endpoint = tour.endpoints(&mut checks, &app, &event_type).await?;
    tour.headers(&mut checks, &app, &endpoint).await?;
    let told = tour.operational(&mut checks).await?;
    let (message, secret) = tour.messages(&mut checks, (&app, &endpoint), &event_type).await?;
    tour.reads(&mut checks, &app, &message).await?;
    tour.attempts(&mut checks, (&app, &endpoint), &message).await?;
    tour.resend(&mut checks, (&app, &endpoint), &message).await?;
    tour.example(&mut checks, (&app, &endpoint), &imported, &secret).await?;
    tour.precheck(&mut checks, &app, &event_type).await?;
    let failed = tour.again(&mut checks, (&app, &endpoint), &event_type, (&message, &told)).await?;
    tour.statistics(&mut checks, &app, &event_type).await?;
    tour.rotation(&mut checks, (&app, &endpoint), &event_type, &secret).await?;
    tour.tokens(&mut checks, &app).await?;
    tour.erases(&mut checks, (&app, &endpoint), &message, &failed).await?;
    tour.ends(&mut checks, &app, &endpoint).await?;
    Ok(checks.0)
}

struct Tour<'a> {
    api: Svix,
    visit: &'a Visit,
    receiver: Receiver,
}

fn connect(visit: &Visit, token: &str) -> Svix {
    let options = SvixOptions { server_url: Some(visit.url.clone()), ..SvixOptions::default() };
    Svix::new(token.to_owned(), Some(options))
}

/// An error as (status, body).
fn outcome<T>(result: sdk::error::Result<T>) -> Result<(), (u16, Value)> {
    match result {
        Ok(_) => Ok(()),
        Err(sdk::error::Error::Http(error)) => Err((error.status.as_u16(), shown(error.payload))),
        Err(sdk::error::Error::Validation(error)) => Err((error.status.as_u16(), shown(error.payload))),
        Err(error) => Err((0, Value::String(error.to_string()))),
    }
}

fn verifies(secret: &str, delivery: &Delivery, body: &[u8]) -> bool {
    let webhook = sdk::webhooks::Webhook::new(secret).expect("it is a secret");
    webhook.verify(body, &delivery.headers).is_ok()
}

fn id_of(shown: &Value) -> Result<String> {
    shown["id"].as_str().map(str::to_owned).context("it has an id")
}

impl Tour<'_> {
    fn name(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.visit.name)
    }
}
