//! Topics on a real broker: planned, made, changed, deleted behind our back.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use fanfare_log::kafka::{
    Options,
    topics::{self, Checked, Error, Level, Recorded, Report},
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier},
    client::DefaultClientContext,
    producer::{BaseRecord, Producer, ThreadedProducer},
};
use tokio::time::Instant;

/// Options with a prefix that no other test uses.
fn options() -> Options {
    let brokers = fanfare_testkit::kafka::shared();
    let prefix = format!("topics-{:016x}.", RandomState::new().hash_one("installation"));
    Options { prefix, ..Options::new(brokers, 2, 3) }
}

fn admin(options: &Options) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", &options.brokers).create().unwrap()
}

async fn delete(options: &Options, topic: &str) {
    let name = format!("{}{topic}", options.prefix);
    let wait = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    admin(options).delete_topics(&[&name], &wait).await.unwrap()[0].as_ref().unwrap();
    // A broker forgets a topic a little after the controller does.
    for _ in 0..400 {
        let plan = topics::plan(options).await.unwrap();
        if lines(&plan, Level::Change).iter().any(|line| line.contains(&name) && line.contains("created")) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{name} is still there");
}

fn lines(report: &Report, level: Level) -> Vec<&str> {
    report.of(level).collect()
}

async fn check(options: &Options) -> Checked {
    topics::check(options, None).await.unwrap()
}

#[tokio::test]
async fn a_new_installation_gets_all_its_topics() {
    let options = options();
    let plan = topics::plan(&options).await.unwrap();
    assert_eq!(lines(&plan, Level::Change).len(), 7, "{plan}");
    assert!(!check(&options).await.report.is_usable(), "nothing is there yet");

    let report = topics::create(&options).await.unwrap();
    assert_eq!(lines(&report, Level::Change).len(), 7, "{report}");
    let checked = check(&options).await;
    assert_eq!(checked.report.lines, [], "all is well");
    assert_eq!(checked.incarnations.len(), 7);
    assert_eq!(checked.record_bytes, 12 << 20);

    let plan = topics::plan(&options).await.unwrap();
    assert_eq!(lines(&plan, Level::Fine).len(), 7, "nothing is left to do: {plan}");
    assert_eq!(topics::create(&options).await.unwrap(), Report::default());
    assert_eq!(topics::apply(&options).await.unwrap(), plan);
}

#[tokio::test]
async fn processes_that_start_at_once_make_the_topics_together() {
    let options = options();
    let (one, two, three) =
        tokio::join!(topics::create(&options), topics::create(&options), topics::create(&options));
    one.unwrap();
    two.unwrap();
    three.unwrap();
    assert_eq!(check(&options).await.report.lines, []);
}

#[tokio::test]
async fn a_deleted_topic_is_not_made_again_behind_the_operators_back() {
    let options = options();
    topics::create(&options).await.unwrap();
    let before = check(&options).await.incarnations;
    write(&options, "messages").await;
    delete(&options, "attempts").await;

    let error = topics::create(&options).await.unwrap_err();
    let Error::Gap { missing, holding } = &error else { panic!("{error}") };
    assert_eq!(*missing, format!("{}attempts", options.prefix));
    assert_eq!(*holding, format!("{}messages", options.prefix));
    assert!(!check(&options).await.report.is_usable());

    topics::apply(&options).await.unwrap();
    assert!(check(&options).await.report.is_usable(), "as a topic like any other");
    let recorded = Recorded { incarnations: before.clone(), message_partitions: 2, delivery_partitions: 3 };
    let checked = topics::check(&options, Some(&recorded)).await.unwrap();
    let errors = lines(&checked.report, Level::Error);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("attempts was deleted and made again"), "{errors:?}");
    assert_ne!(checked.incarnations["attempts"], before["attempts"]);
    assert_eq!(checked.incarnations["control"], before["control"]);
}

#[tokio::test]
async fn a_gap_in_an_installation_without_records_is_filled() {
    let options = options();
    topics::create(&options).await.unwrap();
    delete(&options, "load").await;
    let report = topics::create(&options).await.unwrap();
    let name = format!("topic {}load was created with 3 partitions, each kept by 1 broker", options.prefix);
    assert_eq!(lines(&report, Level::Change), [name]);
    assert_eq!(check(&options).await.report.lines, []);
}

#[tokio::test]
async fn partitions_added_by_hand_are_refused() {
    let options = options();
    topics::create(&options).await.unwrap();
    let name = format!("{}deliveries", options.prefix);
    let more = NewPartitions::new(&name, 4);
    admin(&options).create_partitions(&[more], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    for _ in 0..400 {
        let checked = check(&options).await;
        if let [error] = lines(&checked.report, Level::Error).as_slice() {
            assert!(error.starts_with(&format!("topic {name} has 4 partitions, not 3")), "{error}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("nothing is said of the new partition");
}

#[tokio::test]
async fn dangerous_settings_are_said_and_put_right() {
    let options = options();
    topics::create(&options).await.unwrap();
    let name = format!("{}messages", options.prefix);
    // Replaces all that was set for the topic, as a careless tool does.
    let alter = AlterConfig::new(ResourceSpecifier::Topic(&name))
        .set("unclean.leader.election.enable", "true")
        .set("max.message.bytes", "1048588")
        .set("compression.type", "lz4")
        .set("retention.ms", "60000");
    admin(&options).alter_configs(&[alter], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();

    // Brokers hear of it a moment later.
    let deadline = Instant::now() + Duration::from_secs(30);
    let checked = loop {
        let checked = check(&options).await;
        if checked.record_bytes == 1_048_588 {
            break checked;
        }
        assert!(Instant::now() < deadline, "{:?}", checked.report);
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let warnings = lines(&checked.report, Level::Warning).join("\n");
    for setting in
        ["unclean.leader.election.enable is true", "max.message.bytes of topic", "retention.ms of topic"]
    {
        assert!(warnings.contains(setting), "{warnings}");
    }
    assert_eq!(checked.record_bytes, 1_048_588);
    assert!(checked.report.is_usable());

    let report = topics::apply(&options).await.unwrap();
    assert!(lines(&report, Level::Change).iter().all(|line| line.contains("was changed")), "{report}");
    assert_eq!(check(&options).await.report.lines, []);
    let settings = settings(&options, &name).await;
    assert_eq!(settings["compression.type"], "lz4", "what is not ours stays");
}

#[tokio::test]
async fn more_copies_than_brokers_cannot_be_made() {
    let options = Options { replication: 3, ..options() };
    let error = topics::create(&options).await.unwrap_err().to_string();
    assert!(error.contains(&options.brokers), "{error}");
    assert!(error.ends_with("there are fewer than 3 brokers to keep it"), "{error}");
}

#[tokio::test]
async fn nobody_at_the_address_is_said_with_the_address() {
    let options = Options::new("127.0.0.1:1", 2, 3);
    let error = topics::plan(&options).await.unwrap_err().to_string();
    assert!(error.starts_with("Kafka at 127.0.0.1:1 cannot be asked for topics: "), "{error}");
    assert!(error.ends_with("Connection refused"), "{error}");
    assert!(!error.contains('\n'));
}

#[tokio::test]
async fn a_setting_that_the_library_does_not_know_is_named_without_its_value() {
    let properties = BTreeMap::from([("sasl.pasword".to_owned(), "secret".to_owned())]);
    let options = Options { properties, ..options() };
    let error = topics::plan(&options).await.unwrap_err().to_string();
    assert!(error.starts_with("Kafka setting sasl.pasword is refused: "), "{error}");
    assert!(!error.contains("secret"), "{error}");
}

async fn settings(options: &Options, topic: &str) -> BTreeMap<String, String> {
    let resources = [ResourceSpecifier::Topic(topic)];
    let described = admin(options).describe_configs(&resources, &AdminOptions::new()).await.unwrap();
    let entries = described.into_iter().next().unwrap().unwrap().entries;
    entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect()
}

async fn write(options: &Options, topic: &str) {
    let name = format!("{}{topic}", options.prefix);
    let producer: ThreadedProducer<_> =
        ClientConfig::new().set("bootstrap.servers", &options.brokers).create().unwrap();
    producer.send(BaseRecord::<(), str>::to(&name).payload("a record")).map_err(|(error, _)| error).unwrap();
    tokio::task::spawn_blocking(move || producer.flush(Duration::from_secs(10))).await.unwrap().unwrap();
}
