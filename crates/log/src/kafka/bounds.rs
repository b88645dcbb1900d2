//! Where partitions begin and end, as the brokers say now.
//!
//! Whoever asks gets an answer to a question that was put after the call: what was durable anywhere before it is below
//! the end. Callers that come while a question is under way share the next one, however many they are.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fanfare_core::Offset;
use parking_lot::{Condvar, Mutex};
use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode as Code},
};
use tokio::{sync::oneshot, time::Instant};

use super::{
    client::{self, Events, Link},
    limits,
    options::{OpenError, Options},
    place::{Layout, Place},
    stats::Counters,
};
use crate::contract::{Bounds, ReadError};

type Answer = Result<Bounds, ReadError>;
type Waiting = HashMap<Place, Vec<oneshot::Sender<Answer>>>;

/// Threads that ask. A leader that is lost holds up one of them.
const ASKERS: usize = 2;

/// Asks on threads of its own.
pub(super) struct Ends {
    shared: Arc<Shared>,
}

struct Shared {
    layout: Arc<Layout>,
    link: Arc<Link>,
    counters: Arc<Counters>,
    timeout: Duration,
    questions: Mutex<Questions>,
    asked: Condvar,
    /// By the index of a place: an end that was true once, and is below the true one now.
    known: Box<[AtomicU64]>,
}

#[derive(Default)]
struct Questions {
    waiting: Waiting,
    closed: bool,
}

impl Ends {
    pub(super) fn open(
        options: &Options,
        layout: &Arc<Layout>,
        link: &Arc<Link>,
        counters: &Arc<Counters>,
    ) -> Result<Self, OpenError> {
        // Without a group: it reads nothing and belongs to none.
        let config = client::config(options);
        let consumer: BaseConsumer<Events> = config
            .create_with_context(Events { link: Arc::clone(link) })
            .map_err(|error| OpenError::client(options, error))?;
        let shared = Arc::new(Shared {
            layout: Arc::clone(layout),
            link: Arc::clone(link),
            counters: Arc::clone(counters),
            timeout: options.read_timeout,
            questions: Mutex::default(),
            asked: Condvar::new(),
            known: (0..layout.len()).map(|_| AtomicU64::new(0)).collect(),
        });
        let consumer = Arc::new(consumer);
        for _ in 0..ASKERS {
            let (asker, consumer) = (Arc::clone(&shared), Arc::clone(&consumer));
            let thread = std::thread::Builder::new().name("fanfare-kafka-ends".to_owned());
            thread.spawn(move || asker.run(&consumer))?;
        }
        Ok(Self { shared })
    }

    pub(super) async fn ask(&self, place: Place) -> Answer {
        let (sender, answer) = oneshot::channel();
        {
            let mut questions = self.shared.questions.lock();
            if questions.closed {
                return Err(closed());
            }
            questions.waiting.entry(place).or_default().push(sender);
        }
        self.shared.asked.notify_one();
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Below it everything is readable; zero if nothing is known.
    pub(super) fn known_end(&self, place: Place) -> Offset {
        Offset(self.shared.known[self.shared.layout.index(place)].load(Ordering::Acquire))
    }

    pub(super) fn close(&self) {
        self.shared.questions.lock().closed = true;
        self.shared.asked.notify_all();
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.close();
    }
}

fn closed() -> ReadError {
    ReadError::Closed("the log is shut down".to_owned())
}

/// Why there is no answer.
#[derive(Clone, Debug)]
struct Trouble {
    cause: String,
    remedy: Remedy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// Whoever asked has to know.
    None,
    /// It passes by itself, and soon: another leader is about to be known.
    Wait,
    /// What the client knows of the topic is from a moment at which brokers were about to begin. It would believe that for
    /// half a minute, unless it is made to ask.
    LookUp,
}

type Found = Result<Bounds, Trouble>;

impl Shared {
    fn run(&self, consumer: &BaseConsumer<Events>) {
        while let Some(waiting) = self.next_questions() {
            self.counters.asked_bounds();
            let places: Vec<Place> = waiting.keys().copied().collect();
            let mut found = self.find(consumer, places);
            client::hear(consumer);
            for (place, senders) in waiting {
                let answer = match found.remove(&place) {
                    Some(Ok(bounds)) => {
                        self.link.is_up();
                        self.known[self.layout.index(place)].store(bounds.end.0, Ordering::Release);
                        Ok(bounds)
                    }
                    Some(Err(trouble)) => Err(ReadError::Unavailable(self.link.unavailable(&trouble.cause))),
                    None => Err(ReadError::Unavailable(self.link.unavailable("no answer"))),
                };
                for sender in senders {
                    // Who asked may have gone away.
                    let _ = sender.send(answer.clone());
                }
            }
        }
    }

    /// Whatever was asked since the last time; `None` when there will be nothing more.
    fn next_questions(&self) -> Option<Waiting> {
        let mut questions = self.questions.lock();
        while questions.waiting.is_empty() && !questions.closed {
            self.asked.wait(&mut questions);
        }
        (!questions.closed).then(|| std::mem::take(&mut questions.waiting))
    }

    fn find(&self, consumer: &BaseConsumer<Events>, mut places: Vec<Place>) -> HashMap<Place, Found> {
        let deadline = Instant::now() + self.timeout;
        let mut all = HashMap::new();
        for look_ups in 0.. {
            let found =
                self.ask_brokers(consumer, &places, deadline.saturating_duration_since(Instant::now()));
            all.extend(found);
            let remedy = |place: &Place| match all.get(place) {
                Some(Err(trouble)) if trouble.remedy != Remedy::LookUp || look_ups < limits::LOOK_UPS => {
                    trouble.remedy
                }
                _ => Remedy::None,
            };
            places.retain(|place| remedy(place) != Remedy::None);
            if places.is_empty() || Instant::now() + limits::LEADER_PAUSE >= deadline {
                break;
            }
            let unknown = places.iter().filter(|place| remedy(place) == Remedy::LookUp);
            for topic in unknown.map(|place| self.layout.name(place.source)).collect::<BTreeSet<_>>() {
                client::look_up(consumer, topic);
            }
            std::thread::park_timeout(limits::LEADER_PAUSE);
        }
        all
    }

    fn ask_brokers(
        &self,
        consumer: &BaseConsumer<Events>,
        places: &[Place],
        patience: Duration,
    ) -> HashMap<Place, Found> {
        // Start and end of one place are asked for at the same time, of many places one after the other.
        if let [place] = places {
            let ends = consumer.fetch_watermarks(self.layout.name(place.source), place.number(), patience);
            let found =
                ends.map_err(|error| self.trouble(&error)).and_then(|(start, end)| bounds(start, end));
            return HashMap::from([(*place, found)]);
        }
        let logical = [rdkafka::Offset::Beginning, rdkafka::Offset::End];
        let [starts, ends] = logical.map(|logical| self.ask_many(consumer, places, logical, patience));
        let found = |place: &Place| match (starts.get(place)?, ends.get(place)?) {
            (Ok(start), Ok(end)) => Some((*place, bounds(*start, *end))),
            (Err(trouble), _) | (_, Err(trouble)) => Some((*place, Err(trouble.clone()))),
        };
        places.iter().filter_map(found).collect()
    }

    fn ask_many(
        &self,
        consumer: &BaseConsumer<Events>,
        places: &[Place],
        logical: rdkafka::Offset,
        patience: Duration,
    ) -> HashMap<Place, Result<i64, Trouble>> {
        let mut list = TopicPartitionList::with_capacity(places.len());
        for place in places {
            let mut element = list.add_partition(self.layout.name(place.source), place.number());
            element.set_offset(logical).expect("the beginning and the end can be asked for");
        }
        let list = match consumer.offsets_for_times(list, patience) {
            Ok(list) => list,
            Err(error) => {
                let trouble = self.trouble(&error);
                return places.iter().map(|place| (*place, Err(trouble.clone()))).collect();
            }
        };
        let found = |place: &Place| {
            let element = list.find_partition(self.layout.name(place.source), place.number())?;
            let offset = match (element.error(), element.offset()) {
                (Ok(()), rdkafka::Offset::Offset(offset)) => Ok(offset),
                (Err(error), _) => Err(self.trouble(&error)),
                (Ok(()), other) => {
                    Err(Trouble { cause: format!("{other:?} is no offset"), remedy: Remedy::None })
                }
            };
            Some((*place, offset))
        };
        places.iter().filter_map(found).collect()
    }

    fn trouble(&self, error: &KafkaError) -> Trouble {
        let Some(code) = error.rdkafka_error_code() else {
            return Trouble { cause: error.to_string(), remedy: Remedy::None };
        };
        let remedy = match code {
            Code::NotLeaderForPartition
            | Code::LeaderNotAvailable
            | Code::ReplicaNotAvailable
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::OffsetNotAvailable
            | Code::BrokerTransportFailure
            | Code::NetworkException => Remedy::Wait,
            Code::UnknownPartition | Code::UnknownTopic | Code::UnknownTopicOrPartition => Remedy::LookUp,
            _ => Remedy::None,
        };
        let cause = match code {
            Code::OperationTimedOut => format!("no answer within {} s", self.timeout.as_secs_f32()),
            code => client::words(code),
        };
        Trouble { cause, remedy }
    }
}

fn bounds(start: i64, end: i64) -> Found {
    let offset = |raw: i64| {
        let cause = || Trouble { cause: format!("{raw} is no offset"), remedy: Remedy::None };
        u64::try_from(raw).map(Offset).map_err(|_| cause())
    };
    let (start, end) = (offset(start)?, offset(end)?);
    Ok(Bounds { start, high_watermark: end, end })
}
