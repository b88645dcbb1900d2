//! What erasure writes down before it overwrites anything (design §5). The format only: nothing writes it yet.

use bytes::Bytes;

use crate::{
    MessageId, Offset, Timestamp,
    codec::{Malformed, Reader, Writer},
};

const VERSION: u8 = 1;
/// Beside the kinds of [`crate::Message`]: it stands in the same partition of `messages`, so that whoever follows that
/// partition learns of it in order.
const KIND_REDACTED: u8 = 2;

/// The payload of a message may be shown to nobody any more, and its bytes may be overwritten once this is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redacted {
    /// Of the message, in the same partition.
    pub offset: Offset,
    /// Of the message, so that a wrong offset is found out.
    pub id: MessageId,
    pub at: Timestamp,
}

impl Redacted {
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::record(VERSION, KIND_REDACTED);
        w.offset(self.offset);
        w.fixed(self.id.as_bytes());
        w.timestamp(self.at);
        w.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut r, kind) = Reader::record(bytes, VERSION)?;
        if kind != KIND_REDACTED {
            return Err(Malformed::Value { field: "kind", value: u64::from(kind) });
        }
        Ok(Self {
            offset: r.offset("offset")?,
            id: MessageId::from_bytes(r.fixed("id")?),
            at: r.timestamp("at")?,
        })
    }
}
