//! One attempt on its way: content, request, answer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fanfare_core::{
    ApplicationId, Attempt, AttemptError, Content, Delivery, EndpointNumber, Offset, Outcome, Partition,
    Timestamp,
    lane::{Failure, FailureKind, Finished, Start, Verdict},
    planted::{Fault, planted},
};
use fanfare_log::Topic;

use crate::{
    contents::{ContentError, Place},
    echo,
    send::{Answer, Request, Target, Transport},
    service::Shared,
};

/// An attempt that came back.
pub(crate) struct Landed {
    pub(crate) endpoint: EndpointNumber,
    pub(crate) start: Start,
    pub(crate) record: Arc<Delivery>,
    /// Wall-clock time of the request.
    pub(crate) at: Timestamp,
    pub(crate) result: Result<Answer, ContentError>,
}

/// Loads the content and makes the attempt.
pub(crate) async fn fly<T: Transport>(
    shared: Arc<Shared<T>>,
    partition: Partition,
    (application, endpoint): (ApplicationId, EndpointNumber),
    target: Arc<Target>,
    record: Arc<Delivery>,
    start: Start,
) -> Landed {
    let content =
        shared.contents.get(place(&record, partition, start.offset), record.endpoints().len() > 1).await;
    let content = match content {
        Ok(content) => may_leave(&shared, application, &record, &content).await.map(|()| content),
        Err(error) => Err(error),
    };
    let at = shared.options.clock.now();
    let result = match content {
        Ok(content) => {
            let request = Request {
                target,
                id: record.id(),
                at,
                payload: content.payload.clone(),
                traceparent: content.traceparent.clone(),
            };
            let mut answer = shared.transport.send(request).await;
            if planted(Fault::FailureSettles) && answer.status == 500 {
                answer.error = None;
            }
            if echo::repeats(&answer.body, &content.payload) {
                answer.body = Bytes::from_static(echo::NOT_KEPT);
            }
            drop(content);
            Ok(answer)
        }
        Err(error) => Err(error),
    };
    Landed { endpoint, start, record, at, result }
}

/// Whether the content may be sent as of now: it is not erased, anywhere, and has not expired.
async fn may_leave<T: Transport>(
    shared: &Shared<T>,
    application: ApplicationId,
    record: &Delivery,
    content: &crate::contents::Content,
) -> Result<(), ContentError> {
    let control = &shared.options.control;
    // What was read before the log went away goes out: by whoever is cut off from it as well.
    if let Err(error) = control.fresh().await {
        tracing::debug!(%error, "what was erased elsewhere is not known now");
    }
    let (partition, offset) = record.message().unwrap_or_else(|| source(record));
    let erased = control.view().is_erased(application, partition, offset);
    let expired = content.expires_at.is_some_and(|at| at <= shared.options.clock.now());
    if erased || expired { Err(ContentError::Gone) } else { Ok(()) }
}

/// Where the record's message stands in `messages`.
fn source(record: &Delivery) -> (Partition, Offset) {
    match record {
        Delivery::Routed { source, .. }
        | Delivery::Alias { source, .. }
        | Delivery::Conflict { source, .. } => (source.partition, source.offset),
        Delivery::Injected { partition, offset, .. } => (*partition, *offset),
    }
}

/// Where the content of the record at `offset` of a delivery partition stands.
fn place(record: &Delivery, partition: Partition, offset: Offset) -> Place {
    if matches!(record, Delivery::Routed { content: Content::Inline { .. }, .. }) {
        return Place { topic: Topic::Deliveries, partition, offset };
    }
    let (partition, offset) = source(record);
    Place { topic: Topic::Messages, partition, offset }
}

/// What the lane is told of an answer. Anything but 2xx is a failure; those that say "nothing can come through now"
/// open the circuit at once.
pub(crate) fn judge(answer: &Answer) -> Finished {
    let Some(error) = answer.error else { return Finished::Delivered };
    let immediate = match error {
        AttemptError::Connect | AttemptError::Tls | AttemptError::Dns | AttemptError::AddressRefused => true,
        AttemptError::Status => {
            answer.status == 429 || (answer.status == 503 && answer.retry_after.is_some())
        }
        AttemptError::Timeout
        | AttemptError::Disconnected
        | AttemptError::BadAnswer
        | AttemptError::PayloadGone => false,
    };
    let kind = if immediate { FailureKind::Immediate } else { FailureKind::Ordinary };
    Finished::Failed(Failure { kind, retry_after: answer.retry_after })
}

/// The attempt as the log keeps it.
pub(crate) fn attempt(landed: &Landed, answer: &Answer, verdict: Verdict) -> Attempt {
    Attempt {
        endpoint: landed.endpoint,
        offset: landed.start.offset,
        number: landed.start.attempt_number,
        trigger: landed.record.trigger(),
        at: landed.at,
        duration: answer.duration,
        outcome: if answer.error.is_none() { Outcome::Delivered } else { Outcome::Failed },
        status: answer.status,
        error: answer.error,
        response: answer.body.clone(),
        due: verdict.due,
        deadline_used: verdict.deadline_used,
    }
}

/// How long the message had been accepted when it was delivered.
pub(crate) fn latency(landed: &Landed, answer: &Answer) -> Option<Duration> {
    match &*landed.record {
        Delivery::Routed { accepted_at, .. } => Some(landed.at.since(*accepted_at) + answer.duration),
        Delivery::Injected { .. } | Delivery::Alias { .. } | Delivery::Conflict { .. } => None,
    }
}
