//! `DELETE …/attempt/{attempt_id}/content`: what an attempt was answered is shown no more.

use axum::extract::State as Shared;
use fanfare_core::{AttemptRecord, Fact, Offset, Partition};
use fanfare_http::{ApiError, Authenticated, Routes, Who};
use fanfare_log::{NewRecord, Sync, Topic};
use http::StatusCode;

use super::attempt::{AttemptPath, find_attempt};
use crate::{State, resend::not_appended};

pub(crate) fn routes() -> Routes<State> {
    let path = "/api/v1/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}/content";
    Routes::new().delete(path, Who::Application, erase)
}

async fn erase(
    Shared(state): Shared<State>,
    who: Authenticated,
    path: AttemptPath,
) -> Result<StatusCode, ApiError> {
    let row = find_attempt(&state, who, path).await?;
    let Some(partition) = partition_of(&state, row.endpoint) else {
        return Err(ApiError::not_found("attempt", &row.id.to_string()));
    };
    let fact = Fact::AnswerErased {
        endpoint: row.endpoint,
        offset: row.offset,
        number: row.number,
        made_at: row.at,
        at: state.gate.clock().now(),
    };
    tell(&state, partition, vec![fact]).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An endpoint's partition of `deliveries`; that of one that is deleted too, unless it is forgotten.
pub(super) fn partition_of(state: &State, number: fanfare_core::EndpointNumber) -> Option<Partition> {
    let view = state.control().view();
    let present = view.endpoint_by_number(number).map(|endpoint| endpoint.partition);
    present.or_else(|| view.former_endpoint(number).map(|former| former.partition))
}

/// Facts about what may be seen, durable. They count whoever holds the partition, so they name no epoch.
pub(super) async fn tell(state: &State, partition: Partition, facts: Vec<Fact>) -> Result<(), ApiError> {
    debug_assert!(facts.iter().all(Fact::hides), "what happened to deliveries is told by who holds them");
    let record = AttemptRecord::Facts { epoch: Offset::ZERO, facts };
    let records = vec![NewRecord::head(record.encode())];
    let pending = state.log.append(Topic::Attempts, partition, records, Sync::Now).await;
    pending.map_err(not_appended)?.await.map_err(not_appended)?;
    Ok(())
}
