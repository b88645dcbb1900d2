//! A command as the audit log shows it: who, from where, on what; never a secret, a header or a payload.

use std::net::IpAddr;

use fanfare_control::{Actor, Command, Envelope, Origin, Steer, View};
use fanfare_core::{ApiKeyId, ApplicationId, EndpointId, Offset, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

use crate::application::shown;

/// What `action` may be.
pub(crate) const ACTIONS: [&str; 22] = [
    "application.create",
    "application.update",
    "application.delete",
    "endpoint.create",
    "endpoint.update",
    "endpoint.delete",
    "endpoint.disable",
    "endpoint.secret.rotate",
    "event_type.create",
    "event_type.update",
    "event_type.archive",
    "event_type.expunge",
    "token.revoke",
    "token.expire_all",
    "api_key.create",
    "api_key.delete",
    "job.create",
    "job.pause",
    "job.resume",
    "job.cancel",
    "message.erase",
    "report.create",
];

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditedOut {
    /// Its offset: by it a page goes on.
    id: String,
    at: String,
    action: &'static str,
    /// It did nothing, because others were faster or it is a repeat; null when that is not known any more.
    refused: Option<bool>,
    principal: PrincipalOut,
    /// The other end of the connection.
    from: Option<IpAddr>,
    application: Option<ApplicationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<EndpointId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<ApiKeyId>,
    details: Value,
}

#[derive(Debug, Serialize)]
struct PrincipalOut {
    kind: &'static str,
    /// The token's `jti`, or the key's id.
    id: Option<String>,
    /// Of a key that there still is.
    name: Option<String>,
}

/// What a command does, by name; `None`: it is about no organization.
pub(crate) fn action(command: &Command) -> Option<&'static str> {
    Some(match command {
        Command::Install(_) | Command::NoteApiKeyUse { .. } | Command::NoteJobProgress { .. } => return None,
        Command::CreateApplication { .. } => "application.create",
        Command::UpdateApplication { .. } => "application.update",
        Command::DeleteApplication { .. } => "application.delete",
        Command::CreateEndpoint { .. } => "endpoint.create",
        Command::UpdateEndpoint { .. } => "endpoint.update",
        Command::DeleteEndpoint { .. } => "endpoint.delete",
        Command::DisableEndpointByPolicy { .. } => "endpoint.disable",
        Command::RotateSecret { .. } => "endpoint.secret.rotate",
        Command::CreateEventType { .. } => "event_type.create",
        Command::UpdateEventType { .. } => "event_type.update",
        Command::ArchiveEventType { expunge: false, .. } => "event_type.archive",
        Command::ArchiveEventType { expunge: true, .. } => "event_type.expunge",
        Command::RevokeToken { .. } => "token.revoke",
        Command::ExpireTokens { .. } => "token.expire_all",
        Command::CreateApiKey { .. } => "api_key.create",
        Command::DeleteApiKey { .. } => "api_key.delete",
        Command::CreateJob { .. } => "job.create",
        Command::SteerJob { order: Steer::Pause, .. } => "job.pause",
        Command::SteerJob { order: Steer::Resume, .. } => "job.resume",
        Command::SteerJob { order: Steer::Cancel, .. } => "job.cancel",
        Command::EraseContents { .. } => "message.erase",
        Command::CreateReport { .. } => "report.create",
    })
}

/// What is shown of a command; `view` knows what became of it.
pub(crate) fn audited(view: &View, offset: Offset, envelope: &Envelope) -> Option<AuditedOut> {
    let command = &envelope.command;
    Some(AuditedOut {
        id: offset.to_string(),
        at: shown(envelope.at),
        action: action(command)?,
        refused: view.was_refused(offset),
        principal: principal(view, envelope.origin.as_ref()),
        from: envelope.origin.and_then(|origin| origin.from),
        application: command.application(),
        endpoint: endpoint(command),
        event_type: event_type(command),
        api_key: match command {
            Command::CreateApiKey { id, .. } | Command::DeleteApiKey { id, .. } => Some(*id),
            _ => None,
        },
        details: details(command),
    })
}

fn principal(view: &View, origin: Option<&Origin>) -> PrincipalOut {
    let (kind, id, name) = match origin.map(|origin| origin.by) {
        None => ("unknown", None, None),
        Some(Actor::Fanfare) => ("fanfare", None, None),
        Some(Actor::OrganizationToken { id }) => ("organization_token", Some(id.to_string()), None),
        Some(Actor::ApplicationToken { id, .. }) => ("application_token", Some(id.to_string()), None),
        Some(Actor::ApiKey { id }) => {
            ("api_key", Some(id.to_string()), view.api_key(id).map(|key| key.name.clone()))
        }
    };
    PrincipalOut { kind, id, name }
}

fn endpoint(command: &Command) -> Option<EndpointId> {
    match command {
        Command::CreateEndpoint { id, .. }
        | Command::UpdateEndpoint { id, .. }
        | Command::DeleteEndpoint { id, .. }
        | Command::DisableEndpointByPolicy { id, .. }
        | Command::RotateSecret { endpoint: id, .. } => Some(*id),
        Command::CreateJob { endpoint, .. } => *endpoint,
        _ => None,
    }
}

fn event_type(command: &Command) -> Option<String> {
    match command {
        Command::CreateEventType { name, .. }
        | Command::UpdateEventType { name, .. }
        | Command::ArchiveEventType { name, .. } => Some(name.clone()),
        _ => None,
    }
}

/// Named one by one: what is added to a command later is not shown until somebody says so here.
fn details(command: &Command) -> Value {
    let time = |at: &Option<Timestamp>| at.map(shown);
    match command {
        Command::CreateApplication { settings, .. } | Command::UpdateApplication { settings, .. } => {
            json!({ "name": settings.name, "uid": settings.uid, "throttleRate": settings.throttle_rate })
        }
        Command::CreateEndpoint { settings, .. } | Command::UpdateEndpoint { settings, .. } => json!({
            "url": settings.url,
            "uid": settings.uid,
            "disabled": settings.disabled,
            "eventTypes": settings.event_types,
            "channels": settings.channels,
        }),
        Command::DisableEndpointByPolicy { reason, .. } => json!({ "reason": reason }),
        Command::RotateSecret { previous_expires_at, .. } => {
            json!({ "previousExpiresAt": shown(*previous_expires_at) })
        }
        Command::CreateEventType { archived, .. } => json!({ "archived": archived }),
        Command::UpdateEventType { archived, settings, .. } => {
            json!({ "archived": archived, "deprecated": settings.deprecated })
        }
        Command::RevokeToken { expires_at, .. } => json!({ "expiresAt": shown(*expires_at) }),
        Command::ExpireTokens { issued_until, from, sessions, .. } => json!({
            "issuedUntil": shown(*issued_until),
            "from": time(from),
            "sessions": sessions.len(),
        }),
        Command::CreateApiKey { name, scope, expires_at, .. } => {
            json!({ "name": name, "scope": scope, "expiresAt": time(expires_at) })
        }
        Command::CreateJob { id, kind, selection, .. } => json!({
            "task": id,
            "kind": kind,
            "since": shown(selection.since),
            "until": shown(selection.until),
        }),
        Command::SteerJob { id, .. } | Command::CreateReport { id, .. } => json!({ "task": id }),
        Command::EraseContents { offsets, .. } => json!({ "messages": offsets.len() }),
        Command::Install(_)
        | Command::DeleteApplication { .. }
        | Command::DeleteEndpoint { .. }
        | Command::ArchiveEventType { .. }
        | Command::DeleteApiKey { .. }
        | Command::NoteApiKeyUse { .. }
        | Command::NoteJobProgress { .. } => json!({}),
    }
}
