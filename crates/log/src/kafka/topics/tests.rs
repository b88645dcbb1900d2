use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    found::{Found, FoundTopics},
    plan::Plan,
    report::{Level, Line, names},
    wanted::{self, Keep, Wanted},
    *,
};

fn wanted(replication: u32) -> Vec<Wanted> {
    let options = Options { prefix: "t.".to_owned(), replication, ..Options::new("localhost:1", 16, 32) };
    wanted::all(&options)
}

/// Topics as we make them.
fn found(wanted: &[Wanted]) -> FoundTopics {
    let topic = |topic: &Wanted| {
        let settings = topic.settings_for(topic.replication);
        let own = settings.keys().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value));
        let Wanted { partitions, replication, .. } = *topic;
        let id = format!("id of {}", topic.topic);
        (topic.name.clone(), Found { id, partitions, replication, settings: settings.collect(), own })
    };
    wanted.iter().map(topic).collect()
}

fn set(found: &mut FoundTopics, topic: &str, setting: &str, value: &str) {
    found.get_mut(topic).unwrap().settings.insert(setting.to_owned(), value.to_owned());
}

/// What an installation with these topics keeps of them.
fn recorded(incarnations: Incarnations) -> Recorded {
    Recorded { incarnations, message_partitions: 16, delivery_partitions: 32 }
}

fn lines(report: &Report, level: Level) -> Vec<&str> {
    report.of(level).collect()
}

#[test]
fn each_topic_is_wanted_once_with_its_own_way_of_keeping() {
    let wanted = wanted(3);
    let keeps: Vec<(&str, Keep)> = wanted.iter().map(|topic| (topic.topic, topic.keep)).collect();
    let options = Options::new("localhost:1", 16, 32);
    let longer = options.retention + options.retention_extra;
    assert_eq!(
        keeps,
        [
            ("messages", Keep::For(longer)),
            ("deliveries", Keep::For(options.retention)),
            ("attempts", Keep::For(longer)),
            ("control", Keep::Forever),
            ("dedup", Keep::For(Duration::from_hours(24) + options.retention_extra)),
            ("lanes", Keep::Newest),
            ("load", Keep::Newest),
        ]
    );
    for topic in &wanted {
        assert_eq!(topic.name, format!("t.{}", topic.topic));
        assert_eq!(topic.settings_for(3)["min.insync.replicas"], "2");
        assert_eq!(topic.settings_for(2).get("min.insync.replicas"), None);
    }
    assert_eq!(wanted[3].settings["retention.ms"], "-1");
}

#[test]
fn a_short_retention_still_has_segments_to_remove() {
    let options = Options { retention: Duration::from_secs(8), ..Options::new("localhost:1", 16, 32) };
    let deliveries = &wanted::all(&options)[1];
    assert_eq!(deliveries.settings["segment.ms"], "1000");
}

#[test]
fn what_is_as_it_should_be_is_left_alone() {
    let wanted = wanted(3);
    let found = found(&wanted);
    let plan = Plan::new(&wanted, &found);
    assert!(plan.create.is_empty() && plan.change.is_empty());
    let checked = check::check(&wanted, &found, None);
    assert_eq!(checked.report.lines, Vec::<Line>::new());
    assert_eq!(checked.record_bytes, 12 << 20);
    assert_eq!(checked.incarnations["control"], "id of control");
    let recorded = recorded(checked.incarnations);
    assert_eq!(check::check(&wanted, &found, Some(&recorded)).report.lines, Vec::<Line>::new());
}

#[test]
fn what_is_missing_is_created() {
    let wanted = wanted(1);
    let mut found = found(&wanted);
    found.remove("t.lanes");
    found.remove("t.control");
    let report = Plan::new(&wanted, &found).into_report();
    let expected = [
        "topic t.control will be created with 1 partition, each kept by 1 broker",
        "topic t.lanes will be created with 32 partitions, each kept by 1 broker",
    ];
    assert_eq!(lines(&report, Level::Change), expected);
    assert_eq!(lines(&report.done(), Level::Change), expected.map(|line| line.replace("will be", "was")));
    let checked = check::check(&wanted, &found, None);
    assert_eq!(
        lines(&checked.report, Level::Error),
        ["missing on Kafka: t.control and t.lanes; `fanfare topics apply` creates what is missing"]
    );
    assert!(!checked.report.is_usable());
}

#[test]
fn settings_are_changed_and_those_of_others_are_kept() {
    let wanted = wanted(3);
    let mut found = found(&wanted);
    set(&mut found, "t.messages", "retention.ms", "1000");
    set(&mut found, "t.messages", "max.message.bytes", "99999999");
    set(&mut found, "t.messages", "compression.type", "zstd");
    found.get_mut("t.messages").unwrap().own.insert("compression.type".to_owned());
    let plan = Plan::new(&wanted, &found);
    let [change] = plan.change.as_slice() else { panic!("{plan:?}") };
    assert_eq!(change.settings.keys().copied().collect::<Vec<_>>(), ["retention.ms"]);
    assert_eq!(change.kept["compression.type"], "zstd");
    assert_eq!(change.kept["max.message.bytes"], "99999999");
    assert!(!change.kept.contains_key("retention.ms"));
    let to = &wanted[0].settings["retention.ms"];
    assert_eq!(
        lines(&plan.clone().into_report(), Level::Change),
        [format!("retention.ms of topic t.messages will be changed from 1000 to {to}")]
    );
}

/// How much that is depends on the bodies that are let in. What other topics take does not.
#[test]
fn messages_have_to_take_the_largest_body() {
    let body_bytes = 4 << 20;
    let options = Options { prefix: "t.".to_owned(), body_bytes, ..Options::new("localhost:1", 16, 32) };
    let wanted = wanted::all(&options);
    let found = found(&wanted);
    assert_eq!(found["t.messages"].batch_bytes(), Some(12 << 20), "larger bodies need no other topic");
    let needed = u64::try_from(body_bytes + BESIDE_BODY_BYTES).unwrap();
    for (topic, limit, suffices) in [
        ("t.messages", needed, true),
        ("t.messages", needed - 1, false),
        ("t.dedup", needed, false),
        ("t.dedup", 12 << 20, true),
    ] {
        let mut found = found.clone();
        set(&mut found, topic, "max.message.bytes", &limit.to_string());
        let warned = format!("max.message.bytes of topic {topic} is {limit}, less than ");
        let checked = check::check(&wanted, &found, None);
        let warnings = lines(&checked.report, Level::Warning);
        assert_eq!(warnings.len(), usize::from(!suffices), "{warnings:?}");
        assert!(warnings.iter().all(|line| line.starts_with(&warned)), "{warnings:?}");
        let line = format!("max.message.bytes of topic {topic} will be changed from {limit} to 12582912");
        let planned = Plan::new(&wanted, &found).into_report();
        let changes = lines(&planned, Level::Change);
        assert_eq!(changes, if suffices { Vec::new() } else { vec![&*line] });
    }
}

#[test]
fn partitions_are_never_added() {
    let wanted = wanted(1);
    let mut found = found(&wanted);
    found.get_mut("t.deliveries").unwrap().partitions = 33;
    let line = "topic t.deliveries has 33 partitions, not 32: their number is fixed when the topic is made, so \
                configure that number or another prefix";
    let plan = Plan::new(&wanted, &found);
    assert!(plan.create.is_empty() && plan.change.is_empty());
    assert_eq!(lines(&plan.into_report(), Level::Error), [line]);
    assert_eq!(lines(&check::check(&wanted, &found, None).report, Level::Error), [line]);
    // Once the installation is made, no other number is right.
    let added = "topic t.deliveries has 33 partitions, but this installation was made with 32 partitions: Kafka does not \
                 take away what was added; begin a new installation with another prefix";
    let recorded = recorded(Incarnations::new());
    assert_eq!(lines(&check::check(&wanted, &found, Some(&recorded)).report, Level::Error), [added]);
}

#[test]
fn other_partitions_than_the_installation_was_made_with_are_not_advised() {
    let wanted = wanted(1);
    let recorded = Recorded { message_partitions: 15, ..recorded(Incarnations::new()) };
    let mut found = found(&wanted);
    // Added by hand, then configured.
    let checked = check::check(&wanted, &found, Some(&recorded));
    let errors = lines(&checked.report, Level::Error);
    assert_eq!(errors.len(), 2);
    assert!(
        errors[0].starts_with("topic t.messages has 16 partitions, but this installation was made with 15")
    );
    // Configured only.
    for topic in ["t.messages", "t.dedup"] {
        found.get_mut(topic).unwrap().partitions = 15;
    }
    let checked = check::check(&wanted, &found, Some(&recorded));
    let errors = lines(&checked.report, Level::Error);
    assert_eq!(errors.len(), 2);
    assert!(errors[1].ends_with(
        "topic t.dedup has 15 partitions, not 16: the number was fixed when this installation was made, so configure \
         that one"
    ));
}

#[test]
fn another_incarnation_is_told_from_the_recorded_one() {
    let wanted = wanted(1);
    let mut found = found(&wanted);
    let recorded = recorded(check::check(&wanted, &found, None).incarnations);
    found.get_mut("t.attempts").unwrap().id = "another".to_owned();
    let checked = check::check(&wanted, &found, Some(&recorded));
    assert_eq!(
        lines(&checked.report, Level::Error),
        [
            "topic t.attempts was deleted and made again: its id is another, this installation was made with id of \
             attempts, and the records of that one are gone; begin a new installation with another prefix"
        ]
    );
}

#[test]
fn what_endangers_records_is_said() {
    let wanted = wanted(3);
    let mut found = found(&wanted);
    set(&mut found, "t.messages", "min.insync.replicas", "1");
    set(&mut found, "t.control", "min.insync.replicas", "1");
    set(&mut found, "t.deliveries", "unclean.leader.election.enable", "true");
    set(&mut found, "t.dedup", "retention.ms", "5");
    set(&mut found, "t.attempts", "retention.bytes", "1000000");
    set(&mut found, "t.messages", "max.message.bytes", "1048588");
    let checked = check::check(&wanted, &found, None);
    let warnings = lines(&checked.report, Level::Warning);
    assert_eq!(warnings.len(), 5, "{warnings:?}");
    assert!(warnings[0].starts_with("retention.bytes of topic t.attempts is 1000000"));
    assert!(warnings[1].starts_with("retention.ms of topic t.dedup is 5, less than"));
    assert!(warnings[2].starts_with("min.insync.replicas is 1 for t.messages and t.control"));
    assert!(warnings[3].starts_with("unclean.leader.election.enable is true for t.deliveries"));
    assert!(warnings[4].starts_with("max.message.bytes of topic t.messages is 1048588, less than 1064960"));
    assert!(checked.report.is_usable());
    assert_eq!(checked.record_bytes, 1_048_588);
}

#[test]
fn topics_with_more_copies_than_asked_for_are_to_have_two_in_sync() {
    let mut found = found(&wanted(3));
    set(&mut found, "t.messages", "min.insync.replicas", "1");
    let plan = Plan::new(&wanted(1), &found);
    let changes: Vec<_> =
        plan.change.iter().map(|change| (change.topic.as_str(), &change.settings)).collect();
    let settings = BTreeMap::from([("min.insync.replicas", ("1".to_owned(), "2".to_owned()))]);
    assert_eq!(changes, [("t.messages", &settings)]);
}

#[test]
fn what_loses_control_or_compacts_a_log_is_refused() {
    let wanted = wanted(1);
    let mut found = found(&wanted);
    set(&mut found, "t.control", "retention.ms", "604800000");
    set(&mut found, "t.deliveries", "cleanup.policy", "compact");
    set(&mut found, "t.lanes", "cleanup.policy", "delete");
    let checked = check::check(&wanted, &found, None);
    assert_eq!(
        lines(&checked.report, Level::Error),
        [
            "cleanup.policy of topic t.deliveries is compact, not delete: it would lose records",
            "topic t.control must be kept for ever, but Kafka removes its old records: set retention.ms and \
             retention.bytes to -1",
            "cleanup.policy of topic t.lanes is delete, not compact: it would lose records",
        ]
    );
}

#[test]
fn fewer_copies_than_wanted_are_told_but_left() {
    let wanted = wanted(3);
    let mut found = found(&wanted);
    found.get_mut("t.load").unwrap().replication = 1;
    found.get_mut("t.dedup").unwrap().replication = 1;
    let report = Plan::new(&wanted, &found).into_report();
    let expected = "each record of t.dedup and t.load is kept by 1 broker, not by 3: Kafka's own tool \
                    kafka-reassign-partitions changes that";
    assert_eq!(lines(&report, Level::Warning), [expected]);
}

#[test]
fn reports_are_readable_by_people_and_programs() {
    let mut report = Report::default();
    report.say(Level::Error, "no topic");
    assert_eq!(report.to_string(), "  error  no topic\n");
    assert_eq!(names(["a", "b", "c"]), "a, b and c");
    assert_eq!(names(["a"]), "a");
}
