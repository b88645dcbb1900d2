#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod memory_log;

use std::{num::NonZeroU32, sync::Arc};

use fanfare_core::{
    ApplicationId, Fingerprint, Ordering, RetrySchedule, SystemClock, SystemEntropy,
    signature::{VerifyingKey, verify},
};

use super::*;
use crate::{
    access::{Credential, Principal, Scope, TokenMark},
    model::Park,
    reducer::{Effect, Refusal, Resource},
    tokens::{Grant, TokenError, default_organization},
};
use memory_log::MemoryLog;

fn options() -> Options {
    Options {
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        main_secret: MainSecret::from_bytes([1; 32]),
        allow_http: false,
        message_partitions: 4,
        delivery_partitions: 4,
        policy: Policy::default(),
    }
}

async fn open(log: &Arc<MemoryLog>) -> Control {
    Control::open(Arc::clone(log) as Arc<dyn Log>, options()).await.unwrap()
}

async fn open_error(log: &Arc<MemoryLog>, options: Options) -> OpenError {
    Control::open(Arc::clone(log) as Arc<dyn Log>, options).await.unwrap_err()
}

fn named(uid: &str) -> ApplicationSettings {
    ApplicationSettings { uid: Some(uid.into()), ..Default::default() }
}

fn hook(url: &str) -> EndpointSettings {
    EndpointSettings { url: url.into(), ..Default::default() }
}

async fn create_application(control: &Control, settings: ApplicationSettings) -> Arc<Application> {
    let command = control.new_application(default_organization(), settings);
    match control.submit(command, None).await.unwrap() {
        Applied::Accepted(Effect::Application(application)) => application,
        other => panic!("{other:?}"),
    }
}

async fn create_endpoint(control: &Control, application: &Application, key: &SigningKey) -> Arc<Endpoint> {
    let command = control.new_endpoint(application, hook("https://example.com"), key);
    match control.submit(command, None).await.unwrap() {
        Applied::Accepted(Effect::Endpoint(endpoint)) => endpoint,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_was_answered_is_in_the_view_here_and_elsewhere() {
    let log = Arc::new(MemoryLog::new());
    let (here, there) = (open(&log).await, open(&log).await);
    for number in 0..20 {
        let uid = format!("customer-{number}");
        let application = create_application(&here, named(&uid)).await;
        assert_eq!(here.view().application_by_id(application.id), Some(Arc::clone(&application)));
        there.apply_to_end().await.unwrap();
        assert_eq!(there.view().application(default_organization(), &uid), Some(application));
    }
    let again = open(&log).await;
    assert_eq!(*again.view(), *here.view());
    let looked_at = crate::replay(&*log).await.unwrap();
    assert_eq!(*again.view(), looked_at);
}

#[tokio::test]
async fn what_is_read_again_of_endpoints_is_what_was_remembered() {
    let log = Arc::new(MemoryLog::new());
    let control = open(&log).await;
    let application = create_application(&control, named("acme")).await;
    let key = SigningKey::generate_symmetric(&SystemEntropy);
    create_endpoint(&control, &application, &key).await;
    let from = control.apply_to_end().await.unwrap();
    for _ in 0..3 {
        let endpoint = create_endpoint(&control, &application, &key).await;
        let command = Command::DeleteEndpoint { application: application.id, id: endpoint.id };
        control.submit(command.clone(), None).await.unwrap();
        control.submit(command, None).await.unwrap_err();
    }
    let known = control.endpoint_changes(from).await.unwrap();
    assert_eq!((known.0.len(), known.1), (6, control.position()));
    assert_eq!(crate::changes::replay_changes(&*log, from).await.unwrap(), known);
}

#[tokio::test]
async fn two_processes_that_start_at_once_make_one_installation() {
    let log = Arc::new(MemoryLog::new());
    let (first, second) = tokio::join!(open(&log), open(&log));
    first.apply_to_end().await.unwrap();
    second.apply_to_end().await.unwrap();
    assert_eq!(first.view().installation(), second.view().installation());
    assert_eq!(log.record_count(), 2, "both wrote a first record, or this tests nothing");
}

#[tokio::test]
async fn the_first_change_of_a_revision_wins() {
    let log = Arc::new(MemoryLog::new());
    let (here, there) = (open(&log).await, open(&log).await);
    let application = create_application(&here, named("acme")).await;
    let update = |name: &str| Command::UpdateApplication {
        id: application.id,
        expected_revision: Some(1),
        settings: ApplicationSettings { name: name.into(), ..named("acme") },
    };
    let (first, second) = tokio::join!(here.submit(update("a"), None), there.submit(update("b"), None));
    let (won, lost) = if first.is_ok() { (first, second) } else { (second, first) };
    assert!(matches!(won, Ok(Applied::Accepted(Effect::Application(_)))));
    assert_eq!(lost, Err(Refusal::StaleRevision { expected: 1, found: 2 }.into()));
}

#[tokio::test]
async fn a_post_that_is_sent_twice_is_one_command() {
    let log = Arc::new(MemoryLog::new());
    let control = open(&log).await;
    let key = |body: &[u8]| {
        Some(ControlKey { key: Fingerprint::of(&[b"POST /app"]), body: Fingerprint::of(&[body]) })
    };
    let create = || control.new_application(default_organization(), ApplicationSettings::default());
    let Applied::Accepted(Effect::Application(application)) =
        control.submit(create(), key(b"{}")).await.unwrap()
    else {
        panic!("it was not accepted")
    };
    let repeated = Applied::Repeated(Resource::Application(application.id));
    assert_eq!(control.submit(create(), key(b"{}")).await.unwrap(), repeated);
    assert_eq!(control.submit(create(), key(b"{ }")).await, Err(Refusal::KeyReused.into()));
    assert_eq!(control.view().application_count(), 1);
}

#[tokio::test]
async fn the_end_is_a_position_not_the_last_record() {
    let log = Arc::new(MemoryLog::new());
    log.skip_offsets(3);
    let control = open(&log).await;
    assert_eq!(control.position(), Offset(4));
    for _ in 0..3 {
        // Nothing becomes readable, so the follower is not woken by the log.
        tokio::task::yield_now().await;
        log.skip_offsets(2);
        let applied = tokio::time::timeout(Duration::from_secs(10), control.apply_to_end());
        let end = applied.await.expect("it does not wait for a record").unwrap();
        assert_eq!(control.view().position(), end);
        create_application(&control, ApplicationSettings::default()).await;
    }
    assert_eq!(open(&log).await.position(), Offset(13));
}

#[tokio::test]
async fn a_record_of_a_newer_version_stops_the_follower() {
    let log = Arc::new(MemoryLog::new());
    let control = open(&log).await;
    let application = create_application(&control, named("acme")).await;
    let mut progress = control.subscribe();
    log.put_record(&br#"{"v":9}"#[..]);

    let error = control.apply_to_end().await.unwrap_err();
    let line = "cannot read record 2 of `control`: it has version 9; this program knows versions up to 4: start a \
                newer fanfare";
    assert_eq!(error.to_string(), format!("the control plane has stopped: {line}"));
    assert!(!error.is_retryable());
    while progress.changed().await.is_ok() {}
    let command = Command::DeleteApplication { id: application.id };
    assert!(matches!(control.submit(command, None).await, Err(CommandError::Unavailable(_))));
    assert!(control.view().application_by_id(application.id).is_some());
    assert_eq!(open_error(&log, options()).await.to_string(), line);
}

#[tokio::test]
async fn a_command_under_way_learns_that_the_follower_stopped() {
    let log = Arc::new(MemoryLog::new());
    let control = open(&log).await;
    let command = control.new_application(default_organization(), ApplicationSettings::default());
    log.put_record(&b"garbage"[..]);
    let answer = control.submit(command, None).await;
    assert!(matches!(answer, Err(CommandError::Unavailable(Unavailable::Stopped(_)))), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_is_tried_again() {
    let log = Arc::new(MemoryLog::new());
    let control = open(&log).await;
    log.fail_reads(3);
    create_application(&control, ApplicationSettings::default()).await;
    assert_eq!(control.view().application_count(), 1);
}

#[tokio::test]
async fn the_wrong_installation_is_one_plain_line() {
    let log = Arc::new(MemoryLog::new());
    open(&log).await;
    let other = Options { main_secret: MainSecret::from_bytes([2; 32]), ..options() };
    assert!(matches!(open_error(&log, other).await, OpenError::OtherSecret { .. }));
    let more = Options { delivery_partitions: 8, ..options() };
    let line = "the number of deliveries partitions is 8, but this installation was made with 4; it cannot be changed";
    assert_eq!(open_error(&log, more).await.to_string(), line);

    let foreign = Arc::new(MemoryLog::new());
    foreign.put_record(
        Envelope {
            at: Timestamp::ZERO,
            nonce: 0,
            key: None,
            origin: None,
            command: Command::DeleteApplication { id: Id::from_bytes([0; 20]) },
        }
        .encode(),
    );
    let line = "cannot read record 0 of `control`: the first record does not install anything";
    assert_eq!(open_error(&foreign, options()).await.to_string(), line);
}

#[tokio::test]
async fn urls_are_checked_before_anything_is_written() {
    let log = Arc::new(MemoryLog::new());
    let lax = Control::open(log.clone(), Options { allow_http: true, ..options() }).await.unwrap();
    let strict = open(&log).await;
    let application = create_application(&lax, ApplicationSettings::default()).await;
    let key = SigningKey::generate_symmetric(&SystemEntropy);
    let command = lax.new_endpoint(&application, hook("http://example.com"), &key);
    let written = log.record_count();
    assert_eq!(strict.submit(command.clone(), None).await, Err(UrlError::NotHttps.into()));
    assert_eq!(log.record_count(), written);

    lax.submit(command, None).await.unwrap();
    strict.apply_to_end().await.unwrap();
    let endpoint = Arc::clone(strict.view().endpoints_of(application.id).next().unwrap());
    let update = |url: &str| Command::UpdateEndpoint {
        application: application.id,
        id: endpoint.id,
        expected_revision: None,
        settings: Box::new(EndpointSettings { disabled: true, ..hook(url) }),
    };
    assert_eq!(strict.submit(update("http://example.org"), None).await, Err(UrlError::NotHttps.into()));
    strict.submit(update("http://example.com"), None).await.unwrap();
}

#[tokio::test]
async fn old_and_new_secret_sign_until_the_old_one_lapses() {
    let control = open(&Arc::new(MemoryLog::new())).await;
    let application = create_application(&control, ApplicationSettings::default()).await;
    let [old, new] = [(); 2].map(|()| SigningKey::generate_symmetric(&SystemEntropy));
    let endpoint = create_endpoint(&control, &application, &old).await;
    let sealed = endpoint.secrets[0].sealed.as_bytes();
    assert!(!sealed.windows(5).any(|bytes| bytes == b"whsec"));
    let rotate = control.new_secret(&endpoint, &new, Duration::from_mins(1));
    let Applied::Accepted(Effect::Endpoint(endpoint)) = control.submit(rotate, None).await.unwrap() else {
        panic!("it was not accepted")
    };
    assert_eq!(control.newest_secret(&endpoint).unwrap().to_string(), new.to_string());

    let now = SystemClock.now();
    let lapses = Control::signer_lapses(&endpoint, now);
    assert!(lapses > now && lapses <= now + Duration::from_mins(1));
    let accepts = |key: &SigningKey, at: Timestamp| {
        let header = control.signer(&endpoint, at).unwrap().signature_header("msg_1", at.as_secs(), b"{}");
        let keys = [key.to_string().parse::<VerifyingKey>().unwrap()];
        verify(&keys, "msg_1", &at.as_secs().to_string(), &header, b"{}", at).is_ok()
    };
    assert!(accepts(&new, now) && accepts(&old, now));
    assert!(accepts(&new, lapses) && !accepts(&old, lapses));
    assert_eq!(Control::signer_lapses(&endpoint, lapses), Timestamp::MAX);
}

#[tokio::test]
async fn a_policy_is_the_endpoints_then_the_applications_then_the_installations() {
    let control = open(&Arc::new(MemoryLog::new())).await;
    let key = SigningKey::generate_symmetric(&SystemEntropy);
    let application = create_application(&control, ApplicationSettings::default()).await;
    let endpoint = create_endpoint(&control, &application, &key).await;
    assert_eq!(control.policy(&endpoint), Policy::default());

    let keyed = ApplicationSettings { ordering: Some(Ordering::Keyed), ..Default::default() };
    let application = create_application(&control, keyed).await;
    let endpoint = create_endpoint(&control, &application, &key).await;
    // Also while a guard is held.
    let guard = control.view();
    assert_eq!(control.policy(&endpoint).ordering, Ordering::Keyed);
    drop(guard);

    let own = EndpointSettings {
        ordering: Some(Ordering::Unordered),
        retry_schedule: RetrySchedule::new(vec![1, 2]),
        park: Park::Block,
        max_in_flight: Some(3),
        ..hook("https://example.com")
    };
    let endpoint = Endpoint { settings: own, ..endpoint.as_ref().clone() };
    let expected = Policy {
        ordering: Ordering::Unordered,
        retry_schedule: RetrySchedule::new(vec![1, 2]).unwrap(),
        park_after: None,
        max_in_flight: 3,
        ..Policy::default()
    };
    assert_eq!(control.policy(&endpoint), expected);

    // Of two rates the lower one holds.
    for (of_application, own, expected) in [
        (None, None, None),
        (Some(7), None, Some(7)),
        (None, Some(5), Some(5)),
        (Some(7), Some(5), Some(5)),
        (Some(7), Some(9), Some(7)),
    ] {
        let limited = ApplicationSettings { throttle_rate: of_application, ..Default::default() };
        let application = create_application(&control, limited).await;
        let endpoint = create_endpoint(&control, &application, &key).await;
        let settings = EndpointSettings { throttle_rate: own, ..endpoint.settings.clone() };
        let endpoint = Endpoint { settings, ..endpoint.as_ref().clone() };
        assert_eq!(control.policy(&endpoint).throttle_rate, expected.and_then(NonZeroU32::new));
    }
}

fn mark(control: &Control, token: &str) -> TokenMark {
    match control.authenticate(token, SystemClock.now()).unwrap().credential {
        Credential::Token(mark) => mark,
        Credential::Key(id) => panic!("{id} is no token"),
    }
}

async fn revoke(control: &Control, token: &str) {
    let access = control.authenticate(token, SystemClock.now()).unwrap();
    let command = control.revocation(&access, &mark(control, token));
    control.submit(command, None).await.unwrap();
}

#[tokio::test]
async fn a_revoked_token_is_refused_here_and_elsewhere_and_after_a_start() {
    let log = Arc::new(MemoryLog::new());
    let (here, there) = (open(&log).await, open(&log).await);
    let [token, other] = [(); 2].map(|()| here.mint(Grant::organization(default_organization())));
    let before = (here.credentials_revision(), there.credentials_revision());
    revoke(&here, &token).await;
    let check = |control: &Control, token: &str| control.authenticate(token, SystemClock.now()).map(drop);
    assert_eq!((check(&here, &token), check(&here, &other)), (Err(TokenError::Revoked), Ok(())));
    assert!(here.credentials_revision() > before.0, "who remembers that it was good is told");
    there.apply_to_end().await.unwrap();
    assert_eq!((check(&there, &token), check(&there, &other)), (Err(TokenError::Revoked), Ok(())));
    assert!(there.credentials_revision() > before.1);
    let again = open(&log).await;
    assert_eq!(check(&again, &token), Err(TokenError::Revoked));
    assert_eq!(again.credentials_revision(), again.view().credentials_revision());
}

/// As they were made before tokens had a `jti`.
#[tokio::test]
async fn old_tokens_stay_good_and_can_be_taken_back() {
    let control = open(&Arc::new(MemoryLog::new())).await;
    let organization = default_organization();
    let application = create_application(&control, named("own")).await.id;
    let now = SystemClock.now().as_secs();
    let sign = |mut claims: serde_json::Value| {
        let times = serde_json::json!({"iss": "svix-server", "iat": now, "nbf": now, "exp": now + 3_600});
        claims.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
        let key = jsonwebtoken::EncodingKey::from_secret(&options().main_secret.token_key());
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
    };
    let whole = sign(serde_json::json!({ "sub": organization }));
    let narrow = sign(serde_json::json!({ "sub": application, "org": organization }));
    for token in [&whole, &narrow] {
        let mark = mark(&control, token);
        assert_eq!(mark.id.0, mark.fingerprint);
    }
    revoke(&control, &whole).await;
    assert_eq!(control.authenticate(&whole, SystemClock.now()), Err(TokenError::Revoked));
    mark(&control, &narrow);
    control.submit(control.expiry(application, &[], Duration::ZERO), None).await.unwrap();
    assert_eq!(control.authenticate(&narrow, SystemClock.now()), Err(TokenError::Revoked));
}

#[tokio::test]
async fn tokens_of_an_application_expire_and_new_ones_are_good_at_once() {
    let control = open(&Arc::new(MemoryLog::new())).await;
    let organization = default_organization();
    let [own, others] = [create_application(&control, named("own")).await.id, {
        create_application(&control, named("others")).await.id
    }];
    let grant = |application: ApplicationId, session: Option<&str>| Grant {
        session: session.map(str::to_owned),
        ..Grant::application(organization, application)
    };
    let token = control.mint(grant(own, None));
    let [one, two] = ["one", "two"].map(|session| control.mint(grant(own, Some(session))));
    let [beside, above] =
        [control.mint(grant(others, None)), control.mint(Grant::organization(organization))];
    let refused = |token: &String| match control.authenticate(token, SystemClock.now()) {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error, TokenError::Revoked);
            true
        }
    };
    control.submit(control.expiry(own, &["one".to_owned()], Duration::ZERO), None).await.unwrap();
    assert_eq!([&token, &one, &two, &beside, &above].map(refused), [false, true, false, false, false]);
    control.submit(control.expiry(own, &[], Duration::ZERO), None).await.unwrap();
    assert_eq!([&token, &one, &two, &beside, &above].map(refused), [true, true, true, false, false]);
    // However soon afterwards, and though it is for a session that was expired.
    for session in [None, Some("one")] {
        assert!(!refused(&control.mint(grant(own, session))), "{session:?}");
    }

    let later = control.mint(grant(own, None));
    control.submit(control.expiry(own, &[], Duration::from_hours(1)), None).await.unwrap();
    let until = control.authenticate(&later, SystemClock.now()).unwrap().until;
    let left = until.since(SystemClock.now());
    assert!(left > Duration::from_mins(59) && left <= Duration::from_hours(1), "{left:?}");
    assert_eq!(control.authenticate(&later, until), Err(TokenError::Revoked));
}

#[tokio::test]
async fn an_api_key_is_good_until_it_expires_or_is_deleted() {
    let log = Arc::new(MemoryLog::new());
    let (here, there) = (open(&log).await, open(&log).await);
    let organization = default_organization();
    let application = create_application(&here, named("acme")).await.id;
    let now = SystemClock.now();
    let hour = Duration::from_hours(1);
    let (command, key) = here.new_api_key(organization, None, "deploy".into(), Scope::Full, None);
    let (narrow, narrow_key) =
        here.new_api_key(organization, Some(application), "reader".into(), Scope::Read, Some(now + hour));
    assert_eq!(here.authenticate(&key, now), Err(TokenError::KeyUnknown));
    let Command::CreateApiKey { id, .. } = command else { panic!("{command:?}") };
    here.submit(command, None).await.unwrap();
    here.submit(narrow, None).await.unwrap();

    let access = here.authenticate(&key, now).unwrap();
    assert_eq!((access.principal, access.scope), (Principal::Organization(organization), Scope::Full));
    assert_eq!((access.credential, access.until), (Credential::Key(id), Timestamp::MAX));
    let access = here.authenticate(&narrow_key, now).unwrap();
    let principal = Principal::Application { organization, application };
    assert_eq!((access.principal, access.scope, access.until), (principal, Scope::Read, now + hour));
    assert_eq!(here.authenticate(&narrow_key, now + hour), Err(TokenError::KeyExpired));
    there.apply_to_end().await.unwrap();
    assert_eq!(there.authenticate(&key, now), here.authenticate(&key, now));

    // Nothing of it stands in the log.
    let secret = &key[32..75];
    for record in log.records() {
        let text = String::from_utf8_lossy(&record).into_owned();
        assert!(!text.contains(secret), "{text}");
    }
    // The right id with another secret.
    let forged = ApiKeys::new(&MainSecret::from_bytes([9; 32])).make(id, &SystemEntropy).0;
    assert_eq!(here.authenticate(&forged, now), Err(TokenError::KeyWrong));
    assert_eq!(here.authenticate(&key[..80], now), Err(TokenError::KeyMalformed));

    here.submit(Command::DeleteApiKey { organization, id }, None).await.unwrap();
    assert_eq!(here.authenticate(&key, now), Err(TokenError::KeyUnknown));
}

#[tokio::test]
async fn looking_back_meets_every_command_once_in_runs_that_end() {
    let log = Arc::new(MemoryLog::new());
    let control = open(&log).await;
    let organization = default_organization();
    for number in 0..40 {
        log.skip_offsets(number % 3);
        create_application(&control, named(&format!("customer-{number}"))).await;
    }
    let end = control.position();
    let show = |_: Offset, envelope: &Envelope| match &envelope.command {
        Command::CreateApplication { settings, .. } => settings.uid.clone(),
        _ => None,
    };
    let uids =
        |numbers: Vec<u32>| numbers.iter().map(|number| format!("customer-{number}")).collect::<Vec<_>>();
    let (mut back, mut below) = (Vec::new(), end);
    loop {
        let looked = control.look_back(below, 7, show).await.unwrap();
        assert!(looked.found.len() <= 7);
        back.extend(looked.found.into_iter().map(|(_, uid)| uid));
        if looked.at_end {
            break;
        }
        below = looked.last.unwrap();
    }
    assert_eq!(back, uids((0..40).rev().collect()));
    let (mut ahead, mut above) = (Vec::new(), Offset::ZERO);
    loop {
        let looked = control.look_ahead(above, 7, show).await.unwrap();
        ahead.extend(looked.found.into_iter().map(|(_, uid)| uid));
        if looked.at_end {
            break;
        }
        above = looked.last.unwrap();
    }
    assert_eq!(ahead, uids((0..40).collect()));

    // Nothing is found, and the work is bounded all the same.
    log.skip_offsets(3 * limits::AUDIT_OFFSETS);
    create_application(&control, named("last")).await;
    let none = |_: Offset, _: &Envelope| None::<()>;
    let looked = control.look_back(control.position(), 7, none).await.unwrap();
    let reached = Offset(control.position().0 - limits::AUDIT_OFFSETS);
    assert_eq!((looked.found.len(), looked.last, looked.at_end), (0, Some(reached), false));
    let origin =
        log.records().iter().rev().find_map(|record| Envelope::decode(record).unwrap().origin).unwrap();
    assert_eq!((origin.organization, origin.by), (Some(organization), Actor::Fanfare));
}
