//! The machine's file system.

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice, IoSliceMut},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use rustix::{
    fs::{FallocateFlags, FlockOperation},
    io::{Errno, ReadWriteFlags},
};

use super::{Access, Disk, DiskFile};

/// Buffers handed to the kernel with one call; it takes 1,024 at most.
const BUFFERS_PER_CALL: usize = 1_024;

/// Zeros written with one call.
const ZEROS_PER_CALL: usize = 1 << 20;

/// Files hold customers' payloads: nobody else reads them.
const MODE: u32 = 0o600;

#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile(File);

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(MODE).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(access == Access::ReadWrite).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        Ok(rustix::fs::fsync(File::open(directory)?)?)
    }

    fn free_bytes(&self, directory: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(directory)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(MODE).open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }
}

impl DiskFile for RealFile {
    fn write_at(&self, position: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        self.write_all(position, buffers, ReadWriteFlags::empty())
    }

    fn write_synced_at(&self, position: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        self.write_all(position, buffers, ReadWriteFlags::DSYNC)
    }

    fn zero(&self, position: u64, size_bytes: u64) -> io::Result<()> {
        let zeros = vec![0; ZEROS_PER_CALL.min(usize::try_from(size_bytes).unwrap_or(ZEROS_PER_CALL))];
        let end = position + size_bytes;
        let mut at = position;
        while at < end {
            let count = zeros.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
            self.0.write_all_at(&zeros[..count], at)?;
            at += count as u64;
        }
        self.sync()
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn read_at_once(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len();
        let mut slices = [IoSliceMut::new(buffer)];
        match rustix::io::preadv2(&self.0, &mut slices, position, ReadWriteFlags::NOWAIT) {
            Ok(count) if count == wanted => Ok(count),
            // Short: the rest is not in memory, or the file ends.
            Ok(_) | Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INTR) => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.0)?)
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_size(&self, size_bytes: u64) -> io::Result<()> {
        self.0.set_len(size_bytes)
    }

    fn preallocate(&self, position: u64, size_bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), position, size_bytes) {
            // A file system that cannot reserve room still takes the writes.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            result => Ok(result?),
        }
    }
}

impl RealFile {
    fn write_all(&self, mut position: u64, buffers: &[IoSlice<'_>], flags: ReadWriteFlags) -> io::Result<()> {
        let mut rest = buffers;
        while !rest.is_empty() {
            let (call, later) = rest.split_at(rest.len().min(BUFFERS_PER_CALL));
            let size_bytes: usize = call.iter().map(|buffer| buffer.len()).sum();
            let written = match rustix::io::pwritev2(&self.0, call, position, flags) {
                Ok(written) => written,
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if written < size_bytes {
                self.write_rest(position, call, written)?;
                if flags.contains(ReadWriteFlags::DSYNC) {
                    self.sync()?;
                }
            }
            position += size_bytes as u64;
            rest = later;
        }
        Ok(())
    }

    /// The kernel took a part only: the rest buffer by buffer.
    fn write_rest(&self, position: u64, buffers: &[IoSlice<'_>], written: usize) -> io::Result<()> {
        let mut before = 0;
        for buffer in buffers {
            let done = written.saturating_sub(before).min(buffer.len());
            self.0.write_all_at(&buffer[done..], position + (before + done) as u64)?;
            before += buffer.len();
        }
        Ok(())
    }
}
