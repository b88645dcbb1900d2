//! Topics that are changed while a process works on them: it ends with a plain line, as a start would, instead of taking
//! new records for old ones.

use rustix::process::Signal;

use super::*;

/// How long it may take to be noticed: looked at every ten seconds, and once more.
const NOTICED: Duration = Duration::from_mins(1);

impl OnKafka {
    /// A process at work, on topics of which `change` makes others.
    async fn ends_when(change: impl AsyncFnOnce(&Self), words: &[&str]) {
        let on = Self::new();
        let mut server = on.start().await;
        let client = on.client().await;
        let application = client.application("running").await;
        for n in 0..3 {
            client.publish(&application, &[], &message(n)).await.id(202);
        }
        change(&on).await;
        assert_eq!(server.exited(NOTICED).await.code(), Some(1));
        let said: Vec<String> =
            server.lines().into_iter().filter(|line| line.starts_with("fanfare: ")).collect();
        let [line] = said.as_slice() else { panic!("not one line: {said:?}") };
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
        refused(&on.start_in_vain().await, words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_made_anew_end_a_running_process() {
    OnKafka::ends_when(async |on| on.make_anew("messages", 2).await, &["messages", "was deleted and made a"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_made_anew_end_a_running_process() {
    OnKafka::ends_when(
        async |on| on.make_anew("deliveries", 3).await,
        &["deliveries", "was deleted and made again"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_added_ends_a_running_process() {
    let add = async |on: &OnKafka| {
        let name = on.name("messages");
        let more = NewPartitions::new(&name, 3);
        let added = on.admin().create_partitions(&[more], &AdminOptions::new()).await;
        added.expect("the broker answers")[0].as_ref().expect("it may be added");
    };
    OnKafka::ends_when(add, &["messages", "has 3 partitions", "was made with 2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_topic_that_changed_has_a_line() {
    let on = OnKafka::new();
    let mut server = on.start().await;
    // It finds both changed, and not one after the other.
    server.signal(Signal::STOP);
    on.make_anew("messages", 2).await;
    on.make_anew("deliveries", 3).await;
    server.signal(Signal::CONT);
    assert_eq!(server.exited(NOTICED).await.code(), Some(1));
    let said = server.lines();
    let from = said.iter().position(|line| line.starts_with("fanfare: ")).expect("it says why");
    assert!(said[from].ends_with("cannot be used:"), "{said:?}");
    for topic in ["messages", "deliveries"] {
        let line = format!("  error  topic {} was deleted and made again", on.name(topic));
        assert_eq!(said[from..].iter().filter(|said| said.starts_with(&line)).count(), 1, "{said:?}");
    }
}
