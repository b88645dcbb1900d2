//! Many messages in the order in which they were given: for ways in where nobody waits for each one.
//!
//! Messages of one partition that follow one another become one append, and the next append begins when it is
//! durable. So a message never stands behind a later one, not even where an append failed and is tried again.

use std::collections::{BTreeMap, VecDeque};

use fanfare_core::{Offset, Partition, limits};
use fanfare_log::{AppendError, BoxFuture, NewRecord, Pending, Sync as Soon, Topic};
use futures_util::future::join_all;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::{
    AcceptError, Accepted, Ingest, Publish,
    accept::Inner,
    claims::{Claiming, Reservation, TooMany, Verdict},
    idempotency::identity,
};

type Outcome = Result<Accepted, AcceptError>;

/// Appends to a partition of `messages`. No record of an append may fail while a later one of it succeeds.
pub type Append<'a> =
    &'a (dyn Fn(Partition, Vec<NewRecord>) -> BoxFuture<'a, Result<Pending, AppendError>> + Sync);

impl Ingest {
    /// Takes messages in, each once, and tells of each what became of it. Once a message cannot be taken now, nothing
    /// after it in its partition is: those have the same error, and all of them may be given again in their order.
    /// Refusals that no other try would change (`Conflict`, `TooLarge`) hold up nobody.
    pub async fn accept_in_order<'a>(&'a self, publishes: &'a [Publish], append: Append<'a>) -> Vec<Outcome> {
        let mut partitions: BTreeMap<Partition, VecDeque<usize>> = BTreeMap::new();
        for (index, publish) in publishes.iter().enumerate() {
            partitions.entry(publish.application.partition).or_default().push_back(index);
        }
        let mut outcomes: Vec<Option<Outcome>> = vec![None; publishes.len()];
        // One after the other would take as many syncs as there are partitions.
        let lines = partitions.into_iter().map(|(partition, waiting)| {
            let line = Line { inner: &self.0, append, publishes, partition, waiting, decided: Vec::new() };
            Box::pin(line.run())
        });
        for decided in join_all(lines).await {
            for (index, outcome) in decided {
                self.count(&outcome);
                outcomes[index] = Some(outcome);
            }
        }
        outcomes
            .into_iter()
            .map(|outcome| outcome.expect("each stands in the line of its partition"))
            .collect()
    }

    /// Takes the messages of one request in, in their order. A caller that goes away, or has waited for long enough,
    /// leaves them on their way, so that their claims end as their append ends.
    pub(crate) async fn accept_batch(&self, publishes: Vec<Publish>) -> Result<Vec<Outcome>, AcceptError> {
        let ingest = self.clone();
        let taking = tokio::spawn(async move {
            let append =
                |partition, records| ingest.0.log.append(Topic::Messages, partition, records, Soon::Now);
            ingest.accept_in_order(&publishes, &append).await
        });
        match timeout(limits::PUBLISH_TIMEOUT, taking).await {
            Ok(taken) => taken.map_err(|error| AcceptError::Unavailable(error.to_string())),
            Err(_) => Err(AcceptError::Timeout),
        }
    }

    fn count(&self, outcome: &Outcome) {
        match outcome {
            Ok(Accepted { repeated: false, .. }) => self.0.metrics.accepted(),
            Ok(Accepted { repeated: true, .. }) => self.0.metrics.repeated(),
            Err(AcceptError::Conflict(_)) => self.count_refused("conflict"),
            Err(AcceptError::TooLarge(_)) => self.count_refused("payload_too_large"),
            // Given again until it is one of the others.
            Err(_) => {}
        }
    }
}

/// The messages of one partition.
struct Line<'a> {
    inner: &'a Inner,
    append: Append<'a>,
    publishes: &'a [Publish],
    partition: Partition,
    /// Indexes of those that are not decided.
    waiting: VecDeque<usize>,
    decided: Vec<(usize, Outcome)>,
}

/// What becomes one append.
#[derive(Default)]
struct Run {
    records: Vec<NewRecord>,
    size_bytes: usize,
    /// Of each record: whose it is, what it is answered with, and its claims.
    members: Vec<(usize, Accepted, Reservation)>,
}

/// Why a run ends where it does.
enum Ended {
    Full,
    /// The next one's twin is not decided.
    Twin(oneshot::Receiver<()>),
    TooManyClaims,
}

impl Line<'_> {
    async fn run(mut self) -> Vec<(usize, Outcome)> {
        if let Err(error) = self.append_all().await {
            let waiting = std::mem::take(&mut self.waiting);
            self.decided.extend(waiting.into_iter().map(|index| (index, Err(error.clone()))));
        }
        self.decided
    }

    /// An error is that of all who still wait.
    async fn append_all(&mut self) -> Result<(), AcceptError> {
        let _turn = self.inner.turn().await?;
        let claims_something =
            |publish: &Publish| publish.idempotency_key.is_some() || publish.message.event_id.is_some();
        if self.waiting.iter().any(|index| claims_something(&self.publishes[*index])) {
            self.inner.caught_up(self.partition).await?;
        }
        let mut most = usize::MAX;
        while !self.waiting.is_empty() {
            let (run, ended) = self.gather(most);
            match self.append(run).await {
                // One of several; the others are not to share its fate.
                Err((AppendError::TooLarge { .. }, members)) if members.len() > 1 => {
                    for index in members.into_iter().rev() {
                        self.waiting.push_front(index);
                    }
                    most = 1;
                    continue;
                }
                Err((error @ AppendError::TooLarge { .. }, members)) => {
                    self.refuse(members, &AcceptError::TooLarge(error));
                }
                Err((error, members)) => {
                    let error = AcceptError::from(error);
                    self.refuse(members, &error);
                    return Err(error);
                }
                Ok(()) => {}
            }
            match ended {
                Ended::Full => {}
                Ended::Twin(decided) => drop(decided.await),
                Ended::TooManyClaims => return Err(AcceptError::Overloaded),
            }
        }
        Ok(())
    }

    /// The longest run from the front that one append may take; repeats and conflicts on the way are decided.
    fn gather(&mut self, most: usize) -> (Run, Ended) {
        let mut run = Run::default();
        while let Some(&index) = self.waiting.front() {
            let publish = &self.publishes[index];
            let size_bytes = publish.message.payload.len();
            let is_full =
                run.size_bytes + size_bytes > limits::COMMIT_GROUP_BYTES || run.records.len() >= most;
            if is_full && !run.records.is_empty() {
                return (run, Ended::Full);
            }
            if let Err(error) = self.inner.has_room_for(publish) {
                self.decide(Err(error));
                continue;
            }
            let now = self.inner.clock.now();
            let id = self.inner.minter.mint(now, &*self.inner.entropy);
            let key = publish.idempotency_key.as_deref();
            let identity = identity(publish.application.id, key, &publish.message);
            let reservation = match self.inner.claims.claim_now(self.partition, &identity, id, now) {
                Ok(Claiming::Decided(Verdict::New(reservation))) => reservation,
                Ok(Claiming::Decided(Verdict::Repeat(first))) => {
                    let (id, accepted_at) = (first.id, first.accepted_at);
                    self.decide(Ok(Accepted { id, accepted_at, repeated: true }));
                    continue;
                }
                Ok(Claiming::Decided(Verdict::Conflict(conflict))) => {
                    self.decide(Err(conflict.into()));
                    continue;
                }
                Ok(Claiming::Undecided(decided)) => return (run, Ended::Twin(decided)),
                Err(TooMany) => return (run, Ended::TooManyClaims),
            };
            self.waiting.pop_front();
            let Publish { application, message, traceparent, .. } = publish.clone();
            run.size_bytes += size_bytes;
            run.records.push(self.inner.record(&application, message, identity, traceparent, (id, now)));
            run.members.push((index, Accepted { id, accepted_at: now, repeated: false }, reservation));
        }
        (run, Ended::Full)
    }

    /// The one in front needs no append.
    fn decide(&mut self, outcome: Outcome) {
        self.decided.extend(self.waiting.pop_front().map(|index| (index, outcome)));
    }

    /// One append, to its end. If it fails, its claims are free again.
    async fn append(&mut self, run: Run) -> Result<(), (AppendError, Vec<usize>)> {
        let Run { records, members, .. } = run;
        if records.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let appended = async { (self.append)(self.partition, records).await?.await };
        match appended.await {
            Ok(offsets) => {
                self.inner.metrics.appended(began.elapsed());
                for (index, accepted, reservation) in members {
                    // Offsets may have gaps; all are routed when the last one is.
                    reservation.durable(Offset(offsets.end.0.saturating_sub(1)));
                    self.decided.push((index, Ok(accepted)));
                }
                Ok(())
            }
            Err(error) => Err((error, members.into_iter().map(|(index, ..)| index).collect())),
        }
    }

    fn refuse(&mut self, members: Vec<usize>, error: &AcceptError) {
        self.decided.extend(members.into_iter().map(|index| (index, Err(error.clone()))));
    }
}
