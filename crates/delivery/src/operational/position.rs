//! How far was told.

use bytes::Bytes;
use fanfare_core::{
    Offset, Partition,
    codec::{Malformed, Reader, Writer},
};
use fanfare_log::{Log, Table};

use super::Error;

const VERSION: u8 = 1;
const KIND: u8 = 1;
/// In the table `lanes`, beside keys of twelve bytes.
const KEY: &[u8] = b"operational";

/// Everything below was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) attempts: Offset,
    pub(super) deliveries: Offset,
    pub(super) control: Offset,
    /// Of the partition: of older epochs only what was delivered counts.
    pub(super) newest_claim: Offset,
}

impl Position {
    pub(super) async fn load(log: &dyn Log, partition: Partition) -> Result<Option<Self>, Error> {
        let entries = log.scan(Table::Lanes, partition).await?;
        let Some((_, value)) = entries.iter().find(|(key, _)| key == KEY) else { return Ok(None) };
        let position = Self::decode(value)
            .map_err(|source| Error::Malformed { what: "the position of operational webhooks", source })?;
        Ok(Some(position))
    }

    pub(super) async fn save(&self, log: &dyn Log, partition: Partition) -> Result<(), Error> {
        let entry = (Bytes::from_static(KEY), Some(self.encode()));
        Ok(log.put(Table::Lanes, partition, vec![entry]).await?)
    }

    fn encode(&self) -> Bytes {
        let mut w = Writer::record(VERSION, KIND);
        for offset in [self.attempts, self.deliveries, self.control, self.newest_claim] {
            w.offset(offset);
        }
        w.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut r, _) = Reader::record(bytes, VERSION)?;
        Ok(Self {
            attempts: r.offset("attempts")?,
            deliveries: r.offset("deliveries")?,
            control: r.offset("control")?,
            newest_claim: r.offset("newest_claim")?,
        })
    }
}
