//! On the embedded log, over restarts.

use std::{path::Path, sync::Arc};

use fanfare_control::{
    ApplicationSettings, Applied, Command, CommandError, Control, ControlKey, Effect, EndpointSettings,
    MainSecret, OpenError, Options, Refusal, Resource, default_organization, replay,
};
use fanfare_core::{Fingerprint, Policy, SystemClock, SystemEntropy, signature::SigningKey};
use fanfare_log::{
    Log,
    embedded::{self, EmbeddedLog},
};

fn options(main_secret: [u8; 32]) -> Options {
    Options {
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        main_secret: MainSecret::from_bytes(main_secret),
        allow_http: false,
        message_partitions: 4,
        delivery_partitions: 8,
        policy: Policy::default(),
    }
}

fn open_log(directory: &Path) -> Arc<EmbeddedLog> {
    let options = embedded::Options { segment_bytes: 1 << 20, ..embedded::Options::new(directory, 4, 8) };
    EmbeddedLog::open(options).unwrap()
}

async fn open(log: &Arc<EmbeddedLog>) -> Control {
    Control::open(Arc::clone(log) as Arc<dyn Log>, options([1; 32])).await.unwrap()
}

fn key(key: &[u8], body: &[u8]) -> ControlKey {
    ControlKey { key: Fingerprint::of(&[key]), body: Fingerprint::of(&[body]) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_outlives_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let log = open_log(directory.path());
    let (here, there) = (open(&log).await, open(&log).await);

    // Made here, seen there, changed by both.
    let settings = ApplicationSettings { uid: Some("acme".into()), ..Default::default() };
    let create = here.new_application(default_organization(), settings.clone());
    let Applied::Accepted(Effect::Application(application)) =
        here.submit(create, Some(key(b"k", b"b"))).await.unwrap()
    else {
        panic!("it was not accepted")
    };
    there.apply_to_end().await.unwrap();
    assert_eq!(there.view().application(default_organization(), "acme"), Some(Arc::clone(&application)));
    let update = || Command::UpdateApplication {
        id: application.id,
        expected_revision: Some(1),
        settings: settings.clone(),
    };
    there.submit(update(), None).await.unwrap();
    let stale = Refusal::StaleRevision { expected: 1, found: 2 };
    assert_eq!(here.submit(update(), None).await, Err(CommandError::Refused(stale)));

    let signing = SigningKey::generate_symmetric(&SystemEntropy);
    for number in 0..50 {
        let url = format!("https://example.com/{number}");
        let settings = EndpointSettings { url, ..Default::default() };
        here.submit(here.new_endpoint(&application, settings, &signing), None).await.unwrap();
    }
    let before = here.view().clone();
    drop((here, there));
    log.close().await;
    drop(log);

    let log = open_log(directory.path());
    let again = open(&log).await;
    assert_eq!(*again.view(), before);
    assert_eq!(again.view().matching(application.id, "any", &[]).len(), 50);
    let endpoint = Arc::clone(again.view().endpoints_of(application.id).next().unwrap());
    assert_eq!(again.newest_secret(&endpoint).unwrap().to_string(), signing.to_string());
    // The keys of POSTs too.
    let create = || again.new_application(default_organization(), settings.clone());
    let repeated = Applied::Repeated(Resource::Application(application.id));
    assert_eq!(again.submit(create(), Some(key(b"k", b"b"))).await, Ok(repeated));
    assert_eq!(again.submit(create(), Some(key(b"k", b"c"))).await, Err(Refusal::KeyReused.into()));

    let other = Control::open(Arc::clone(&log) as Arc<dyn Log>, options([2; 32])).await;
    assert!(matches!(other, Err(OpenError::OtherSecret { .. })));
    let seen = replay(&*log).await.unwrap();
    again.apply_to_end().await.unwrap();
    assert_eq!(seen, *again.view());
    log.close().await;
}
