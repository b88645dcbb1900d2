//! The seam to the disk: what the embedded engine asks of a file system, and nothing more.

use std::{fmt, io, io::IoSlice, path::Path, sync::Arc, time::Duration};

mod faulty;
mod real;

pub use faulty::FaultyDisk;
pub use real::RealDisk;

/// A file system.
///
/// # Contract
///
/// - What was written is durable once [`DiskFile::sync`] returned `Ok`, and only then; a failed sync says nothing
///   about any byte written since the last good one, and the next sync does not either.
/// - A file's name is durable once [`Disk::sync_dir`] of its directory returned `Ok`; a rename is atomic.
/// - A file that is open can be read after it was unlinked.
pub trait Disk: Send + Sync + 'static {
    /// Creates a file for reading and writing; empties one that exists.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>>;
    /// Creates a directory with its parents; fine if it exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Names of the files in a directory, in no order.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn unlink(&self, path: &Path) -> io::Result<()>;
    fn sync_dir(&self, directory: &Path) -> io::Result<()>;
    /// Bytes that can still be written below this directory.
    fn free_bytes(&self, directory: &Path) -> io::Result<u64>;
    /// Takes an exclusive lock that lasts until the guard is dropped or the process ends;
    /// [`io::ErrorKind::WouldBlock`] if it is held.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
    /// How long [`super::embedded::Driver::Task`] waits before each sync: virtual time during which a fault can
    /// strike between a write and its sync.
    fn sync_delay(&self) -> Duration {
        Duration::ZERO
    }
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    ReadWrite,
}

/// An open file. All positions are in bytes from its beginning.
pub trait DiskFile: Send + Sync + fmt::Debug + 'static {
    /// Writes all buffers, one behind the other. After an error any part of it may have been written.
    fn write_at(&self, position: u64, buffers: &[IoSlice<'_>]) -> io::Result<()>;
    /// Reads until `buffer` is full or the file ends; gives the number of bytes read.
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Reads as [`DiskFile::read_at`] if that takes no waiting for a device, else fails with `WouldBlock`.
    fn read_at_once(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_at(position, buffer)
    }
    /// Makes the data and the length durable (fdatasync).
    fn sync(&self) -> io::Result<()>;
    /// Writes as [`DiskFile::write_at`] and makes just these bytes durable, in one go where the system can. For room
    /// that was zeroed: there nothing but the bytes themselves has to reach the disk.
    fn write_synced_at(&self, position: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        self.write_at(position, buffers)?;
        self.sync()
    }
    /// Fills room with zeros and makes them durable, so that later writes there change no metadata.
    fn zero(&self, position: u64, size_bytes: u64) -> io::Result<()> {
        self.preallocate(position, size_bytes)
    }
    fn size_bytes(&self) -> io::Result<u64>;
    fn set_size(&self, size_bytes: u64) -> io::Result<()>;
    /// Reserves room, so that writes within it find it and change no length; what was not written reads as zeros.
    fn preallocate(&self, position: u64, size_bytes: u64) -> io::Result<()>;
}

impl dyn DiskFile {
    /// Reads exactly `size_bytes`.
    pub fn read_exact_at(&self, position: u64, size_bytes: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; size_bytes];
        if self.read_at(position, &mut buffer)? < size_bytes {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("file ends before byte {}", position + size_bytes as u64),
            ));
        }
        Ok(buffer)
    }
}

/// Whether an error says that the device is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
