//! Reading `control` from its first record, and writing that record.

use fanfare_core::{Id, Offset, Partition, limits};
use fanfare_log::{Log, NewRecord, ReadError, Sync, Topic};

use crate::{
    access::{Actor, Origin},
    command::{Command, Envelope},
    error::{OpenError, RecordError},
    handle::Options,
    model::Installation,
    view::View,
};

/// The one partition of `control`.
pub(crate) const PARTITION: Partition = Partition(0);

/// What one read of `control` gave.
pub(crate) struct Run {
    pub(crate) records: Vec<(Offset, Envelope)>,
    /// Where the reader stands behind them.
    pub(crate) position: Offset,
    /// There was no more to read.
    pub(crate) at_end: bool,
}

/// Why a run could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("cannot read `control`: {0}")]
    Read(#[from] ReadError),
    #[error("cannot read record {offset} of `control`: {error}")]
    Record { offset: Offset, error: RecordError },
}

impl From<RunError> for OpenError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Read(error) => Self::Read(error),
            RunError::Record { offset, error } => Self::Record { offset, error },
        }
    }
}

/// Reads on from `from`, bounded; at the end it gives nothing.
pub(crate) async fn read_run(log: &dyn Log, from: Offset) -> Result<Run, RunError> {
    let end = log.bounds(Topic::Control, PARTITION).await?.end;
    if from >= end {
        return Ok(Run { records: Vec::new(), position: from, at_end: true });
    }
    let batch = log.fetch(Topic::Control, PARTITION, from, limits::CONTROL_RUN_BYTES).await?;
    if batch.records.is_empty() {
        // No record is readable at or above `from`: what lies below the end are offsets that were never used.
        return Ok(Run { records: Vec::new(), position: batch.next.max(end), at_end: true });
    }
    let mut records = Vec::with_capacity(batch.records.len());
    for record in &batch.records {
        let envelope = Envelope::decode(&record.head)
            .map_err(|error| RunError::Record { offset: record.offset, error })?;
        records.push((record.offset, envelope));
    }
    Ok(Run { records, position: batch.next, at_end: batch.next >= end })
}

/// Folds `control` to its present end. Writes nothing: for those who only look.
pub async fn replay(log: &dyn Log) -> Result<View, OpenError> {
    let mut view = View::default();
    catch_up(log, &mut view).await?;
    Ok(view)
}

async fn catch_up(log: &dyn Log, view: &mut View) -> Result<(), RunError> {
    loop {
        let run = read_run(log, view.position()).await?;
        for (offset, envelope) in &run.records {
            if view.installation().is_none() && !matches!(envelope.command, Command::Install(_)) {
                return Err(RunError::Record { offset: *offset, error: RecordError::NotInstalled });
            }
            // A refusal was answered when the command was given.
            let _ = view.apply(*offset, envelope);
        }
        view.pass(run.position);
        if run.at_end {
            return Ok(());
        }
    }
}

/// Folds `control`; if nothing is there, makes this installation first. Checks that it is the one that
/// `options` mean.
pub(crate) async fn install_or_check(log: &dyn Log, options: &Options) -> Result<View, OpenError> {
    let mut view = replay(log).await?;
    if view.installation().is_none()
        && let Some(holding) = first_with_records(log).await?
    {
        // Another process may have been faster, and begun to work.
        catch_up(log, &mut view).await?;
        if view.installation().is_none() {
            return Err(OpenError::ControlLost { holding: holding.as_str() });
        }
    }
    if view.installation().is_none() {
        let envelope = installation_record(log, options);
        let record = NewRecord::head(envelope.encode());
        let pending = log.append(Topic::Control, PARTITION, vec![record], Sync::Now).await?;
        pending.await?;
        // Another process may have been faster: then its record counts and ours is refused.
        catch_up(log, &mut view).await?;
    }
    let installation = view.installation().expect("a record that installs was synced and read");
    check(installation, options)?;
    Ok(view)
}

/// A topic, beside `control`, that has or once had a record.
async fn first_with_records(log: &dyn Log) -> Result<Option<Topic>, ReadError> {
    for topic in Topic::ALL.into_iter().filter(|topic| *topic != Topic::Control) {
        for partition in (0..log.partitions(topic)).map(Partition) {
            if log.bounds(topic, partition).await?.end > Offset::ZERO {
                return Ok(Some(topic));
            }
        }
    }
    Ok(None)
}

fn installation_record(log: &dyn Log, options: &Options) -> Envelope {
    let (now, entropy) = (options.clock.now(), &*options.entropy);
    Envelope {
        at: now,
        nonce: entropy.u64(),
        key: None,
        origin: Some(Origin { organization: None, by: Actor::Fanfare, from: None }),
        command: Command::Install(Installation {
            id: Id::mint(now, entropy.bytes()),
            incarnations: log.incarnations(),
            message_partitions: options.message_partitions,
            delivery_partitions: options.delivery_partitions,
            secret_check: options.main_secret.check_value(),
        }),
    }
}

fn check(installation: &Installation, options: &Options) -> Result<(), OpenError> {
    if installation.secret_check != options.main_secret.check_value() {
        return Err(OpenError::OtherSecret { installation: installation.id.to_string() });
    }
    let counts = [
        (Topic::Messages, options.message_partitions, installation.message_partitions),
        (Topic::Deliveries, options.delivery_partitions, installation.delivery_partitions),
    ];
    for (topic, given, installed) in counts {
        if given != installed {
            return Err(OpenError::PartitionCount { topic: topic.as_str(), given, installed });
        }
    }
    Ok(())
}
