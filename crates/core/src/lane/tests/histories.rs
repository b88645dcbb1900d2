//! Random histories of a lane beside its model.

use proptest::prelude::*;

use super::{
    super::*,
    model::{Delivery, Model, State, policy},
    ordering,
};

/// Delays are neither longer nor shorter.
const NO_JITTER: u64 = 1 << 63;

#[derive(Clone, Copy, Debug)]
enum Step {
    Push {
        key: u64,
        gap: u64,
        trigger: Trigger,
    },
    /// One of the attempts in flight comes to its end.
    Finish(prop::sample::Index, Finished),
    Wait {
        millis: u64,
    },
    /// All below one of the deliveries is cancelled, or all there are.
    Cancel(prop::sample::Index),
    /// Another worker goes on from a snapshot.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let failed = prop::option::of((1..8_u64).prop_map(Duration::from_secs))
        .prop_map(|retry_after| Finished::Failed(Failure { kind: FailureKind::Ordinary, retry_after }));
    let trigger = prop_oneof![3 => Just(Trigger::Scheduled), 1 => Just(Trigger::Manual)];
    let finished = prop_oneof![4 => Just(Finished::Delivered), 6 => failed, 1 => Just(Finished::Abandoned)];
    prop_oneof![
        8 => (0..3_u64, 0..3_u64, trigger).prop_map(|(key, gap, trigger)| Step::Push { key, gap, trigger }),
        12 => (any::<prop::sample::Index>(), finished).prop_map(|(which, finished)| Step::Finish(which, finished)),
        6 => (0..4_000_u64).prop_map(|millis| Step::Wait { millis }),
        1 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        1 => Just(Step::Restart),
    ]
}

/// A lane beside its model.
struct Pair {
    lane: Lane,
    model: Model,
    now: Timestamp,
    /// By what the lane said.
    exhausted: BTreeSet<Offset>,
    /// Of what was routed and of what was injected: a success earns one, up to eight, and a failure costs two. So there are
    /// four in a row and nine in twenty at most.
    credit: [u32; 2],
}

impl Pair {
    fn new(ordering: Ordering) -> Self {
        let now = Timestamp::from_secs(1_000_000);
        let lane = Lane::new(policy(ordering), Offset::ZERO, now);
        let model = Model { ordering, deliveries: Vec::new() };
        Self { lane, model, now, exhausted: BTreeSet::new(), credit: [8; 2] }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Push { key, gap, trigger } => self.push(key, gap, trigger),
            Step::Finish(which, finished) => {
                let flights = self.model.offsets(Delivery::is_in_flight);
                if !flights.is_empty() {
                    self.finish(*which.get(&flights), finished);
                }
            }
            Step::Wait { millis } => self.now = self.now + Duration::from_millis(millis),
            Step::Cancel(which) => self.cancel(which),
            Step::Restart => self.restart(),
        }
        self.start_all();
        self.check();
    }

    fn push(&mut self, key: u64, gap: u64, trigger: Trigger) {
        let offset = Offset(self.model.next().0 + gap);
        self.lane.push(offset, trigger);
        self.model.push(offset, key, trigger);
    }

    fn finish(&mut self, offset: Offset, finished: Finished) {
        let finished = self.afforded(offset, finished);
        let mut settled = Vec::new();
        let verdict = self.lane.finished(offset, finished, self.now, NO_JITTER, &mut settled);
        assert_eq!(verdict.due, self.model.finish(offset, finished, self.now), "{offset:?} {finished:?}");
        self.note(settled);
    }

    /// Keeps the circuit closed: what would be one failure too many is a success.
    fn afforded(&mut self, offset: Offset, finished: Finished) -> Finished {
        if self.model.get(offset).state == State::Cancelled || finished == Finished::Abandoned {
            return finished;
        }
        let credit = &mut self.credit[usize::from(self.model.get(offset).trigger == Trigger::Manual)];
        if finished != Finished::Delivered && *credit >= 2 {
            *credit -= 2;
            return finished;
        }
        *credit = (*credit + 1).min(8);
        Finished::Delivered
    }

    fn cancel(&mut self, which: prop::sample::Index) {
        let place = which.index(self.model.deliveries.len() + 1);
        let to = self.model.deliveries.get(place).map_or(self.model.next(), |delivery| delivery.offset);
        let from = self.model.cursor();
        assert_eq!(self.lane.settle_below(to), (from < to).then_some((from, to)));
        for delivery in self.model.deliveries.iter_mut().filter(|delivery| delivery.offset < to) {
            delivery.state = match delivery.state {
                State::Waiting => State::Settled(Settlement::Cancelled),
                State::InFlight => State::Cancelled,
                ended => ended,
            };
        }
    }

    fn restart(&mut self) {
        let snapshot = self.lane.snapshot(self.now);
        self.lane = Lane::restore(&snapshot, policy(self.model.ordering), self.now).unwrap();
        for delivery in &mut self.model.deliveries {
            delivery.state = match delivery.state {
                State::InFlight => State::Waiting,
                State::Cancelled => State::Settled(Settlement::Cancelled),
                other => other,
            };
        }
    }

    /// Starts all that the lane offers: nothing that may not start, and everything that may.
    fn start_all(&mut self) {
        let expired = self.model.expire(self.now);
        let mut settled = Vec::new();
        let wake = loop {
            match self.lane.poll(self.now, &mut settled) {
                Poll::Start(start) => {
                    let allowed = self.model.startable(self.now);
                    assert!(allowed.contains(&start.offset), "{start:?}, of {allowed:?}");
                    let delivery = self.model.get(start.offset);
                    delivery.state = State::InFlight;
                    let class = if delivery.failures == 0 { Class::First } else { Class::Retry };
                    assert_eq!((start.attempt_number, start.class), (delivery.failures + 1, class));
                }
                Poll::NeedKey(offset) => {
                    let key = self.model.get(offset).key;
                    self.lane.offer_key(offset, key);
                }
                Poll::Wait(wake) => break wake,
            }
        };
        assert_eq!(settled, expired);
        self.note(settled);
        assert!(wake.is_none_or(|wake| wake > self.now), "asked to wait until now");
        assert!(
            self.model.startable(self.now).is_empty(),
            "not started: {:?}",
            self.model.startable(self.now)
        );
        let until = self.model.sleeps_until();
        if self.model.offsets(Delivery::is_in_flight).is_empty() {
            assert_eq!(wake, until);
        } else if self.model.has_window() {
            assert!(until.is_none_or(|until| wake.is_some_and(|wake| wake <= until)), "{wake:?} {until:?}");
        }
    }

    fn note(&mut self, settled: Settled) {
        for (offset, reason) in settled {
            assert_eq!(reason, Settlement::Exhausted);
            assert!(self.exhausted.insert(offset), "{offset:?} settled twice");
        }
    }

    fn check(&self) {
        let unsettled = self.model.offsets(|delivery| !delivery.is_settled());
        assert_eq!(self.lane.unsettled(), unsettled.len() as u64);
        assert_eq!(self.lane.unsettled_offsets(), unsettled);
        assert_eq!(self.lane.in_flight(), self.model.offsets(Delivery::is_in_flight).len());
        assert_eq!((self.lane.cursor(), self.lane.next()), (self.model.cursor(), self.model.next()));
        let exhausted =
            self.model.offsets(|delivery| delivery.state == State::Settled(Settlement::Exhausted));
        assert!(self.exhausted.iter().eq(&exhausted), "{:?} {exhausted:?}", self.exhausted);
        let failed = self.model.deliveries.iter().filter(|delivery| !delivery.is_settled());
        let failed = failed.filter(|delivery| delivery.failures > 0);
        assert!(self.lane.retries().eq(failed.map(|failed| (failed.offset, failed.failures, failed.due))));
    }

    /// Lets everything come to its end, with an endpoint that takes whatever comes.
    fn drain(&mut self) {
        while self.model.cursor() < self.model.next() {
            match self.model.offsets(Delivery::is_in_flight).first() {
                Some(&offset) => self.finish(offset, Finished::Delivered),
                None => {
                    self.now = self.model.sleeps_until().expect("what is not in flight waits for its time");
                }
            }
            self.start_all();
            self.check();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_lane_does_what_a_list_of_deliveries_says(
        ordering in ordering(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut pair = Pair::new(ordering);
        for step in steps {
            pair.apply(step);
        }
        pair.drain();
    }
}
