//! The way of a message through the router: [`Session::run`], top to bottom.

use std::sync::Arc;

use bytes::Bytes;
use fanfare_control::View;
use fanfare_core::{
    ClaimEntry, Clock, Content, Delivery, EndpointNumber, Fingerprint, Message, Offset, Partition, Timestamp,
    limits,
    planted::{Fault, planted},
};
use fanfare_log::{BoxFuture, LogRecord, NewRecord, Sync, Topic};
use futures_util::future::try_join_all;
use tokio_util::sync::CancellationToken;

use crate::{
    Router,
    chain::Chain,
    dedup::DedupTable,
    error::{SessionError, delivery_error},
    held::{self, Change, Held},
    progress::{Progress, Routed},
    verdict::{Verdict, claims_of, judge},
};

/// One uninterrupted run over a `messages` partition, from a checkpoint on.
pub(crate) struct Session<'a> {
    pub(crate) router: &'a Router,
    pub(crate) partition: Partition,
    pub(crate) table: Arc<DedupTable>,
    pub(crate) chain: Chain,
    /// Small payloads are copied beside their delivery records.
    pub(crate) inline: bool,
    /// Everything below was routed by this session or before its checkpoint.
    pub(crate) position: Offset,
    pub(crate) progress: Progress,
    /// Messages that wait for their time, as of `position`.
    pub(crate) held: Held,
    /// Those whose time has come are being appended again; gives those that are not in the log any more.
    pub(crate) appending: Option<BoxFuture<'static, Result<Vec<Offset>, SessionError>>>,
}

/// What a batch became.
struct Sorted {
    /// By delivery partition.
    outbox: Vec<Vec<NewRecord>>,
    last_sent: Vec<(Partition, Offset)>,
    claims: Vec<ClaimEntry>,
    held: Vec<Change>,
    oldest: Option<Timestamp>,
    newest: Option<Timestamp>,
}

impl Session<'_> {
    /// Routes until `drain` is cancelled; then returns when all it sent is durable and a checkpoint says so.
    pub(crate) async fn run(&mut self, drain: &CancellationToken) -> Result<(), SessionError> {
        let Router { log, control, clock, meters, .. } = self.router;
        let read_error = |error| SessionError::Read { topic: Topic::Messages, error };
        loop {
            self.append_due();
            tokio::select! {
                biased;
                () = drain.cancelled() => return self.progress.finish().await,
                event = self.progress.next() => {
                    self.progress.settle(event?).await?;
                    continue;
                }
                gone = appended(&mut self.appending) => {
                    self.forget(&gone?);
                    continue;
                }
                () = due(&self.held, &**clock), if self.appending.is_none() => continue,
                ready = log.wait(Topic::Messages, self.partition, self.position), if self.progress.has_room() => {
                    ready.map_err(read_error)?;
                }
            }
            let batch = log
                .fetch(Topic::Messages, self.partition, self.position, limits::ROUTER_BATCH_BYTES)
                .await
                .map_err(read_error)?;
            // After the read: an endpoint whose creation was answered before a message was sent is known now.
            if !planted(Fault::ControlNotApplied) {
                control.apply_to_end().await?;
            }

            let mut sorted = self.sort(&batch.records)?;
            if planted(Fault::ClaimsAheadOfPosition) {
                self.progress.write_ahead(&sorted.claims).await?;
            }
            let opens = self.chain.opened_one();
            let sync = if opens { Sync::Now } else { Sync::Lazy };
            let mut pendings = Vec::new();
            for (to, records) in
                sorted.outbox.iter_mut().enumerate().filter(|(_, records)| !records.is_empty())
            {
                let to = Partition(u32::try_from(to).expect("partitions are counted in a u32"));
                let appended = log.append(Topic::Deliveries, to, std::mem::take(records), sync).await;
                pendings.push(appended.map_err(delivery_error)?);
            }

            self.position = batch.next;
            self.router.slot(self.partition).routed_below(self.position);
            self.router.slot(self.partition).holds(self.held.len());
            if let Some(oldest) = sorted.oldest {
                meters.lag.record(clock.now().since(oldest).as_secs_f64());
            }
            self.progress.push(Routed {
                position: self.position,
                last_sent: sorted.last_sent,
                claims: sorted.claims,
                held: sorted.held,
                newest: sorted.newest,
                opens,
                durable: try_join_all(pendings),
            });
        }
    }

    /// Decides for each message what it is and who wants it. The one place where that is decided: a function of
    /// the log and the control view alone.
    fn sort(&mut self, records: &[LogRecord]) -> Result<Sorted, SessionError> {
        let Router { control, meters, .. } = self.router;
        let view = control.view();
        let mut sorted = Sorted::new(self.chain.partitions());
        for LogRecord { offset, head, payload } in records {
            let offset = *offset;
            let message = Message::decode(head).map_err(|error| SessionError::Record {
                topic: Topic::Messages,
                offset,
                error,
            })?;
            sorted.oldest = Some(sorted.oldest.map_or(message.accepted_at, |at| at.min(message.accepted_at)));
            sorted.newest = sorted.newest.max(Some(message.accepted_at));

            if let Some(original) = message.due_of {
                match self.held.leave(original) {
                    Some(left) => sorted.held.push(left),
                    // Appended twice: the first copy was the message.
                    None => continue,
                }
            }
            match self.judge(&message, offset)? {
                Verdict::New => {
                    for claim in claims_of(&message, offset).filter(|_| message.due_of.is_none()) {
                        self.table.announce(&claim);
                        sorted.claims.push(claim);
                    }
                    let waits_until = message.deliver_at.filter(|due| *due > message.accepted_at);
                    if let (Some(due), None) = (waits_until, message.due_of) {
                        sorted.held.push(self.held.join(offset, due));
                        continue;
                    }
                    let matching = wanted_by(&view, &message);
                    let copies = matching.chunk_by(|a, b| a.0 == b.0).count();
                    let content = content_of(self.inline, copies, head, payload.as_ref());
                    for group in matching.chunk_by(|a, b| a.0 == b.0) {
                        let to = group[0].0;
                        let delivery = Delivery::Routed {
                            source: self.chain.link(to, offset, view.position()),
                            id: message.id,
                            accepted_at: message.accepted_at,
                            ordering_key: message.ordering_key_hash(),
                            endpoints: group.iter().map(|&(_, number)| number).collect(),
                            content: content.0.clone(),
                            due_of: message.due_of,
                        };
                        sorted.push(
                            to,
                            offset,
                            NewRecord { head: delivery.encode(), payload: content.1.clone() },
                        );
                    }
                    meters.messages.add(1);
                    meters.deliveries.add(copies as u64);
                }
                verdict @ (Verdict::Alias(first) | Verdict::Conflict(first)) => {
                    let to = self.chain.own_partition();
                    let source = self.chain.link(to, offset, view.position());
                    let id = message.id;
                    let delivery = if matches!(verdict, Verdict::Alias(_)) {
                        meters.duplicates.add(1);
                        Delivery::Alias { source, id, first }
                    } else {
                        meters.conflicts.add(1);
                        Delivery::Conflict { source, id, first }
                    };
                    sorted.push(to, offset, NewRecord::head(delivery.encode()));
                }
            }
        }
        Ok(sorted)
    }

    /// Begins to append what is due.
    fn append_due(&mut self) {
        let Router { log, control, clock, .. } = self.router;
        if self.appending.is_some() {
            return;
        }
        let offsets = self.held.take_due(clock.now());
        if !offsets.is_empty() {
            let (log, clock) = (Arc::clone(log), Arc::clone(clock));
            let append = held::append_due(log, control.clone(), clock, self.partition, offsets);
            self.appending = Some(Box::pin(append));
        }
    }

    /// Nothing will come of these.
    fn forget(&mut self, gone: &[Offset]) {
        let gone: Vec<Change> = gone.iter().filter_map(|&offset| self.held.leave(offset)).collect();
        if !gone.is_empty() {
            self.router.meters.lost.add(gone.len() as u64);
            tracing::error!(partition = %self.partition, messages = gone.len(),
                "messages left the log while they waited for their time: raise the retention");
            self.progress.forget(gone);
        }
    }

    /// By record time, and against lower offsets only: a restarted router decides as the first one did.
    fn judge(&self, message: &Message, offset: Offset) -> Result<Verdict, SessionError> {
        // That was decided when the message was accepted.
        if message.due_of.is_some() {
            return Ok(Verdict::New);
        }
        let identity = &message.identity;
        let own_counts = planted(Fault::RepeatOfItself) || planted(Fault::ClaimsAheadOfPosition);
        let offset = if own_counts { offset.next() } else { offset };
        let stands = |claim: Option<Fingerprint>| match claim {
            Some(claim) => self.table.lookup_below(claim, offset, message.accepted_at),
            None => Ok(None),
        };
        let (key, event_id) = (stands(identity.key)?, stands(identity.event_id)?);
        Ok(judge(identity, key.as_ref(), event_id.as_ref()))
    }
}

/// Resolves when the append, if there is one, has ended.
async fn appended(
    appending: &mut Option<BoxFuture<'static, Result<Vec<Offset>, SessionError>>>,
) -> Result<Vec<Offset>, SessionError> {
    match appending {
        Some(append) => {
            let gone = append.await;
            *appending = None;
            gone
        }
        None => std::future::pending().await,
    }
}

/// Resolves when something may be due. The clock may step: it is asked again now and then.
async fn due(held: &Held, clock: &dyn Clock) {
    match held.first_due() {
        Some(due) => tokio::time::sleep(due.since(clock.now()).min(limits::DUE_LOOK_EVERY)).await,
        None => std::future::pending().await,
    }
}

/// The endpoints that a message is for, sorted by partition and number.
fn wanted_by(view: &View, message: &Message) -> Vec<(Partition, EndpointNumber)> {
    let Some(number) = message.only_for else {
        return view.matching(message.application, &message.event_type, &message.channels);
    };
    let endpoint = view
        .endpoint_by_number(number)
        .filter(|endpoint| endpoint.application == message.application && !endpoint.settings.disabled);
    endpoint.map(|endpoint| (endpoint.partition, endpoint.number)).into_iter().collect()
}

/// Where workers find the payload: beside the delivery record, if `inline` allows it and the copies stay small;
/// else in `messages`.
fn content_of(inline: bool, copies: usize, head: &Bytes, payload: Option<&Bytes>) -> (Content, Bytes) {
    match payload {
        Some(payload) if inline && payload.len().saturating_mul(copies) <= limits::INLINE_BYTES => {
            (Content::Inline { head: head.clone() }, payload.clone())
        }
        Some(_) | None => (Content::Reference, Bytes::new()),
    }
}

impl Sorted {
    fn new(delivery_partitions: u32) -> Self {
        let outbox = vec![Vec::new(); delivery_partitions as usize];
        let (last_sent, claims, held) = (Vec::new(), Vec::new(), Vec::new());
        Self { outbox, last_sent, claims, held, oldest: None, newest: None }
    }

    fn push(&mut self, to: Partition, offset: Offset, record: NewRecord) {
        self.outbox[to.0 as usize].push(record);
        self.last_sent.push((to, offset));
    }
}
