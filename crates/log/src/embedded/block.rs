//! A part of a file in memory, moved along as it is read.

use std::{cell::Cell, io, sync::Arc};

use crate::disk::DiskFile;

/// The first read of a block; it doubles from one to the next.
const BLOCK_BYTES: usize = 16 << 10;
const BLOCK_BYTES_MAX: usize = 256 << 10;

thread_local! {
    /// The memory of this thread's last block. Reads are many and short: new memory for each would cost more than what
    /// is read into it.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

pub(super) struct Block {
    file: Arc<dyn DiskFile>,
    /// Of this only the first `filled` bytes are the file's.
    bytes: Vec<u8>,
    filled: usize,
    begin: u64,
    read_bytes: usize,
    read_bytes_max: usize,
    /// Nothing behind this place is wanted, as far as is known.
    pub(super) useful_to: u64,
    /// Fail rather than wait for the disk.
    pub(super) at_once: bool,
}

impl Block {
    pub(super) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self {
            file,
            bytes: SPARE.take(),
            filled: 0,
            begin: 0,
            read_bytes: BLOCK_BYTES,
            read_bytes_max: BLOCK_BYTES_MAX,
            useful_to: u64::MAX,
            at_once: false,
        }
    }

    /// For reading headers only: reads do not grow, so that most payloads are skipped.
    pub(super) fn steady(file: Arc<dyn DiskFile>) -> Self {
        let mut block = Self::new(file);
        block.read_bytes_max = BLOCK_BYTES;
        block
    }

    /// `length` bytes at a place in the file; `UnexpectedEof` if it ends before.
    pub(super) fn get(&mut self, at: u64, length: usize) -> io::Result<&[u8]> {
        let end = self.begin + self.filled as u64;
        if at < self.begin || at + length as u64 > end {
            self.fill(at, length)?;
        }
        let start = usize::try_from(at - self.begin).expect("within memory");
        let filled = &self.bytes[..self.filled];
        filled.get(start..start + length).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn fill(&mut self, at: u64, length: usize) -> io::Result<()> {
        let useful = usize::try_from(self.useful_to.saturating_sub(at)).unwrap_or(usize::MAX);
        let wanted = length.max(self.read_bytes.min(useful));
        if self.bytes.len() < wanted {
            self.bytes.resize(wanted, 0);
        }
        self.filled = 0;
        self.begin = at;
        self.read_bytes = (self.read_bytes * 2).min(self.read_bytes_max);
        let buffer = &mut self.bytes[..wanted];
        self.filled =
            if self.at_once { self.file.read_at_once(at, buffer)? } else { self.file.read_at(at, buffer)? };
        Ok(())
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.bytes.capacity() <= BLOCK_BYTES_MAX {
            SPARE.set(std::mem::take(&mut self.bytes));
        }
    }
}
