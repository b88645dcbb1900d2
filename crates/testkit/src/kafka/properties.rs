//! `server.properties` of a broker that is a controller too, and how it writes its log.

use std::{collections::BTreeMap, path::Path};

use super::security::{Ports, Security};

/// What the brokers of one cluster know of each other.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) id: u32,
    pub(super) port: u16,
    pub(super) controller_port: u16,
    /// Where one comes in within TLS, if one may.
    pub(super) secure: Option<Ports>,
}

/// Small enough for tests, otherwise as Kafka comes. `over` wins.
pub(super) fn server(
    node: &Node,
    nodes: &[Node],
    data: &Path,
    security: Option<&Security>,
    over: &BTreeMap<String, String>,
) -> String {
    let voters: Vec<String> =
        nodes.iter().map(|node| format!("{}@127.0.0.1:{}", node.id, node.controller_port)).collect();
    let copies = nodes.len().min(3);
    let in_sync = if copies == 3 { 2 } else { 1 };
    let mut properties: BTreeMap<String, String> = [
        ("process.roles", "broker,controller".to_owned()),
        ("node.id", node.id.to_string()),
        ("controller.quorum.voters", voters.join(",")),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        ("inter.broker.listener.name", "PLAINTEXT".to_owned()),
        (
            "listeners",
            format!("PLAINTEXT://127.0.0.1:{},CONTROLLER://127.0.0.1:{}", node.port, node.controller_port),
        ),
        ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned()),
        ("log.dirs", data.display().to_string()),
        // A misspelt topic is an error, as it is on a well kept cluster.
        ("auto.create.topics.enable", "false".to_owned()),
        ("default.replication.factor", copies.to_string()),
        ("min.insync.replicas", in_sync.to_string()),
        // Each partition is a directory with open files: what Kafka keeps for itself is small.
        ("offsets.topic.num.partitions", "4".to_owned()),
        ("offsets.topic.replication.factor", copies.to_string()),
        ("transaction.state.log.num.partitions", "2".to_owned()),
        ("transaction.state.log.replication.factor", copies.to_string()),
        ("transaction.state.log.min.isr", in_sync.to_string()),
        ("share.coordinator.state.topic.num.partitions", "1".to_owned()),
        ("share.coordinator.state.topic.replication.factor", copies.to_string()),
        ("share.coordinator.state.topic.min.isr", in_sync.to_string()),
        // A broker that was killed is missed soon; until then its successor is taken for a second one.
        ("broker.heartbeat.interval.ms", "500".to_owned()),
        ("broker.session.timeout.ms", "2000".to_owned()),
        // A group forms at once, and tests choose how soon a member counts as dead.
        ("group.initial.rebalance.delay.ms", "0".to_owned()),
        ("group.min.session.timeout.ms", "500".to_owned()),
        // Room for small heaps.
        ("num.network.threads", "2".to_owned()),
        ("num.io.threads", "4".to_owned()),
        ("background.threads", "2".to_owned()),
        ("log.cleaner.dedupe.buffer.size", (16 << 20).to_string()),
        ("log.cleaner.io.buffer.size", (256 << 10).to_string()),
        // What tests wait for happens soon.
        ("log.cleaner.backoff.ms", "500".to_owned()),
        ("log.retention.check.interval.ms", "1000".to_owned()),
        ("log.segment.delete.delay.ms", "500".to_owned()),
        ("log.initial.task.delay.ms", "500".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    if let (Some(security), Some(ports)) = (security, node.secure) {
        let open = properties["listeners"].clone();
        properties.extend(security.properties(ports, &open));
    }
    properties.extend(over.clone());
    properties.iter().map(|(name, value)| line(name, value)).collect()
}

/// In this format a backslash and a line's end have a meaning of their own.
pub(super) fn line(name: &str, value: &str) -> String {
    format!("{name}={}\n", value.replace('\\', "\\\\").replace('\n', "\\n"))
}

/// Everything goes to stdout, which is a file; all settings, again and again, do not.
pub(super) const LOG: &str = "\
shutdownHook=disable
appender.stdout.type=Console
appender.stdout.name=STDOUT
appender.stdout.layout.type=PatternLayout
appender.stdout.layout.pattern=%d{ISO8601} %-5p %c{1} %m%n
logger.settings.name=org.apache.kafka.common.config.AbstractConfig
logger.settings.level=WARN
rootLogger.level=INFO
rootLogger.appenderRef.stdout.ref=STDOUT
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_know_each_other_and_settings_of_a_test_win() {
        let nodes: Vec<Node> = (1..=3_u16)
            .map(|id| Node { id: id.into(), port: 100 + id, controller_port: 200 + id, secure: None })
            .collect();
        let over = BTreeMap::from([
            ("num.io.threads".to_owned(), "8".to_owned()),
            ("key".to_owned(), "a\\b\nc".to_owned()),
        ]);
        let text = server(&nodes[1], &nodes, Path::new("/data"), None, &over);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.contains(&"controller.quorum.voters=1@127.0.0.1:201,2@127.0.0.1:202,3@127.0.0.1:203"));
        assert!(lines.contains(&"node.id=2"));
        assert!(lines.contains(&"listeners=PLAINTEXT://127.0.0.1:102,CONTROLLER://127.0.0.1:202"));
        assert!(lines.contains(&"min.insync.replicas=2"));
        assert!(lines.contains(&"num.io.threads=8"));
        assert!(lines.contains(&"key=a\\\\b\\nc"));
    }
}
