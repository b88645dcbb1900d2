//! What topics are there, with their ids.
//!
//! A topic that was deleted and made again has the same name and other records: only its id tells. The safe client
//! (`rdkafka`) has no function for it, the C library below it (`librdkafka`) has. So this crate holds the only `unsafe`
//! of Fanfare, and nothing else. Why it holds, for every block in `native.rs`:
//!
//! - What the library hands out to be freed is owned by one value (`Owned`) that frees it once, when dropped.
//! - What the library hands out to be looked at belongs to such a value, and is copied while that is borrowed.
//! - A null pointer is an error, never looked at.
//! - The client outlives the call: it is borrowed for all of it. The library may be called from any thread.

mod native;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::CString,
    time::Duration,
};

use rdkafka::{ClientContext, client::Client, error::RDKafkaErrorCode};

/// A topic as the brokers know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Another one after the topic was deleted and made again. As Kafka's own tools print it.
    pub id: String,
    pub partitions: u32,
    /// How many brokers keep each record; the lowest of all partitions.
    pub replication: u32,
    /// Partitions that cannot be written to now.
    pub leaderless: u32,
}

/// Why topics could not be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// The request as a whole failed.
    #[error("{reason}")]
    Request { code: RDKafkaErrorCode, reason: String },
    #[error("topic {topic}: {reason}")]
    Topic { topic: String, reason: String },
    /// This user may not know of it.
    #[error("topic {topic} may not be described by this user")]
    Denied { topic: String },
    #[error("`{0}` cannot be the name of a topic")]
    Name(String),
}

/// The topics of these names that are there. Blocks for `timeout` at most.
pub fn describe<C: ClientContext>(
    client: &Client<C>,
    names: &BTreeSet<String>,
    timeout: Duration,
) -> Result<BTreeMap<String, Topic>, Error> {
    let name = |name: &String| match CString::new(name.as_str()) {
        Ok(text) if !text.is_empty() => Ok(text),
        _ => Err(Error::Name(name.clone())),
    };
    let names: Vec<CString> = names.iter().map(name).collect::<Result<_, _>>()?;
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    native::describe(client, &names, timeout)
}
