//! The materialised view: what `control` amounts to below a position.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    ops::RangeBounds,
    sync::Arc,
};

use fanfare_core::{
    ApiKeyId, ApplicationId, EndpointId, EndpointNumber, Fingerprint, JobId, Offset, OrganizationId,
    Partition, Policy, Timestamp, limits,
};

use crate::{
    access::{Access, Credential},
    changes::{EndpointChange, EndpointChanges, changes_of},
    command::{Command, Envelope},
    erasures::{Erasures, application_number},
    former::{FormerEndpoint, FormerEndpoints},
    jobs::{Job, JobKind, Jobs},
    keys::Keys,
    model::{ApiKey, Application, Endpoint, EventType, Installation, Park},
    reducer::{Applied, Effect, Refusal, Resource, decide},
    reports::{Report, Reports},
    revocations::{Expiry, Revocations},
    routes::Routes,
};

/// Everything the control plane knows. Equal in all processes at equal positions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    position: Offset,
    installation: Option<Arc<Installation>>,
    organizations: BTreeMap<OrganizationId, Tenant>,
    applications: HashMap<ApplicationId, Consumer>,
    endpoints: HashMap<EndpointNumber, Arc<Endpoint>>,
    former_endpoints: FormerEndpoints,
    endpoint_changes: EndpointChanges,
    /// Of the next endpoint: never one that was given before.
    next_number: EndpointNumber,
    keys: Keys,
    api_keys: HashMap<ApiKeyId, Arc<ApiKey>>,
    revocations: Revocations,
    jobs: Jobs,
    erasures: Erasures,
    reports: Reports,
    /// Rises with each change after which a credential that was good may be so no more.
    credentials_revision: u64,
    /// Records that did nothing, because they were refused or are repeats: the last of them, and whether there were
    /// more before.
    refused: VecDeque<Offset>,
    refused_forgotten: bool,
    /// Applications in each partition of `messages`, endpoints in each of `deliveries`: where there is least,
    /// the next one goes.
    message_load: Vec<u32>,
    delivery_load: Vec<u32>,
}

/// What belongs to one organization.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tenant {
    applications: BTreeSet<ApplicationId>,
    application_uids: BTreeMap<Box<str>, ApplicationId>,
    event_types: BTreeMap<Box<str>, Arc<EventType>>,
    api_keys: BTreeSet<ApiKeyId>,
}

/// What belongs to one application.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Consumer {
    application: Arc<Application>,
    /// By rising id.
    endpoints: Vec<Arc<Endpoint>>,
    endpoint_uids: BTreeMap<Box<str>, EndpointId>,
    routes: Routes,
}

impl View {
    /// Every record below it was applied, none at or above it.
    pub fn position(&self) -> Offset {
        self.position
    }

    /// `None` only before the first record.
    pub fn installation(&self) -> Option<&Arc<Installation>> {
        self.installation.as_ref()
    }

    /// An organization's application by its id or uid. A uid may look like an id, where it was one elsewhere: what has the
    /// id comes first.
    pub fn application(&self, organization: OrganizationId, id_or_uid: &str) -> Option<Arc<Application>> {
        let by_id = id_or_uid.parse().ok().and_then(|id| self.application_ref(id));
        let by_id = by_id.filter(|application| application.organization == organization);
        by_id.or_else(|| self.application_by_uid(organization, id_or_uid)).cloned()
    }

    pub fn application_by_id(&self, id: ApplicationId) -> Option<Arc<Application>> {
        self.application_ref(id).cloned()
    }

    /// An application's endpoint by its id or uid; likewise.
    pub fn endpoint(&self, application: ApplicationId, id_or_uid: &str) -> Option<Arc<Endpoint>> {
        let by_id = id_or_uid.parse().ok().and_then(|id| self.endpoint_by_id(application, id));
        by_id.or_else(|| self.endpoint_by_uid(application, id_or_uid)).cloned()
    }

    /// `None` once it is deleted, or before it exists.
    pub fn endpoint_by_number(&self, number: EndpointNumber) -> Option<Arc<Endpoint>> {
        self.endpoints.get(&number).cloned()
    }

    /// What is known of an endpoint that is deleted.
    pub fn former_endpoint(&self, number: EndpointNumber) -> Option<FormerEndpoint> {
        self.former_endpoints.by_number(number).copied()
    }

    /// Deleted endpoints of an application, by rising number; of very many the first are forgotten.
    pub fn former_endpoints_of(&self, application: ApplicationId) -> Vec<FormerEndpoint> {
        self.former_endpoints.of(application).copied().collect()
    }

    /// What records at or above `from` did to endpoints, in order; `None` where some of it is forgotten.
    pub fn endpoint_changes_since(&self, from: Offset) -> Option<impl Iterator<Item = &EndpointChange>> {
        self.endpoint_changes.since(from)
    }

    /// All endpoints of an application, by rising id.
    pub fn endpoints_of(&self, application: ApplicationId) -> std::slice::Iter<'_, Arc<Endpoint>> {
        let consumer = self.applications.get(&application);
        consumer.map_or(&[][..], |consumer| &consumer.endpoints).iter()
    }

    /// All endpoints of the installation, in no order.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.values()
    }

    /// The enabled endpoints of an application that want a message, sorted by partition and number. An endpoint
    /// without channels takes all; one with channels takes what has one of them, and nothing that has none.
    pub fn matching(
        &self,
        application: ApplicationId,
        event_type: &str,
        channels: &[String],
    ) -> Vec<(Partition, EndpointNumber)> {
        let consumer = self.applications.get(&application);
        consumer.map(|consumer| consumer.routes.matching(event_type, channels)).unwrap_or_default()
    }

    /// An organization's applications, by rising id.
    pub fn applications(
        &self,
        organization: OrganizationId,
    ) -> impl DoubleEndedIterator<Item = &Arc<Application>> {
        self.applications_in(organization, ..)
    }

    /// Those of them with an id in `range`: a page does not walk over what stands before it.
    pub fn applications_in(
        &self,
        organization: OrganizationId,
        range: impl RangeBounds<ApplicationId>,
    ) -> impl DoubleEndedIterator<Item = &Arc<Application>> {
        let tenant = self.organizations.get(&organization);
        let ids = tenant.map(|tenant| tenant.applications.range(range)).into_iter().flatten();
        ids.filter_map(|id| self.application_ref(*id))
    }

    /// An organization's event types by name, archived ones among them.
    pub fn event_types(
        &self,
        organization: OrganizationId,
    ) -> impl DoubleEndedIterator<Item = &Arc<EventType>> {
        let tenant = self.organizations.get(&organization);
        tenant.map(|tenant| tenant.event_types.values()).into_iter().flatten()
    }

    pub fn event_type(&self, organization: OrganizationId, name: &str) -> Option<Arc<EventType>> {
        self.event_type_ref(organization, name).cloned()
    }

    pub fn api_key(&self, id: ApiKeyId) -> Option<&Arc<ApiKey>> {
        self.api_keys.get(&id)
    }

    /// An organization's API keys, by rising id.
    pub fn api_keys(&self, organization: OrganizationId) -> impl DoubleEndedIterator<Item = &Arc<ApiKey>> {
        let tenant = self.organizations.get(&organization);
        let ids = tenant.map(|tenant| tenant.api_keys.iter()).into_iter().flatten();
        ids.filter_map(|id| self.api_key(*id))
    }

    pub fn job(&self, id: JobId) -> Option<&Arc<Job>> {
        self.jobs.get(id)
    }

    /// An organization's jobs, by rising id: of those that ended the last ones.
    pub fn jobs(&self, organization: OrganizationId) -> impl DoubleEndedIterator<Item = &Arc<Job>> {
        self.jobs.of(organization)
    }

    pub fn report(&self, id: JobId) -> Option<&Arc<Report>> {
        self.reports.get(id)
    }

    /// An organization's reports, by rising id: the last ones.
    pub fn reports(&self, organization: OrganizationId) -> impl DoubleEndedIterator<Item = &Arc<Report>> {
        self.reports.of(organization)
    }

    /// All jobs that have not ended, the oldest first.
    pub fn open_jobs(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.jobs.open()
    }

    /// Whether the job that a record names was cancelled.
    pub fn job_was_cancelled(&self, number: u64) -> bool {
        self.jobs.was_cancelled(number)
    }

    /// Whether the content of a message may be shown and sent to nobody any more.
    pub fn is_erased(&self, application: ApplicationId, partition: Partition, offset: Offset) -> bool {
        self.erasures.holds(|| application_number(application), partition, offset)
    }

    /// The same, of an application that is known by its [`application_number`].
    pub fn is_erased_of(&self, application: u64, partition: Partition, offset: Offset) -> bool {
        self.erasures.holds(|| application, partition, offset)
    }

    /// Rises with each erasure.
    pub fn erasures_revision(&self) -> u64 {
        self.erasures.revision()
    }

    pub(crate) fn erasures(&self) -> &Erasures {
        &self.erasures
    }

    /// From when on a credential is refused, whatever the token says itself.
    pub fn refused_from(&self, access: &Access) -> Timestamp {
        match &access.credential {
            Credential::Token(mark) => self.revocations.refused_from(mark, access.principal.application()),
            Credential::Key(id) => {
                self.api_key(*id).map_or(Timestamp::ZERO, |key| key.expires_at.unwrap_or(Timestamp::MAX))
            }
        }
    }

    /// Tokens of the application, and of the session if there is one, that were made at or before this are refused, some
    /// time or now.
    pub fn tokens_issued_until(&self, application: ApplicationId, session: Option<Fingerprint>) -> Timestamp {
        self.revocations.issued_until(application, session)
    }

    /// Rises with each change after which a credential that was good may be so no more.
    pub fn credentials_revision(&self) -> u64 {
        self.credentials_revision
    }

    /// Whether the record at `offset` did nothing; `None` when that is forgotten, or not known yet.
    pub fn was_refused(&self, offset: Offset) -> Option<bool> {
        if offset >= self.position {
            return None;
        }
        match self.refused.binary_search(&offset) {
            Ok(_) => Some(true),
            Err(0) if self.refused_forgotten => None,
            Err(_) => Some(false),
        }
    }

    pub fn application_count(&self) -> usize {
        self.applications.len()
    }

    pub fn endpoint_count(&self) -> usize {
        self.endpoints.len()
    }

    /// What an endpoint's lane obeys: its own settings, then its application's, then `defaults`. Of two rates the lower one.
    pub fn policy(&self, endpoint: &Endpoint, defaults: &Policy) -> Policy {
        let settings = &endpoint.settings;
        let of_application = self.application_ref(endpoint.application).map(|owner| &owner.settings);
        let ordering = of_application.and_then(|settings| settings.ordering);
        // Not shared between its endpoints: they are in many partitions, with an owner each.
        let rate = of_application.and_then(|settings| settings.throttle_rate);
        Policy {
            ordering: settings.ordering.or(ordering).unwrap_or(defaults.ordering),
            retry_schedule: settings.retry_schedule.as_ref().unwrap_or(&defaults.retry_schedule).clone(),
            park_after: match settings.park {
                Park::Default => defaults.park_after,
                Park::AfterSecs(secs) => Some(std::time::Duration::from_secs(u64::from(secs))),
                Park::Block => None,
            },
            max_in_flight: settings.max_in_flight.unwrap_or(defaults.max_in_flight),
            throttle_rate: settings
                .throttle_rate
                .into_iter()
                .chain(rate)
                .filter_map(std::num::NonZeroU32::new)
                .min(),
            lane_entries: defaults.lane_entries,
        }
    }

    /// Where a new application goes.
    pub fn emptiest_message_partition(&self) -> Partition {
        emptiest(&self.message_load)
    }

    /// Where a new endpoint goes.
    pub fn emptiest_delivery_partition(&self) -> Partition {
        emptiest(&self.delivery_load)
    }

    /// Applies the record at `offset`, which is at or above the position. Gives what it did, or why nothing.
    pub fn apply(&mut self, offset: Offset, envelope: &Envelope) -> Result<Applied, Refusal> {
        assert!(offset >= self.position, "record {offset} of `control` was applied already");
        self.position = offset.next();
        let decided = decide(self, envelope);
        if let Ok(Applied::Accepted(effect)) = &decided {
            for change in changes_of(self, offset, envelope, effect) {
                self.endpoint_changes.remember(change);
            }
            self.carry_out(effect);
            if let (Some(key), Some(resource)) = (envelope.key, made(&envelope.command)) {
                self.keys.remember(key, envelope.at, resource);
            }
        } else {
            self.remember_refused(offset);
        }
        decided
    }

    pub(crate) fn remember_refused(&mut self, offset: Offset) {
        if self.refused.len() == limits::REFUSALS_REMEMBERED {
            self.refused.pop_front();
            self.refused_forgotten = true;
        }
        self.refused.push_back(offset);
    }

    /// Passes offsets that hold no record.
    pub(crate) fn pass(&mut self, position: Offset) {
        self.position = self.position.max(position);
    }

    fn carry_out(&mut self, effect: &Effect) {
        match effect {
            Effect::Installed(installation) => {
                self.message_load = vec![0; installation.message_partitions as usize];
                self.delivery_load = vec![0; installation.delivery_partitions as usize];
                self.installation = Some(Arc::clone(installation));
            }
            Effect::Application(application) => self.put_application(application),
            Effect::ApplicationDeleted(id) => self.delete_application(*id),
            Effect::Endpoint(endpoint) => self.put_endpoint(endpoint),
            Effect::EndpointDeleted { application, id } => self.delete_endpoint(*application, *id),
            Effect::EventType(event_type) => {
                let tenant = self.organizations.entry(event_type.organization).or_default();
                tenant.event_types.insert(event_type.name.as_str().into(), Arc::clone(event_type));
            }
            Effect::EventTypeExpunged { organization, name } => {
                if let Some(tenant) = self.organizations.get_mut(organization) {
                    tenant.event_types.remove(name.as_str());
                }
            }
            Effect::TokenRevoked { token, expires_at, at } => {
                self.revocations.revoke(*token, *expires_at, *at);
                self.credentials_revision += 1;
            }
            Effect::TokensExpired { application, sessions, issued_until, from, at } => {
                let expiry = Expiry { issued_until: *issued_until, from: *from };
                self.revocations.expire(*application, sessions, expiry, *at);
                self.credentials_revision += 1;
            }
            Effect::ApiKey(key) => {
                self.organizations.entry(key.organization).or_default().api_keys.insert(key.id);
                self.api_keys.insert(key.id, Arc::clone(key));
            }
            Effect::ApiKeyDeleted(id) => self.delete_api_key(*id),
            Effect::ApiKeysUsed(keys) => {
                for key in keys {
                    self.api_keys.insert(key.id, Arc::clone(key));
                }
            }
            Effect::Job(job) => {
                if job.kind == JobKind::EraseContents {
                    let below = job.selection.below.map_or(Offset::ZERO, |below| below.offset);
                    self.erasures.erase_all(job.application, below);
                }
                self.jobs.put(job);
            }
            Effect::ContentsErased { partition, offsets } => self.erasures.erase(*partition, offsets),
            Effect::Report(report) => self.reports.put(report),
        }
    }

    fn delete_api_key(&mut self, id: ApiKeyId) {
        let Some(key) = self.api_keys.remove(&id) else { return };
        if let Some(tenant) = self.organizations.get_mut(&key.organization) {
            tenant.api_keys.remove(&id);
        }
        self.credentials_revision += 1;
    }

    fn put_application(&mut self, application: &Arc<Application>) {
        let tenant = self.organizations.entry(application.organization).or_default();
        let old = self.applications.get(&application.id).map(|consumer| Arc::clone(&consumer.application));
        if let Some(uid) = old.as_ref().and_then(|old| old.settings.uid.as_deref()) {
            tenant.application_uids.remove(uid);
        }
        if let Some(uid) = &application.settings.uid {
            tenant.application_uids.insert(uid.as_str().into(), application.id);
        }
        if let Some(consumer) = self.applications.get_mut(&application.id) {
            consumer.application = Arc::clone(application);
            return;
        }
        tenant.applications.insert(application.id);
        self.message_load[application.partition.0 as usize] += 1;
        let consumer = Consumer {
            application: Arc::clone(application),
            endpoints: Vec::new(),
            endpoint_uids: BTreeMap::new(),
            routes: Routes::default(),
        };
        self.applications.insert(application.id, consumer);
    }

    fn delete_application(&mut self, id: ApplicationId) {
        let Some(consumer) = self.applications.remove(&id) else { return };
        for endpoint in &consumer.endpoints {
            self.endpoints.remove(&endpoint.number);
            self.delivery_load[endpoint.partition.0 as usize] -= 1;
        }
        let application = consumer.application;
        self.message_load[application.partition.0 as usize] -= 1;
        if let Some(tenant) = self.organizations.get_mut(&application.organization) {
            tenant.applications.remove(&id);
            if let Some(uid) = &application.settings.uid {
                tenant.application_uids.remove(uid.as_str());
            }
        }
        self.revocations.forget(id);
        self.former_endpoints.forget(id);
        let its_own = |key: &&Arc<ApiKey>| key.application == Some(id);
        let keys: Vec<_> =
            self.api_keys(application.organization).filter(its_own).map(|key| key.id).collect();
        for key in keys {
            self.delete_api_key(key);
        }
    }

    fn put_endpoint(&mut self, endpoint: &Arc<Endpoint>) {
        let consumer = self
            .applications
            .get_mut(&endpoint.application)
            .expect("an effect on an endpoint is decided only while its application exists");
        match consumer.endpoints.binary_search_by_key(&endpoint.id, |endpoint| endpoint.id) {
            Ok(place) => {
                let old = std::mem::replace(&mut consumer.endpoints[place], Arc::clone(endpoint));
                consumer.routes.remove(&old);
                if let Some(uid) = &old.settings.uid {
                    consumer.endpoint_uids.remove(uid.as_str());
                }
            }
            Err(place) => {
                consumer.endpoints.insert(place, Arc::clone(endpoint));
                self.delivery_load[endpoint.partition.0 as usize] += 1;
                self.next_number = EndpointNumber(endpoint.number.0 + 1);
            }
        }
        consumer.routes.insert(endpoint);
        if let Some(uid) = &endpoint.settings.uid {
            consumer.endpoint_uids.insert(uid.as_str().into(), endpoint.id);
        }
        self.endpoints.insert(endpoint.number, Arc::clone(endpoint));
    }

    fn delete_endpoint(&mut self, application: ApplicationId, id: EndpointId) {
        let Some(consumer) = self.applications.get_mut(&application) else { return };
        let Ok(place) = consumer.endpoints.binary_search_by_key(&id, |endpoint| endpoint.id) else { return };
        let endpoint = consumer.endpoints.remove(place);
        consumer.routes.remove(&endpoint);
        if let Some(uid) = &endpoint.settings.uid {
            consumer.endpoint_uids.remove(uid.as_str());
        }
        self.delivery_load[endpoint.partition.0 as usize] -= 1;
        self.endpoints.remove(&endpoint.number);
        self.former_endpoints.remember(&endpoint);
    }

    pub(crate) fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(crate) fn next_number(&self) -> EndpointNumber {
        self.next_number
    }

    pub(crate) fn application_ref(&self, id: ApplicationId) -> Option<&Arc<Application>> {
        self.applications.get(&id).map(|consumer| &consumer.application)
    }

    pub(crate) fn application_by_uid(
        &self,
        organization: OrganizationId,
        uid: &str,
    ) -> Option<&Arc<Application>> {
        self.application_ref(*self.organizations.get(&organization)?.application_uids.get(uid)?)
    }

    pub(crate) fn endpoint_by_id(
        &self,
        application: ApplicationId,
        id: EndpointId,
    ) -> Option<&Arc<Endpoint>> {
        let endpoints = &self.applications.get(&application)?.endpoints;
        let place = endpoints.binary_search_by_key(&id, |endpoint| endpoint.id).ok()?;
        Some(&endpoints[place])
    }

    pub(crate) fn endpoint_by_uid(&self, application: ApplicationId, uid: &str) -> Option<&Arc<Endpoint>> {
        let id = *self.applications.get(&application)?.endpoint_uids.get(uid)?;
        self.endpoint_by_id(application, id)
    }

    pub(crate) fn event_type_ref(&self, organization: OrganizationId, name: &str) -> Option<&Arc<EventType>> {
        self.organizations.get(&organization)?.event_types.get(name)
    }
}

/// The lowest of those with least.
fn emptiest(load: &[u32]) -> Partition {
    let place = (0_u32..).zip(load).min_by_key(|&(partition, load)| (*load, partition));
    Partition(place.map_or(0, |(partition, _)| partition))
}

/// What a POST makes or changes, by whose name a repeat of it is answered.
fn made(command: &Command) -> Option<Resource> {
    Some(match command {
        Command::CreateApplication { id, .. } => Resource::Application(*id),
        Command::CreateEndpoint { application, id, .. }
        | Command::RotateSecret { application, endpoint: id, .. } => {
            Resource::Endpoint { application: *application, id: *id }
        }
        Command::CreateEventType { organization, name, .. } => {
            Resource::EventType { organization: *organization, name: name.clone() }
        }
        Command::CreateApiKey { id, .. } => Resource::ApiKey(*id),
        Command::CreateJob { id, .. } => Resource::Job(*id),
        Command::CreateReport { id, .. } => Resource::Report(*id),
        // Carried out twice it would reach tokens that were made in between.
        Command::ExpireTokens { application, .. } => Resource::Application(*application),
        Command::Install(_)
        | Command::UpdateApplication { .. }
        | Command::DeleteApplication { .. }
        | Command::UpdateEndpoint { .. }
        | Command::DeleteEndpoint { .. }
        | Command::DisableEndpointByPolicy { .. }
        | Command::UpdateEventType { .. }
        | Command::ArchiveEventType { .. }
        | Command::RevokeToken { .. }
        | Command::DeleteApiKey { .. }
        | Command::NoteApiKeyUse { .. }
        | Command::SteerJob { .. }
        | Command::NoteJobProgress { .. }
        | Command::EraseContents { .. } => return None,
    })
}
