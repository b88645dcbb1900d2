//! Everything that happens in a run, noted as it happens: the story that is judged, and the trace by which two runs
//! of one seed are compared.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use bytes::Bytes;
use fanfare_core::{ApplicationId, AttemptRecord, EndpointNumber, MessageId, Offset, Partition};
use fanfare_log::Topic;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::story::{Arrival, Publish, Story};

pub(crate) struct History {
    start: Instant,
    print: bool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    trace: DefaultHasher,
    events: u64,
    story: Story,
    known_at: BTreeMap<EndpointNumber, Duration>,
    /// A digest of each record that anybody saw durable.
    seen: BTreeMap<(Topic, Partition, Offset), u64>,
    broken: Vec<String>,
}

impl History {
    pub(crate) fn new(start: Instant) -> Self {
        let print = std::env::var_os("FANFARE_SIM_TRACE").is_some();
        Self { start, print, inner: Mutex::default() }
    }

    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Adds an event to the trace.
    pub(crate) fn note(&self, event: fmt::Arguments<'_>) {
        let now = self.now();
        if self.print {
            println!("{now:?} {event}");
        }
        let mut inner = self.inner.lock();
        inner.events += 1;
        now.hash(&mut inner.trace);
        event.to_string().hash(&mut inner.trace);
    }

    /// Something that must never happen has happened.
    pub(crate) fn broken(&self, what: String) {
        self.note(format_args!("BROKEN {what}"));
        self.inner.lock().broken.push(what);
    }

    pub(crate) fn is_broken(&self) -> bool {
        !self.inner.lock().broken.is_empty()
    }

    /// The number of a new publish.
    pub(crate) fn publish(&self, publish: Publish) -> u32 {
        let mut inner = self.inner.lock();
        let number = u32::try_from(inner.story.publishes.len()).unwrap();
        inner.story.publishes.insert(number, publish);
        number
    }

    pub(crate) fn accepted(&self, number: u32, id: MessageId) {
        self.note(format_args!("#{number} accepted as {id}"));
        let now = self.now();
        let mut inner = self.inner.lock();
        inner.story.publishes.get_mut(&number).unwrap().accepted.push((now, id));
    }

    pub(crate) fn endpoint_created(&self, number: EndpointNumber, application: ApplicationId) {
        self.note(format_args!("endpoint {number} of {application} created"));
        let now = self.now();
        self.inner.lock().known_at.insert(number, now);
    }

    pub(crate) fn arrived(&self, arrival: Arrival) {
        let Arrival { endpoint, publish, .. } = arrival;
        let answered = arrival.answered.is_some();
        self.note(format_args!(
            "#{publish} at endpoint {endpoint}: {}",
            if answered { "taken" } else { "not taken" }
        ));
        self.inner.lock().story.arrivals.push(arrival);
    }

    pub(crate) fn cut(&self) {
        let now = self.now();
        self.inner.lock().story.cuts.push(now);
    }

    /// A record was seen durable at its offset: none other may ever be seen there.
    pub(crate) fn record(&self, topic: Topic, partition: Partition, offset: Offset, head: &Bytes) {
        let mut hasher = DefaultHasher::new();
        head.hash(&mut hasher);
        let digest = hasher.finish();
        let known = *self.inner.lock().seen.entry((topic, partition, offset)).or_insert(digest);
        if known != digest {
            self.broken(format!("two records at {} {partition} {offset}", topic.as_str()));
        }
    }

    /// A record of `attempts` is durable.
    pub(crate) fn attempts(&self, partition: Partition, offset: Offset, head: &Bytes) {
        let now = self.now();
        let mut inner = self.inner.lock();
        match AttemptRecord::decode(head).expect("a worker wrote it") {
            AttemptRecord::Claim { .. } => inner.story.claims.push((partition, offset, now)),
            AttemptRecord::Facts { epoch, .. } => inner.story.fact_appends.push((partition, epoch, now)),
        }
    }

    /// The digest and the number of all events so far.
    pub(crate) fn trace(&self) -> (u64, u64) {
        let inner = self.inner.lock();
        (inner.trace.finish(), inner.events)
    }

    pub(crate) fn has_arrived(&self, endpoint: EndpointNumber, publish: u32) -> usize {
        let inner = self.inner.lock();
        let same = |arrival: &&Arrival| arrival.endpoint == endpoint && arrival.publish == publish;
        inner.story.arrivals.iter().filter(same).count()
    }

    /// Takes the story out.
    pub(crate) fn finish(&self) -> (Story, BTreeMap<EndpointNumber, Duration>, Vec<String>) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        (
            std::mem::take(&mut inner.story),
            std::mem::take(&mut inner.known_at),
            std::mem::take(&mut inner.broken),
        )
    }

    pub(crate) fn publishes(&self) -> BTreeMap<u32, Publish> {
        self.inner.lock().story.publishes.clone()
    }
}
