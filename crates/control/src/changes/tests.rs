#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::{
    model::EndpointSettings,
    reducer::tests::commands::{Bench, application_id, endpoint_id},
};

fn kinds_since(view: &View, from: Offset) -> Vec<ChangeKind> {
    view.endpoint_changes_since(from).unwrap().map(|change| change.kind).collect()
}

fn update(bench: &mut Bench, disabled: bool) {
    let settings = EndpointSettings { disabled, uid: Some("u".into()), ..Default::default() };
    let command = Command::UpdateEndpoint {
        application: application_id(0),
        id: endpoint_id(0),
        expected_revision: None,
        settings: settings.into(),
    };
    bench.give(command).unwrap();
}

#[test]
fn each_change_of_an_endpoint_is_noted_and_nothing_else() {
    let mut bench = Bench::installed();
    bench.application(0).unwrap();
    bench.endpoint(0, EndpointSettings::default()).unwrap();
    let created = bench.view.position();
    let disable = || Command::DisableEndpointByPolicy {
        application: application_id(0),
        id: endpoint_id(0),
        reason: "it answered 410".into(),
        failing_since: Some(Timestamp::from_secs(7)),
    };
    update(&mut bench, false);
    update(&mut bench, true);
    // It is disabled already: nothing happens.
    bench.give(disable()).unwrap();
    update(&mut bench, false);
    bench.give(disable()).unwrap();
    let (application, id) = (application_id(0), endpoint_id(0));
    bench.give(Command::DeleteEndpoint { application, id }).unwrap();
    bench.give(Command::DeleteEndpoint { application, id }).unwrap_err();

    let failing_since = Some(Timestamp::from_secs(7));
    let all = [
        ChangeKind::Created,
        ChangeKind::Updated,
        ChangeKind::Updated,
        ChangeKind::Disabled,
        ChangeKind::Updated,
        ChangeKind::Enabled,
        ChangeKind::DisabledByPolicy { failing_since },
        ChangeKind::Deleted,
    ];
    assert_eq!(kinds_since(&bench.view, Offset::ZERO), all);
    assert_eq!(kinds_since(&bench.view, created), all[1..], "what stands below is left out");
    let last = bench.view.endpoint_changes_since(created).unwrap().last().unwrap().clone();
    assert_eq!((last.application, last.endpoint, last.uid.as_deref()), (application, id, Some("u")));
}

#[test]
fn what_is_forgotten_is_said_to_be() {
    let change = |offset| EndpointChange {
        offset: Offset(offset),
        at: Timestamp::ZERO,
        organization: crate::default_organization(),
        application: application_id(0),
        endpoint: endpoint_id(0),
        uid: None,
        kind: ChangeKind::Updated,
    };
    let mut changes = EndpointChanges::default();
    let most = limits::ENDPOINT_CHANGES_REMEMBERED as u64;
    (0..most).for_each(|offset| changes.remember(change(offset)));
    assert_eq!(changes.since(Offset::ZERO).map(Iterator::count), Some(limits::ENDPOINT_CHANGES_REMEMBERED));
    changes.remember(change(most));
    assert!(changes.since(Offset::ZERO).is_none());
    assert_eq!(changes.since(Offset(1)).map(Iterator::count), Some(limits::ENDPOINT_CHANGES_REMEMBERED));
    assert_eq!(changes.since(Offset(most + 1)).map(Iterator::count), Some(0));
}
