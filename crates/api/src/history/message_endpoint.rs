//! `GET …/msg/{msg_id}/endpoint`: the endpoints of a message, and how it stands at each.

use axum::extract::State as Shared;
use fanfare_control::View;
use fanfare_core::EndpointId;
use fanfare_history::{DeliveryFilter, DeliveryRow, EndpointAt, Reach};
use fanfare_http::{ApiError, Authenticated, List, Order, Page, Path, Routes, Who};
use serde::Serialize;

use super::{
    answer::{Shown, list},
    attempt::former_id,
    endpoint_message::StandingOut,
    filter::{status_class, window},
    message::MessagePath,
    reading::refused,
    status::{STATUSES, Status},
};
use crate::{State, application::shown, asked::Asked, endpoint_form::EndpointOut};

pub(crate) fn routes() -> Routes<State> {
    let path = "/api/v1/app/{app_id}/msg/{msg_id}/endpoint";
    Routes::new().get(path, Who::Application, list_all)
}

#[derive(Debug, Serialize)]
struct MessageEndpointOut {
    #[serde(flatten)]
    endpoint: Described,
    #[serde(flatten)]
    standing: StandingOut,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Described {
    Present(Box<EndpointOut>),
    Former(FormerOut),
}

/// What clients need to parse an endpoint that is deleted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FormerOut {
    id: String,
    url: &'static str,
    description: &'static str,
    version: u16,
    disabled: bool,
    deleted: bool,
    created_at: String,
    updated_at: String,
}

impl Described {
    fn of(view: &View, row: &DeliveryRow) -> Self {
        if let Some(endpoint) = view.endpoint_by_number(row.endpoint) {
            return Self::Present(Box::new(EndpointOut::of(&endpoint)));
        }
        let former = view.former_endpoint(row.endpoint);
        // Of one that is forgotten clients want to parse times all the same.
        let created_at = former.map_or(row.message.accepted_at, |former| former.created_at);
        let updated_at = former.map_or(row.message.accepted_at, |former| former.updated_at);
        Self::Former(FormerOut {
            id: former_id(view, row.endpoint),
            url: "",
            description: "",
            version: 1,
            disabled: true,
            deleted: true,
            created_at: shown(created_at),
            updated_at: shown(updated_at),
        })
    }
}

async fn list_all(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path((app_id, msg_id)): MessagePath,
    page: Page,
    mut asked: Asked,
) -> Result<Shown<List<MessageEndpointOut>>, ApiError> {
    let application = who.application(&state.gate, &app_id).await?;
    let status = asked.word("status", &STATUSES);
    let class = status_class(&mut asked);
    // Clients that are too old to know of cancelled deliveries have no way to say so here.
    let expanded = asked.flag("expanded_statuses").unwrap_or(true);
    asked.finish()?;
    let mut window = window(&page, Order::Ascending);
    let reading = state.reading(Reach::Everything).await?;
    let message = reading.message(&application, &msg_id).await?;
    // Clients may go on behind an endpoint that they know from elsewhere.
    if let Some(endpoint) = window.mark.as_deref().and_then(|mark| mark.parse::<EndpointId>().ok()) {
        let known = {
            let view = state.control().view();
            let present = view.endpoint(application.id, &endpoint.to_string());
            let present = present.map(|endpoint| (endpoint.number, endpoint.partition));
            let mut former = view.former_endpoints_of(application.id).into_iter();
            let former = former.find(|former| former.id == endpoint);
            present.or(former.map(|former| (former.number, former.partition)))
        };
        if let Some((number, partition)) = known {
            let delivery = reading.history.delivery(&message, EndpointAt { number, partition }).await;
            let delivery = delivery.map_err(refused)?;
            window.mark = delivery.map(|delivery| delivery.id.to_string()).or(window.mark);
        }
    }
    let filter = DeliveryFilter {
        standings: status.map(Status::standings).unwrap_or_default(),
        class,
        ..DeliveryFilter::default()
    };
    let rows = reading.history.deliveries_of_message(&message, &filter, &window).await.map_err(refused)?;
    let view = state.control().view();
    let body = list(rows, |row| MessageEndpointOut {
        endpoint: Described::of(&view, &row),
        standing: StandingOut::of(&row, expanded),
    });
    drop(view);
    Ok(Shown { body, room: None, behind: reading.behind })
}
