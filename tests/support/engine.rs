//! The engines that one test runs on.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

/// Where an installation keeps its log.
#[derive(Clone, Debug)]
pub(crate) enum Engine {
    Embedded,
    Kafka(Arc<Topics>),
}

/// Topics of its own.
#[derive(Debug)]
pub(crate) struct Topics {
    pub(crate) brokers: String,
    pub(crate) prefix: String,
}

impl Engine {
    /// On the broker that all tests share.
    pub(crate) fn kafka() -> Self {
        Self::kafka_at(fanfare_testkit::kafka::shared())
    }

    pub(crate) fn kafka_at(brokers: &str) -> Self {
        let prefix = format!("e2e-{:016x}.", RandomState::new().hash_one("installation"));
        Self::Kafka(Arc::new(Topics { brokers: brokers.to_owned(), prefix }))
    }

    /// The same engine for another installation.
    pub(crate) fn another(&self) -> Self {
        match self {
            Self::Embedded => Self::Embedded,
            Self::Kafka(topics) => Self::kafka_at(&topics.brokers),
        }
    }

    pub(crate) fn is_kafka(&self) -> bool {
        matches!(self, Self::Kafka(_))
    }
}

/// Instantiates test functions, each of which takes its engine, once for every engine: under the same names, in modules
/// that are called as the engines. `cargo xtask test` compares them.
#[allow(unused_macros, reason = "of the end-to-end tests")]
macro_rules! on_every_engine {
    ($($test:ident),+ $(,)?) => {
        mod embedded {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    Box::pin(super::$test(crate::support::Engine::Embedded)).await;
                }
            )+
        }

        mod kafka {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    Box::pin(super::$test(crate::support::Engine::kafka())).await;
                }
            )+
        }
    };
}

pub(crate) use on_every_engine;
