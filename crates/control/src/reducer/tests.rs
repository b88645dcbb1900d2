#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub(crate) mod commands;
mod jobs;
mod model;

use fanfare_core::{EndpointNumber, Offset};
use proptest::prelude::*;

use super::*;
use commands::{Bench, application_id, endpoint_id, organization_id};
use model::Model;

proptest! {
    /// The view, with all its indexes, says the same as a model that has none.
    #[test]
    fn the_view_agrees_with_a_simple_model(envelopes in commands::history()) {
        let mut view = View::default();
        let mut model = Model::default();
        for (offset, envelope) in (0..).map(Offset).zip(&envelopes) {
            let expected = model.apply(envelope);
            let answer = view.apply(offset, envelope);
            prop_assert_eq!(answer.is_ok(), expected.is_ok(), "{:?}: {:?} {:?}", envelope, answer, expected);
            if let (Ok(Applied::Repeated(resource)), Ok(repeated)) = (&answer, &expected) {
                prop_assert_eq!(Some(resource), repeated.as_ref());
            }
            model.check(&view);
        }
    }

    #[test]
    fn the_same_log_gives_the_same_view(envelopes in commands::history()) {
        let [mut first, mut second] = [View::default(), View::default()];
        for (offset, envelope) in (0..).map(Offset).zip(&envelopes) {
            let read = Envelope::decode(&envelope.encode()).unwrap();
            prop_assert_eq!(first.apply(offset, envelope), second.apply(offset, &read));
        }
        prop_assert_eq!(first, second);
    }

    /// A record that was damaged or cut is refused, or is some other command; reading it never panics.
    #[test]
    fn damaged_records_never_panic(
        envelopes in commands::history(),
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), commands::byte()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let record = which.get(&envelopes).encode();
        let mut bytes = record.to_vec();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = Envelope::decode(&bytes);
        let _ = Envelope::decode(&record[..cut.index(record.len())]);
    }

    #[test]
    fn a_refused_command_changes_nothing(envelopes in commands::history()) {
        let mut view = View::default();
        for (offset, envelope) in (0..).map(Offset).zip(&envelopes) {
            let mut before = view.clone();
            if !matches!(view.apply(offset, envelope), Ok(Applied::Accepted(_))) {
                before.pass(offset.next());
                before.remember_refused(offset);
                prop_assert_eq!(&before, &view);
            }
        }
    }
}

#[test]
fn a_refusal_names_the_event_types_that_do_not_exist() {
    let mut bench = Bench::installed();
    bench.application(0).unwrap();
    bench.event_type("invoice.paid").unwrap();
    let settings = EndpointSettings {
        event_types: Some(vec!["invoice.paid".into(), "no.such".into(), "nor.this".into()]),
        ..Default::default()
    };
    let refusal = bench.endpoint(0, settings).unwrap_err();
    assert_eq!(refusal, Refusal::UnknownEventTypes(vec!["no.such".into(), "nor.this".into()]));
    assert_eq!(refusal.to_string(), "event types that do not exist: no.such, nor.this");
}

#[test]
fn expunged_event_types_do_not_lock_an_endpoint() {
    let mut bench = Bench::installed();
    bench.application(0).unwrap();
    bench.event_type("old").unwrap();
    let settings = EndpointSettings { event_types: Some(vec!["old".into()]), ..Default::default() };
    bench.endpoint(0, settings.clone()).unwrap();
    let organization = organization_id(0);
    bench.give(Command::ArchiveEventType { organization, name: "old".into(), expunge: true }).unwrap();
    let update = |settings| Command::UpdateEndpoint {
        application: application_id(0),
        id: endpoint_id(0),
        expected_revision: None,
        settings: Box::new(settings),
    };
    bench.give(update(EndpointSettings { description: "changed".into(), ..settings })).unwrap();
    let settings =
        EndpointSettings { event_types: Some(vec!["old".into(), "new".into()]), ..Default::default() };
    assert_eq!(bench.give(update(settings)), Err(Refusal::UnknownEventTypes(vec!["new".into()])));
}

#[test]
fn deleting_an_application_frees_its_uid_and_never_its_numbers() {
    let mut bench = Bench::installed();
    let settings = ApplicationSettings { uid: Some("acme".into()), ..Default::default() };
    bench.application_with(0, settings.clone()).unwrap();
    assert_eq!(bench.application_with(1, settings.clone()), Err(Refusal::UidTaken("acme".into())));
    bench.endpoint(0, EndpointSettings::default()).unwrap();
    bench.give(Command::DeleteApplication { id: application_id(0) }).unwrap();
    assert_eq!(bench.view.endpoint_count(), 0);
    assert_eq!(bench.view.endpoint_by_number(EndpointNumber(0)), None);

    bench.application_with(1, settings).unwrap();
    bench.endpoint(1, EndpointSettings::default()).unwrap();
    let endpoint = bench.view.endpoints_of(application_id(1)).next().unwrap();
    assert_eq!(endpoint.number, EndpointNumber(1));
    assert_eq!(bench.view.application(organization_id(0), "acme").unwrap().id, application_id(1));
    assert_eq!(bench.view.application(organization_id(1), "acme"), None);
}

#[test]
fn rotation_lets_old_secrets_lapse() {
    let mut bench = Bench::installed();
    bench.application(0).unwrap();
    bench.endpoint(0, EndpointSettings::default()).unwrap();
    let mut rotate = |at: i64, name: &str, expires_at: i64| {
        let secret = EndpointSecret { sealed: crate::Sealed::from_bytes(name.as_bytes()), expires_at: None };
        let previous_expires_at = Timestamp::from_secs(expires_at);
        let (application, endpoint) = (application_id(0), endpoint_id(0));
        let command = Command::RotateSecret { application, endpoint, secret, previous_expires_at };
        bench.give_at(Timestamp::from_secs(at), command).unwrap();
        let endpoint = bench.view.endpoints_of(application).next().unwrap();
        let secrets = endpoint.secrets.iter();
        secrets
            .map(|s| {
                (
                    String::from_utf8(s.sealed.as_bytes().to_vec()).unwrap(),
                    s.expires_at.map(Timestamp::as_secs),
                )
            })
            .collect::<Vec<_>>()
    };
    let secret = |name: &str, expires_at| (name.to_owned(), expires_at);
    assert_eq!(rotate(10, "b", 100), [secret("b", None), secret("secret", Some(100))]);
    assert_eq!(
        rotate(20, "c", 200),
        [secret("c", None), secret("b", Some(200)), secret("secret", Some(100))]
    );
    // Without an overlap; that of the one before is not over.
    assert_eq!(rotate(150, "d", 150), [secret("d", None), secret("b", Some(200))]);
}

#[test]
fn policy_disables_once_and_a_human_enables_again() {
    let mut bench = Bench::installed();
    bench.application(0).unwrap();
    bench.endpoint(0, EndpointSettings::default()).unwrap();
    let (application, id) = (application_id(0), endpoint_id(0));
    let disable = |reason: &str| Command::DisableEndpointByPolicy {
        application,
        id,
        reason: reason.into(),
        failing_since: None,
    };
    assert_eq!(bench.view.matching(application, "any", &[]).len(), 1);
    bench.give(disable("it answered 410")).unwrap();
    bench.give(disable("it failed for 5 days")).unwrap();
    let endpoint = bench.view.endpoints_of(application).next().unwrap();
    assert_eq!((endpoint.disabled_by_policy.as_deref(), endpoint.revision), (Some("it answered 410"), 2));
    assert_eq!(bench.view.matching(application, "any", &[]), []);

    let settings = Box::new(EndpointSettings::default());
    bench.give(Command::UpdateEndpoint { application, id, expected_revision: Some(2), settings }).unwrap();
    assert_eq!(bench.view.endpoints_of(application).next().unwrap().disabled_by_policy, None);
    assert_eq!(bench.view.matching(application, "any", &[]).len(), 1);
}

#[test]
fn credentials_that_were_taken_back_are_noticed() {
    let mut bench = Bench::installed();
    bench.application(0).unwrap();
    let organization = organization_id(0);
    let key = |number, application| Command::CreateApiKey {
        id: commands::api_key_id(number),
        organization,
        application,
        name: "deploy".into(),
        scope: crate::Scope::Full,
        expires_at: None,
        digest: commands::digest(),
    };
    let mut revision = 0;
    let mut rises = |bench: &Bench| {
        let before = std::mem::replace(&mut revision, bench.view.credentials_revision());
        before < revision
    };
    bench.give(key(0, None)).unwrap();
    bench.give(key(1, Some(application_id(0)))).unwrap();
    assert_eq!(bench.give(key(1, None)), Err(Refusal::IdTaken(commands::api_key_id(1).to_string())));
    assert_eq!(bench.give(key(2, Some(application_id(9)))), Err(Refusal::NoApplication(application_id(9))));
    assert!(!rises(&bench), "nothing that was good is so no more");

    let delete =
        |organization, number| Command::DeleteApiKey { organization, id: commands::api_key_id(number) };
    let foreign = bench.give(delete(organization_id(1), 0));
    assert_eq!(foreign, Err(Refusal::NoApiKey(commands::api_key_id(0))), "another organization's");
    bench.give(delete(organization, 0)).unwrap();
    assert!(rises(&bench));
    let (token, expires_at) = (Fingerprint([1; 16]), Timestamp::MAX);
    bench.give(Command::RevokeToken { organization, application: None, token, expires_at }).unwrap();
    assert!(rises(&bench));
    let (application, issued_until) = (application_id(0), Timestamp::ZERO);
    let sessions = Vec::new();
    bench.give(Command::ExpireTokens { application, issued_until, from: None, sessions }).unwrap();
    assert!(rises(&bench));
    bench.give(Command::DeleteApplication { id: application }).unwrap();
    assert!(rises(&bench), "its keys go with it");
    assert_eq!(bench.view.api_keys(organization).count(), 0);
}

#[test]
fn an_organization_has_so_many_keys_at_most() {
    let mut bench = Bench::installed();
    let mut create = |number: u32, organization| {
        let mut id = [0; 20];
        id[16..].copy_from_slice(&number.to_be_bytes());
        bench.give(Command::CreateApiKey {
            id: ApiKeyId::from_bytes(id),
            organization,
            application: None,
            name: "deploy".into(),
            scope: crate::Scope::Read,
            expires_at: None,
            digest: commands::digest(),
        })
    };
    let all = u32::try_from(limits::API_KEYS).unwrap();
    for number in 0..all {
        create(number, organization_id(0)).unwrap();
    }
    assert_eq!(create(all, organization_id(0)), Err(Refusal::TooManyApiKeys));
    create(all, organization_id(1)).unwrap();
}

#[test]
fn refusals_beyond_the_last_are_forgotten_and_not_denied() {
    let mut bench = Bench::installed();
    let refused = || Command::DeleteApplication { id: application_id(9) };
    for _ in 0..limits::REFUSALS_REMEMBERED {
        bench.give(refused()).unwrap_err();
    }
    assert_eq!(
        (bench.view.was_refused(Offset(0)), bench.view.was_refused(Offset(1))),
        (Some(false), Some(true))
    );
    bench.give(refused()).unwrap_err();
    assert_eq!((bench.view.was_refused(Offset(1)), bench.view.was_refused(Offset(2))), (None, Some(true)));
}

#[test]
fn new_things_go_where_least_is() {
    let mut bench = Bench::installed();
    let mut partitions = Vec::new();
    for application in 0..4 {
        partitions.push(bench.view.emptiest_message_partition().0);
        bench.application(application).unwrap();
    }
    assert_eq!(partitions, [0, 1, 2, 0]);
    bench.give(Command::DeleteApplication { id: application_id(1) }).unwrap();
    assert_eq!(bench.view.emptiest_message_partition(), Partition(1));
}
