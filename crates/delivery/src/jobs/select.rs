//! Which messages a job means.

use fanfare_control::{Control, Endpoint, Job, JobKind, OutcomeFilter, Selection};
use fanfare_core::{Delivery, EndpointNumber, Message, MessageId, Offset, Partition, Timestamp};
use fanfare_log::{Log, Topic};
use roaring::RoaringTreemap;

use super::{
    outcomes::{APART, Outcomes},
    runner::Error,
};

/// Messages read at once, when others were found to be repeats.
const RUN_BYTES: usize = 256 << 10;

/// Decides message by message.
pub(super) struct Selector {
    selection: Selection,
    application: fanfare_core::ApplicationId,
    endpoint: EndpointNumber,
    set: Set,
}

enum Set {
    /// Those, by their offsets.
    These(RoaringTreemap),
    /// All that the endpoint wants, but these and what waited for its time at this moment: the router sends it.
    Wanted { control: Control, but: RoaringTreemap, at: Timestamp },
}

impl Selector {
    pub(super) async fn new(
        log: &dyn Log,
        control: &Control,
        job: &Job,
        endpoint: &Endpoint,
        source: Partition,
        outcomes: &Outcomes,
        (from, now): (Offset, Timestamp),
    ) -> Result<Self, Error> {
        let set = match job.kind {
            JobKind::ReplayMissing => {
                let mut but = repeats(log, source, from).await?;
                but |= &outcomes.attempted;
                but |= &outcomes.delivered;
                but |= &outcomes.open;
                Set::Wanted { control: control.clone(), but, at: now - APART }
            }
            // What erases sends nothing.
            JobKind::EraseContents => Set::These(RoaringTreemap::new()),
            JobKind::Recover | JobKind::DeadLetters | JobKind::BulkReplay => {
                Set::These(these(job.kind, &job.selection, outcomes))
            }
        };
        Ok(Self {
            selection: job.selection.clone(),
            application: endpoint.application,
            endpoint: endpoint.number,
            set,
        })
    }

    /// How many there are from `from` on, if that is known without reading them.
    pub(super) fn total(&self, from: Offset, to: Offset) -> Option<u64> {
        self.known().map(|these| these.range_cardinality(from.0..to.0))
    }

    /// Whether [`Selector::total`] had this one in it. It is not meant where it was accepted a little before or after.
    pub(super) fn counts(&self, offset: Offset) -> bool {
        self.known().is_some_and(|these| these.contains(offset.0))
    }

    /// All of them, where no message has to be read to know.
    fn known(&self) -> Option<&RoaringTreemap> {
        let Selection { event_types, channel, tag, messages, .. } = &self.selection;
        let by_head = event_types.is_some() || channel.is_some() || tag.is_some() || messages.is_some();
        match &self.set {
            Set::These(these) if !by_head => Some(these),
            Set::These(_) | Set::Wanted { .. } => None,
        }
    }

    /// The first that may be meant, at or above `from`.
    pub(super) fn next(&self, from: Offset) -> Option<Offset> {
        match &self.set {
            Set::These(these) => {
                let mut above = these.iter();
                above.advance_to(from.0);
                above.next().map(Offset)
            }
            Set::Wanted { .. } => Some(from),
        }
    }

    pub(super) fn means(&self, offset: Offset, message: &Message) -> bool {
        let Selection { since, until, event_types, channel, tag, messages, .. } = &self.selection;
        let within = (*since..=*until).contains(&message.accepted_at);
        let of_type = event_types.as_ref().is_none_or(|types| types.contains(&message.event_type));
        let of_channel = channel.as_ref().is_none_or(|channel| message.channels.contains(channel));
        let of_tag = tag.as_ref().is_none_or(|tag| message.tags.contains(tag));
        let named = messages.as_ref().is_none_or(|messages: &Vec<MessageId>| messages.contains(&message.id));
        message.application == self.application
            && within
            && of_type
            && of_channel
            && of_tag
            && named
            && self.holds(offset, message)
    }

    fn holds(&self, offset: Offset, message: &Message) -> bool {
        match &self.set {
            Set::These(these) => these.contains(offset.0),
            Set::Wanted { control, but, at } => {
                let waits = message.due_of.is_some() || message.deliver_at.is_some_and(|due| due > *at);
                let wanted = || {
                    if let Some(only) = message.only_for {
                        return only == self.endpoint;
                    }
                    let view = control.view();
                    let matching = view.matching(message.application, &message.event_type, &message.channels);
                    matching.iter().any(|&(_, number)| number == self.endpoint)
                };
                !waits && !but.contains(offset.0) && wanted()
            }
        }
    }
}

/// What is on its way is left to come to its end by itself.
fn these(kind: JobKind, selection: &Selection, outcomes: &Outcomes) -> RoaringTreemap {
    let Outcomes { routed, delivered, dead, cancelled, open, classes, .. } = outcomes;
    let mut these = match (kind, selection.outcome) {
        (JobKind::BulkReplay, None) => routed.clone(),
        (JobKind::BulkReplay, Some(OutcomeFilter::Delivered)) => delivered.clone(),
        (JobKind::BulkReplay, Some(OutcomeFilter::Cancelled)) => cancelled - delivered,
        (JobKind::BulkReplay, Some(OutcomeFilter::DeadLetter)) | (JobKind::DeadLetters, _) => {
            dead - delivered
        }
        (JobKind::Recover | JobKind::ReplayMissing | JobKind::EraseContents, _) => {
            (dead | cancelled) - delivered
        }
    };
    these -= open;
    if let Some(class) = selection.status_class {
        match classes.get(usize::from(class / 100)) {
            Some(members) => these &= members,
            None => these.clear(),
        }
    }
    these
}

/// Messages that the router found to be repeats of others, or in conflict with them: they are for nobody.
async fn repeats(log: &dyn Log, source: Partition, from: Offset) -> Result<RoaringTreemap, Error> {
    let partition = Partition(source.0 % log.partitions(Topic::Deliveries));
    let bounds = log.bounds(Topic::Deliveries, partition).await?;
    let mut repeats = RoaringTreemap::new();
    let mut position = bounds.start;
    while position < bounds.end {
        let batch = log.fetch(Topic::Deliveries, partition, position, RUN_BYTES).await?;
        for record in &batch.records {
            match Delivery::decode(&record.head) {
                Ok(Delivery::Alias { source: of, .. } | Delivery::Conflict { source: of, .. })
                    if of.partition == source && of.offset >= from =>
                {
                    repeats.insert(of.offset.0);
                }
                _ => {}
            }
        }
        if batch.next <= position {
            break;
        }
        position = batch.next;
    }
    Ok(repeats)
}
