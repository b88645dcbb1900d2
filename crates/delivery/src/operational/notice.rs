//! What is told, and to whom.

use std::sync::Arc;

use bytes::Bytes;
use fanfare_control::{
    Application, ChangeKind, Control, EndpointChange, OperationalEvent, View, operational_organization,
};
use fanfare_core::{
    ApplicationId, Attempt, AttemptId, Delivery, EndpointId, EndpointNumber, Fingerprint, Identity, Message,
    MessageId, Offset, OrganizationId, Partition, Settlement, Timestamp,
};
use fanfare_log::{Log, LogRecord, ReadError, Topic};
use serde::Serialize;

use super::record::record_at;

/// A fact of deliveries that is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Telling {
    pub(super) endpoint: EndpointNumber,
    pub(super) offset: Offset,
    pub(super) ending: Ending,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Failing(Box<Attempt>),
    Recovered(Box<Attempt>),
    Dead {
        reason: Settlement,
        last: Option<Box<Attempt>>,
    },
    /// All that was unsettled up to `to`.
    DeadRange {
        reason: Settlement,
        to: Offset,
    },
}

/// A message to be.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    pub(super) event: OperationalEvent,
    /// Whose endpoints get it.
    pub(super) application: Arc<Application>,
    /// Of the fact: told again it is the same message.
    key: Fingerprint,
    data: Data,
}

/// Names and shape are Svix's where it has the event.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    app_id: Option<ApplicationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_id: Option<EndpointId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fail_since: Option<String>,
    /// `manual` or `automatic`.
    #[serde(skip_serializing_if = "Option::is_none")]
    trigger: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_id: Option<MessageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_event_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_attempt: Option<LastAttempt>,
    // Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<String>,
    /// Why it is a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// The message that the key or event id stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_msg_id: Option<MessageId>,
    /// It is about many messages, which are listed as dead letters.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    aggregated: bool,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LastAttempt {
    id: AttemptId,
    response_status_code: u16,
    timestamp: String,
}

impl LastAttempt {
    fn of(attempt: &Attempt) -> Self {
        Self { id: attempt.id(), response_status_code: attempt.status, timestamp: attempt.at.to_string() }
    }
}

impl Notice {
    fn new(event: OperationalEvent, application: Arc<Application>, fact: &[&[u8]], data: Data) -> Self {
        let mut parts = vec![&b"operational"[..], application.id.as_bytes(), event.as_str().as_bytes()];
        parts.extend(fact);
        let key = Fingerprint::of(&parts);
        Self { event, application, key, data }
    }

    /// What is said of a fact may differ from telling to telling, as names do: it is the same message all the same.
    pub(super) fn identity(&self) -> Identity {
        Identity { key: Some(self.key), event_id: None, body: self.key, short_window: false }
    }

    /// What is told of one endpoint keeps its order.
    pub(super) fn ordering_key(&self) -> Option<String> {
        self.data.endpoint_id.map(|id| id.to_string())
    }

    pub(super) fn payload(&self) -> Bytes {
        #[derive(Serialize)]
        struct Payload<'a> {
            r#type: &'static str,
            data: &'a Data,
        }
        let payload = Payload { r#type: self.event.as_str(), data: &self.data };
        serde_json::to_vec(&payload).expect("texts and numbers become JSON").into()
    }
}

/// The application that an organization is told by, if it wants to be told of this.
fn listener(view: &View, organization: OrganizationId, event: OperationalEvent) -> Option<Arc<Application>> {
    if organization == operational_organization() {
        return None;
    }
    view.operational_application(organization).filter(|application| view.wants(application, event))
}

fn uid_of(view: &View, application: ApplicationId) -> Option<String> {
    view.application_by_id(application)?.settings.uid.clone()
}

/// Of what happened to an endpoint.
pub(super) fn of_change(control: &Control, change: &EndpointChange) -> Option<Notice> {
    let event = match change.kind {
        ChangeKind::Created => OperationalEvent::EndpointCreated,
        ChangeKind::Updated => OperationalEvent::EndpointUpdated,
        ChangeKind::Deleted => OperationalEvent::EndpointDeleted,
        ChangeKind::Enabled => OperationalEvent::EndpointEnabled,
        ChangeKind::Disabled | ChangeKind::DisabledByPolicy { .. } => OperationalEvent::EndpointDisabled,
    };
    let (trigger, failing_since) = match change.kind {
        ChangeKind::Disabled => (Some("manual"), None),
        ChangeKind::DisabledByPolicy { failing_since } => (Some("automatic"), failing_since),
        _ => (None, None),
    };
    let view = control.view();
    let application = listener(&view, change.organization, event)?;
    let data = Data {
        app_id: Some(change.application),
        app_uid: uid_of(&view, change.application),
        endpoint_id: Some(change.endpoint),
        endpoint_uid: change.uid.as_deref().map(str::to_owned),
        fail_since: failing_since.map(|since: Timestamp| since.to_string()),
        trigger,
        ..Data::default()
    };
    Some(Notice::new(event, application, &[&change.offset.0.to_be_bytes()], data))
}

/// Of a message that was dropped because its key or event id stands for another one.
pub(super) async fn of_conflict(
    log: &dyn Log,
    control: &Control,
    record: &LogRecord,
) -> Result<Option<Notice>, ReadError> {
    let Ok(Delivery::Conflict { source, id, first }) = Delivery::decode(&record.head) else {
        return Ok(None);
    };
    let Some(message) = message_at(log, source.partition, source.offset).await? else { return Ok(None) };
    let event = OperationalEvent::IdempotencyConflict;
    let view = control.view();
    let Some(application) = listener(&view, message.organization, event) else { return Ok(None) };
    let data = Data {
        app_id: Some(message.application),
        app_uid: uid_of(&view, message.application),
        msg_id: Some(id),
        msg_event_id: message.event_id,
        event_type: Some(message.event_type),
        first_msg_id: Some(first),
        ..Data::default()
    };
    Ok(Some(Notice::new(event, application, &[id.as_bytes()], data)))
}

/// Of a fact of deliveries.
pub(super) async fn of_telling(
    (log, control): (&dyn Log, &Control),
    partition: Partition,
    telling: Telling,
) -> Result<Vec<Notice>, ReadError> {
    let events = telling.events();
    let Some((mut data, listeners)) = whom(control, telling.endpoint, &events) else { return Ok(Vec::new()) };
    match &telling.ending {
        Ending::DeadRange { reason, .. } => {
            data.reason = Some(reason.as_str());
            data.aggregated = true;
        }
        ending => {
            // What nobody can name any more is not told.
            let Some(delivery) = delivery_at(log, partition, telling.offset).await? else {
                return Ok(Vec::new());
            };
            data.msg_id = Some(delivery.id());
            let (of, at) = match &delivery {
                Delivery::Injected { partition, offset, .. } => (*partition, *offset),
                routed => match routed.source() {
                    Some(source) => (source.partition, source.offset),
                    None => return Ok(Vec::new()),
                },
            };
            if let Some(message) = message_at(log, of, at).await? {
                data.msg_event_id = message.event_id;
                data.event_type = Some(message.event_type);
            }
            data.last_attempt = ending.last_attempt().map(LastAttempt::of);
        }
    }
    let (number, from) = (telling.endpoint.0.to_be_bytes(), telling.offset.0.to_be_bytes());
    let to = match telling.ending {
        Ending::DeadRange { to, .. } => to.0.to_be_bytes(),
        _ => from,
    };
    let fact: [&[u8]; 3] = [&number, &from, &to];
    let notices = listeners.into_iter().map(|(event, application)| {
        let reason = match telling.ending {
            Ending::Dead { reason, .. } if event == OperationalEvent::DeadLetter => Some(reason.as_str()),
            _ => data.reason,
        };
        Notice::new(event, application, &fact, Data { reason, ..data.clone() })
    });
    Ok(notices.collect())
}

impl Telling {
    fn events(&self) -> Vec<OperationalEvent> {
        match &self.ending {
            Ending::Failing(_) => vec![OperationalEvent::AttemptFailing],
            Ending::Recovered(_) => vec![OperationalEvent::AttemptRecovered],
            Ending::Dead { reason: Settlement::Exhausted, .. } => {
                vec![OperationalEvent::AttemptExhausted, OperationalEvent::DeadLetter]
            }
            Ending::Dead { .. } | Ending::DeadRange { .. } => vec![OperationalEvent::DeadLetter],
        }
    }
}

impl Ending {
    fn last_attempt(&self) -> Option<&Attempt> {
        match self {
            Self::Failing(attempt) | Self::Recovered(attempt) => Some(attempt),
            Self::Dead { last, .. } => last.as_deref(),
            Self::DeadRange { .. } => None,
        }
    }
}

/// Events, each with the application that tells of it.
type Told = Vec<(OperationalEvent, Arc<Application>)>;

/// Names of an endpoint and its application, and who wants to know which of the events of it; nothing where nobody does.
fn whom(control: &Control, number: EndpointNumber, events: &[OperationalEvent]) -> Option<(Data, Told)> {
    let view = control.view();
    let (id, uid, application) = match view.endpoint_by_number(number) {
        Some(endpoint) => (endpoint.id, endpoint.settings.uid.clone(), endpoint.application),
        None => view.former_endpoint(number).map(|former| (former.id, None, former.application))?,
    };
    let application = view.application_by_id(application)?;
    let listeners: Vec<_> = events
        .iter()
        .filter_map(|event| Some((*event, listener(&view, application.organization, *event)?)))
        .collect();
    let data = Data {
        app_id: Some(application.id),
        app_uid: application.settings.uid.clone(),
        endpoint_id: Some(id),
        endpoint_uid: uid,
        ..Data::default()
    };
    (!listeners.is_empty()).then_some((data, listeners))
}

async fn message_at(
    log: &dyn Log,
    partition: Partition,
    offset: Offset,
) -> Result<Option<Message>, ReadError> {
    let record = record_at(log, (Topic::Messages, partition), offset).await?;
    Ok(record.and_then(|record| Message::decode(&record.head).ok()))
}

async fn delivery_at(
    log: &dyn Log,
    partition: Partition,
    offset: Offset,
) -> Result<Option<Delivery>, ReadError> {
    let record = record_at(log, (Topic::Deliveries, partition), offset).await?;
    Ok(record.and_then(|record| Delivery::decode(&record.head).ok()))
}
