//! The log that a process works on: embedded, or on Kafka.

use std::sync::Arc;

use anyhow::Context as _;
#[cfg(feature = "kafka")]
use fanfare_log::Group;
use fanfare_log::{
    Log,
    embedded::{EmbeddedLog, Options as EmbeddedOptions},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    retry::Retry,
    settings::{Roles, Settings},
    telemetry,
};

#[derive(Clone)]
pub(crate) enum Engine {
    Embedded(Arc<EmbeddedLog>),
    #[cfg(feature = "kafka")]
    Kafka(Arc<fanfare_log::kafka::KafkaLog>),
}

impl Engine {
    pub(crate) async fn open(settings: &Settings, retry: &mut Retry) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&settings.data_dir)
            .with_context(|| format!("cannot create data directory {}", settings.data_dir.display()))?;
        if let Some(kafka) = &settings.kafka {
            return open_kafka(settings, kafka, retry).await;
        }
        let log = EmbeddedLog::open(EmbeddedOptions {
            retention: settings.retention,
            ..EmbeddedOptions::new(
                &settings.data_dir,
                settings.message_partitions,
                settings.delivery_partitions,
            )
        })?;
        telemetry::observe_log(&log);
        Ok(Self::Embedded(log))
    }

    /// For looking only, beside the processes that write; it has as many partitions as are there.
    pub(crate) async fn open_for_reading(settings: &Settings) -> anyhow::Result<Self> {
        match &settings.kafka {
            None => {
                let options = EmbeddedOptions::new(&settings.data_dir, 1, 1);
                let log = EmbeddedLog::open(EmbeddedOptions { read_only: true, ..options })?;
                Ok(Self::Embedded(log))
            }
            #[cfg(feature = "kafka")]
            Some(kafka) => {
                let options = kafka_options(settings, kafka);
                let options = fanfare_log::kafka::Options { read_only: true, ..options };
                Ok(Self::Kafka(fanfare_log::kafka::KafkaLog::open(options).await?))
            }
            #[cfg(not(feature = "kafka"))]
            Some(kafka) => open_kafka(settings, kafka, &mut Retry::within(std::time::Duration::ZERO)).await,
        }
    }

    pub(crate) fn log(&self) -> Arc<dyn Log> {
        match self {
            Self::Embedded(log) => Arc::clone(log) as Arc<dyn Log>,
            #[cfg(feature = "kafka")]
            Self::Kafka(log) => Arc::clone(log) as Arc<dyn Log>,
        }
    }

    /// Whether other processes may work on the same log.
    pub(crate) fn is_shared(&self) -> bool {
        !matches!(self, Self::Embedded(_))
    }

    /// The largest body that may be taken in: what the log stores in one record.
    pub(crate) fn body_bytes(&self) -> usize {
        match self {
            Self::Embedded(_) => usize::MAX,
            #[cfg(feature = "kafka")]
            Self::Kafka(log) => {
                let record = usize::try_from(log.checked().record_bytes).unwrap_or(usize::MAX);
                record.saturating_sub(fanfare_log::kafka::topics::BESIDE_BODY_BYTES)
            }
        }
    }

    /// Whether the log lets these roles do their work now; the error says why not.
    #[cfg_attr(
        not(feature = "kafka"),
        allow(
            unused_variables,
            clippy::unused_self,
            clippy::unnecessary_wraps,
            reason = "as with the feature"
        )
    )]
    pub(crate) fn ready(&self, roles: Roles) -> Result<(), String> {
        match self {
            Self::Embedded(_) => Ok(()),
            #[cfg(feature = "kafka")]
            Self::Kafka(log) => {
                let groups = [(roles.router, Group::Router), (roles.delivery, Group::Delivery)];
                let groups = groups.into_iter().filter_map(|(plays, group)| plays.then_some(group));
                log.ready(&groups.collect::<Vec<_>>())
            }
        }
    }

    /// Resolves when the log cannot be worked on any more, with what an operator has to be told.
    pub(crate) async fn broken(&self) -> String {
        match self {
            Self::Embedded(_) => std::future::pending().await,
            #[cfg(feature = "kafka")]
            Self::Kafka(log) => log.broken().await,
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Embedded(log) => log.close().await,
            #[cfg(feature = "kafka")]
            Self::Kafka(log) => log.close().await,
        }
    }
}

/// Reads the topic whose records become messages, until it is told to stop.
#[cfg(feature = "kafka")]
pub(crate) async fn start_from_topic(
    settings: &Settings,
    engine: &Engine,
    control: fanfare_control::Control,
    ingest: fanfare_ingest::Ingest,
    stop: CancellationToken,
) -> anyhow::Result<Option<JoinHandle<()>>> {
    use fanfare_ingest::from_topic::{FromTopic, Mapping, Options};

    let (Some(wanted), Engine::Kafka(log)) = (&settings.from_topic, engine) else { return Ok(None) };
    let opened = FromTopic::open(Options {
        ingest,
        control,
        log: Arc::clone(log),
        topic: wanted.topic.clone(),
        dead_letters: wanted.dead_letters.clone(),
        mapping: Mapping::parse(&wanted.map).context("from_topic_map")?,
        body_bytes: settings.body_bytes,
    });
    let reading = opened.await.context("from_topic")?;
    Ok(Some(tokio::spawn(reading.run(stop))))
}

#[cfg(not(feature = "kafka"))]
#[allow(clippy::unused_async, reason = "as with the feature")]
pub(crate) async fn start_from_topic(
    _: &Settings,
    _: &Engine,
    _: fanfare_control::Control,
    _: fanfare_ingest::Ingest,
    _: CancellationToken,
) -> anyhow::Result<Option<JoinHandle<()>>> {
    Ok(None)
}

#[cfg(feature = "kafka")]
pub(crate) fn kafka_options(
    settings: &Settings,
    kafka: &crate::settings::Kafka,
) -> fanfare_log::kafka::Options {
    fanfare_log::kafka::Options {
        prefix: kafka.prefix.clone(),
        replication: kafka.replication,
        retention: settings.retention,
        body_bytes: settings.body_bytes,
        properties: kafka.properties.clone(),
        ..fanfare_log::kafka::Options::new(
            &kafka.brokers,
            settings.message_partitions,
            settings.delivery_partitions,
        )
    }
}

#[cfg(feature = "kafka")]
async fn open_kafka(
    settings: &Settings,
    kafka: &crate::settings::Kafka,
    retry: &mut Retry,
) -> anyhow::Result<Engine> {
    use fanfare_log::kafka::{KafkaLog, topics::Level};

    let mut options = kafka_options(settings, kafka);
    loop {
        let opened = match recorded(&options).await {
            Ok(recorded) => {
                options.recorded = recorded;
                KafkaLog::open(options.clone()).await.map_err(Unopened::Log)
            }
            Err(error) => Err(error),
        };
        match opened {
            Ok(log) => {
                for warning in log.checked().report.of(Level::Warning) {
                    tracing::warn!("{warning}");
                }
                telemetry::observe_kafka(&log);
                return Ok(Engine::Kafka(log));
            }
            Err(error) if error.is_retryable() && retry.again(&error).await => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Why there is no log on Kafka to work on.
#[cfg(feature = "kafka")]
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unopened {
    #[error(transparent)]
    Log(#[from] fanfare_log::kafka::OpenError),
    #[error("cannot read record 0 of `control`: {0}")]
    Record(#[from] fanfare_control::RecordError),
}

#[cfg(feature = "kafka")]
impl Unopened {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Log(error) if error.is_retryable())
    }
}

/// What the installation was made with, if it is there already.
#[cfg(feature = "kafka")]
pub(crate) async fn recorded(
    options: &fanfare_log::kafka::Options,
) -> Result<Option<fanfare_log::kafka::topics::Recorded>, Unopened> {
    use fanfare_control::{Command, Envelope, RecordError};
    use fanfare_log::kafka::{OpenError, topics};

    let first = topics::first_of_control(options).await.map_err(OpenError::Topics)?;
    let Some(first) = first else { return Ok(None) };
    let Command::Install(installation) = Envelope::decode(&first)?.command else {
        return Err(RecordError::NotInstalled.into());
    };
    Ok(Some(topics::Recorded {
        incarnations: installation.incarnations,
        message_partitions: installation.message_partitions,
        delivery_partitions: installation.delivery_partitions,
    }))
}

#[cfg(not(feature = "kafka"))]
#[allow(clippy::unused_async, reason = "as with the feature")]
async fn open_kafka(_: &Settings, _: &crate::settings::Kafka, _: &mut Retry) -> anyhow::Result<Engine> {
    anyhow::bail!("kafka: this program was built without the feature `kafka`")
}
