//! Why topics could not be asked for, made, changed or removed.

use super::requests::APPEARANCE;

/// Each prints as one line for an operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("Kafka setting {setting} is refused: {cause}")]
    Setting { setting: String, cause: String },
    #[error("Kafka at {brokers} cannot be asked for topics: {cause}")]
    Ask { brokers: String, cause: String },
    /// It knows who asks, or not; another try gets the same answer.
    #[error("Kafka at {brokers} refuses this user: {cause}")]
    Refused { brokers: String, cause: String },
    #[error("Kafka at {brokers} tells no settings of topic {topic}: allow DescribeConfigs on it")]
    Hidden { brokers: String, topic: String },
    #[error("Kafka at {brokers} does not create topic {topic}: {cause}")]
    Create { brokers: String, topic: String, cause: String },
    #[error("Kafka at {brokers} does not delete topic {topic}: {cause}")]
    Delete { brokers: String, topic: String, cause: String },
    #[error("Kafka at {brokers} created {topics}, but they do not appear within {} s", APPEARANCE.as_secs())]
    NotSeen { brokers: String, topics: String },
    #[error("Kafka at {brokers} does not change {setting} of topic {topic}: allow AlterConfigs on it")]
    Unchanged { brokers: String, topic: String, setting: &'static str },
    #[error("Kafka at {brokers} does not give the first record of topic {topic}: {cause}")]
    First { brokers: String, topic: String, cause: String },
    /// Part of an installation is gone.
    #[error(
        "missing on Kafka: {missing}, while {holding} holds records: topics of this installation were deleted, and \
         their records are gone; begin a new installation with another prefix (only `load` may be made anew: \
         `fanfare topics apply`)"
    )]
    Gap { missing: String, holding: String },
    #[error("Kafka at {brokers} has no topic {topic}: make it first, or name another one")]
    NoTopic { brokers: String, topic: String },
    #[error("topic {0} is one of this installation's own: name one of your producers' topics")]
    Own(String),
}
