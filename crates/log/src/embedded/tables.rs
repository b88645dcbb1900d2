//! The compacted topics: a small key-value store beside the journal.
//!
//! A commit says up to where the journal was durable before it. At the next start that must still be so: tables
//! ahead of the journal would speak of records that do not exist.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use fanfare_core::Partition;
use parking_lot::RwLock;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    backend::{CopyBackend, FileBackend},
    directory::DirectoryLock,
    journal::Journal,
    options::OpenError,
};
use crate::{
    contract::{AppendError, ReadError, Table},
    disk::{Access, Disk},
};

type Definition = TableDefinition<'static, (u32, &'static [u8]), &'static [u8]>;

pub(super) type WipingKey = (u8, u32, u64);

const META: TableDefinition<'static, &'static str, u64> = TableDefinition::new("meta");
const MAIN: &str = "journal";
const CONTROL: &str = "control";
/// Payloads that are being overwritten: code of the topic, partition, offset.
const WIPING: TableDefinition<'static, WipingKey, ()> = TableDefinition::new("wiping");
pub(super) const FILE: &str = "tables.redb";
/// Puts within this time share a commit.
const GATHER: Duration = Duration::from_millis(10);
const PUTS_PER_COMMIT: usize = 256;
const CACHE_BYTES: usize = 16 << 20;
/// Beside a process that writes, a copy may be torn.
const COPY_TRIES: usize = 5;

const fn definition(table: Table) -> Definition {
    TableDefinition::new(table.as_str())
}

/// How far the journals were durable.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Covered {
    pub(super) main: u64,
    pub(super) control: u64,
}

pub(super) struct Tables {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    read_only: bool,
    /// `None` after a failure, until it could be opened again.
    database: RwLock<Option<Arc<Database>>>,
}

/// Entries to be written together.
pub(super) struct Put {
    pub(super) table: Table,
    pub(super) partition: Partition,
    pub(super) entries: Vec<(Bytes, Option<Bytes>)>,
    pub(super) done: oneshot::Sender<Result<(), AppendError>>,
}

impl Tables {
    pub(super) fn open(disk: Arc<dyn Disk>, data_dir: &Path, read_only: bool) -> Result<Self, OpenError> {
        let path = data_dir.join(FILE);
        let database =
            if read_only { open_copy(&*disk, &path) } else { Some(open_database(&*disk, data_dir, &path)?) };
        Ok(Self { path, disk, read_only, database: RwLock::new(database.map(Arc::new)) })
    }

    pub(super) fn covered(&self) -> Result<Covered, OpenError> {
        let Some(database) = self.database.read().clone() else { return Ok(Covered::default()) };
        let read = || -> Result<Covered, redb::Error> {
            let transaction = database.begin_read()?;
            let meta = match transaction.open_table(META) {
                Ok(meta) => meta,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Covered::default()),
                Err(error) => return Err(error.into()),
            };
            let get = |key| Ok::<_, redb::Error>(meta.get(key)?.map_or(0, |value| value.value()));
            Ok(Covered { main: get(MAIN)?, control: get(CONTROL)? })
        };
        read().map_err(|error| OpenError::Tables(error.to_string()))
    }

    /// Blocks on the disk.
    pub(super) fn scan(&self, table: Table, partition: Partition) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        let database = self.database.read().clone();
        let database = match database {
            Some(database) => database,
            None if self.read_only => {
                return Err(ReadError::Unavailable("the tables cannot be read now".to_owned()));
            }
            // A worker that starts again reads before anybody writes.
            None => self.reopened().map_err(|error| ReadError::Unavailable(error.to_string()))?,
        };
        let read = || -> Result<Vec<(Bytes, Bytes)>, redb::Error> {
            let transaction = database.begin_read()?;
            let table = match transaction.open_table(definition(table)) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let empty: &[u8] = &[];
            let mut entries = Vec::new();
            for entry in table.range((partition.0, empty)..(partition.0 + 1, empty))? {
                let (key, value) = entry?;
                let key = Bytes::copy_from_slice(key.value().1);
                entries.push((key, Bytes::copy_from_slice(value.value())));
            }
            Ok(entries)
        };
        read().map_err(|error| ReadError::Unavailable(error.to_string()))
    }

    fn commit(&self, puts: &[Put], covered: Covered) -> Result<(), redb::Error> {
        let database = self.reopened()?;
        let mut transaction = database.begin_write()?;
        // Without it a kill costs a walk over the whole file at the next start.
        transaction.set_quick_repair(true);
        for put in puts {
            let mut table = transaction.open_table(definition(put.table))?;
            for (key, value) in &put.entries {
                let key = (put.partition.0, &key[..]);
                match value {
                    Some(value) => drop(table.insert(key, &value[..])?),
                    None => drop(table.remove(key)?),
                }
            }
        }
        {
            let mut meta = transaction.open_table(META)?;
            meta.insert(MAIN, covered.main)?;
            meta.insert(CONTROL, covered.control)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Payloads that were being overwritten when the former life ended, or had just been.
    pub(super) fn wiping(&self) -> Result<Vec<WipingKey>, OpenError> {
        let Some(database) = self.database.read().clone() else { return Ok(Vec::new()) };
        let read = || -> Result<Vec<WipingKey>, redb::Error> {
            let transaction = database.begin_read()?;
            let wiping = match transaction.open_table(WIPING) {
                Ok(wiping) => wiping,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let mut keys = Vec::new();
            for entry in wiping.iter()? {
                keys.push(entry?.0.value());
            }
            Ok(keys)
        };
        read().map_err(|error| OpenError::Tables(error.to_string()))
    }

    /// Notes payloads before they are overwritten, durably, and lets go of some that were. Blocks on the disk.
    pub(super) fn note_wiping(&self, begun: &[WipingKey], ended: &[WipingKey]) -> Result<(), AppendError> {
        let write = || -> Result<(), redb::Error> {
            let database = self.reopened()?;
            let mut transaction = database.begin_write()?;
            transaction.set_quick_repair(true);
            {
                let mut wiping = transaction.open_table(WIPING)?;
                for key in ended {
                    wiping.remove(key)?;
                }
                for key in begun {
                    wiping.insert(key, ())?;
                }
            }
            transaction.commit()?;
            Ok(())
        };
        write().map_err(|error| {
            tracing::warn!(%error, "tables not written");
            self.distrust();
            append_error(&error, Table::Lanes)
        })
    }

    /// After an input/output error redb does nothing more until it is opened again.
    fn reopened(&self) -> Result<Arc<Database>, redb::Error> {
        let mut database = self.database.write();
        if let Some(database) = &*database {
            return Ok(database.clone());
        }
        let file = self.disk.open(&self.path, Access::ReadWrite).map_err(redb::StorageError::from)?;
        let opened = Arc::new(builder().create_with_backend(FileBackend(file))?);
        *database = Some(opened.clone());
        Ok(opened)
    }

    fn distrust(&self) {
        *self.database.write() = None;
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn open_database(disk: &dyn Disk, data_dir: &Path, path: &Path) -> Result<Database, OpenError> {
    let file = match disk.open(path, Access::ReadWrite) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let file = disk.create(path).map_err(|error| OpenError::io(path, error))?;
            disk.sync_dir(data_dir).map_err(|error| OpenError::io(data_dir, error))?;
            file
        }
        Err(error) => return Err(OpenError::io(path, error)),
    };
    builder().create_with_backend(FileBackend(file)).map_err(|error| match error {
        redb::DatabaseError::Storage(redb::StorageError::Io(error)) => OpenError::io(path, error),
        error => OpenError::Tables(error.to_string()),
    })
}

fn open_copy(disk: &dyn Disk, path: &Path) -> Option<Database> {
    for _ in 0..COPY_TRIES {
        let copy = disk.open(path, Access::Read).and_then(|file| CopyBackend::of(&*file)).ok()?;
        if let Ok(database) = builder().create_with_backend(copy) {
            return Some(database);
        }
    }
    None
}

/// Writes what comes through the channel until its senders are gone.
pub(super) struct TableWriter {
    pub(super) tables: Arc<Tables>,
    pub(super) main: Arc<Journal>,
    pub(super) control: Arc<Journal>,
    pub(super) puts: mpsc::Receiver<Put>,
    pub(super) ended: watch::Sender<bool>,
    pub(super) lock: DirectoryLock,
}

impl TableWriter {
    pub(super) fn spawn_thread(mut self) -> std::io::Result<()> {
        let run = move || {
            while let Some(put) = self.puts.blocking_recv() {
                std::thread::park_timeout(GATHER);
                self.commit(put);
            }
            self.end();
        };
        std::thread::Builder::new().name("fanfare-tables".to_owned()).spawn(run).map(drop)
    }

    pub(super) fn spawn_task(mut self) {
        tokio::spawn(async move {
            while let Some(put) = self.puts.recv().await {
                tokio::time::sleep(GATHER).await;
                self.commit(put);
            }
            self.end();
        });
    }

    fn commit(&mut self, first: Put) {
        let mut puts = vec![first];
        while puts.len() < PUTS_PER_COMMIT
            && let Ok(put) = self.puts.try_recv()
        {
            puts.push(put);
        }
        let covered = Covered { main: self.main.synced_position(), control: self.control.synced_position() };
        let result = match self.tables.commit(&puts, covered) {
            Ok(()) => {
                self.main.counters.table_commits.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "tables not written");
                self.tables.distrust();
                Err(append_error(&error, puts[0].table))
            }
        };
        for put in puts {
            let _ = put.done.send(result.clone());
        }
    }

    fn end(self) {
        let Self { tables, lock, ended, .. } = self;
        tables.distrust();
        drop(tables);
        drop(lock);
        ended.send_replace(true);
    }
}

fn append_error(error: &redb::Error, table: Table) -> AppendError {
    match error {
        redb::Error::Io(error) if crate::disk::is_full(error) => AppendError::Full { topic: table.as_str() },
        error => AppendError::Unavailable(error.to_string()),
    }
}
