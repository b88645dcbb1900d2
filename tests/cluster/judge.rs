//! What must hold of everything that arrived.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{endpoints::Endpoints, load::Published};
use crate::support::judge::{Repeat, out_of_order, repeats};

/// What was answered so long before a worker was killed or frozen may come again: its outcome was not durable.
/// A worker appends outcomes within 15 ms; on a quiet machine Kafka has them 10 ms later, on a loaded one it may take
/// this long.
const UNFLUSHED: Duration = Duration::from_millis(600);
/// What is written down waits for so long for another broker to lead its partition.
const FAILOVER: Duration = Duration::from_secs(10);
/// A request on its way when the worker died is answered so long after, beside what the endpoint takes.
const IN_SOCKETS: Duration = Duration::from_millis(400);
/// A worker that was frozen has been replaced. It goes on where it stood until it hears from its group, or sees the
/// claim of its successor, for which it looks every second.
const NOTICE: Duration = Duration::from_secs(3);

/// Something after which messages may come a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disturbance {
    pub(crate) kind: Kind,
    pub(crate) at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Killed,
    Frozen,
    /// It had been replaced meanwhile.
    Thawed,
    /// Its time to drain was over.
    CutShort,
    /// The log gave up what it had to write down, after a broker was killed.
    #[cfg_attr(feature = "planted", allow(dead_code, reason = "faults are planted under one broker"))]
    Failed,
}

/// Repeats of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Explained {
    count: u64,
    /// Answered so long before the worker was killed or frozen, and yet not durable.
    unflushed: Duration,
    /// Sent by a worker so long after it was thawed.
    unnoticed: Duration,
}

impl Explained {
    fn add(&mut self, disturbance: Disturbance, repeat: &Repeat) {
        self.count += 1;
        self.unflushed = self.unflushed.max(disturbance.at.saturating_duration_since(repeat.answered));
        self.unnoticed = self.unnoticed.max(repeat.again.saturating_duration_since(disturbance.at));
    }
}

impl std::fmt::Display for Explained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { count, unflushed, unnoticed } = self;
        write!(f, "{count}, answered up to {unflushed:.0?} before, sent up to {unnoticed:.0?} after")
    }
}

pub(crate) struct Findings {
    pub(crate) summary: Vec<String>,
    pub(crate) wrong: Vec<String>,
}

pub(crate) fn judge(endpoints: &Endpoints, published: &Published, disturbances: &[Disturbance]) -> Findings {
    let mut wrong = endpoints.damaged();
    let (mut requests, mut explained) = (0, BTreeMap::<Kind, Explained>::new());
    for (number, wanted) in endpoints.wanted().enumerate() {
        let arrivals = endpoints.arrivals(number);
        requests += arrivals.len();
        let acknowledged = &published.acknowledged[wanted.application];
        let late = out_of_order(wanted.ordering, &arrivals, |seq| acknowledged.contains(seq));
        let mut found: Vec<String> = late.iter().map(|seq| format!("message {seq} arrived late")).collect();
        for repeat in repeats(&arrivals) {
            match repeat.explained(disturbances, wanted.takes) {
                Some(disturbance) => explained.entry(disturbance.kind).or_default().add(disturbance, &repeat),
                None => found.push(repeat.tell(disturbances)),
            }
        }
        wrong.extend(
            found.into_iter().map(|found| format!("endpoint {number} ({}): {found}", wanted.ordering)),
        );
    }
    let acknowledged: u64 =
        published.acknowledged.iter().map(fanfare_loadtest::sequence::SequenceSet::len).sum();
    let summary = vec![
        format!(
            "{acknowledged} messages acknowledged, {} failed, {} tries more",
            published.failed.len(),
            published.retries.len()
        ),
        format!("{requests} requests received"),
    ];
    let explained = explained.iter().map(|(kind, explained)| format!("repeats, {kind:?}: {explained}"));
    let summary = summary.into_iter().chain(explained).collect();
    Findings { summary, wrong }
}

impl Repeat {
    /// The drain rule: what comes twice was in flight or not yet written down when its worker was killed, frozen or
    /// cut short; or it was sent by a worker that did not know yet that it had been replaced.
    fn explained(&self, disturbances: &[Disturbance], takes: Duration) -> Option<Disturbance> {
        let explains = |disturbance: &Disturbance| {
            let at = disturbance.at;
            let forgotten = at.checked_sub(UNFLUSHED).unwrap_or(at);
            let in_flight =
                |until: Instant| (forgotten..=until).contains(&self.answered) && self.again > forgotten;
            match disturbance.kind {
                Kind::Killed | Kind::Frozen => in_flight(at + takes + IN_SOCKETS) && self.again > at,
                Kind::Thawed => (at..=at + NOTICE).contains(&self.again) || in_flight(at + NOTICE + takes),
                Kind::CutShort => in_flight(at + takes + IN_SOCKETS),
                Kind::Failed => {
                    let unwritten = at.checked_sub(FAILOVER).unwrap_or(at);
                    (unwritten..=at + takes + IN_SOCKETS).contains(&self.answered) && self.again > at
                }
            }
        };
        disturbances.iter().copied().find(explains)
    }

    fn tell(&self, disturbances: &[Disturbance]) -> String {
        let from_answer = |at: Instant| {
            let later = at.checked_duration_since(self.answered).map(|after| format!("{after:?} after"));
            later.unwrap_or_else(|| format!("{:?} before", self.answered - at))
        };
        let nearest = disturbances.iter().min_by_key(|disturbance| {
            let at = disturbance.at;
            at.checked_duration_since(self.answered).unwrap_or_else(|| self.answered - at)
        });
        let nearest =
            nearest.map(|nearest| format!("{:?} {} its answer", nearest.kind, from_answer(nearest.at)));
        let after = from_answer(self.again);
        format!(
            "message {} came again {after} its answer; nearest: {}",
            self.seq,
            nearest.unwrap_or_default()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::judge::arrival;

    #[test]
    fn a_repeat_needs_something_that_explains_it() {
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        let explained = |again: Instant, kind, at| {
            let [repeat] = repeats(&[arrival(0, 1, later(20)), arrival(0, 1, again)])[..] else {
                panic!("one")
            };
            repeat.explained(&[Disturbance { kind, at }], Duration::from_millis(30))
        };
        assert!(explained(later(30), Kind::Killed, later(20)).is_some());
        assert!(explained(later(30), Kind::Killed, later(22)).is_none(), "its outcome had to be durable");
        assert!(explained(later(30), Kind::Killed, later(19)).is_none(), "its worker was dead already");
        assert!(explained(later(30), Kind::Killed, later(31)).is_none(), "that was after the repeat");
        assert!(explained(later(30), Kind::Thawed, later(29)).is_some(), "the former owner sent it again");
        assert!(explained(later(30), Kind::Thawed, later(18)).is_some(), "or it sent it first");
        assert!(explained(later(40), Kind::Thawed, later(30)).is_none(), "it knew by then");
    }
}
