//! The engine on Apache Kafka: one log for any number of processes.
//!
//! - [`produce`]: three producers; [`ledger`], what of their appends is settled; [`sizes`], how large a record may be
//! - [`tail`]: the newest records of the partitions that somebody follows; [`fetch`]: everything else
//! - [`bounds`]: where partitions begin and end
//! - [`tables`]: compacted topics; [`claims`]: groups; [`topics`]: what the topics must be; [`standing`]: whether all that
//!   still is so
//! - [`user_topic`]: a topic that is not ours, whose records are to become messages
//!
//! librdkafka calls back on its own threads: nothing there waits. What blocks in it does so on threads of ours.
//! See docs/internals/kafka.md.

mod append;
mod bounds;
mod claims;
mod client;
mod fetch;
mod ledger;
mod limits;
mod options;
mod place;
mod produce;
mod record;
mod sizes;
mod standing;
mod stats;
mod tables;
mod tail;
pub mod topics;
mod user_topic;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fanfare_core::{Offset, Partition};
use tokio::sync::Mutex as Turn;

use self::{
    bounds::Ends,
    claims::Members,
    client::Link,
    fetch::Readers,
    ledger::Ledger,
    place::{Layout, Place, Source},
    produce::{Outgoing, Producer, Role},
    sizes::Sizes,
    standing::Broken,
    stats::Counters,
    tail::Tails,
    topics::{Checked, Level},
};
pub use self::{
    options::{Compression, OpenError, Options},
    stats::Stats,
    user_topic::{Ended, UserRecord, UserTopic},
};
use crate::contract::{
    AppendError, Batch, Bounds, BoxFuture, Claims, Group, Log, NewRecord, Pending, ReadError, Sync, Table,
    Topic,
};

/// The log of one installation, as one process takes part in it. [`Self::close`] ends that in good order.
pub struct KafkaLog {
    options: Options,
    checked: Checked,
    layout: Arc<Layout>,
    link: Arc<Link>,
    counters: Arc<Counters>,
    front: Arc<Producer>,
    /// With the pipeline it has one order.
    routes: Arc<Producer>,
    pipeline: Arc<Producer>,
    /// Checkpoints of one partition of `dedup` are handed over one after the other.
    dedup_turns: Box<[Arc<Turn<()>>]>,
    ends: Arc<Ends>,
    readers: Arc<Readers>,
    tails: Tails,
    members: Members,
    broken: Broken,
}

impl KafkaLog {
    /// Makes topics that are missing, looks whether they can be worked with, and connects.
    pub async fn open(mut options: Options) -> Result<Arc<Self>, OpenError> {
        if options.read_only {
            options = topics::as_found(options).await?;
        } else {
            topics::create(&options).await?;
        }
        let checked = topics::check(&options, options.recorded.as_ref()).await?;
        if !checked.report.is_usable() {
            let causes = checked.report.of(Level::Error).map(str::to_owned).collect();
            return Err(OpenError::Unusable { brokers: options.brokers, causes });
        }
        // librdkafka starts threads and reads files.
        let connecting = tokio::task::spawn_blocking(move || Self::connect(&options, checked));
        let log = Arc::new(connecting.await.expect("nothing in it panics, and nobody aborts it")?);
        tokio::spawn(standing::watch(Arc::downgrade(&log)));
        Ok(log)
    }

    fn connect(options: &Options, checked: Checked) -> Result<Self, OpenError> {
        let layout = Arc::new(Layout::new(options));
        let link = Link::new(&options.brokers);
        let counters = Arc::default();
        let sizes = Sizes::new(options, &checked.batch_bytes);
        let producer = |role, ledger: &Arc<Ledger>| {
            let producer = Producer::open(options, role, ledger, &sizes, &link, &counters);
            producer.map(Arc::new).map_err(|error| OpenError::client(options, error))
        };
        let front = producer(Role::Front, &Arc::default())?;
        let derived = Arc::default();
        let (routes, pipeline) = (producer(Role::Routes, &derived)?, producer(Role::Pipeline, &derived)?);
        let ends = Arc::new(Ends::open(options, &layout, &link, &counters)?);
        let readers = Arc::new(Readers::open(options, &layout, &link, &ends, &counters)?);
        let tails = Tails::open(options, &layout, &link)?;
        let members = Members::new(options, &layout, &link);
        let dedup_turns = (0..options.message_partitions).map(|_| Arc::default()).collect();
        Ok(Self {
            options: options.clone(),
            checked,
            layout,
            link,
            counters,
            front,
            routes,
            pipeline,
            dedup_turns,
            ends,
            readers,
            tails,
            members,
            broken: Broken::new(),
        })
    }

    /// What was found of the topics when the log was opened.
    pub fn checked(&self) -> &Checked {
        &self.checked
    }

    /// Makes what was appended durable, leaves the groups, then stops. What comes later gets
    /// [`AppendError::Closed`]. Waits a few seconds for brokers that do not answer.
    pub async fn close(&self) {
        self.close_producers(limits::CLOSE).await;
        // Only now: who gains the partitions finds everything that was written here.
        if tokio::time::timeout(limits::CLOSE, self.members.leave()).await.is_err() {
            tracing::warn!(
                "the groups were not left in time; their partitions are free after the session's timeout"
            );
        }
        self.stop_reading();
    }

    /// Stops at once, as a killed process does: what was not acknowledged may be lost. For tests.
    pub async fn kill(&self) {
        self.close_producers(Duration::ZERO).await;
        self.stop_reading();
    }

    async fn close_producers(&self, patience: Duration) {
        tokio::join!(self.front.close(patience), self.routes.close(patience), self.pipeline.close(patience));
    }

    fn stop_reading(&self) {
        self.tails.close();
        self.readers.close();
        self.ends.close();
    }

    pub fn stats(&self) -> Stats {
        let producers = [&self.front, &self.routes, &self.pipeline];
        Stats {
            undurable_bytes: producers.map(|producer| producer.undurable_bytes() as u64).into_iter().sum(),
            tail_bytes: self.tails.size_bytes() as u64,
            tails_followed: self.tails.followed() as u64,
            is_reachable: self.link.is_reachable(),
            ..self.counters.read()
        }
    }

    /// Appends messages for which nobody waits with a deadline, through the pipeline: no record of an append fails while a
    /// later one of it succeeds. Has no order with appends by [`Log::append`].
    pub fn append_patiently(
        &self,
        partition: Partition,
        records: Vec<NewRecord>,
    ) -> BoxFuture<'_, Result<Pending, AppendError>> {
        let place = Place::topic(Topic::Messages, partition);
        let records = records.into_iter().map(Outgoing::from).collect();
        Box::pin(self.pipeline.append(self.layout.name(place.source), place.number(), records))
    }

    fn producer(&self, topic: Topic) -> &Arc<Producer> {
        match topic {
            Topic::Messages | Topic::Control => &self.front,
            Topic::Deliveries => &self.routes,
            Topic::Attempts | Topic::Dedup => &self.pipeline,
        }
    }

    /// Its place in the order is taken now; it is handed over when everything before it is durable.
    async fn append_checkpoint(&self, place: Place, records: Vec<Outgoing>) -> Result<Pending, AppendError> {
        let turn = Arc::clone(&self.dedup_turns[place.partition.0 as usize]).lock_owned().await;
        let room = self.pipeline.room(self.layout.name(place.source), &records).await?;
        let entry = self.pipeline.entry();
        let (producer, layout) = (Arc::clone(&self.pipeline), Arc::clone(&self.layout));
        // Goes on if nobody waits for it.
        let handed_over = tokio::spawn(async move {
            let _turn = turn;
            entry.first().await?;
            Ok(producer.send(layout.name(place.source), place.number(), &records, room, entry))
        });
        Ok(Box::pin(async move {
            match handed_over.await {
                Ok(Ok(pending)) => pending.await,
                Ok(Err(error)) => Err(error),
                Err(error) => Err(AppendError::Closed(format!("the runtime is shut down: {error}"))),
            }
        }))
    }
}

impl Log for KafkaLog {
    fn partitions(&self, topic: Topic) -> u32 {
        self.layout.partitions(Source::Topic(topic))
    }

    fn append(
        &self,
        topic: Topic,
        partition: Partition,
        records: Vec<NewRecord>,
        _sync: Sync,
    ) -> BoxFuture<'_, Result<Pending, AppendError>> {
        let place = Place::topic(topic, partition);
        let records: Vec<Outgoing> = records.into_iter().map(Outgoing::from).collect();
        Box::pin(async move {
            if topic == Topic::Dedup {
                return self.append_checkpoint(place, records).await;
            }
            self.producer(topic).append(self.layout.name(place.source), place.number(), records).await
        })
    }

    fn lazy_delay(&self) -> Duration {
        self.pipeline.linger() + limits::ANSWER
    }

    fn has_room(&self, topic: Topic) -> bool {
        self.producer(topic).has_room()
    }

    fn bounds(&self, topic: Topic, partition: Partition) -> BoxFuture<'_, Result<Bounds, ReadError>> {
        Box::pin(self.ends.ask(Place::topic(topic, partition)))
    }

    fn fetch(
        &self,
        topic: Topic,
        partition: Partition,
        from: Offset,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Batch, ReadError>> {
        let place = Place::topic(topic, partition);
        Box::pin(async move {
            if let Some(batch) = self.tails.read(place, from, max_bytes) {
                self.counters.read_at_tail();
                return Ok(batch);
            }
            self.readers.read(place, from, max_bytes).await
        })
    }

    fn wait(&self, topic: Topic, partition: Partition, from: Offset) -> BoxFuture<'_, Result<(), ReadError>> {
        Box::pin(self.tails.wait(Place::topic(topic, partition), from))
    }

    fn put(
        &self,
        table: Table,
        partition: Partition,
        entries: Vec<(Bytes, Option<Bytes>)>,
    ) -> BoxFuture<'_, Result<(), AppendError>> {
        // Taken at the call: what it covers was appended before.
        let before = self.pipeline.mark();
        let place = Place::table(table, partition);
        Box::pin(tables::put(&self.pipeline, &self.layout, place, entries, before))
    }

    fn scan(
        &self,
        table: Table,
        partition: Partition,
    ) -> BoxFuture<'_, Result<Vec<(Bytes, Bytes)>, ReadError>> {
        Box::pin(tables::scan(&self.readers, &self.ends, &self.layout, table, partition))
    }

    fn claim(&self, group: Group) -> Box<dyn Claims> {
        Box::new(self.members.join(group))
    }

    fn incarnations(&self) -> topics::Incarnations {
        let mut incarnations = self.checked.incarnations.clone();
        // Its figures are of no use after a minute: whoever makes it anew does no harm.
        incarnations.remove(Table::Load.as_str());
        incarnations
    }
}
