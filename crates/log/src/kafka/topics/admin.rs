//! What is done with topics, request by request. Everything here blocks.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fanfare_kafka_topics as native;
use rdkafka::{
    admin::{
        AlterConfig, ConfigResource, ConfigSource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
        TopicReplication,
    },
    error::RDKafkaErrorCode as Code,
};

use super::{
    Error,
    found::{Found, FoundTopics},
    plan::Change,
    report::names,
    requests::{APPEARANCE, Requests},
    wanted::Wanted,
};
use crate::kafka::{Options, client::words};

const APPEARANCE_LOOK: Duration = Duration::from_millis(50);

pub(super) struct Admin {
    requests: Requests,
}

impl Admin {
    /// Waits for a broker that answers. To be called within a runtime.
    pub(super) fn connect(options: &Options) -> Result<Self, Error> {
        Ok(Self { requests: Requests::connect(options)? })
    }

    /// Those of the topics that are there, with their settings.
    pub(super) fn find(&self, wanted: &[Wanted]) -> Result<FoundTopics, Error> {
        let mut found = self.find_bare(wanted)?;
        for resource in self.requests.settings(found.keys())? {
            if let OwnedResourceSpecifier::Topic(name) = &resource.specifier
                && let Some(topic) = found.get_mut(name)
            {
                topic.take_settings(resource);
            }
        }
        match found.iter().find(|(_, topic)| topic.settings.is_empty()) {
            Some((topic, _)) => Err(Error::Hidden { brokers: self.brokers(), topic: topic.clone() }),
            None => Ok(found),
        }
    }

    /// The same without settings.
    pub(super) fn find_bare(&self, wanted: &[Wanted]) -> Result<FoundTopics, Error> {
        let described = self.describe(wanted)?.into_iter();
        let found = described.map(|(name, topic)| {
            let native::Topic { id, partitions, replication, .. } = topic;
            (name, Found { id, partitions, replication, ..Found::default() })
        });
        Ok(found.collect())
    }

    /// A topic that has, or once had, a record.
    pub(super) fn first_with_records(&self, found: &FoundTopics) -> Result<Option<String>, Error> {
        for (name, topic) in found {
            for partition in 0..topic.partitions {
                if self.requests.end(name, partition)? > 0 {
                    return Ok(Some(name.clone()));
                }
            }
        }
        Ok(None)
    }

    /// Makes topics and waits until they can be written to. One that somebody else made meanwhile is fine.
    pub(super) fn create(&self, topics: &[Wanted]) -> Result<(), Error> {
        if topics.is_empty() {
            return Ok(());
        }
        let settings: Vec<_> = topics.iter().map(|topic| topic.settings_for(topic.replication)).collect();
        let new: Vec<NewTopic<'_>> =
            topics.iter().zip(&settings).map(|(topic, settings)| new_topic(topic, settings)).collect();
        for result in self.requests.create(&new)? {
            match result {
                Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    let cause = refusal(code, topics);
                    return Err(Error::Create { brokers: self.brokers(), topic, cause });
                }
            }
        }
        self.wait_for(topics)
    }

    /// Removes topics with all their records. One that somebody else removed meanwhile is fine.
    pub(super) fn delete(&self, topics: &[&str]) -> Result<(), Error> {
        if topics.is_empty() {
            return Ok(());
        }
        for result in self.requests.delete(topics)? {
            match result {
                Ok(_) | Err((_, Code::UnknownTopicOrPartition)) => {}
                Err((topic, code)) => {
                    return Err(Error::Delete { brokers: self.brokers(), topic, cause: words(code) });
                }
            }
        }
        Ok(())
    }

    /// Sets what is to be changed. The safe client replaces all settings of a topic at once, so that those to be kept
    /// are given again; and it does not tell whether it was allowed, so we look.
    pub(super) fn change(&self, changes: &[Change]) -> Result<(), Error> {
        for change in changes {
            let mut alter = AlterConfig::new(ResourceSpecifier::Topic(&change.topic));
            for (setting, value) in &change.kept {
                alter = alter.set(setting, value);
            }
            for (setting, (_, to)) in &change.settings {
                alter = alter.set(setting, to);
            }
            self.requests.alter(&alter)?;
            self.wait_for_change(change)?;
        }
        Ok(())
    }

    fn wait_for(&self, topics: &[Wanted]) -> Result<(), Error> {
        let mut unseen: Vec<&Wanted> = Vec::new();
        for _ in 0..looks() {
            let described = self.describe(topics)?;
            let is_unseen =
                |topic: &&Wanted| described.get(&topic.name).is_none_or(|described| described.leaderless > 0);
            unseen = topics.iter().filter(is_unseen).collect();
            if unseen.is_empty() {
                return Ok(());
            }
            self.requests.pause(APPEARANCE_LOOK);
        }
        let topics = names(unseen.iter().map(|topic| &topic.name));
        Err(Error::NotSeen { brokers: self.brokers(), topics })
    }

    /// The broker that is asked may hear of it a little later than the one that did it.
    fn wait_for_change(&self, change: &Change) -> Result<(), Error> {
        let mut unset = None;
        for _ in 0..looks() {
            let now = self.requests.settings([&change.topic])?;
            unset = change.settings.iter().find(|(setting, (_, to))| !is_set(&now, setting, to));
            if unset.is_none() {
                return Ok(());
            }
            self.requests.pause(APPEARANCE_LOOK);
        }
        match unset {
            Some((setting, _)) => {
                Err(Error::Unchanged { brokers: self.brokers(), topic: change.topic.clone(), setting })
            }
            None => Ok(()),
        }
    }

    fn describe(&self, wanted: &[Wanted]) -> Result<BTreeMap<String, native::Topic>, Error> {
        let names: BTreeSet<String> = wanted.iter().map(|topic| topic.name.clone()).collect();
        self.requests.describe(&names)
    }

    /// The topic's id, if it is there.
    pub(super) fn id(&self, topic: &str) -> Result<Option<String>, Error> {
        let described = self.requests.describe(&BTreeSet::from([topic.to_owned()]))?;
        Ok(described.into_values().next().map(|topic| topic.id))
    }

    pub(super) fn brokers(&self) -> String {
        self.requests.brokers.clone()
    }
}

fn looks() -> u128 {
    APPEARANCE.as_millis() / APPEARANCE_LOOK.as_millis()
}

fn is_set(resources: &[ConfigResource], setting: &str, value: &String) -> bool {
    let mut entries = resources.iter().filter_map(|resource| resource.get(setting));
    entries.any(|entry| entry.value.as_ref() == Some(value))
}

impl Found {
    fn take_settings(&mut self, resource: ConfigResource) {
        for entry in resource.entries {
            let Some(value) = entry.value else {
                continue;
            };
            if entry.source == ConfigSource::DynamicTopic {
                self.own.insert(entry.name.clone());
            }
            self.settings.insert(entry.name, value);
        }
    }
}

fn new_topic<'a>(topic: &'a Wanted, settings: &'a BTreeMap<&'static str, String>) -> NewTopic<'a> {
    let number = |number: u32| i32::try_from(number).expect("options are checked when they are made");
    let replication = TopicReplication::Fixed(number(topic.replication));
    let new = NewTopic::new(&topic.name, number(topic.partitions), replication);
    settings.iter().fold(new, |new, (setting, value)| new.set(setting, value))
}

fn refusal(code: Code, topics: &[Wanted]) -> String {
    match code {
        Code::InvalidReplicationFactor => {
            let copies = topics.iter().map(|topic| topic.replication).max().unwrap_or_default();
            format!("there are fewer than {copies} brokers to keep it")
        }
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            "this user may not create it".to_owned()
        }
        code => code.to_string(),
    }
}
