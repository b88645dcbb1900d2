//! The data directory: who may use it, and what made it.
//!
//! ```text
//! lock          held by the process that writes
//! FORMAT        version of all formats below, numbers of partitions
//! journal/      messages, deliveries, attempts, dedup
//! control/      the same format, for control alone: kept for ever
//! tables.redb   lanes, load
//! ```

use std::{
    io::{ErrorKind, IoSlice},
    path::Path,
    sync::Arc,
};

use super::options::{OpenError, Options};
use crate::disk::{Access, Disk};

const LOCK: &str = "lock";
const FORMAT: &str = "FORMAT";
const VERSION: u32 = 1;
/// No FORMAT file of any version is longer.
const FORMAT_BYTES_MAX: usize = 4_096;

/// Numbers of partitions, fixed at the first start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Partitions {
    pub(super) messages: u32,
    pub(super) deliveries: u32,
}

/// The directory is this process's as long as one of these is there.
pub(super) type DirectoryLock = Arc<dyn Send + Sync>;

/// Takes the lock; `None` for a reader.
pub(super) fn lock(options: &Options) -> Result<Option<DirectoryLock>, OpenError> {
    if options.read_only {
        return Ok(None);
    }
    let directory = &options.data_dir;
    options.disk.create_dir(directory).map_err(|error| OpenError::io(directory, error))?;
    let path = directory.join(LOCK);
    match options.disk.lock(&path) {
        Ok(guard) => Ok(Some(Arc::from(guard))),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(OpenError::Locked(directory.clone())),
        Err(error) => Err(OpenError::io(path, error)),
    }
}

/// Checks FORMAT, or writes it at the first start. Gives the partitions that count.
pub(super) fn check_format(options: &Options) -> Result<Partitions, OpenError> {
    let directory = &options.data_dir;
    let wanted = Partitions { messages: options.message_partitions, deliveries: options.delivery_partitions };
    let Some(text) = read_format(&*options.disk, directory)? else {
        if options.read_only {
            return Err(OpenError::Missing(directory.clone()));
        }
        write_format(&*options.disk, directory, wanted)?;
        return Ok(wanted);
    };
    let found = parse(&text).map_err(|found| OpenError::Version {
        directory: directory.clone(),
        found,
        expected: VERSION,
    })?;
    if options.read_only || found == wanted {
        return Ok(found);
    }
    let show = |of: Partitions| format!("{} message and {} delivery", of.messages, of.deliveries);
    Err(OpenError::Partitions { directory: directory.clone(), found: show(found), wanted: show(wanted) })
}

fn read_format(disk: &dyn Disk, directory: &Path) -> Result<Option<String>, OpenError> {
    let path = directory.join(FORMAT);
    let read = || {
        let file = disk.open(&path, Access::Read)?;
        let mut bytes = vec![0; FORMAT_BYTES_MAX];
        let count = file.read_at(0, &mut bytes)?;
        bytes.truncate(count);
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => Ok(Some(text)),
        Err(error) if ErrorKind::NotFound == std::io::Error::kind(&error) => Ok(None),
        Err(error) => Err(OpenError::io(path, error)),
    }
}

fn write_format(disk: &dyn Disk, directory: &Path, partitions: Partitions) -> Result<(), OpenError> {
    let Partitions { messages, deliveries } = partitions;
    let text = format!("fanfare {VERSION}\nmessages {messages}\ndeliveries {deliveries}\n");
    let (unfinished, path) = (directory.join("FORMAT.unfinished"), directory.join(FORMAT));
    let write = || {
        let file = disk.create(&unfinished)?;
        file.write_at(0, &[IoSlice::new(text.as_bytes())])?;
        file.sync()?;
        disk.rename(&unfinished, &path)?;
        disk.sync_dir(directory)
    };
    write().map_err(|error| OpenError::io(path.clone(), error))
}

/// `Err` tells the version, as far as the text has one.
fn parse(text: &str) -> Result<Partitions, String> {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let version = first.strip_prefix("fanfare ").unwrap_or("unknown");
    let number = |line: Option<&str>, name: &str| line?.strip_prefix(name)?.trim().parse().ok();
    let partitions = || {
        let messages = number(lines.next(), "messages ")?;
        let deliveries = number(lines.next(), "deliveries ")?;
        Some(Partitions { messages, deliveries })
    };
    if version.parse() != Ok(VERSION) {
        return Err(version.to_owned());
    }
    let mut partitions = partitions;
    partitions().ok_or_else(|| format!("{version} (damaged)"))
}
