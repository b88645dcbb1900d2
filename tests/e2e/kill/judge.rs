//! What must hold of everything that arrived.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{
    endpoints::{Endpoints, Target},
    publishers::Published,
};
use crate::support::{
    Engine,
    judge::{Repeat, out_of_order, repeats},
};

/// What was answered this long before a kill may come again. A promise to users, so not the limit by which
/// delivery keeps it.
const FLUSH: Duration = Duration::from_millis(50);
/// On Kafka a fact is safe from a kill once it is in the broker's socket. Of one partition's batches five are on the way
/// at once; what comes behind them waits in the process until the broker has acknowledged the first: milliseconds, or
/// this long on a machine whose two cores the broker and all tests share.
const ACKNOWLEDGED: Duration = Duration::from_millis(250);
/// A new process needs longer than this before it sends anything; so long the old one's last requests may
/// take to get from the socket to the receiver.
const IN_SOCKETS: Duration = Duration::from_millis(20);

/// What an engine allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// What was answered this long before a kill may come again.
    pub(super) forgotten: Duration,
    /// Every repeat of an idempotency key is answered with the first id. Otherwise some are given an alias of it, by
    /// which nothing is ever delivered.
    pub(super) first_id_is_known: bool,
}

impl Rule {
    pub(super) fn of(engine: &Engine) -> Self {
        match engine {
            Engine::Embedded => Self { forgotten: FLUSH, first_id_is_known: true },
            Engine::Kafka(_) => Self { forgotten: FLUSH + ACKNOWLEDGED, first_id_is_known: false },
        }
    }
}

/// A kill: surely alive before, the next process started after.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crash {
    pub(super) before: Instant,
    pub(super) restarted: Instant,
}

pub(super) struct Findings {
    pub(super) summary: String,
    pub(super) wrong: Vec<String>,
}

pub(super) fn judge(
    endpoints: &Endpoints,
    published: &Published,
    crashes: &[Crash],
    rule: &Rule,
) -> Findings {
    let mut wrong = Vec::new();
    let mut summary = Vec::new();
    let mut ids: BTreeMap<(usize, u64), String> = BTreeMap::new();
    for target in Target::HEALTHY {
        let (arrivals, seen) = (endpoints.arrivals(target), endpoints.seen(target));
        let repeats = repeats(&seen);
        let oldest = repeats.iter().filter_map(|repeat| before_a_kill(repeat.answered, crashes)).max();
        summary.push(format!(
            "{target:?}: {} requests, {} repeats of what was answered at most {:?} before a kill",
            arrivals.len(),
            repeats.len(),
            oldest.unwrap_or_default()
        ));
        let mut found = endpoints.forged(target);
        let late = out_of_order(target.ordering(), &seen, |_| true);
        found.extend(late.iter().map(|seq| format!("message {seq} arrived late")));
        found.extend(unexplained(&repeats, crashes, rule.forgotten));
        let came = arrivals.iter().map(|arrival| (arrival.stamp.seq, arrival.receipt.header("webhook-id")));
        found.extend(second_ids(target.application(), came, &mut ids));
        wrong.extend(found.into_iter().map(|found| format!("{target:?}: {found}")));
    }
    for ((application, seq), id) in &ids {
        let is_known = rule.first_id_is_known || !published.is_keyed(*application, *seq);
        let acknowledged = published.id(*application, *seq).filter(|_| is_known);
        if acknowledged.is_some_and(|acknowledged| acknowledged != *id) {
            wrong.push(format!("message {seq} was acknowledged with another id than {id}"));
        }
    }
    let published = [0, 1].map(|application| published.acknowledged(application).len());
    summary.push(format!("{} and {} messages acknowledged", published[0], published[1]));
    Findings { summary: summary.join("\n"), wrong }
}

/// How long before the next kill something was answered.
fn before_a_kill(answered: Instant, crashes: &[Crash]) -> Option<Duration> {
    let next = crashes.iter().find(|crash| crash.restarted + IN_SOCKETS >= answered);
    next.map(|crash| crash.before.saturating_duration_since(answered))
}

/// Repeats of what was neither in flight at a kill nor answered just before it. With none of these, the
/// repeats per kill are at most the requests in flight and those answered in the time that may be forgotten.
fn unexplained(repeats: &[Repeat], crashes: &[Crash], forgotten: Duration) -> Vec<String> {
    let explains = |crash: &Crash, repeat: &Repeat| {
        let forgotten = crash.before.checked_sub(forgotten).unwrap_or(crash.before);
        (forgotten..=crash.restarted + IN_SOCKETS).contains(&repeat.answered) && repeat.again > crash.before
    };
    let mut found = Vec::new();
    for repeat in repeats {
        let Repeat { seq, answered, again } = *repeat;
        if !crashes.iter().any(|crash| explains(crash, repeat)) {
            let next = crashes.iter().find(|crash| crash.before >= answered);
            let until = next.map(|crash| crash.before - answered);
            found.push(format!(
                "message {seq} came again {:?} after it was answered; the next kill was {until:?} after that",
                again - answered,
            ));
        }
    }
    found
}

/// Messages that came under two ids.
fn second_ids<'a>(
    application: usize,
    came: impl Iterator<Item = (u64, &'a str)>,
    ids: &mut BTreeMap<(usize, u64), String>,
) -> Vec<String> {
    let mut found = Vec::new();
    for (seq, id) in came {
        let known = ids.entry((application, seq)).or_insert_with(|| id.to_owned());
        if known != id {
            found.push(format!("message {seq} came as {known} and as {id}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::judge::arrival;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_repeat_needs_a_kill_beside_its_answer() {
        let now = Instant::now();
        let repeats = repeats(&[arrival(0, 1, now), arrival(0, 1, now + millis(400))]);
        assert_eq!(repeats.len(), 1);
        let unexplained = |crashes: &[Crash]| unexplained(&repeats, crashes, FLUSH);
        assert_eq!(unexplained(&[]).len(), 1);
        let crash = |at| [Crash { before: now + millis(at), restarted: now + millis(at + 3) }];
        assert_eq!(unexplained(&crash(40)).len(), 0);
        assert_eq!(unexplained(&crash(60)).len(), 1, "the fact had to be flushed");
        assert_eq!(unexplained(&crash(500)).len(), 1, "the kill came after the repeat");
    }

    #[test]
    fn a_second_id_is_seen() {
        let mut ids = BTreeMap::new();
        assert!(second_ids(0, [(0, "msg_0"), (0, "msg_0")].into_iter(), &mut ids).is_empty());
        assert_eq!(second_ids(0, [(0, "msg_other")].into_iter(), &mut ids).len(), 1);
        assert!(second_ids(1, [(0, "msg_other")].into_iter(), &mut ids).is_empty());
    }
}
