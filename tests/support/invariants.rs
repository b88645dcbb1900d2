//! What Fanfare promises (design §9), one function for each promise. Each says what it found broken.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fanfare_core::{
    Delivery, EndpointNumber, Fact, MessageId, Offset, Ordering, Outcome, Partition, Settlement, limits,
};

use super::story::{Arrival, Story, Verdict};

pub(crate) type Invariant = fn(&Story) -> Result<(), String>;

/// All that can be judged from a whole story, by name.
pub(crate) const ALL: [(&str, Invariant); 16] = [
    ("what was answered 202 is in the log", accepted_is_in_the_log),
    ("what was answered 202 is delivered", accepted_is_delivered),
    ("every delivery is settled, with its reason", everything_is_settled),
    ("what was acknowledged first stands first", log_order_is_publish_order),
    ("first attempts keep their order", first_attempts_in_order),
    ("what was injected keeps its order", injected_in_order),
    ("one message per idempotency key", one_message_per_key),
    ("nothing arrives that was not published", nothing_out_of_thin_air),
    ("each message is routed once", each_message_is_routed_once),
    ("no chain of records begins in the middle", no_loose_chain),
    ("attempts are of records that count, and numbered without a gap", attempts_are_counted),
    ("an outage parks nothing", nothing_is_parked_by_an_outage),
    ("an endpoint that heals is found", healed_endpoints_are_found),
    ("a superseded worker stops", superseded_workers_stop),
    ("only a cut repeats a delivery", repeats_are_explained),
    ("nobody is sent more than its rate", rates_are_kept),
];

/// The names of the invariants that do not hold, with what was found.
pub(crate) fn broken(story: &Story) -> Vec<String> {
    let judged = ALL.iter().map(|(name, invariant)| (name, invariant(story)));
    judged.filter_map(|(name, result)| Some(format!("{name}: {}", result.err()?))).collect()
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn accepted_is_in_the_log(story: &Story) -> Result<(), String> {
    let publish_of = story.records.publish_of();
    for (number, publish) in &story.publishes {
        for (at, id) in &publish.accepted {
            ensure(publish_of.get(id) == Some(number), || {
                format!("#{number}, answered 202 at {at:?} as {id}")
            })?;
        }
    }
    Ok(())
}

/// By every endpoint whose creation was answered before the message was sent; whoever is in the log, answered or not.
fn accepted_is_delivered(story: &Story) -> Result<(), String> {
    let verdicts = story.records.verdicts(&story.publishes);
    let received: BTreeSet<(EndpointNumber, MessageId)> = story
        .arrivals
        .iter()
        .filter(|arrival| arrival.answered.is_some())
        .map(|arrival| (arrival.endpoint, arrival.id))
        .collect();
    for message in &story.records.messages {
        if verdicts[&(message.partition, message.offset)] != Verdict::New {
            continue;
        }
        let publish = &story.publishes[&message.publish];
        for (endpoint, subscriber) in &story.subscribers {
            let subscribed = subscriber.known_at.is_some_and(|at| at < publish.sent_at);
            let refused = story.poison.contains(&(*endpoint, message.publish));
            if subscribed && subscriber.wants(publish) && !refused {
                ensure(received.contains(&(*endpoint, message.id)), || {
                    format!(
                        "endpoint {endpoint} never received #{} at {} of {}",
                        message.publish, message.offset, message.partition
                    )
                })?;
            }
        }
    }
    Ok(())
}

fn everything_is_settled(story: &Story) -> Result<(), String> {
    let settlements = story.records.settlements();
    let publish_of = story.records.publish_of();
    let received = answered(story);
    for (record, id, endpoints) in story.records.routed().chain(story.records.injected()) {
        for endpoint in endpoints {
            let number = publish_of.get(&id).copied().unwrap_or(u32::MAX);
            let poison = story.poison.contains(&(*endpoint, number));
            let settled = settlements.get(&(*endpoint, record.offset)).copied();
            let right = match settled {
                None | Some(Settlement::Rejected) => poison,
                Some(Settlement::Delivered) => received.contains_key(&(*endpoint, id)),
                Some(_) => false,
            };
            ensure(right, || {
                format!("#{number} for endpoint {endpoint} (delivery {}) ended as {settled:?}", record.offset)
            })?;
        }
    }
    Ok(())
}

fn answered(story: &Story) -> BTreeMap<(EndpointNumber, MessageId), Vec<&Arrival>> {
    let mut answered: BTreeMap<_, Vec<&Arrival>> = BTreeMap::new();
    for arrival in story.arrivals.iter().filter(|arrival| arrival.answered.is_some()) {
        answered.entry((arrival.endpoint, arrival.id)).or_default().push(arrival);
    }
    answered
}

/// Where the message that each publish became stands.
fn places(story: &Story) -> BTreeMap<u32, (Partition, Offset)> {
    let verdicts = story.records.verdicts(&story.publishes);
    let new =
        story.records.messages.iter().map(|message| (message.publish, (message.partition, message.offset)));
    new.filter(|(_, place)| verdicts[place] == Verdict::New).collect()
}

fn log_order_is_publish_order(story: &Story) -> Result<(), String> {
    let mut by_place: Vec<_> = places(story).into_iter().map(|(number, place)| (place, number)).collect();
    by_place.sort_unstable();
    for (index, (place, number)) in by_place.iter().enumerate() {
        let publish = &story.publishes[number];
        for (later, other) in &by_place[index + 1..] {
            let other_publish = &story.publishes[other];
            let acknowledged = other_publish.accepted.iter().map(|(at, _)| *at).min();
            let wrong = later.0 == place.0
                && other_publish.application == publish.application
                && acknowledged.is_some_and(|at| at < publish.sent_at);
            ensure(!wrong, || {
                format!("#{other} was acknowledged before #{number} was sent, and stands behind it")
            })?;
        }
    }
    Ok(())
}

/// Of a sequence: first attempts rise, and each comes after all before it were settled. Excepted is the search that
/// tells poison from outage, which begins when something has been failing for `park_after`; and messages sent before the
/// endpoint's creation was answered: where routing is done again after a crash, it gets some that it did not get before; and
/// messages that were injected too: which of the two came, their requests do not say.
fn first_attempts_in_order(story: &Story) -> Result<(), String> {
    let places = places(story);
    let publish_of = story.records.publish_of();
    let again = injected(story);
    for (endpoint, subscriber) in &story.subscribers {
        let mut sequences: BTreeMap<String, BTreeMap<Offset, Seen>> = BTreeMap::new();
        for (_, id, endpoints) in story.records.routed() {
            let Some(number) = publish_of.get(&id).filter(|_| endpoints.contains(endpoint)) else { continue };
            let early = subscriber.known_at.is_none_or(|at| at > story.publishes[number].sent_at);
            if let (Some(sequence), Some((_, offset))) =
                (subscriber.sequence(&story.publishes[number]), places.get(number))
            {
                let poison = story.poison.contains(&(*endpoint, *number));
                let again = again.contains(&(*endpoint, id));
                let early = early || again;
                sequences
                    .entry(sequence)
                    .or_default()
                    .insert(*offset, Seen { excepted: poison || early, early, again, ..Seen::default() });
            }
        }
        for arrival in story.arrivals.iter().filter(|arrival| arrival.endpoint == *endpoint) {
            let Some((_, offset)) = places.get(&arrival.publish) else { continue };
            let Some(sequence) = subscriber.sequence(&story.publishes[&arrival.publish]) else { continue };
            let Some(seen) = sequences.get_mut(&sequence) else { continue };
            if seen.get(offset).is_some_and(|seen| seen.first.is_none() && !seen.early) {
                in_order(seen, *offset, arrival, subscriber.park_after, story.clocks_even).map_err(
                    |error| {
                        format!(
                            "endpoint {endpoint} ({:?}): #{} at {:?} {error}",
                            subscriber.ordering, arrival.publish, arrival.at
                        )
                    },
                )?;
            }
            if let Some(seen) = seen.get_mut(offset) {
                seen.first.get_or_insert(arrival.at);
                if arrival.answered.is_some() {
                    seen.settled = true;
                    // A former owner may be in the middle of its search, and not know that this went through.
                    if !story.one_authority && seen.is_long(arrival.at, subscriber.park_after) {
                        seen.searched_until = Some(arrival.at + SEARCH);
                    }
                    seen.failing_since = None;
                } else {
                    seen.failing_since.get_or_insert(arrival.at);
                }
            }
        }
    }
    Ok(())
}

/// Messages that were injected for an endpoint.
fn injected(story: &Story) -> BTreeSet<(EndpointNumber, MessageId)> {
    let injected = story.records.injected();
    injected.flat_map(|(_, id, endpoints)| endpoints.iter().map(move |endpoint| (*endpoint, id))).collect()
}

/// Of the injected deliveries of an endpoint each is attempted for the first time after all before it (`keyed`: of its
/// ordering key) were, whatever became of what was routed.
fn injected_in_order(story: &Story) -> Result<(), String> {
    let mut places: BTreeMap<(EndpointNumber, Offset), u64> = BTreeMap::new();
    for (record, _, endpoints) in story.records.injected() {
        let Delivery::Injected { ordering_key, .. } = record.delivery else { continue };
        places.extend(endpoints.iter().map(|endpoint| ((*endpoint, record.offset), ordering_key)));
    }
    let mut tried: BTreeMap<(EndpointNumber, u64), BTreeSet<Offset>> = BTreeMap::new();
    for (_, fact, counts) in &story.records.facts {
        let Fact::Attempted(attempt) = fact else { continue };
        let Some(&key) = places.get(&(attempt.endpoint, attempt.offset)).filter(|_| *counts) else {
            continue;
        };
        let key = match story.subscribers.get(&attempt.endpoint).map(|subscriber| subscriber.ordering) {
            Some(Ordering::Strict) => 0,
            Some(Ordering::Keyed) => key,
            Some(Ordering::Unordered) | None => continue,
        };
        let tried = tried.entry((attempt.endpoint, key)).or_default();
        let first = !tried.contains(&attempt.offset);
        ensure(
            !first || tried.last().is_none_or(|last| *last < attempt.offset) || !story.appends_certain,
            || {
                format!(
                    "endpoint {} was sent injected delivery {} too late",
                    attempt.endpoint, attempt.offset
                )
            },
        )?;
        tried.insert(attempt.offset);
    }
    Ok(())
}

/// What an endpoint has seen of a message.
#[allow(clippy::struct_excessive_bools, reason = "each says something else of it")]
#[derive(Default)]
struct Seen {
    first: Option<Duration>,
    failing_since: Option<Duration>,
    settled: bool,
    /// Sent before the endpoint was known, or injected too.
    early: bool,
    /// Injected too.
    again: bool,
    /// Early, or poison.
    excepted: bool,
    searched_until: Option<Duration>,
}

/// Longer than a search takes.
const SEARCH: Duration = Duration::from_secs(5);

impl Seen {
    /// Whether it has been failing for so long that a search may begin.
    fn is_long(&self, now: Duration, park_after: Option<Duration>) -> bool {
        let failing_for = self.failing_since.map(|since| now.saturating_sub(since));
        // Delays are up to a fifth shorter than they say.
        failing_for
            .zip(park_after)
            .is_some_and(|(failing_for, park_after)| failing_for >= park_after.mul_f64(0.75))
    }
}

fn in_order(
    sequence: &BTreeMap<Offset, Seen>,
    offset: Offset,
    arrival: &Arrival,
    park_after: Option<Duration>,
    clocks_even: bool,
) -> Result<(), String> {
    if let Some((later, _)) =
        sequence.range(offset.next()..).find(|(_, seen)| seen.first.is_some() && !seen.again)
    {
        return Err(format!("(message {offset}) came first after message {later} had come"));
    }
    let mut before = sequence.range(..offset).filter(|(_, seen)| !seen.settled);
    // Of what was answered the answer may have been lost with its process: it fails again then.
    let searching = sequence.range(..offset).any(|(_, seen)| {
        seen.is_long(arrival.at, park_after) || seen.searched_until.is_some_and(|until| arrival.at <= until)
    });
    if searching || !clocks_even {
        return Ok(());
    }
    match before.find(|(_, seen)| !seen.excepted) {
        Some((earlier, _)) => Err(format!("(message {offset}) came before message {earlier} was settled")),
        None => Ok(()),
    }
}

fn one_message_per_key(story: &Story) -> Result<(), String> {
    let mut by_key: BTreeMap<_, BTreeSet<MessageId>> = BTreeMap::new();
    for publish in story.publishes.values() {
        let Some(key) = &publish.key else { continue };
        let ids = publish.accepted.iter().map(|(_, id)| *id);
        by_key.entry((publish.application, key.clone())).or_default().extend(ids);
    }
    let received: BTreeSet<MessageId> = story.arrivals.iter().map(|arrival| arrival.id).collect();
    for ((_, key), ids) in &by_key {
        if story.one_authority {
            ensure(ids.len() <= 1, || format!("key {key} was answered with {} ids", ids.len()))?;
        }
        let arrived = ids.intersection(&received).count();
        ensure(arrived <= 1, || format!("{arrived} messages of key {key} were received"))?;
    }
    Ok(())
}

fn nothing_out_of_thin_air(story: &Story) -> Result<(), String> {
    let publish_of = story.records.publish_of();
    let routed: BTreeSet<(EndpointNumber, MessageId)> = story
        .records
        .routed()
        .chain(story.records.injected())
        .flat_map(|(_, id, endpoints)| endpoints.iter().map(move |endpoint| (*endpoint, id)))
        .collect();
    for Arrival { at, endpoint, id, publish, .. } in &story.arrivals {
        let known = publish_of.get(id) == Some(publish) && routed.contains(&(*endpoint, *id));
        ensure(known, || format!("endpoint {endpoint} received #{publish} as {id} at {at:?}"))?;
        let wanted = story
            .subscribers
            .get(endpoint)
            .is_some_and(|subscriber| subscriber.wants(&story.publishes[publish]));
        ensure(wanted, || format!("endpoint {endpoint} received #{publish}, which it does not want"))?;
    }
    Ok(())
}

/// And as what it is: a message, an alias or a conflict.
fn each_message_is_routed_once(story: &Story) -> Result<(), String> {
    let verdicts = story.records.verdicts(&story.publishes);
    let mut routed: BTreeSet<(Partition, Partition, Offset)> = BTreeSet::new();
    for record in story.records.deliveries.iter().filter(|record| record.counts) {
        let Some(source) = record.delivery.source() else { continue };
        let place = (source.partition, source.offset);
        let verdict = verdicts.get(&place).copied();
        let is = match record.delivery {
            Delivery::Alias { first, .. } => Verdict::Alias(first),
            Delivery::Conflict { first, .. } => Verdict::Conflict(first),
            Delivery::Routed { .. } | Delivery::Injected { .. } => Verdict::New,
        };
        ensure(verdict == Some(is), || {
            format!("message {} of {} was routed as {is:?}, is {verdict:?}", place.1, place.0)
        })?;
        ensure(routed.insert((record.partition, place.0, place.1)), || {
            format!("message {} of {} counts twice", place.1, place.0)
        })?;
    }
    Ok(())
}

/// A record that names none before it is the first of its source. Routers at the same time may know of an endpoint
/// one before the other, and begin in its partition at different messages.
fn no_loose_chain(story: &Story) -> Result<(), String> {
    if !story.one_authority {
        return Ok(());
    }
    let mut lowest: BTreeMap<(Partition, Partition), Offset> = BTreeMap::new();
    for record in &story.records.deliveries {
        let Some(source) = record.delivery.source() else { continue };
        let lowest = lowest.entry((record.partition, source.partition)).or_insert(source.offset);
        *lowest = (*lowest).min(source.offset);
        ensure(source.previous.is_some() || source.offset <= *lowest, || {
            format!(
                "delivery {} of {} (message {}) names none before it",
                record.offset, record.partition, source.offset
            )
        })?;
    }
    Ok(())
}

fn attempts_are_counted(story: &Story) -> Result<(), String> {
    let listed: BTreeSet<(EndpointNumber, Offset)> = story
        .records
        .routed()
        .chain(story.records.injected())
        .flat_map(|(record, _, endpoints)| endpoints.iter().map(move |endpoint| (*endpoint, record.offset)))
        .collect();
    let mut failed: BTreeMap<(EndpointNumber, Offset), u32> = BTreeMap::new();
    for (_, fact, counts) in &story.records.facts {
        let Fact::Attempted(attempt) = fact else { continue };
        let place = (attempt.endpoint, attempt.offset);
        ensure(listed.contains(&place), || {
            format!("endpoint {} was sent delivery {}, which does not count", place.0, place.1)
        })?;
        if *counts && attempt.outcome == Outcome::Failed {
            let before = failed.insert(place, attempt.number).unwrap_or(0);
            let follows = attempt.number == before + 1 || (attempt.number > before && !story.appends_certain);
            ensure(follows, || {
                format!(
                    "attempt {} at delivery {} for endpoint {} follows attempt {before}",
                    attempt.number, place.1, place.0
                )
            })?;
        }
    }
    Ok(())
}

fn nothing_is_parked_by_an_outage(story: &Story) -> Result<(), String> {
    let publish_of = story.records.publish_of();
    let settlements = story.records.settlements();
    for (record, id, endpoints) in story.records.routed().chain(story.records.injected()) {
        for endpoint in endpoints {
            let parked = settlements.get(&(*endpoint, record.offset)) == Some(&Settlement::Rejected);
            let poison =
                publish_of.get(&id).is_some_and(|number| story.poison.contains(&(*endpoint, *number)));
            ensure(!parked || poison, || {
                format!("endpoint {endpoint} would take delivery {}", record.offset)
            })?;
        }
    }
    Ok(())
}

/// Within 75 s, and what a restart takes.
fn healed_endpoints_are_found(story: &Story) -> Result<(), String> {
    let within = Duration::from_secs(75 + 30);
    let publish_of = story.records.publish_of();
    let received = answered(story);
    let poisoned: BTreeSet<EndpointNumber> = story.poison.iter().map(|(endpoint, _)| *endpoint).collect();
    let mut waiting: BTreeSet<EndpointNumber> = BTreeSet::new();
    for (_, id, endpoints) in story.records.routed() {
        let sent_at = publish_of.get(&id).map(|number| story.publishes[number].sent_at);
        if sent_at.is_none_or(|at| at >= story.healed_at) {
            continue;
        }
        waiting.extend(endpoints.iter().filter(|endpoint| {
            let received = received.get(&(**endpoint, id));
            received.is_some_and(|arrivals| arrivals[0].at > story.healed_at)
        }));
    }
    for endpoint in waiting.difference(&poisoned) {
        let of_endpoint = story.arrivals.iter().filter(|arrival| arrival.endpoint == *endpoint);
        let (before, after): (Vec<_>, Vec<_>) =
            of_endpoint.partition(|arrival| arrival.at <= story.healed_at);
        // One that took the last message was not dead: single messages wait for their schedule.
        if before.last().is_none_or(|arrival| arrival.answered.is_some()) {
            continue;
        }
        let found = after.into_iter().find(|arrival| arrival.answered.is_some()).map(|arrival| arrival.at);
        let found = found.unwrap_or(Duration::MAX);
        ensure(found.checked_sub(story.healed_at).unwrap() <= within, || {
            format!(
                "endpoint {endpoint} healed at {:?} and got its next message at {found:?}",
                story.healed_at
            )
        })?;
    }
    Ok(())
}

/// Once a newer claim can be read.
fn superseded_workers_stop(story: &Story) -> Result<(), String> {
    let within = Duration::from_secs(8);
    for (partition, epoch, at) in &story.fact_appends {
        let newer = story
            .claims
            .iter()
            .find(|(of, claim, since)| of == partition && claim > epoch && *at > *since + within);
        if let Some((_, claim, since)) = newer {
            return Err(format!(
                "the worker of epoch {epoch} of partition {partition} wrote at {at:?}, though {claim} was there since {since:?}"
            ));
        }
    }
    Ok(())
}

/// What was in flight, or answered so shortly before that it was not written down.
fn repeats_are_explained(story: &Story) -> Result<(), String> {
    if !(story.one_authority && story.log_took_all) {
        return Ok(());
    }
    let unwritten = Duration::from_millis(250);
    let again = injected(story);
    for ((endpoint, id), arrivals) in answered(story) {
        if again.contains(&(endpoint, id)) {
            continue;
        }
        for pair in arrivals.windows(2) {
            let done_at = pair[0].answered.expect("only answered ones are listed");
            let explained = story
                .cuts
                .iter()
                .any(|cut| *cut >= pair[0].at && *cut <= pair[1].at && *cut <= done_at + unwritten);
            ensure(explained, || {
                format!(
                    "endpoint {endpoint} received #{} at {:?} and at {:?}",
                    pair[0].publish, pair[0].at, pair[1].at
                )
            })?;
        }
    }
    Ok(())
}

/// Over cuts too. Of two owners at the same time each has a rate of its own.
fn rates_are_kept(story: &Story) -> Result<(), String> {
    // What a lane may run ahead, and what it takes to read the message that it has started.
    let ahead = limits::THROTTLE_SLACK + Duration::from_millis(300);
    if !story.one_authority {
        return Ok(());
    }
    for (endpoint, subscriber) in &story.subscribers {
        let Some(rate) = subscriber.rate else { continue };
        let of_endpoint = story.arrivals.iter().filter(|arrival| arrival.endpoint == *endpoint);
        let mut sent: Vec<Duration> = of_endpoint.map(|arrival| arrival.sent).collect();
        sent.sort_unstable();
        for (first, &from) in sent.iter().enumerate() {
            for (count, &to) in (1..).zip(&sent[first..]) {
                let most = 1 + u128::from(rate.get()) * (to - from + ahead).as_micros() / 1_000_000;
                ensure(count <= most, || {
                    format!(
                        "endpoint {endpoint}, at {rate} a second, was sent {count} from {from:?} to {to:?}"
                    )
                })?;
            }
        }
    }
    Ok(())
}
