//! A broker through all that tests do to it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{io::Read, net::TcpStream, time::Duration};

use fanfare_testkit::kafka::{Broker, Cluster, Settings, shared};

/// Whether it answers a request that needs no more than a broker which is awake.
fn answers(broker: &Broker) -> bool {
    use std::io::Write;
    let Ok(mut stream) = TcpStream::connect(broker.address()) else {
        return false;
    };
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    // ApiVersions, version 0, from a client without a name.
    stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 255, 255]).unwrap();
    stream.read_exact(&mut [0; 8]).is_ok()
}

#[test]
fn a_broker_is_stopped_killed_frozen_and_started_again_where_it_was() {
    let cluster = Cluster::start(&Settings::new(1)).unwrap();
    let broker = &cluster.brokers()[0];
    assert_eq!(cluster.bootstrap(), broker.address());
    assert!(answers(broker));

    let first = broker.identity().unwrap();
    broker.kill().unwrap();
    assert!(!first.is_alive());
    assert!(!answers(broker));
    broker.start(1).unwrap();
    assert!(answers(broker), "at the same address");

    broker.freeze().unwrap();
    assert!(!answers(broker));
    broker.thaw().unwrap();
    assert!(answers(broker));

    broker.stop().unwrap();
    assert_eq!(broker.identity(), None);
    assert!(broker.freeze().is_err());
    let log = std::fs::read_to_string(broker.log()).unwrap();
    assert!(log.contains("shut down completed"), "SIGTERM lets it end in good order");
}

#[test]
fn a_setting_that_kafka_does_not_take_is_told_with_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = Settings { directory: Some(directory.path().to_path_buf()), ..Settings::new(1) };
    settings.properties.insert("num.io.threads".to_owned(), "none".to_owned());
    let error = Cluster::start(&settings).err().unwrap();
    assert!(format!("{error:#}").contains("num.io.threads"), "{error:#}");
}

#[test]
fn all_tests_of_a_process_share_a_broker() {
    assert_eq!(shared(), shared());
    assert!(TcpStream::connect(shared()).is_ok());
}
