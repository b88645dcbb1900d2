//! Reading behind the tail: for lanes whose next delivery is not in memory, and for lanes that have room again.
//!
//! One read of each kind at a time, by turns over the lanes that wait; what passes is handed to every lane that can
//! take it. So no lane holds up another, and a backlog costs a read of the log, never a copy of it.

use std::{collections::BTreeSet, sync::Arc};

use fanfare_core::{
    Delivery, EndpointNumber, Offset,
    lane::Finished,
    limits,
    planted::{Fault, planted},
};
use fanfare_log::{Batch, ReadError, Topic};

use super::{Wanted, Worker, attempts::ordering_key};
use crate::send::Transport;

/// A read of the log that came back.
pub(super) struct Run {
    kind: Kind,
    from: Offset,
    batch: Result<Batch, ReadError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// For deliveries about to start.
    Wanted,
    /// For lanes behind that have room for more.
    Scan,
}

impl<T: Transport> Worker<T> {
    /// Starts the reads that somebody waits for.
    pub(super) fn schedule_reads(&mut self) {
        if !self.reading_wanted
            && let Some(from) = self.next_wanted()
        {
            self.reading_wanted = true;
            self.last_read = from;
            self.read(Kind::Wanted, from, self.window.run_bytes(self.slots.len()));
        }
        if !self.scanning
            && let Some(from) = self.next_scan()
        {
            self.scanning = true;
            self.last_scan = from;
            self.read(Kind::Scan, from, limits::CATCH_UP_RUN_BYTES);
        }
    }

    /// The next record that somebody waits for, by turns. A lane that was recovered further ahead than the tail has come
    /// again waits for it: what the tail has not decided is not there yet, and must not be taken for lost.
    fn next_wanted(&self) -> Option<Offset> {
        let known = |offset: &&Offset| !self.unknown.contains(offset);
        let after = self.last_read.next().min(self.tail);
        let mut above = self.wanted.range(after..self.tail).map(|(offset, _)| offset);
        let first = || self.wanted.range(..self.tail).map(|(offset, _)| offset).find(known);
        above.find(known).or_else(first).copied()
    }

    /// Where the next lane behind with room goes on, by turns; below the tail, as above.
    fn next_scan(&self) -> Option<Offset> {
        let tail = (self.tail, EndpointNumber(0));
        let has_room = |&&(next, number): &&(Offset, EndpointNumber)| {
            let wants_more = self.slots.get(&number).is_some_and(|slot| slot.lane.wants_more());
            wants_more && !self.unknown.contains(&next)
        };
        let after = (self.last_scan.next(), EndpointNumber(0)).min(tail);
        let found = self.behind.range(after..tail).find(has_room);
        let found = found.or_else(|| self.behind.range(..tail).find(has_room));
        found.map(|&(next, _)| next)
    }

    fn read(&mut self, kind: Kind, from: Offset, max_bytes: usize) {
        let log = Arc::clone(&self.shared.options.log);
        let partition = self.partition;
        self.reads.push(Box::pin(async move {
            let batch = log.fetch(Topic::Deliveries, partition, from, max_bytes).await;
            Run { kind, from, batch }
        }));
    }

    /// Hands a run to those it is for.
    pub(super) fn took_run(&mut self, run: Run) {
        match run.kind {
            Kind::Wanted => self.reading_wanted = false,
            Kind::Scan => self.scanning = false,
        }
        let batch = match run.batch {
            Ok(batch) => batch,
            // Retention has passed over records that lanes still needed: they can only be dead letters.
            Err(ReadError::Truncated { start, .. }) => return self.expire_below(start),
            Err(error @ ReadError::Corrupt(_)) => return self.stand_at(run.from, &error.to_string()),
            Err(error) => {
                // The sweep tries again; a log that stays unreadable ends the worker at its tail.
                tracing::warn!(partition = %self.partition, %error, "deliveries cannot be read");
                return self.sweep.soon();
            }
        };
        let mut next = batch.next.min(self.tail);
        let mut records = Vec::with_capacity(batch.records.len());
        for record in &batch.records {
            // What the tail has not decided yet is not there yet; what it refused is not there.
            let refused = self.rule.refused(record.offset) && !planted(Fault::RefusedCaughtUp);
            if record.offset >= self.tail || refused {
                continue;
            }
            match Delivery::decode(&record.head) {
                Ok(delivery) => records.push((record.offset, Arc::new(delivery))),
                Err(error) => {
                    self.stand_at(record.offset, &error.to_string());
                    next = record.offset;
                    break;
                }
            }
        }
        if self.unknown.contains(&run.from) {
            return;
        }
        for (offset, delivery) in &records {
            self.window.insert(*offset, Arc::clone(delivery));
        }
        if run.kind == Kind::Scan {
            self.show_run(run.from, next, &records);
        }
        self.serve_wanted(run.from, next);
    }

    /// Shows a run to every lane behind that has come as far and has room.
    fn show_run(&mut self, from: Offset, next: Offset, records: &[(Offset, Arc<Delivery>)]) {
        let reached = self.behind.range((from, EndpointNumber(0))..(next, EndpointNumber(0)));
        let mut lanes: BTreeSet<EndpointNumber> = reached.map(|&(_, number)| number).collect();
        for number in &lanes {
            let slot = self.slots.get_mut(number).expect("a lane behind has a slot");
            self.behind.remove(&(slot.lane.next(), *number));
            slot.dirty = true;
        }
        let shown = lanes.clone();
        for (offset, delivery) in records {
            for number in delivery.endpoints() {
                if !lanes.contains(number) {
                    continue;
                }
                let slot = self.slots.get_mut(number).expect("a lane behind has a slot");
                if *offset < slot.lane.next() {
                    continue;
                }
                if slot.lane.has_room() {
                    slot.lane.push(*offset, delivery.trigger());
                    slot.above = slot.above.saturating_sub(1);
                } else {
                    slot.lane.pass(*offset);
                    self.behind.insert((slot.lane.next(), *number));
                    lanes.remove(number);
                }
            }
        }
        for number in lanes {
            let slot = self.slots.get_mut(&number).expect("a lane behind has a slot");
            slot.lane.pass(next);
            if next >= self.tail {
                slot.behind = false;
                slot.above = 0;
            } else {
                self.behind.insert((slot.lane.next(), number));
            }
        }
        for number in shown {
            self.advance(number);
        }
    }

    /// Starts what waited for records in `[from, next)`.
    fn serve_wanted(&mut self, from: Offset, next: Offset) {
        let rest = self.wanted.split_off(&from);
        let mut here = rest;
        let above = here.split_off(&next.max(from.next()));
        self.wanted.extend(above);
        for (offset, wanted) in here {
            let record = self.window.get(offset);
            for want in wanted {
                match (want, &record) {
                    (Wanted::Start(number, start), Some(record)) => {
                        self.launch(number, start, Arc::clone(record));
                    }
                    (Wanted::Key(number), Some(record)) => {
                        if let Some(slot) = self.slots.get_mut(&number) {
                            slot.asked_key = None;
                            slot.lane.offer_key(offset, ordering_key(record));
                        }
                        self.advance(number);
                    }
                    (Wanted::Start(number, _) | Wanted::Key(number), None) => {
                        if let Some(slot) = self.slots.get_mut(&number) {
                            slot.asked_key = None;
                        }
                        self.lost(number, offset);
                    }
                }
            }
        }
    }

    /// Nothing below `boundary` is to be started any more.
    pub(super) fn want_nothing_below(&mut self, boundary: Offset) {
        let above = self.wanted.split_off(&boundary);
        for (offset, wanted) in std::mem::replace(&mut self.wanted, above) {
            for want in wanted {
                let (Wanted::Start(number, _) | Wanted::Key(number)) = want;
                if let Some(slot) = self.slots.get_mut(&number) {
                    slot.asked_key = None;
                    slot.lane.finished(offset, Finished::Abandoned, self.steady.now(), 0, &mut Vec::new());
                }
            }
        }
    }
}
