//! What a command does to the view: a pure function, the same in every process.
//!
//! [`decide`] only reads; [`View`](crate::View) carries out the effect. So a refused command cannot have changed
//! anything.

mod credentials;
mod jobs;

use std::sync::Arc;

use fanfare_core::{
    ApiKeyId, ApplicationId, EndpointId, EndpointNumber, Fingerprint, JobId, Offset, OrganizationId,
    Partition, Timestamp, limits,
};

use crate::{
    command::{Command, Envelope},
    jobs::Job,
    keys::Known,
    model::{
        ApiKey, Application, ApplicationSettings, Endpoint, EndpointSecret, EndpointSettings, EventType,
        EventTypeSettings, Installation,
    },
    reports::{Report, ReportKind},
    view::View,
};

/// What a record does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Installed(Arc<Installation>),
    /// As it is from now on.
    Application(Arc<Application>),
    ApplicationDeleted(ApplicationId),
    Endpoint(Arc<Endpoint>),
    EndpointDeleted {
        application: ApplicationId,
        id: EndpointId,
    },
    EventType(Arc<EventType>),
    EventTypeExpunged {
        organization: OrganizationId,
        name: String,
    },
    TokenRevoked {
        token: Fingerprint,
        expires_at: Timestamp,
        at: Timestamp,
    },
    /// Of all sessions, if there are none.
    TokensExpired {
        application: ApplicationId,
        sessions: Vec<Fingerprint>,
        issued_until: Timestamp,
        /// [`Timestamp::ZERO`]: at once.
        from: Timestamp,
        at: Timestamp,
    },
    ApiKey(Arc<ApiKey>),
    ApiKeyDeleted(ApiKeyId),
    /// As they are from now on.
    ApiKeysUsed(Vec<Arc<ApiKey>>),
    Job(Arc<Job>),
    ContentsErased {
        partition: Partition,
        offsets: Vec<Offset>,
    },
    Report(Arc<Report>),
}

/// What became of a command that was not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    Accepted(Effect),
    /// The same POST was carried out before and nothing changes; what it made then may have changed since.
    Repeated(Resource),
}

/// Names what a POST made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    Application(ApplicationId),
    Endpoint { application: ApplicationId, id: EndpointId },
    EventType { organization: OrganizationId, name: String },
    ApiKey(ApiKeyId),
    Job(JobId),
    Report(JobId),
}

/// Why a command is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the installation exists")]
    Installed,
    #[error("application {0} does not exist")]
    NoApplication(ApplicationId),
    #[error("endpoint {0} does not exist")]
    NoEndpoint(EndpointId),
    #[error("event type `{0}` does not exist")]
    NoEventType(String),
    #[error("the uid `{0}` is taken")]
    UidTaken(String),
    #[error("the id {0} is taken")]
    IdTaken(String),
    #[error("event type `{0}` exists")]
    EventTypeExists(String),
    /// An endpoint filters by event types that do not exist.
    #[error("event types that do not exist: {}", .0.join(", "))]
    UnknownEventTypes(Vec<String>),
    #[error("it was changed by somebody else: expected revision {expected}, found {found}")]
    StaleRevision { expected: u64, found: u64 },
    #[error("the idempotency key was used for a request with another body")]
    KeyReused,
    #[error("partition {0} does not exist")]
    NoPartition(Partition),
    #[error("no endpoint numbers are left")]
    NumbersExhausted,
    #[error("API key {0} does not exist")]
    NoApiKey(ApiKeyId),
    #[error("an organization has at most {} API keys", limits::API_KEYS)]
    TooManyApiKeys,
    #[error(
        "{} tokens were revoked that have not expired yet, and no more can be remembered",
        limits::REVOKED_TOKENS
    )]
    TooManyRevoked,
    #[error("{} orders to expire the tokens of the application are still to come", limits::EXPIRIES_PENDING)]
    TooManyExpiries,
    #[error(
        "{} sessions of the application were expired whose tokens may still be about",
        limits::SESSIONS_EXPIRED
    )]
    TooManySessions,
    #[error("job {0} does not exist")]
    NoJob(JobId),
    #[error("job {0} has come to its end")]
    JobEnded(JobId),
    #[error("an endpoint has at most {} jobs that have not ended", limits::JOBS_PER_ENDPOINT)]
    TooManyJobs,
    #[error("job {0} is of a kind that is about an endpoint, or about none")]
    WrongJob(JobId),
    #[error("job {0} erases, which cannot be stopped")]
    ErasesToTheEnd(JobId),
}

/// What `envelope` does to `view`. Of a command that is refused, nothing.
pub fn decide(view: &View, envelope: &Envelope) -> Result<Applied, Refusal> {
    match envelope.key.map_or(Known::No, |key| view.keys().known(key, envelope.at)) {
        Known::No => decide_command(view, envelope).map(Applied::Accepted),
        Known::Same(resource) => Ok(Applied::Repeated(resource.clone())),
        Known::OtherBody => Err(Refusal::KeyReused),
    }
}

fn decide_command(view: &View, envelope: &Envelope) -> Result<Effect, Refusal> {
    let at = envelope.at;
    match &envelope.command {
        Command::Install(installation) => install(view, installation),
        Command::CreateApplication { id, organization, partition, settings } => {
            create_application(view, at, *id, *organization, *partition, settings)
        }
        Command::UpdateApplication { id, expected_revision, settings } => {
            update_application(view, at, *id, *expected_revision, settings)
        }
        Command::DeleteApplication { id } => {
            application(view, *id)?;
            Ok(Effect::ApplicationDeleted(*id))
        }
        Command::CreateEndpoint { id, application, partition, settings, secret } => {
            create_endpoint(view, at, (*application, *id), *partition, settings, secret)
        }
        Command::UpdateEndpoint { application, id, expected_revision, settings } => {
            update_endpoint(view, at, (*application, *id), *expected_revision, settings)
        }
        Command::DeleteEndpoint { application, id } => {
            endpoint(view, *application, *id)?;
            Ok(Effect::EndpointDeleted { application: *application, id: *id })
        }
        Command::DisableEndpointByPolicy { application, id, reason, .. } => {
            disable_endpoint(view, at, (*application, *id), reason)
        }
        Command::RotateSecret { application, endpoint, secret, previous_expires_at } => {
            rotate_secret(view, at, (*application, *endpoint), secret, *previous_expires_at)
        }
        Command::CreateEventType { organization, name, archived, settings } => {
            create_event_type(view, at, (*organization, name), *archived, settings)
        }
        Command::UpdateEventType { organization, name, expected_revision, archived, settings } => {
            let old = event_type(view, *organization, name)?;
            compare(*expected_revision, old.revision)?;
            Ok(changed_event_type(old, at, archived.unwrap_or(old.archived), settings.clone()))
        }
        Command::ArchiveEventType { organization, name, expunge } => {
            let old = event_type(view, *organization, name)?;
            if *expunge {
                return Ok(Effect::EventTypeExpunged { organization: *organization, name: name.clone() });
            }
            Ok(changed_event_type(old, at, true, old.settings.clone()))
        }
        Command::RevokeToken { token, expires_at, .. } => {
            credentials::revoke_token(view, at, *token, *expires_at)
        }
        Command::ExpireTokens { application, issued_until, from, sessions } => {
            credentials::expire_tokens(view, at, *application, (*issued_until, *from), sessions)
        }
        Command::CreateApiKey { .. } => credentials::create_api_key(view, at, &envelope.command),
        Command::DeleteApiKey { organization, id } => credentials::delete_api_key(view, *organization, *id),
        Command::NoteApiKeyUse { uses } => Ok(credentials::note_api_key_use(view, uses)),
        Command::CreateJob { .. } => jobs::create(view, at, &envelope.command),
        Command::SteerJob { application, id, order } => jobs::steer(view, at, (*application, *id), *order),
        Command::NoteJobProgress { id, progress, ended } => jobs::note(view, at, *id, progress, *ended),
        Command::EraseContents { application: owner, offsets } => {
            let partition = application(view, *owner)?.partition;
            Ok(Effect::ContentsErased { partition, offsets: offsets.clone() })
        }
        Command::CreateReport { id, organization, report } => {
            create_report(view, at, *id, *organization, report)
        }
    }
}

fn install(view: &View, installation: &Installation) -> Result<Effect, Refusal> {
    if view.installation().is_some() {
        return Err(Refusal::Installed);
    }
    Ok(Effect::Installed(Arc::new(installation.clone())))
}

fn create_application(
    view: &View,
    at: Timestamp,
    id: ApplicationId,
    organization: OrganizationId,
    partition: Partition,
    settings: &ApplicationSettings,
) -> Result<Effect, Refusal> {
    if view.application_by_id(id).is_some() {
        return Err(Refusal::IdTaken(id.to_string()));
    }
    partition_exists(partition, view.installation().map(|installation| installation.message_partitions))?;
    if let Some(uid) = &settings.uid {
        application_uid_free(view, organization, uid)?;
    }
    let settings = settings.clone();
    Ok(Effect::Application(Arc::new(Application {
        id,
        organization,
        settings,
        partition,
        created_at: at,
        updated_at: at,
        revision: 1,
    })))
}

fn update_application(
    view: &View,
    at: Timestamp,
    id: ApplicationId,
    expected_revision: Option<u64>,
    settings: &ApplicationSettings,
) -> Result<Effect, Refusal> {
    let old = application(view, id)?;
    compare(expected_revision, old.revision)?;
    if let Some(uid) = &settings.uid
        && old.settings.uid.as_ref() != Some(uid)
    {
        application_uid_free(view, old.organization, uid)?;
    }
    let settings = settings.clone();
    Ok(Effect::Application(Arc::new(Application {
        settings,
        updated_at: at,
        revision: old.revision + 1,
        ..old.as_ref().clone()
    })))
}

fn create_endpoint(
    view: &View,
    at: Timestamp,
    (application_id, id): (ApplicationId, EndpointId),
    partition: Partition,
    settings: &EndpointSettings,
    secret: &EndpointSecret,
) -> Result<Effect, Refusal> {
    let application = application(view, application_id)?;
    if view.endpoint_by_id(application_id, id).is_some() {
        return Err(Refusal::IdTaken(id.to_string()));
    }
    partition_exists(partition, view.installation().map(|installation| installation.delivery_partitions))?;
    if let Some(uid) = &settings.uid {
        endpoint_uid_free(view, application_id, uid)?;
    }
    event_types_exist(view, application.organization, settings, None)?;
    let number = view.next_number();
    if number == EndpointNumber(u32::MAX) {
        return Err(Refusal::NumbersExhausted);
    }
    Ok(Effect::Endpoint(Arc::new(Endpoint {
        id,
        number,
        organization: application.organization,
        application: application_id,
        partition,
        settings: settings.clone(),
        secrets: vec![secret.clone()],
        disabled_by_policy: None,
        created_at: at,
        updated_at: at,
        revision: 1,
    })))
}

fn update_endpoint(
    view: &View,
    at: Timestamp,
    (application_id, id): (ApplicationId, EndpointId),
    expected_revision: Option<u64>,
    settings: &EndpointSettings,
) -> Result<Effect, Refusal> {
    let old = endpoint(view, application_id, id)?;
    compare(expected_revision, old.revision)?;
    if let Some(uid) = &settings.uid
        && old.settings.uid.as_ref() != Some(uid)
    {
        endpoint_uid_free(view, application_id, uid)?;
    }
    event_types_exist(view, old.organization, settings, Some(&old.settings))?;
    let mut new = changed(old, at);
    new.settings = settings.clone();
    if !settings.disabled {
        new.disabled_by_policy = None;
    }
    Ok(Effect::Endpoint(Arc::new(new)))
}

fn disable_endpoint(
    view: &View,
    at: Timestamp,
    (application_id, id): (ApplicationId, EndpointId),
    reason: &str,
) -> Result<Effect, Refusal> {
    let old = endpoint(view, application_id, id)?;
    // Whoever disabled it first is the reason.
    if old.settings.disabled {
        return Ok(Effect::Endpoint(Arc::clone(old)));
    }
    let mut new = changed(old, at);
    new.settings.disabled = true;
    new.disabled_by_policy = Some(reason.to_owned());
    Ok(Effect::Endpoint(Arc::new(new)))
}

fn rotate_secret(
    view: &View,
    at: Timestamp,
    (application_id, id): (ApplicationId, EndpointId),
    secret: &EndpointSecret,
    previous_expires_at: Timestamp,
) -> Result<Effect, Refusal> {
    let old = endpoint(view, application_id, id)?;
    let mut new = changed(old, at);
    // What lapses already keeps the time that it was given: a second rotation neither prolongs nor cuts it.
    for newest in new.secrets.iter_mut().filter(|secret| secret.expires_at.is_none()) {
        newest.expires_at = Some(previous_expires_at);
    }
    new.secrets.retain(|previous| previous.expires_at.is_none_or(|expires_at| expires_at > at));
    new.secrets.insert(0, secret.clone());
    new.secrets.truncate(limits::ACTIVE_SECRETS);
    new.secrets.shrink_to_fit();
    Ok(Effect::Endpoint(Arc::new(new)))
}

fn create_report(
    view: &View,
    at: Timestamp,
    id: JobId,
    organization: OrganizationId,
    kind: &ReportKind,
) -> Result<Effect, Refusal> {
    if view.job(id).is_some() || view.report(id).is_some() {
        return Err(Refusal::IdTaken(id.to_string()));
    }
    Ok(Effect::Report(Arc::new(Report { id, organization, kind: kind.clone(), created_at: at })))
}

fn create_event_type(
    view: &View,
    at: Timestamp,
    (organization, name): (OrganizationId, &str),
    archived: bool,
    settings: &EventTypeSettings,
) -> Result<Effect, Refusal> {
    match view.event_type_ref(organization, name) {
        Some(old) if old.archived => Ok(changed_event_type(old, at, archived, settings.clone())),
        Some(_) => Err(Refusal::EventTypeExists(name.to_owned())),
        None => Ok(Effect::EventType(Arc::new(EventType {
            organization,
            name: name.to_owned(),
            settings: settings.clone(),
            archived,
            created_at: at,
            updated_at: at,
            revision: 1,
        }))),
    }
}

fn changed_event_type(old: &EventType, at: Timestamp, archived: bool, settings: EventTypeSettings) -> Effect {
    Effect::EventType(Arc::new(EventType {
        organization: old.organization,
        name: old.name.clone(),
        settings,
        archived,
        created_at: old.created_at,
        updated_at: at,
        revision: old.revision + 1,
    }))
}

fn application(view: &View, id: ApplicationId) -> Result<&Arc<Application>, Refusal> {
    view.application_ref(id).ok_or(Refusal::NoApplication(id))
}

fn endpoint(view: &View, application: ApplicationId, id: EndpointId) -> Result<&Arc<Endpoint>, Refusal> {
    view.endpoint_by_id(application, id).ok_or(Refusal::NoEndpoint(id))
}

fn event_type<'a>(
    view: &'a View,
    organization: OrganizationId,
    name: &str,
) -> Result<&'a Arc<EventType>, Refusal> {
    view.event_type_ref(organization, name).ok_or_else(|| Refusal::NoEventType(name.to_owned()))
}

fn changed(old: &Endpoint, at: Timestamp) -> Endpoint {
    Endpoint { updated_at: at, revision: old.revision + 1, ..old.clone() }
}

fn compare(expected: Option<u64>, found: u64) -> Result<(), Refusal> {
    match expected {
        Some(expected) if expected != found => Err(Refusal::StaleRevision { expected, found }),
        _ => Ok(()),
    }
}

fn partition_exists(partition: Partition, partitions: Option<u32>) -> Result<(), Refusal> {
    if partitions.is_some_and(|partitions| partition.0 < partitions) {
        Ok(())
    } else {
        Err(Refusal::NoPartition(partition))
    }
}

/// Nor may it be the id of another: nobody would find by it what has it.
fn application_uid_free(view: &View, organization: OrganizationId, uid: &str) -> Result<(), Refusal> {
    match view.application(organization, uid) {
        Some(_) => Err(Refusal::UidTaken(uid.to_owned())),
        None => Ok(()),
    }
}

fn endpoint_uid_free(view: &View, application: ApplicationId, uid: &str) -> Result<(), Refusal> {
    match view.endpoint(application, uid) {
        Some(_) => Err(Refusal::UidTaken(uid.to_owned())),
        None => Ok(()),
    }
}

/// Names that the endpoint already had may stay, though their event types were expunged: or it could not be
/// changed in any other way.
fn event_types_exist(
    view: &View,
    organization: OrganizationId,
    settings: &EndpointSettings,
    old: Option<&EndpointSettings>,
) -> Result<(), Refusal> {
    let had = old.and_then(|old| old.event_types.as_deref()).unwrap_or_default();
    let names = settings.event_types.as_deref().unwrap_or_default();
    let unknown: Vec<String> = names
        .iter()
        .filter(|name| view.event_type_ref(organization, name).is_none() && !had.contains(name))
        .cloned()
        .collect();
    if unknown.is_empty() { Ok(()) } else { Err(Refusal::UnknownEventTypes(unknown)) }
}

#[cfg(test)]
pub(crate) mod tests;
