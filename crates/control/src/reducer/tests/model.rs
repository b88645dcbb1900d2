//! The control plane without any index: lists, searched from end to end.

use fanfare_core::EndpointNumber;

use super::{
    super::*,
    commands::{CHANNELS, TYPES, UIDS, api_key_id, application_id, organization_id, session},
};
use crate::{
    access::{Access, Credential, Principal, Scope, TokenId, TokenMark},
    command::ControlKey,
};

#[derive(Default)]
pub(super) struct Model {
    installed: bool,
    applications: Vec<App>,
    endpoints: Vec<Hook>,
    event_types: Vec<(OrganizationId, String, bool, u64)>,
    keys: Vec<(ControlKey, Timestamp, Resource)>,
    numbers: u32,
    /// With when they expire.
    revoked: Vec<(Fingerprint, Timestamp)>,
    orders: Vec<Order>,
    api_keys: Vec<Key>,
    now: Timestamp,
    did_nothing: Vec<bool>,
}

/// To expire tokens.
struct Order {
    application: ApplicationId,
    session: Option<Fingerprint>,
    issued_until: Timestamp,
    from: Timestamp,
}

struct Key {
    id: ApiKeyId,
    organization: OrganizationId,
    application: Option<ApplicationId>,
    used_at: Option<Timestamp>,
}

struct App {
    id: ApplicationId,
    organization: OrganizationId,
    uid: Option<String>,
    revision: u64,
}

struct Hook {
    id: EndpointId,
    application: ApplicationId,
    number: u32,
    partition: Partition,
    settings: EndpointSettings,
    revision: u64,
}

/// `Ok(Some(…))`: a repeat of what made that.
type Verdict = Result<Option<Resource>, ()>;

impl Model {
    pub(super) fn apply(&mut self, envelope: &Envelope) -> Verdict {
        self.now = envelope.at;
        let verdict = self.answer(envelope);
        self.did_nothing.push(!matches!(verdict, Ok(None)));
        verdict
    }

    fn answer(&mut self, envelope: &Envelope) -> Verdict {
        if let Some(key) = envelope.key {
            let within = |at: &Timestamp| envelope.at.since(*at).as_secs() < 12 * 3_600;
            let known = self.keys.iter().rev().find(|(known, at, _)| known.key == key.key && within(at));
            if let Some((known, _, resource)) = known {
                return if known.body == key.body { Ok(Some(resource.clone())) } else { Err(()) };
            }
        }
        let made = self.carry_out(&envelope.command)?;
        if let (Some(key), Some(resource)) = (envelope.key, made) {
            self.keys.push((key, envelope.at, resource));
        }
        Ok(None)
    }

    fn carry_out(&mut self, command: &Command) -> Result<Option<Resource>, ()> {
        match command.clone() {
            Command::Install(_) => {
                refuse(self.installed)?;
                self.installed = true;
            }
            Command::CreateApplication { id, organization, partition, settings } => {
                refuse(partition.0 >= 3 || self.applications.iter().any(|app| app.id == id))?;
                refuse(self.uid_taken(organization, settings.uid.as_ref(), None))?;
                self.applications.push(App { id, organization, uid: settings.uid, revision: 1 });
                return Ok(Some(Resource::Application(id)));
            }
            Command::UpdateApplication { id, expected_revision, settings } => {
                let app = self.applications.iter().find(|app| app.id == id).ok_or(())?;
                refuse(expected_revision.is_some_and(|expected| expected != app.revision))?;
                refuse(self.uid_taken(app.organization, settings.uid.as_ref(), Some(id)))?;
                let app = self.applications.iter_mut().find(|app| app.id == id).unwrap();
                (app.uid, app.revision) = (settings.uid, app.revision + 1);
            }
            Command::DeleteApplication { id } => {
                refuse(!self.applications.iter().any(|app| app.id == id))?;
                self.applications.retain(|app| app.id != id);
                self.endpoints.retain(|endpoint| endpoint.application != id);
                self.api_keys.retain(|key| key.application != Some(id));
                self.orders.retain(|order| order.application != id);
            }
            Command::CreateEndpoint { id, application, partition, settings, .. } => {
                refuse(partition.0 >= 3 || self.hook(application, id).is_ok())?;
                self.check_endpoint(application, None, &settings)?;
                let (number, settings) = (self.numbers, *settings);
                self.numbers += 1;
                self.endpoints.push(Hook { id, application, number, partition, settings, revision: 1 });
                return Ok(Some(Resource::Endpoint { application, id }));
            }
            Command::UpdateEndpoint { application, id, expected_revision, settings } => {
                let revision = self.hook(application, id)?.revision;
                refuse(expected_revision.is_some_and(|expected| expected != revision))?;
                self.check_endpoint(application, Some(id), &settings)?;
                let hook = self.hook(application, id)?;
                (hook.settings, hook.revision) = (*settings, revision + 1);
            }
            Command::DeleteEndpoint { application, id } => {
                self.hook(application, id)?;
                self.endpoints.retain(|hook| (hook.application, hook.id) != (application, id));
            }
            Command::DisableEndpointByPolicy { application, id, .. } => {
                let hook = self.hook(application, id)?;
                hook.revision += u64::from(!hook.settings.disabled);
                hook.settings.disabled = true;
            }
            Command::RotateSecret { application, endpoint: id, .. } => {
                self.hook(application, id)?.revision += 1;
                return Ok(Some(Resource::Endpoint { application, id }));
            }
            Command::CreateEventType { organization, name, archived, .. } => {
                match self.event_type(organization, &name) {
                    Some(known) => {
                        refuse(!known.2)?;
                        (known.2, known.3) = (archived, known.3 + 1);
                    }
                    None => self.event_types.push((organization, name.clone(), archived, 1)),
                }
                return Ok(Some(Resource::EventType { organization, name }));
            }
            Command::UpdateEventType { organization, name, expected_revision, .. } => {
                let known = self.event_type(organization, &name).ok_or(())?;
                refuse(expected_revision.is_some_and(|expected| expected != known.3))?;
                known.3 += 1;
            }
            Command::ArchiveEventType { organization, name, expunge } => {
                let known = self.event_type(organization, &name).ok_or(())?;
                (known.2, known.3) = (true, known.3 + 1);
                if expunge {
                    self.event_types.retain(|known| (known.0, &known.1) != (organization, &name));
                }
            }
            command => return self.carry_out_on_credentials(command),
        }
        Ok(None)
    }

    fn carry_out_on_credentials(&mut self, command: Command) -> Result<Option<Resource>, ()> {
        match command {
            Command::RevokeToken { token, expires_at, .. } => {
                // What a later record says of a token replaces what an earlier one said.
                let now = self.now;
                self.revoked.retain(|known| known.0 != token && known.1 + limits::REVOKED_TOKEN_KEPT > now);
                self.revoked.push((token, expires_at));
            }
            Command::ExpireTokens { application, issued_until, from, sessions } => {
                refuse(!self.applications.iter().any(|app| app.id == application))?;
                let from = from.unwrap_or(Timestamp::ZERO);
                let all = if sessions.is_empty() { vec![None] } else { Vec::new() };
                for session in sessions.iter().map(|session| Some(session.0)).chain(all) {
                    self.orders.push(Order { application, session, issued_until, from });
                }
                return Ok(Some(Resource::Application(application)));
            }
            Command::CreateApiKey { id, organization, application, .. } => {
                refuse(self.api_keys.iter().any(|key| key.id == id))?;
                let is_its = |app: &App| Some(app.id) == application && app.organization == organization;
                refuse(application.is_some() && !self.applications.iter().any(is_its))?;
                self.api_keys.push(Key { id, organization, application, used_at: None });
                return Ok(Some(Resource::ApiKey(id)));
            }
            Command::DeleteApiKey { organization, id } => {
                let before = self.api_keys.len();
                self.api_keys.retain(|key| (key.id, key.organization) != (id, organization));
                refuse(self.api_keys.len() == before)?;
            }
            Command::NoteApiKeyUse { uses } => {
                for key in &mut self.api_keys {
                    key.used_at = key.used_at.max(uses.get(&key.id).copied());
                }
            }
            command => unreachable!("{command:?}"),
        }
        Ok(None)
    }

    fn hook(&mut self, application: ApplicationId, id: EndpointId) -> Result<&mut Hook, ()> {
        self.endpoints.iter_mut().find(|hook| hook.application == application && hook.id == id).ok_or(())
    }

    fn event_type(
        &mut self,
        organization: OrganizationId,
        name: &str,
    ) -> Option<&mut (OrganizationId, String, bool, u64)> {
        self.event_types.iter_mut().find(|known| known.0 == organization && known.1 == name)
    }

    fn uid_taken(
        &self,
        organization: OrganizationId,
        uid: Option<&String>,
        itself: Option<ApplicationId>,
    ) -> bool {
        let others =
            self.applications.iter().filter(|app| app.organization == organization && Some(app.id) != itself);
        uid.is_some_and(|uid| others.filter_map(|app| app.uid.as_ref()).any(|taken| taken == uid))
    }

    fn check_endpoint(
        &mut self,
        application: ApplicationId,
        itself: Option<EndpointId>,
        settings: &EndpointSettings,
    ) -> Result<(), ()> {
        let organization = self.applications.iter().find(|app| app.id == application).ok_or(())?.organization;
        let had = match itself {
            Some(id) => self.hook(application, id)?.settings.event_types.clone().unwrap_or_default(),
            None => Vec::new(),
        };
        for name in settings.event_types.iter().flatten() {
            refuse(self.event_type(organization, name).is_none() && !had.contains(name))?;
        }
        let others =
            self.endpoints.iter().filter(|hook| hook.application == application && Some(hook.id) != itself);
        let mut taken = others.filter_map(|hook| hook.settings.uid.as_ref());
        refuse(settings.uid.as_ref().is_some_and(|uid| taken.any(|taken| taken == uid)))
    }

    /// Asks the view whatever it can be asked.
    pub(super) fn check(&self, view: &View) {
        assert_eq!(view.application_count(), self.applications.len());
        assert_eq!(view.endpoint_count(), self.endpoints.len());
        for organization in (0..2).map(organization_id) {
            let mut expected: Vec<_> = self
                .applications
                .iter()
                .filter(|app| app.organization == organization)
                .map(|app| app.id)
                .collect();
            expected.sort();
            assert_eq!(view.applications(organization).map(|app| app.id).collect::<Vec<_>>(), expected);
            for uid in UIDS {
                let with_uid =
                    |app: &&App| app.organization == organization && app.uid.as_deref() == Some(uid);
                let expected = self.applications.iter().find(with_uid).map(|app| (app.id, app.revision));
                let found = view.application(organization, uid).map(|app| (app.id, app.revision));
                assert_eq!(found, expected);
            }
            for name in TYPES {
                let expected =
                    self.event_types.iter().find(|known| known.0 == organization && known.1 == name);
                let found = view.event_type(organization, name).map(|found| (found.archived, found.revision));
                assert_eq!(found, expected.map(|known| (known.2, known.3)));
            }
        }
        for application in (0..4).map(application_id) {
            self.check_application(view, application);
        }
        self.check_credentials(view);
        for hook in &self.endpoints {
            let found = view.endpoint_by_number(EndpointNumber(hook.number)).unwrap();
            assert_eq!((found.id, found.revision, &found.settings), (hook.id, hook.revision, &hook.settings));
            assert_eq!(view.endpoint(hook.application, &hook.id.to_string()), Some(found));
        }
    }

    fn check_credentials(&self, view: &View) {
        for organization in (0..2).map(organization_id) {
            let mut expected: Vec<_> =
                self.api_keys.iter().filter(|key| key.organization == organization).collect();
            expected.sort_by_key(|key| key.id);
            let expected: Vec<_> =
                expected.iter().map(|key| (key.id, key.application, key.used_at)).collect();
            let found = view.api_keys(organization).map(|key| (key.id, key.application, key.used_at));
            assert_eq!(found.collect::<Vec<_>>(), expected);
        }
        let access = |credential, application| {
            let principal = Principal::new(organization_id(0), application);
            Access { principal, scope: Scope::Full, credential, until: Timestamp::MAX }
        };
        for id in (0..4).map(api_key_id) {
            let is_there = self.api_keys.iter().any(|key| key.id == id);
            let refused_from = view.refused_from(&access(Credential::Key(id), None));
            assert_eq!(refused_from, if is_there { Timestamp::MAX } else { Timestamp::ZERO });
        }
        for (token, application, session, hours) in tokens() {
            let (fingerprint, issued_at) = (Fingerprint([token; 16]), Timestamp::from_secs(hours * 3_600));
            let mark = TokenMark {
                id: TokenId(fingerprint),
                fingerprint,
                issued_at,
                expires_at: issued_at + limits::APPLICATION_TOKEN,
                session,
            };
            let refused_from = view.refused_from(&access(Credential::Token(mark), application));
            let expected = self.refused_from(&mark, application);
            // From when on does not matter once that is past.
            let same = refused_from == expected || refused_from.max(expected) <= self.now;
            assert!(same, "{mark:?} of {application:?}: {refused_from} instead of {expected}");
        }
        for (offset, did_nothing) in (0..).map(fanfare_core::Offset).zip(&self.did_nothing) {
            assert_eq!(view.was_refused(offset), Some(*did_nothing));
        }
        assert_eq!(view.was_refused(view.position()), None);
    }

    fn refused_from(&self, token: &TokenMark, application: Option<ApplicationId>) -> Timestamp {
        let by_hand = self.revoked.iter().any(|(revoked, _)| *revoked == token.fingerprint);
        if by_hand {
            return Timestamp::ZERO;
        }
        let orders = self.orders.iter().filter(|order| {
            Some(order.application) == application
                && token.issued_at <= order.issued_until
                && (order.session.is_none() || order.session == token.session)
        });
        orders.map(|order| order.from).min().unwrap_or(Timestamp::MAX)
    }

    fn check_application(&self, view: &View, application: ApplicationId) {
        let hooks = || self.endpoints.iter().filter(move |hook| hook.application == application);
        let mut expected: Vec<_> = hooks().map(|hook| hook.id).collect();
        expected.sort();
        assert_eq!(view.endpoints_of(application).map(|endpoint| endpoint.id).collect::<Vec<_>>(), expected);
        for uid in UIDS {
            let expected = hooks().find(|hook| hook.settings.uid.as_deref() == Some(uid)).map(|hook| hook.id);
            assert_eq!(view.endpoint(application, uid).map(|endpoint| endpoint.id), expected);
        }
        for event_type in TYPES.into_iter().chain(["never.created"]) {
            for channels in [&[][..], &CHANNELS[..1], &CHANNELS[1..]] {
                let mut expected: Vec<_> = hooks()
                    .filter(|hook| wants(&hook.settings, event_type, channels))
                    .map(|hook| (hook.partition, EndpointNumber(hook.number)))
                    .collect();
                expected.sort();
                let channels: Vec<String> = channels.iter().map(|&channel| channel.into()).collect();
                assert_eq!(view.matching(application, event_type, &channels), expected);
            }
        }
    }
}

/// Number, application, session and hour of making of all tokens that there might be.
fn tokens() -> impl Iterator<Item = (u8, Option<ApplicationId>, Option<Fingerprint>, i64)> {
    let applications = (0..4).map(application_id).map(Some).chain([None]);
    applications.flat_map(|application| {
        let sessions = (0..3).map(|number| Some(session(number).0)).chain([None]);
        sessions.flat_map(move |session| {
            (0..240_i64)
                .step_by(17)
                .zip((0..4).cycle())
                .map(move |(hours, token)| (token, application, session, hours))
        })
    })
}

fn wants(settings: &EndpointSettings, event_type: &str, channels: &[&str]) -> bool {
    let type_wanted =
        settings.event_types.as_ref().is_none_or(|names| names.iter().any(|name| name == event_type));
    let channel_wanted = match &settings.channels {
        None => true,
        Some(wanted) => wanted.iter().any(|channel| channels.contains(&channel.as_str())),
    };
    !settings.disabled && type_wanted && channel_wanted
}

fn refuse(yes: bool) -> Result<(), ()> {
    if yes { Err(()) } else { Ok(()) }
}
