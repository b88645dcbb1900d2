//! What makes the topics into what they must be.

use std::collections::BTreeMap;

use super::{
    found::{Found, FoundTopics},
    report::{Level, Report, counted, names},
    wanted::{IN_SYNC, Wanted},
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) create: Vec<Wanted>,
    pub(super) change: Vec<Change>,
    /// What is right, and what cannot be put right from here.
    pub(super) rest: Report,
}

/// New values for settings of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) topic: String,
    /// From and to.
    pub(super) settings: BTreeMap<&'static str, (String, String)>,
    /// Settings made for the topic that stay as they are.
    pub(super) kept: BTreeMap<String, String>,
}

impl Plan {
    pub(super) fn new(wanted: &[Wanted], found: &FoundTopics) -> Self {
        let mut plan = Self::default();
        for topic in wanted {
            match found.get(&topic.name) {
                Some(found) => plan.compare(topic, found),
                None => plan.create.push(topic.clone()),
            }
        }
        plan.count_copies(wanted, found);
        plan
    }

    fn count_copies(&mut self, wanted: &[Wanted], found: &FoundTopics) {
        let mut fewer: BTreeMap<(u32, u32), Vec<&str>> = BTreeMap::new();
        for topic in wanted {
            if let Some(found) = found.get(&topic.name).filter(|found| found.replication < topic.replication)
            {
                fewer.entry((found.replication, topic.replication)).or_default().push(&topic.name);
            }
        }
        for ((are, should), topics) in fewer {
            let (topics, kept_by) = (names(topics), counted(are.into(), "broker"));
            self.rest.say(
                Level::Warning,
                format!(
                    "each record of {topics} is kept by {kept_by}, not by {should}: Kafka's own tool \
                     kafka-reassign-partitions changes that"
                ),
            );
        }
    }

    fn compare(&mut self, wanted: &Wanted, found: &Found) {
        let name = &wanted.name;
        // It may have other copies than the options ask for.
        let to = wanted.settings_for(found.replication);
        let settings: BTreeMap<_, _> =
            to.iter().filter_map(|(setting, to)| differs(wanted, found, setting, to)).collect();
        if found.partitions != wanted.partitions {
            self.rest.say(Level::Error, wrong_partitions(wanted, found));
        } else if settings.is_empty() && found.replication >= wanted.replication {
            let partitions = counted(found.partitions.into(), "partition");
            self.rest.say(Level::Fine, format!("topic {name} is as it should be, with {partitions}"));
        }
        if !settings.is_empty() {
            let stays = |setting: &&String| !settings.contains_key(setting.as_str());
            let kept = found.own.iter().filter(stays);
            let kept = kept.map(|setting| (setting.clone(), found.setting(setting).to_owned())).collect();
            self.change.push(Change { topic: name.clone(), settings, kept });
        }
    }

    pub(super) fn into_report(self) -> Report {
        let mut report = self.rest;
        for topic in &self.create {
            let partitions = counted(topic.partitions.into(), "partition");
            let copies = counted(topic.replication.into(), "broker");
            let name = &topic.name;
            report.say(
                Level::Change,
                format!("topic {name} will be created with {partitions}, each kept by {copies}"),
            );
        }
        for change in &self.change {
            for (setting, (from, to)) in &change.settings {
                let name = &change.topic;
                report.say(
                    Level::Change,
                    format!("{setting} of topic {name} will be changed from {from} to {to}"),
                );
            }
        }
        report
    }
}

fn differs(
    wanted: &Wanted,
    found: &Found,
    setting: &'static str,
    to: &str,
) -> Option<(&'static str, (String, String))> {
    let from = found.setting(setting);
    // Of these, more than is needed does no harm.
    let suffices = match setting {
        "max.message.bytes" => found.batch_bytes().is_some_and(|bytes| bytes >= wanted.batch_bytes),
        IN_SYNC => found.number(setting) >= to.parse().ok(),
        _ => from == to,
    };
    (!suffices).then(|| (setting, (from.to_owned(), to.to_owned())))
}

pub(super) fn wrong_partitions(wanted: &Wanted, found: &Found) -> String {
    format!(
        "topic {} has {}, not {}: their number is fixed when the topic is made, so configure that number or another \
         prefix",
        wanted.name,
        counted(found.partitions.into(), "partition"),
        wanted.partitions
    )
}
