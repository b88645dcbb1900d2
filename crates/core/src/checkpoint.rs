//! What router and worker write down so that the next start need not begin at the beginning.

use bytes::Bytes;

use crate::{
    Fingerprint, MessageId, Offset, Partition, Timestamp,
    codec::{Malformed, Reader, Writer},
    limits,
};

const VERSION: u8 = 1;
/// Of a router's checkpoint in several records: whoever reads the first alone would forget what waits.
const VERSION_PART: u8 = 2;
const KIND_ROUTER: u8 = 1;
const KIND_WORKER: u8 = 2;

/// A record of the topic `dedup`: the router's position in one `messages` partition AND the claims it took
/// since its last checkpoint, in one record, so that neither is ever ahead of the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterCheckpoint {
    /// Everything below was routed and the appends are durable.
    pub position: Offset,
    /// Per delivery partition the last source offset sent there; the first record of a session carries it.
    pub last_sent: Vec<(Partition, Offset)>,
    pub claims: Vec<ClaimEntry>,
    /// Messages held until they are due: (due, offset in `messages`).
    pub held: Vec<(Timestamp, Offset)>,
    /// Which of how many records this is: where very many are held, the others have the rest of them, and nothing else.
    /// What is held at a position follows from the log, so it does not matter who wrote which.
    pub part: (u32, u32),
}

impl Default for RouterCheckpoint {
    fn default() -> Self {
        let (position, part) = (Offset::ZERO, (0, 1));
        Self { position, last_sent: Vec::new(), claims: Vec::new(), held: Vec::new(), part }
    }
}

/// A key or event id that stands for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimEntry {
    /// See [`crate::Identity`].
    pub claim: Fingerprint,
    pub body: Fingerprint,
    pub id: MessageId,
    /// Of the message in its `messages` partition: only a *lower* offset makes a later record a duplicate.
    pub offset: Offset,
    /// When the claim lapses.
    pub expires_at: Timestamp,
}

impl RouterCheckpoint {
    /// As many records as it takes so that none of them is large. They stand in the log in this order.
    pub fn encode_parts(&self) -> Vec<Bytes> {
        if self.held.len() <= limits::HELD_PER_RECORD {
            return vec![self.encode()];
        }
        let slices = self.held.chunks(limits::HELD_PER_RECORD);
        let parts = u32::try_from(slices.len()).expect("what is held is bounded");
        let mut rest = Self { held: Vec::new(), ..self.clone() };
        let encode = |(index, slice): (u32, &[(Timestamp, Offset)])| {
            let position = self.position;
            let whole = std::mem::replace(&mut rest, Self { position, ..Self::default() });
            Self { held: slice.to_vec(), part: (index, parts), ..whole }.encode()
        };
        (0..).zip(slices).map(encode).collect()
    }

    pub fn encode(&self) -> Bytes {
        let version = if self.part == (0, 1) { VERSION } else { VERSION_PART };
        let mut w = Writer::record(version, KIND_ROUTER);
        w.offset(self.position);
        w.list(&self.last_sent, write_place);
        w.list(&self.claims, |w, entry| {
            w.fixed(&entry.claim.0);
            w.fixed(&entry.body.0);
            w.fixed(entry.id.as_bytes());
            w.offset(entry.offset);
            w.timestamp(entry.expires_at);
        });
        w.list(&self.held, |w, &(due, offset)| {
            w.timestamp(due);
            w.offset(offset);
        });
        if version == VERSION_PART {
            w.uint(u64::from(self.part.0));
            w.uint(u64::from(self.part.1));
        }
        w.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut r, kind) = Reader::record(bytes, VERSION_PART)?;
        let in_parts = bytes.first() == Some(&VERSION_PART);
        if kind != KIND_ROUTER {
            return Err(Malformed::Value { field: "kind", value: u64::from(kind) });
        }
        Ok(Self {
            position: r.offset("position")?,
            last_sent: r.list("last_sent", read_place)?,
            claims: r.list("claims", |r| {
                Ok(ClaimEntry {
                    claim: Fingerprint(r.fixed("claim")?),
                    body: Fingerprint(r.fixed("body")?),
                    id: MessageId::from_bytes(r.fixed("id")?),
                    offset: r.offset("offset")?,
                    expires_at: r.timestamp("expires_at")?,
                })
            })?,
            held: r.list("held", |r| Ok((r.timestamp("due")?, r.offset("offset")?)))?,
            part: if in_parts { (r.uint32("part")?, r.uint32("parts")?) } else { (0, 1) },
        })
    }
}

/// A worker's checkpoint of one delivery partition (topic `lanes`, beside the lanes' snapshots).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerCheckpoint {
    /// Offset of the claim under which it was written.
    pub epoch: Offset,
    /// Facts below are contained in the lanes' snapshots.
    pub attempts: Offset,
    /// Delivery records below were looked at by the tail.
    pub deliveries: Offset,
    /// Per `messages` partition the highest source offset taken.
    pub highest_source: Vec<(Partition, Offset)>,
    /// Per `messages` partition the router sessions seen last, oldest first.
    pub sessions: Vec<(Partition, u64)>,
    /// Of the jobs that injected last the highest sequence taken, the latest job at the end.
    pub highest_sequence: Vec<(u64, u64)>,
    /// Delivery offsets `[from, to)` that the tail refused (repeats); catch-up skips the same.
    pub refused: Vec<(Offset, Offset)>,
}

impl WorkerCheckpoint {
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::record(VERSION, KIND_WORKER);
        w.offset(self.epoch);
        w.offset(self.attempts);
        w.offset(self.deliveries);
        w.list(&self.highest_source, write_place);
        w.list(&self.sessions, |w, &(partition, session)| {
            w.uint(u64::from(partition.0));
            w.fixed(&session.to_be_bytes());
        });
        w.list(&self.highest_sequence, |w, &(job, sequence)| {
            w.uint(job);
            w.uint(sequence);
        });
        w.list(&self.refused, |w, &(from, to)| {
            w.offset(from);
            w.offset(to);
        });
        w.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut r, kind) = Reader::record(bytes, VERSION)?;
        if kind != KIND_WORKER {
            return Err(Malformed::Value { field: "kind", value: u64::from(kind) });
        }
        Ok(Self {
            epoch: r.offset("epoch")?,
            attempts: r.offset("attempts")?,
            deliveries: r.offset("deliveries")?,
            highest_source: r.list("highest_source", read_place)?,
            sessions: r.list("sessions", |r| {
                Ok((Partition(r.uint32("partition")?), u64::from_be_bytes(r.fixed("session")?)))
            })?,
            highest_sequence: r.list("highest_sequence", |r| Ok((r.uint("job")?, r.uint("sequence")?)))?,
            refused: r.list("refused", |r| Ok((r.offset("from")?, r.offset("to")?)))?,
        })
    }
}

fn write_place(w: &mut Writer, &(partition, offset): &(Partition, Offset)) {
    w.uint(u64::from(partition.0));
    w.offset(offset);
}

fn read_place(r: &mut Reader<'_>) -> Result<(Partition, Offset), Malformed> {
    Ok((Partition(r.uint32("partition")?), r.offset("offset")?))
}
