//! Puts redb on the disk seam.

use std::{
    io::{self, IoSlice},
    sync::Arc,
};

use parking_lot::Mutex;
use redb::StorageBackend;

use crate::disk::DiskFile;

/// A file of the log's disk.
#[derive(Debug)]
pub(super) struct FileBackend(pub(super) Arc<dyn DiskFile>);

impl StorageBackend for FileBackend {
    fn len(&self) -> io::Result<u64> {
        self.0.size_bytes()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.0.read_at(offset, out)? < out.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_size(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, &[IoSlice::new(data)])
    }
}

/// A copy in memory, which may be repaired without touching the file.
#[derive(Debug)]
pub(super) struct CopyBackend(Mutex<Vec<u8>>);

impl CopyBackend {
    pub(super) fn of(file: &dyn DiskFile) -> io::Result<Self> {
        let size = usize::try_from(file.size_bytes()?).map_err(io::Error::other)?;
        let mut bytes = vec![0; size];
        let count = file.read_at(0, &mut bytes)?;
        bytes.truncate(count);
        Ok(Self(Mutex::new(bytes)))
    }
}

impl StorageBackend for CopyBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.lock();
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let found = bytes.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let mut bytes = self.0.lock();
        if bytes.len() < start + data.len() {
            bytes.resize(start + data.len(), 0);
        }
        bytes[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}
