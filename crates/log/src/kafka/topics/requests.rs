//! Requests to the brokers. Everything here blocks.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    future::Future,
    time::Duration,
};

use fanfare_kafka_topics as native;
use rdkafka::{
    ClientConfig,
    admin::{
        AdminClient, AdminOptions, AlterConfig, ConfigResource, NewTopic, ResourceSpecifier, TopicResult,
    },
    client::DefaultClientContext,
    error::{KafkaError, RDKafkaErrorCode as Code},
};
use tokio::runtime::Handle;

use super::{
    Error,
    reach::{reach, refused},
};
use crate::kafka::{Options, client::words};

/// The first contact, with whoever of the brokers answers.
const CONTACT: Duration = Duration::from_secs(10);
/// One request. A broker that was lost a moment ago may still be the one whom the others name to be asked: then the
/// next try, by a client that knows nothing of it, asks another one.
const REQUEST: Duration = Duration::from_secs(3);
const TRIES: u32 = 5;
/// How long after its creation a topic may take to be known with all its leaders.
pub(super) const APPEARANCE: Duration = Duration::from_secs(15);

type Client = AdminClient<DefaultClientContext>;

pub(super) struct Requests {
    config: ClientConfig,
    client: RefCell<Client>,
    pub(super) brokers: String,
    runtime: Handle,
}

/// Why a request failed.
struct Failure {
    cause: String,
    /// What another try may do.
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Better, at once.
    Passing,
    /// Better, perhaps, later.
    Lasting,
    /// No better, before an operator allows it.
    Denied,
}

impl Requests {
    /// Waits for a broker that answers. To be called within a runtime.
    pub(super) fn connect(options: &Options) -> Result<Self, Error> {
        let brokers = options.brokers.clone();
        let config = options.client_config();
        reach(&config, &brokers, CONTACT)?;
        let client = RefCell::new(create_client(&config, &brokers)?);
        Ok(Self { config, client, brokers, runtime: Handle::current() })
    }

    /// Those of the topics that are there.
    pub(super) fn describe(
        &self,
        names: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, native::Topic>, Error> {
        self.ask(|client| native::describe(client.inner(), names, REQUEST).map_err(Failure::from))
    }

    /// No entries: the broker may not tell, or there is no such topic.
    pub(super) fn settings<'a>(
        &self,
        topics: impl IntoIterator<Item = &'a String>,
    ) -> Result<Vec<ConfigResource>, Error> {
        let topics: Vec<_> = topics.into_iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let resources = self.ask(|client| self.wait(client.describe_configs(&topics, &options())))?;
        let resources: Result<_, Code> = resources.into_iter().collect();
        resources.map_err(|code| self.failed(Failure::from(code)))
    }

    /// What became of each.
    pub(super) fn create(&self, topics: &[NewTopic<'_>]) -> Result<Vec<TopicResult>, Error> {
        let options = options().operation_timeout(Some(REQUEST));
        self.ask(|client| self.wait(client.create_topics(topics, &options)))
    }

    /// What became of each.
    pub(super) fn delete(&self, topics: &[&str]) -> Result<Vec<TopicResult>, Error> {
        let options = options().operation_timeout(Some(REQUEST));
        self.ask(|client| self.wait(client.delete_topics(topics, &options)))
    }

    /// Whether it was done is not told by the client.
    pub(super) fn alter(&self, change: &AlterConfig<'_>) -> Result<(), Error> {
        self.ask(|client| self.wait(client.alter_configs([change], &options()))).map(drop)
    }

    /// Where a partition ends.
    pub(super) fn end(&self, topic: &str, partition: u32) -> Result<i64, Error> {
        let partition = i32::try_from(partition).expect("Kafka's numbers of partitions are of this type");
        let (_, end) = self.ask(|client| {
            client.inner().fetch_watermarks(topic, partition, REQUEST).map_err(Failure::from)
        })?;
        Ok(end)
    }

    pub(super) fn pause(&self, pause: Duration) {
        self.runtime.block_on(tokio::time::sleep(pause));
    }

    fn ask<T>(&self, request: impl Fn(&Client) -> Result<T, Failure>) -> Result<T, Error> {
        for _ in 1..TRIES {
            match request(&self.client.borrow()) {
                Err(failure) if failure.kind == Kind::Passing => {}
                result => return result.map_err(|failure| self.failed(failure)),
            }
            self.client.replace(create_client(&self.config, &self.brokers)?);
        }
        request(&self.client.borrow()).map_err(|failure| self.failed(failure))
    }

    fn wait<T>(&self, answer: impl Future<Output = Result<T, KafkaError>>) -> Result<T, Failure> {
        self.runtime.block_on(answer).map_err(Failure::from)
    }

    fn failed(&self, failure: Failure) -> Error {
        let Failure { cause, kind } = failure;
        let brokers = self.brokers.clone();
        if kind == Kind::Denied { Error::Refused { brokers, cause } } else { Error::Ask { brokers, cause } }
    }
}

fn create_client(config: &ClientConfig, brokers: &str) -> Result<Client, Error> {
    config.create().map_err(|error| refused(brokers, error))
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST))
}

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        match code {
            Code::OperationTimedOut | Code::RequestTimedOut => {
                Self { cause: format!("no answer within {} s", REQUEST.as_secs()), kind: Kind::Passing }
            }
            Code::AllBrokersDown
            | Code::BrokerNotAvailable
            | Code::BrokerTransportFailure
            | Code::LeaderNotAvailable
            | Code::NetworkException
            | Code::NotController
            | Code::NotLeaderForPartition => Self { cause: code.to_string(), kind: Kind::Passing },
            Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
                Self { cause: words(code), kind: Kind::Denied }
            }
            code => Self { cause: code.to_string(), kind: Kind::Lasting },
        }
    }
}

impl From<KafkaError> for Failure {
    fn from(error: KafkaError) -> Self {
        let code = match &error {
            // Forgotten by the function below.
            KafkaError::AdminOp(code) => Some(*code),
            error => error.rdkafka_error_code(),
        };
        code.map_or_else(|| Self { cause: error.to_string(), kind: Kind::Lasting }, Self::from)
    }
}

impl From<native::Error> for Failure {
    fn from(error: native::Error) -> Self {
        match error {
            native::Error::Timeout(_) => Code::OperationTimedOut.into(),
            native::Error::Request { code, .. } => code.into(),
            native::Error::Denied { .. } => Self { cause: error.to_string(), kind: Kind::Denied },
            native::Error::Topic { .. } | native::Error::Name(_) => {
                Self { cause: error.to_string(), kind: Kind::Lasting }
            }
        }
    }
}
