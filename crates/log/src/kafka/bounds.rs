//! Where partitions begin and end, as the brokers say now.
//!
//! Whoever asks gets an answer to a question that was put after the call: what was durable anywhere before it is below
//! the end. Callers that come while a question is under way share the next one, however many they are.

use std::{
    collections::HashMap,
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
use tokio::sync::oneshot;

use super::{
    client::{self, Events, Link},
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

impl Shared {
    fn run(&self, consumer: &BaseConsumer<Events>) {
        while let Some(waiting) = self.next_questions() {
            self.counters.asked_bounds();
            let places: Vec<Place> = waiting.keys().copied().collect();
            let answers = self.ask_brokers(consumer, &places);
            // Hears what the client has to say; it reads nothing.
            drop(consumer.poll(Duration::ZERO));
            for (place, senders) in waiting {
                let answer =
                    answers.get(&place).cloned().unwrap_or_else(|| Err(self.unavailable("no answer")));
                if let Ok(bounds) = &answer {
                    self.link.is_up();
                    self.known[self.layout.index(place)].store(bounds.end.0, Ordering::Release);
                }
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

    fn ask_brokers(&self, consumer: &BaseConsumer<Events>, places: &[Place]) -> HashMap<Place, Answer> {
        // Start and end of one place are asked for at the same time, of many places one after the other.
        if let [place] = places {
            let ends =
                consumer.fetch_watermarks(self.layout.name(place.source), place.number(), self.timeout);
            let answer = ends.map_err(|error| self.error(&error)).and_then(|(start, end)| bounds(start, end));
            return HashMap::from([(*place, answer)]);
        }
        let logical = [rdkafka::Offset::Beginning, rdkafka::Offset::End];
        let [starts, ends] = logical.map(|logical| self.ask_many(consumer, places, logical));
        let answer = |place: &Place| match (starts.get(place), ends.get(place)) {
            (Some(Ok(start)), Some(Ok(end))) => bounds(*start, *end),
            (Some(Err(error)), _) | (_, Some(Err(error))) => Err(error.clone()),
            _ => Err(self.unavailable("no answer")),
        };
        places.iter().map(|place| (*place, answer(place))).collect()
    }

    fn ask_many(
        &self,
        consumer: &BaseConsumer<Events>,
        places: &[Place],
        logical: rdkafka::Offset,
    ) -> HashMap<Place, Result<i64, ReadError>> {
        let mut list = TopicPartitionList::with_capacity(places.len());
        for place in places {
            let mut element = list.add_partition(self.layout.name(place.source), place.number());
            element.set_offset(logical).expect("the beginning and the end can be asked for");
        }
        let failed =
            |error: &KafkaError| places.iter().map(|place| (*place, Err(self.error(error)))).collect();
        let list = match consumer.offsets_for_times(list, self.timeout) {
            Ok(list) => list,
            Err(error) => return failed(&error),
        };
        let found = |place: &Place| {
            let element = list.find_partition(self.layout.name(place.source), place.number())?;
            let offset = match (element.error(), element.offset()) {
                (Ok(()), rdkafka::Offset::Offset(offset)) => Ok(offset),
                (Err(error), _) => Err(self.error(&error)),
                (Ok(()), other) => Err(self.unavailable(&format!("{other:?} is no offset"))),
            };
            Some((*place, offset))
        };
        places.iter().filter_map(found).collect()
    }

    fn error(&self, error: &KafkaError) -> ReadError {
        self.unavailable(&match error.rdkafka_error_code() {
            Some(Code::OperationTimedOut) => format!("no answer within {} s", self.timeout.as_secs_f32()),
            Some(code) => client::words(code),
            None => error.to_string(),
        })
    }

    fn unavailable(&self, cause: &str) -> ReadError {
        ReadError::Unavailable(self.link.unavailable(cause))
    }
}

fn bounds(start: i64, end: i64) -> Answer {
    let offset = |raw: i64| {
        u64::try_from(raw).map(Offset).map_err(|_| ReadError::Unavailable(format!("{raw} is no offset")))
    };
    let (start, end) = (offset(start)?, offset(end)?);
    Ok(Bounds { start, high_watermark: end, end })
}
