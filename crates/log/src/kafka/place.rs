//! Topics and tables by their names on Kafka.

use fanfare_core::Partition;

use super::options::Options;
use crate::contract::{Table, Topic};

/// What is a topic on Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    Topic(Topic),
    Table(Table),
}

/// One partition of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) source: Source,
    pub(super) partition: Partition,
}

impl Place {
    pub(super) const fn topic(topic: Topic, partition: Partition) -> Self {
        Self { source: Source::Topic(topic), partition }
    }

    pub(super) const fn table(table: Table, partition: Partition) -> Self {
        Self { source: Source::Table(table), partition }
    }

    /// As librdkafka counts.
    pub(super) fn number(self) -> i32 {
        i32::try_from(self.partition.0).expect("a layout has no more partitions than Kafka")
    }
}

/// All places of an installation.
#[derive(Debug)]
pub(super) struct Layout {
    /// With the index of the first partition.
    sources: Vec<(Source, String, u32, usize)>,
    places: usize,
}

impl Layout {
    pub(super) fn new(options: &Options) -> Self {
        let partitions = |source| match source {
            Source::Topic(Topic::Control) => 1,
            Source::Topic(Topic::Messages | Topic::Dedup) => options.message_partitions,
            Source::Topic(Topic::Deliveries | Topic::Attempts) | Source::Table(_) => {
                options.delivery_partitions
            }
        };
        let topics = Topic::ALL.map(|topic| (Source::Topic(topic), topic.as_str()));
        let tables = Table::ALL.map(|table| (Source::Table(table), table.as_str()));
        let mut places = 0;
        let mut sources = Vec::new();
        for (source, name) in topics.into_iter().chain(tables) {
            let count = partitions(source);
            sources.push((source, format!("{}{name}", options.prefix), count, places));
            places += count as usize;
        }
        Self { sources, places }
    }

    fn of(&self, source: Source) -> &(Source, String, u32, usize) {
        self.sources
            .iter()
            .find(|(known, ..)| *known == source)
            .expect("every topic and table is in the layout")
    }

    pub(super) fn name(&self, source: Source) -> &str {
        &self.of(source).1
    }

    pub(super) fn partitions(&self, source: Source) -> u32 {
        self.of(source).2
    }

    /// Number of all places.
    pub(super) fn len(&self) -> usize {
        self.places
    }

    /// Number of a place among all. Panics if there is none such: partition numbers come from this installation.
    pub(super) fn index(&self, place: Place) -> usize {
        let (_, name, partitions, first) = self.of(place.source);
        assert!(place.partition.0 < *partitions, "{name} has no partition {}", place.partition);
        first + place.partition.0 as usize
    }

    pub(super) fn at(&self, index: usize) -> Place {
        let holds = |(_, _, count, first): &&(Source, String, u32, usize)| {
            (*first..first + *count as usize).contains(&index)
        };
        let (source, _, _, first) =
            self.sources.iter().find(holds).expect("an index is below the number of places");
        let partition = u32::try_from(index - first).expect("a partition's number was a u32");
        Place { source: *source, partition: Partition(partition) }
    }

    /// For people: `fanfare.messages/3`.
    pub(super) fn show(&self, place: Place) -> String {
        format!("{}/{}", self.name(place.source), place.partition)
    }
}
