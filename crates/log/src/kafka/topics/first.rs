//! The first record of a topic that is kept for ever.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};

use super::{Error, reach::refused};
use crate::kafka::record;

/// It is there: only a broker that does not answer takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Its head.
pub(super) fn read(config: &ClientConfig, brokers: String, topic: &str) -> Result<Bytes, Error> {
    let consumer: BaseConsumer = config.create().map_err(|error| refused(&brokers, error))?;
    let failed = |cause: String| Error::First { brokers: brokers.clone(), topic: topic.to_owned(), cause };
    let mut place = TopicPartitionList::new();
    let from = place.add_partition_offset(topic, 0, Offset::Beginning);
    from.and_then(|()| consumer.assign(&place)).map_err(|error| failed(error.to_string()))?;
    #[allow(clippy::disallowed_methods, reason = "how long a broker is waited for is no part of any state")]
    let deadline = Instant::now() + PATIENCE;
    let mut cause = format!("no answer within {} s", PATIENCE.as_secs());
    #[allow(clippy::disallowed_methods, reason = "as above")]
    while Instant::now() < deadline {
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Err(error)) => cause = error.to_string(),
            Some(Ok(message)) => {
                let value = Bytes::copy_from_slice(message.payload().unwrap_or_default());
                return record::decode(&value)
                    .map(|(head, _)| head)
                    .map_err(|error| failed(error.to_string()));
            }
        }
    }
    Err(Error::Ask { brokers, cause })
}
