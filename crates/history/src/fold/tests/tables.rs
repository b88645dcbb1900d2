//! Tables in memory: what a store does with changes, in the plainest way.

use std::collections::BTreeMap;

use bytes::Bytes;
use fanfare_core::{AttemptRecord, Delivery, EndpointNumber, Offset, Partition, Settlement};

use crate::{
    changes::{
        ATTEMPTS_BY_ANSWER, AttemptRowKey, Changes, DeliveryKey, NewAttempt, NewMessage, Shadow, Source,
        State, hour_of, hour_of_tick,
    },
    fold::{Fold, Folded, named_deliveries},
    keys::MessageKey,
    rows::Standing,
};

type Tallies = BTreeMap<(EndpointNumber, i64, i64), i64>;

#[derive(Debug, Default)]
pub(super) struct Tables {
    messages: BTreeMap<MessageKey, NewMessage>,
    routes: BTreeMap<(MessageKey, Partition, Offset), Vec<EndpointNumber>>,
    pub(super) deliveries: BTreeMap<DeliveryKey, State>,
    pub(super) attempts: BTreeMap<AttemptRowKey, NewAttempt>,
    tallies: Tallies,
    positions: BTreeMap<(Source, Partition), (Offset, Bytes)>,
}

impl Tables {
    pub(super) fn write(&mut self, changes: Changes) {
        for (key, message) in changes.messages {
            self.messages.entry(key).or_insert(message);
        }
        for (key, kind, first) in changes.twins {
            if let Some(message) = self.messages.get_mut(&key) {
                (message.kind, message.first) = (kind, Some(first));
            }
        }
        self.routes.extend(changes.routes);
        self.deliveries.extend(changes.deliveries);
        for (key, attempt) in changes.attempts {
            self.attempts.entry(key).or_insert(attempt);
        }
        for (endpoint, tick, offset, number) in changes.erased_answers {
            let is_it =
                |key: &AttemptRowKey| (key.0, key.2, key.3, key.4) == (endpoint, tick, offset, number);
            for (_, new) in self.attempts.iter_mut().filter(|(key, _)| is_it(key)) {
                new.attempt.response = Bytes::new();
            }
        }
        for (key, amount) in changes.tallies {
            *self.tallies.entry(key).or_default() += amount;
        }
        self.positions.extend(changes.positions);
    }

    pub(super) fn restore(&self) -> Fold {
        let mut fold = Fold::default();
        for (&(source, partition), (next, state)) in &self.positions {
            fold.restore(source, partition, *next, state).unwrap();
        }
        fold
    }

    pub(super) fn fold_delivery(
        &self,
        fold: &mut Fold,
        partition: Partition,
        offset: Offset,
        delivery: &Delivery,
    ) {
        if let Delivery::Injected { partition: of, offset: original, .. } = delivery {
            self.track_group(fold, MessageKey { partition: *of, offset: *original });
        }
        fold.delivery(partition, offset, delivery);
    }

    /// As the projector does it: rows first, then facts, and at a range what was folded before is written.
    pub(super) fn fold_record(
        &mut self,
        fold: &mut Fold,
        partition: Partition,
        offset: Offset,
        record: &AttemptRecord,
        range_step: usize,
    ) {
        loop {
            let named: Vec<DeliveryKey> = named_deliveries(record).collect();
            self.track(fold, &named);
            let Folded::AtRange(range) = fold.record(partition, offset, record) else { return };
            self.write(fold.take());
            let inside = |(key, state): &(&DeliveryKey, &State)| {
                key.0 == range.endpoint
                    && (range.from..range.to).contains(&key.1)
                    && !state.standing.is_settled()
            };
            let unsettled: Vec<DeliveryKey> =
                self.deliveries.iter().filter(inside).map(|(key, _)| *key).take(range_step).collect();
            let until =
                if unsettled.len() == range_step { unsettled[range_step - 1].1.next() } else { range.to };
            self.track(fold, &unsettled);
            fold.range_step(partition, &range, &unsettled, until);
            self.write(fold.take());
        }
    }

    fn track(&self, fold: &mut Fold, keys: &[DeliveryKey]) {
        for key in keys {
            if let Some(state) = self.deliveries.get(key) {
                fold.track(*key, state.clone());
            }
        }
        for message in fold.in_groups(keys.iter().copied()) {
            self.track_group(fold, message);
        }
    }

    fn track_group(&self, fold: &mut Fold, message: MessageKey) {
        for ((of, _, offset), endpoints) in &self.routes {
            for endpoint in endpoints.iter().filter(|_| *of == message) {
                if let Some(state) = self.deliveries.get(&(*endpoint, *offset)) {
                    fold.track_twin((*endpoint, *offset), state.clone());
                }
            }
        }
    }

    /// Tallies say what the rows say; of the deliveries of a message to an endpoint one counts.
    pub(super) fn check(&self) {
        let mut expected = Tallies::new();
        for ((endpoint, _), state) in
            self.deliveries.iter().filter(|(_, state)| state.shadow != Shadow::Shadowed)
        {
            *expected.entry((*endpoint, hour_of_tick(state.accepted), state.standing.code())).or_default() +=
                1;
        }
        for ((endpoint, answer, ..), new) in &self.attempts {
            let what = ATTEMPTS_BY_ANSWER + answer;
            *expected.entry((*endpoint, hour_of(new.attempt.at), what)).or_default() += 1;
        }
        assert_eq!(self.tallies(), expected);

        let mut groups: BTreeMap<(EndpointNumber, MessageKey), Vec<&State>> = BTreeMap::new();
        for ((endpoint, _), state) in &self.deliveries {
            groups.entry((*endpoint, state.message)).or_default().push(state);
        }
        for (group, states) in groups {
            let counting = states.iter().filter(|state| state.shadow != Shadow::Shadowed).count();
            assert_eq!(counting, 1, "{group:?}: {states:?}");
            let delivered = |state: &&&State| state.standing == Standing::Settled(Settlement::Delivered);
            if states.iter().any(|state| delivered(&state)) {
                let counts = states.iter().find(|state| state.shadow != Shadow::Shadowed).unwrap();
                assert!(delivered(&counts), "{group:?}: {states:?}");
            }
        }
    }

    fn tallies(&self) -> Tallies {
        self.tallies.iter().filter(|(_, amount)| **amount != 0).map(|(key, amount)| (*key, *amount)).collect()
    }

    /// All but positions, and tallies that came to nothing.
    #[allow(clippy::type_complexity, reason = "only compared")]
    pub(super) fn content(
        &self,
    ) -> (Vec<MessageKey>, &BTreeMap<DeliveryKey, State>, &BTreeMap<AttemptRowKey, NewAttempt>, Tallies) {
        (self.messages.keys().copied().collect(), &self.deliveries, &self.attempts, self.tallies())
    }
}
