//! Writing a run: claims come sorted, the file appears whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use fanfare_core::{ClaimEntry, Offset, Timestamp};

use super::{
    bloom::Bloom,
    format::{BLOCK_BYTES, Block, CLAIMS_PER_PAGE, Header, Owner, put_claim, seal_page},
    run::{Run, name_of},
};

/// A large run is synced in steps, so that the journal's own syncs never wait behind all of it.
const SYNC_BYTES: usize = 4 << 20;

pub(super) struct RunWriter {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    owner: Owner,
    numbers: (u64, u64),
    page: Block,
    in_page: usize,
    index: Vec<u64>,
    filter: Bloom,
    claims: u64,
    lapses_at: Timestamp,
    unsynced_bytes: usize,
}

impl RunWriter {
    /// Begins the run of the seals `numbers.0..=numbers.1`, with at most so many claims.
    pub(super) fn create(dir: &Path, owner: Owner, numbers: (u64, u64), at_most: u64) -> io::Result<Self> {
        let path = dir.join(name_of(numbers.0, numbers.1));
        let temporary = path.with_extension("tmp");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&temporary)?;
        let mut file = BufWriter::with_capacity(16 * BLOCK_BYTES, file);
        // The header is written last: it states what came behind it.
        file.write_all(&[0; BLOCK_BYTES])?;
        Ok(Self {
            path,
            temporary,
            file,
            owner,
            numbers,
            page: [0; BLOCK_BYTES],
            in_page: 0,
            index: Vec::new(),
            filter: Bloom::for_claims(at_most),
            claims: 0,
            lapses_at: Timestamp::from_micros(i64::MIN),
            unsynced_bytes: 0,
        })
    }

    /// Adds a claim; it sorts after the one before it.
    pub(super) fn push(&mut self, entry: &ClaimEntry) -> io::Result<()> {
        if self.in_page == CLAIMS_PER_PAGE {
            self.write_page()?;
        }
        if self.in_page == 0 {
            self.index.push(entry.claim.short());
        }
        put_claim(&mut self.page, self.in_page, entry);
        self.in_page += 1;
        self.claims += 1;
        self.filter.insert(entry.claim);
        self.lapses_at = self.lapses_at.max(entry.expires_at);
        Ok(())
    }

    /// Makes the run durable under its name.
    pub(super) fn finish(mut self, oldest: u64, covered: Offset) -> io::Result<Run> {
        if self.in_page > 0 {
            self.write_page()?;
        }
        let mut crc = crc32fast::Hasher::new();
        for word in self.index.iter().chain(self.filter.words()) {
            let bytes = word.to_be_bytes();
            crc.update(&bytes);
            self.file.write_all(&bytes)?;
        }
        let header = Header {
            owner: self.owner,
            first: self.numbers.0,
            last: self.numbers.1,
            oldest,
            covered,
            lapses_at: self.lapses_at,
            claims: self.claims,
            pages: self.index.len() as u64,
            filter_words: self.filter.words().len() as u64,
            tail_crc: crc.finalize(),
        };
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.write_all_at(&header.encode(), 0)?;
        file.sync_all()?;
        fs::rename(&self.temporary, &self.path)?;
        sync_directory(&self.path)?;
        Ok(Run::new(self.path, header, file, self.index.into_boxed_slice(), self.filter))
    }

    fn write_page(&mut self) -> io::Result<()> {
        seal_page(&mut self.page, self.in_page);
        self.file.write_all(&self.page)?;
        self.page = [0; BLOCK_BYTES];
        self.in_page = 0;
        self.unsynced_bytes += BLOCK_BYTES;
        if self.unsynced_bytes >= SYNC_BYTES {
            self.unsynced_bytes = 0;
            self.file.flush()?;
            self.file.get_ref().sync_data()?;
        }
        Ok(())
    }
}

fn sync_directory(file: &Path) -> io::Result<()> {
    File::open(file.parent().expect("a run lies in a directory"))?.sync_all()
}
