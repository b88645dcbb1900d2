#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod memory_log;

use std::sync::Arc;

use fanfare_core::{
    Fingerprint, Ordering, RetrySchedule, SystemClock, SystemEntropy,
    signature::{VerifyingKey, verify},
};

use super::*;
use crate::{
    model::Park,
    reducer::{Effect, Refusal, Resource},
    tokens::default_organization,
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
    let line = "cannot read record 2 of `control`: it has version 9; this program knows versions up to 1: start a \
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
}
