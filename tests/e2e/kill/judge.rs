//! What must hold of everything that arrived.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use fanfare_loadtest::{payload::NO_KEY, sequence::OrderWatch};
use tokio::time::Instant;

use super::{
    endpoints::{Arrival, Endpoints, Target},
    publishers::Published,
};
use crate::support::Engine;

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
        let arrivals = endpoints.arrivals(target);
        let repeats = repeats(&arrivals);
        let oldest = repeats.iter().filter_map(|(_, answered)| before_a_kill(*answered, crashes)).max();
        summary.push(format!(
            "{target:?}: {} requests, {} repeats of what was answered at most {:?} before a kill",
            arrivals.len(),
            repeats.len(),
            oldest.unwrap_or_default()
        ));
        let mut found = endpoints.forged(target);
        found.extend(out_of_order(target.ordering(), &arrivals));
        found.extend(unexplained(&arrivals, &repeats, crashes, rule.forgotten));
        found.extend(second_ids(target.application(), &arrivals, &mut ids));
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

/// First arrivals behind a message that was sent after their acknowledgement.
fn out_of_order(ordering: &str, arrivals: &[Arrival]) -> Vec<String> {
    let mut watches: HashMap<u32, OrderWatch> = HashMap::new();
    let mut seen = std::collections::HashSet::new();
    let mut found = Vec::new();
    for stamp in arrivals.iter().map(|arrival| arrival.stamp).filter(|stamp| seen.insert(stamp.seq)) {
        let (lane, seq, floor) = match ordering {
            "strict" => (NO_KEY, stamp.seq, stamp.floor),
            // Messages without a key share one; they are numbered by the application.
            "keyed" if stamp.key == NO_KEY => (NO_KEY, stamp.seq, stamp.floor),
            "keyed" => (stamp.key, stamp.key_seq, stamp.key_floor),
            _ => continue,
        };
        if !watches.entry(lane).or_default().first_arrival(seq, floor) {
            found.push(format!("message {} arrived late", stamp.seq));
        }
    }
    found
}

/// Arrivals of what had been answered 2xx: (index, when it was answered last).
pub(super) fn repeats(arrivals: &[Arrival]) -> Vec<(usize, Instant)> {
    let mut delivered: HashMap<u64, Instant> = HashMap::new();
    let mut repeats = Vec::new();
    for (index, arrival) in arrivals.iter().enumerate() {
        if let Some(answered) = delivered.get(&arrival.stamp.seq) {
            repeats.push((index, *answered));
        }
        if let Some((answered, _)) = arrival.receipt.answered.filter(|_| arrival.receipt.is_success()) {
            delivered.insert(arrival.stamp.seq, answered);
        }
    }
    repeats
}

/// How long before the next kill something was answered.
fn before_a_kill(answered: Instant, crashes: &[Crash]) -> Option<Duration> {
    let next = crashes.iter().find(|crash| crash.restarted + IN_SOCKETS >= answered);
    next.map(|crash| crash.before.saturating_duration_since(answered))
}

/// Repeats of what was neither in flight at a kill nor answered just before it. With none of these, the
/// repeats per kill are at most the requests in flight and those answered in the time that may be forgotten.
fn unexplained(
    arrivals: &[Arrival],
    repeats: &[(usize, Instant)],
    crashes: &[Crash],
    forgotten: Duration,
) -> Vec<String> {
    let explains = |crash: &Crash, answered: Instant, again: Instant| {
        let forgotten = crash.before.checked_sub(forgotten).unwrap_or(crash.before);
        (forgotten..=crash.restarted + IN_SOCKETS).contains(&answered) && again > crash.before
    };
    let mut found = Vec::new();
    for (index, answered) in repeats {
        let again = arrivals[*index].receipt.arrived;
        if !crashes.iter().any(|crash| explains(crash, *answered, again)) {
            let next = crashes.iter().find(|crash| crash.before >= *answered);
            let until = next.map(|crash| crash.before - *answered);
            found.push(format!(
                "message {} came again {:?} after it was answered; the next kill was {until:?} after that",
                arrivals[*index].stamp.seq,
                again - *answered,
            ));
        }
    }
    found
}

/// Messages that came under two ids.
fn second_ids(
    application: usize,
    arrivals: &[Arrival],
    ids: &mut BTreeMap<(usize, u64), String>,
) -> Vec<String> {
    let mut found = Vec::new();
    for arrival in arrivals {
        let id = arrival.receipt.header("webhook-id");
        let known = ids.entry((application, arrival.stamp.seq)).or_insert_with(|| id.to_owned());
        if known != id {
            found.push(format!("message {} came as {known} and as {id}", arrival.stamp.seq));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use fanfare_core::Timestamp;
    use fanfare_loadtest::payload::Stamp;
    use http::HeaderMap;

    use super::*;
    use crate::support::Receipt;

    /// Every message was sent after all before it were answered.
    fn arrival(seq: u64, key: u32, at: Instant, status: u16) -> Arrival {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", format!("msg_{seq}").parse().unwrap());
        let receipt = Receipt {
            path: String::new(),
            headers,
            body: Bytes::new(),
            arrived: at,
            answered: Some((at + Duration::from_millis(1), status)),
        };
        let at = Timestamp::ZERO;
        let stamp = Stamp {
            run: 1,
            stream: 0,
            application: 0,
            key,
            seq,
            floor: seq,
            key_seq: seq,
            key_floor: seq,
            at,
        };
        Arrival { receipt, stamp }
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_swap_is_seen_across_keys_or_within_one() {
        let now = Instant::now();
        let across = [arrival(0, 1, now, 204), arrival(2, 2, now, 204), arrival(1, 3, now, 204)];
        assert_eq!(out_of_order("strict", &across).len(), 1);
        assert_eq!(out_of_order("keyed", &across).len(), 0);
        assert_eq!(out_of_order("unordered", &across).len(), 0);
        let within = [arrival(2, 1, now, 204), arrival(1, 1, now, 204), arrival(2, 1, now, 204)];
        assert_eq!(out_of_order("keyed", &within).len(), 1);
    }

    #[test]
    fn a_repeat_needs_a_kill_beside_its_answer() {
        let now = Instant::now();
        let arrivals =
            [arrival(0, 1, now, 204), arrival(1, 1, now, 500), arrival(1, 1, now + millis(5), 204)];
        assert!(repeats(&arrivals).is_empty(), "a retry is no repeat");

        let arrivals = [arrival(0, 1, now, 204), arrival(0, 1, now + millis(400), 204)];
        let repeats = repeats(&arrivals);
        assert_eq!(repeats.len(), 1);
        let unexplained = |crashes: &[Crash]| unexplained(&arrivals, &repeats, crashes, FLUSH);
        assert_eq!(unexplained(&[]).len(), 1);
        let crash = |at| [Crash { before: now + millis(at), restarted: now + millis(at + 3) }];
        assert_eq!(unexplained(&crash(40)).len(), 0);
        assert_eq!(unexplained(&crash(60)).len(), 1, "the fact had to be flushed");
        assert_eq!(unexplained(&crash(500)).len(), 1, "the kill came after the repeat");
    }

    #[test]
    fn a_second_id_is_seen() {
        let now = Instant::now();
        let mut another = arrival(0, 1, now, 204);
        another.receipt.headers.insert("webhook-id", "msg_other".parse().unwrap());
        let mut ids = BTreeMap::new();
        assert!(second_ids(0, &[arrival(0, 1, now, 204)], &mut ids).is_empty());
        assert_eq!(second_ids(0, &[another], &mut ids).len(), 1);
    }
}
