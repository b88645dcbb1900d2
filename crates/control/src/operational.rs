//! Operational webhooks: by which an organization is told what becomes of its endpoints and messages.
//!
//! They are messages of an application that Fanfare keeps for the organization, so that order, retries, signatures and
//! dead letters are those of every message. These applications belong to an organization of their own: no token of
//! another one finds them among its applications, and nothing is told of what happens to their endpoints.

use std::sync::Arc;

use fanfare_core::OrganizationId;

use crate::{
    command::Command,
    handle::Control,
    model::{Application, ApplicationSettings, EventTypeSettings},
    view::View,
};

/// The owner of all applications that carry operational webhooks; the same as Svix's.
pub fn operational_organization() -> OrganizationId {
    "org_00000000000SvixManagement00".parse().expect("the id is well-formed")
}

/// What is told. The names that Svix has too mean the same there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperationalEvent {
    EndpointCreated,
    EndpointUpdated,
    EndpointDeleted,
    EndpointEnabled,
    EndpointDisabled,
    AttemptFailing,
    AttemptExhausted,
    AttemptRecovered,
    DeadLetter,
    IdempotencyConflict,
}

impl OperationalEvent {
    pub const ALL: [Self; 10] = [
        Self::EndpointCreated,
        Self::EndpointUpdated,
        Self::EndpointDeleted,
        Self::EndpointEnabled,
        Self::EndpointDisabled,
        Self::AttemptFailing,
        Self::AttemptExhausted,
        Self::AttemptRecovered,
        Self::DeadLetter,
        Self::IdempotencyConflict,
    ];

    /// The event type of its messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EndpointCreated => "endpoint.created",
            Self::EndpointUpdated => "endpoint.updated",
            Self::EndpointDeleted => "endpoint.deleted",
            Self::EndpointEnabled => "endpoint.enabled",
            Self::EndpointDisabled => "endpoint.disabled",
            Self::AttemptFailing => "message.attempt.failing",
            Self::AttemptExhausted => "message.attempt.exhausted",
            Self::AttemptRecovered => "message.attempt.recovered",
            Self::DeadLetter => "message.dead_letter",
            Self::IdempotencyConflict => "message.idempotency_conflict",
        }
    }

    pub const fn description(self) -> &'static str {
        match self {
            Self::EndpointCreated => "An endpoint was created",
            Self::EndpointUpdated => "Settings, headers or the secret of an endpoint were changed",
            Self::EndpointDeleted => "An endpoint was deleted",
            Self::EndpointEnabled => "An endpoint was enabled",
            Self::EndpointDisabled => "An endpoint was disabled, by hand or because it fails",
            Self::AttemptFailing => "A message failed for the fourth time at an endpoint",
            Self::AttemptExhausted => "A message ran out of attempts at an endpoint",
            Self::AttemptRecovered => "A message was delivered after four failures or more",
            Self::DeadLetter => "Messages became dead letters at an endpoint",
            Self::IdempotencyConflict => {
                "A key or event id was used for two messages; the second was dropped"
            }
        }
    }
}

impl View {
    /// The application that carries an organization's operational webhooks, once it was made.
    pub fn operational_application(&self, organization: OrganizationId) -> Option<Arc<Application>> {
        self.application(operational_organization(), &organization.to_string())
    }

    /// Whether an enabled endpoint of this application wants what is told of the event.
    pub fn wants(&self, application: &Application, event: OperationalEvent) -> bool {
        !self.matching(application.id, event.as_str(), &[]).is_empty()
    }

    /// Whether any organization is told anything.
    pub fn anyone_is_told(&self) -> bool {
        let mut applications = self.applications(operational_organization());
        applications
            .any(|application| self.endpoints_of(application.id).any(|endpoint| !endpoint.settings.disabled))
    }
}

impl Control {
    /// Commands that make what an organization's operational webhooks need and do not have yet. One that is refused,
    /// because somebody else was faster, is as good as carried out.
    pub fn operational_needs(&self, organization: OrganizationId) -> Vec<Command> {
        let owner = operational_organization();
        let view = self.view();
        let missing = |event: &OperationalEvent| view.event_type(owner, event.as_str()).is_none();
        let mut commands: Vec<Command> = OperationalEvent::ALL
            .into_iter()
            .filter(missing)
            .map(|event| Command::CreateEventType {
                organization: owner,
                name: event.as_str().to_owned(),
                archived: false,
                settings: EventTypeSettings {
                    description: event.description().to_owned(),
                    ..EventTypeSettings::default()
                },
            })
            .collect();
        let has_application = view.operational_application(organization).is_some();
        drop(view);
        if !has_application {
            let settings = ApplicationSettings {
                name: "Operational webhooks".to_owned(),
                uid: Some(organization.to_string()),
                ..ApplicationSettings::default()
            };
            commands.push(self.new_application(owner, settings));
        }
        commands
    }
}
