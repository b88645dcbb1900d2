//! Whether the topics can be worked with, and what about them endangers records.

use super::{
    BatchBytes, Checked, Recorded,
    found::{Found, FoundTopics},
    plan::wrong_partitions,
    report::{Level, Report, counted, names},
    wanted::{BESIDE_BODY_BYTES, IN_SYNC, Keep, Wanted},
};

type Pair<'a> = (&'a Wanted, &'a Found);

pub(super) fn check(wanted: &[Wanted], found: &FoundTopics, recorded: Option<&Recorded>) -> Checked {
    let mut report = same_topics(wanted, found, recorded);
    let pairs: Vec<Pair<'_>> = pairs(wanted, found).collect();
    loses_what_is_kept(&pairs, &mut report);
    loses_what_is_acknowledged(&pairs, &mut report);
    let record_bytes = record_bytes(&pairs, &mut report);
    let incarnations =
        pairs.iter().map(|(wanted, found)| (wanted.topic.to_owned(), found.id.clone())).collect();
    Checked { report, incarnations, record_bytes, batch_bytes: batch_bytes(found) }
}

/// Whether all are there, and are those of the installation: on that offsets rest.
pub(super) fn same_topics(wanted: &[Wanted], found: &FoundTopics, recorded: Option<&Recorded>) -> Report {
    let mut report = Report::default();
    let missing: Vec<&Wanted> = wanted.iter().filter(|topic| !found.contains_key(&topic.name)).collect();
    if !missing.is_empty() {
        let missing = names(missing.iter().map(|topic| &topic.name));
        report.say(
            Level::Error,
            format!("missing on Kafka: {missing}; `fanfare topics apply` creates what is missing"),
        );
    }
    for (wanted, found) in pairs(wanted, found) {
        if let Some(line) = other_incarnation(wanted, found, recorded) {
            report.say(Level::Error, line);
        } else if let Some(line) = other_partitions(wanted, found, recorded) {
            report.say(Level::Error, line);
        } else if found.partitions != wanted.partitions {
            report.say(Level::Error, wrong_partitions(wanted, found));
        }
    }
    report
}

fn pairs<'a>(wanted: &'a [Wanted], found: &'a FoundTopics) -> impl Iterator<Item = Pair<'a>> {
    wanted.iter().filter_map(|topic| found.get(&topic.name).map(|found| (topic, found)))
}

fn other_incarnation(wanted: &Wanted, found: &Found, recorded: Option<&Recorded>) -> Option<String> {
    let recorded = recorded?.incarnations.get(wanted.topic)?;
    let name = &wanted.name;
    (found.id != *recorded).then(|| {
        format!(
            "topic {name} was deleted and made again: its id is {}, this installation was made with {recorded}, and \
             the records of that one are gone; begin a new installation with another prefix",
            found.id
        )
    })
}

/// The number of partitions that was fixed when the installation was made is no more, or is not the one configured.
fn other_partitions(wanted: &Wanted, found: &Found, recorded: Option<&Recorded>) -> Option<String> {
    let recorded = recorded?.partitions(wanted.topic)?;
    let name = &wanted.name;
    let made_with = counted(recorded.into(), "partition");
    if found.partitions != recorded {
        let has = counted(found.partitions.into(), "partition");
        return Some(format!(
            "topic {name} has {has}, but this installation was made with {made_with}: Kafka does not take away what \
             was added; begin a new installation with another prefix"
        ));
    }
    (wanted.partitions != recorded).then(|| {
        format!(
            "topic {name} has {made_with}, not {}: the number was fixed when this installation was made, so \
             configure that one",
            wanted.partitions
        )
    })
}

impl Recorded {
    fn partitions(&self, topic: &str) -> Option<u32> {
        match topic {
            "messages" | "dedup" => Some(self.message_partitions),
            "deliveries" | "attempts" | "lanes" | "load" => Some(self.delivery_partitions),
            _ => None,
        }
    }
}

/// Retention and compaction that remove what must stay.
fn loses_what_is_kept(pairs: &[Pair<'_>], report: &mut Report) {
    for (wanted, found) in pairs {
        let name = &wanted.name;
        let policy = found.setting("cleanup.policy");
        let is_table = wanted.keep == Keep::Newest;
        if policy.contains("compact") != is_table {
            let should = wanted.settings.get("cleanup.policy").map_or("", String::as_str);
            report.say(
                Level::Error,
                format!("cleanup.policy of topic {name} is {policy}, not {should}: it would lose records"),
            );
            continue;
        }
        let retention = found.number("retention.ms").unwrap_or(-1);
        let limit = found.number("retention.bytes").unwrap_or(-1);
        let removes = policy.contains("delete") && (retention >= 0 || limit >= 0);
        match wanted.keep {
            Keep::Forever if removes => {
                report.say(
                    Level::Error,
                    format!(
                        "topic {name} must be kept for ever, but Kafka removes its old records: set retention.ms and \
                         retention.bytes to -1"
                    ),
                );
            }
            Keep::For(keep) => {
                let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
                if (0..keep).contains(&retention) {
                    report.say(
                        Level::Warning,
                        format!(
                            "retention.ms of topic {name} is {retention}, less than the {keep} that are configured: \
                             what is not delivered in time is lost sooner"
                        ),
                    );
                }
                if limit >= 0 {
                    report.say(
                        Level::Warning,
                        format!(
                            "retention.bytes of topic {name} is {limit}: under load Kafka removes records before \
                             their time, delivered or not"
                        ),
                    );
                }
            }
            Keep::Forever | Keep::Newest => {}
        }
    }
}

/// What Kafka may forget although it said that it was kept.
fn loses_what_is_acknowledged(pairs: &[Pair<'_>], report: &mut Report) {
    let unsafe_copies = pairs.iter().filter(|(wanted, found)| {
        let should = wanted.settings_for(found.replication);
        let should = should.get(IN_SYNC).and_then(|least| least.parse().ok());
        found.number(IN_SYNC).is_some_and(|least| should.is_some_and(|should| least < should))
    });
    let unsafe_copies = names(unsafe_copies.map(|(wanted, _)| &wanted.name));
    if !unsafe_copies.is_empty() {
        report.say(
            Level::Warning,
            format!(
                "min.insync.replicas is 1 for {unsafe_copies}: a record counts as kept when one broker has it, and is \
                 lost with that broker; set it to 2"
            ),
        );
    }
    let unclean = pairs.iter().filter(|(_, found)| found.setting("unclean.leader.election.enable") == "true");
    let unclean = names(unclean.map(|(wanted, _)| &wanted.name));
    if !unclean.is_empty() {
        report.say(
            Level::Warning,
            format!(
                "unclean.leader.election.enable is true for {unclean}: a broker that missed records may take over, \
                 and they are lost; set it to false"
            ),
        );
    }
}

pub(super) fn batch_bytes(found: &FoundTopics) -> BatchBytes {
    found.iter().filter_map(|(name, topic)| Some((name.clone(), topic.batch_bytes()?))).collect()
}

/// Largest record that `messages` takes; says so where it is less than it should be.
fn record_bytes(pairs: &[Pair<'_>], report: &mut Report) -> u64 {
    let mut messages = u64::MAX;
    for (wanted, found) in pairs {
        let Some(limit) = found.batch_bytes() else { continue };
        let should = wanted.batch_bytes;
        let mut refused = "larger records are refused".to_owned();
        if wanted.topic == "messages" {
            messages = limit;
            let bodies = limit.saturating_sub(BESIDE_BODY_BYTES as u64);
            refused = format!("bodies above {bodies} bytes are refused");
        }
        if limit < should {
            let name = &wanted.name;
            let line = format!("max.message.bytes of topic {name} is {limit}, less than {should}: {refused}");
            report.say(Level::Warning, line);
        }
    }
    messages
}
