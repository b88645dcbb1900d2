//! How things are named in the tables, and the ids that follow from the facts alone.
//!
//! ```text
//! message  := partition << 48 | offset                       (one integer)
//! attempt  := tick 5 · endpoint 4 · offset 7 · number 4       (bytes of an AttemptId, `atmpt_…`)
//! delivery := tick 5 · endpoint 4 · offset 7 · 0 4            (bytes of a MessageEndpointId, `msgep_…`)
//! tick     := seconds since 2014-05-13T16:53:20Z << 8 | 4 ms  (as in every id)
//! ```
//!
//! So an id sorts by time, is the same after every rebuild, and says where its row is.

use fanfare_core::{
    ApplicationId, AttemptId, EndpointNumber, Fingerprint, MessageEndpointId, MessageId, Offset, Partition,
    Timestamp,
};

/// Where ticks begin.
const EPOCH_SECS: i64 = 1_400_000_000;
const OFFSET_BITS: u32 = 48;
const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;

/// Where a message stands in `messages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageKey {
    pub partition: Partition,
    pub offset: Offset,
}

impl MessageKey {
    pub(crate) fn to_int(self) -> i64 {
        (u64::from(self.partition.0) << OFFSET_BITS | self.offset.0 & OFFSET_MASK).cast_signed()
    }

    pub(crate) fn from_int(key: i64) -> Self {
        let key = key.cast_unsigned();
        let partition = u32::try_from(key >> OFFSET_BITS).expect("16 bits are left");
        Self { partition: Partition(partition), offset: Offset(key & OFFSET_MASK) }
    }
}

/// An endpoint and the partition of `deliveries` that its lane is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointAt {
    pub number: EndpointNumber,
    pub partition: Partition,
}

/// Where an attempt's row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttemptKey {
    pub(crate) tick: Tick,
    pub(crate) endpoint: EndpointNumber,
    pub(crate) offset: Offset,
    pub(crate) number: u32,
}

/// A time as ids have it: it sorts, and is a little less exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tick(pub(crate) i64);

impl Tick {
    /// Of the moment, or of the last one before it that ids can tell.
    pub(crate) fn of(at: Timestamp) -> Self {
        let id = MessageId::mint(at, [0; 15]);
        Self::of_id(id.as_bytes())
    }

    pub(crate) fn time(self) -> Timestamp {
        Timestamp::from_millis(((self.0 >> 8) + EPOCH_SECS) * 1_000 + (self.0 & 0xff) * 4)
    }

    pub(crate) fn of_id(bytes: &[u8; 20]) -> Self {
        Self(bytes[..5].iter().fold(0, |tick, byte| tick << 8 | i64::from(*byte)))
    }

    /// Below every id of this tick, and above every one of those before.
    pub(crate) fn lowest_id(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        self.write(&mut bytes);
        bytes
    }

    fn write(self, bytes: &mut [u8; 20]) {
        bytes[..5].copy_from_slice(&self.0.to_be_bytes()[3..]);
    }
}

impl AttemptKey {
    pub(crate) fn id(self) -> AttemptId {
        AttemptId::from_bytes(pack(self.tick, self.endpoint, self.offset, self.number))
    }

    pub(crate) fn of(id: AttemptId) -> Self {
        Self::unpack(id.as_bytes())
    }

    fn unpack(bytes: &[u8; 20]) -> Self {
        let number = |from: usize| {
            u32::from_be_bytes([bytes[from], bytes[from + 1], bytes[from + 2], bytes[from + 3]])
        };
        let offset = bytes[9..16].iter().fold(0, |offset, byte| offset << 8 | u64::from(*byte));
        Self {
            tick: Tick::of_id(bytes),
            endpoint: EndpointNumber(number(5)),
            offset: Offset(offset),
            number: number(16),
        }
    }
}

fn pack(tick: Tick, endpoint: EndpointNumber, offset: Offset, number: u32) -> [u8; 20] {
    let mut bytes = [0; 20];
    tick.write(&mut bytes);
    bytes[5..9].copy_from_slice(&endpoint.0.to_be_bytes());
    bytes[9..16].copy_from_slice(&offset.0.to_be_bytes()[1..]);
    bytes[16..].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The id of a delivery: of one message to one endpoint, with the time at which the message was accepted.
pub fn delivery_id(message: MessageId, endpoint: EndpointNumber, offset: Offset) -> MessageEndpointId {
    MessageEndpointId::from_bytes(pack(Tick::of_id(message.as_bytes()), endpoint, offset, 0))
}

pub(crate) fn delivery_id_at(tick: Tick, endpoint: EndpointNumber, offset: Offset) -> MessageEndpointId {
    MessageEndpointId::from_bytes(pack(tick, endpoint, offset, 0))
}

/// (tick, endpoint, offset) that a delivery's id is made of.
pub(crate) fn delivery_of(id: MessageEndpointId) -> (Tick, EndpointNumber, Offset) {
    let key = AttemptKey::unpack(id.as_bytes());
    (key.tick, key.endpoint, key.offset)
}

/// What an application is called in the tables. Two that share it see no more of each other than an id they do not know.
pub(crate) fn application_key(application: ApplicationId) -> i64 {
    Fingerprint::of(&[application.as_bytes()]).short().cast_signed()
}
