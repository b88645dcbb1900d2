//! A sealed run: opening, asking, reading through.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use fanfare_core::{ClaimEntry, Fingerprint};

use super::{
    Error,
    bloom::Bloom,
    format::{BLOCK_BYTES, Block, Header, claim_of, claims_of, open_page, read_claim},
};

/// Pages per read of one run that is being merged.
const PAGES_PER_READ: usize = 16;

/// An immutable sorted file of claims. In memory stand its filter and the first fingerprint of each page.
pub(super) struct Run {
    pub(super) path: PathBuf,
    pub(super) header: Header,
    file: File,
    index: Box<[u64]>,
    filter: Bloom,
}

impl Run {
    pub(super) fn new(path: PathBuf, header: Header, file: File, index: Box<[u64]>, filter: Bloom) -> Self {
        Self { path, header, file, index, filter }
    }

    pub(super) fn open(path: PathBuf) -> Result<Self, Error> {
        let io_error = |source| Error::Io { path: path.clone(), source };
        let damaged = |what| Error::Damaged { path: path.clone(), what };
        let file = File::open(&path).map_err(io_error)?;
        let length = file.metadata().map_err(io_error)?.len();
        if length < BLOCK_BYTES as u64 {
            return Err(damaged("shorter than its header"));
        }
        let mut block = [0; BLOCK_BYTES];
        file.read_exact_at(&mut block, 0).map_err(io_error)?;
        let header = Header::decode(&block).ok_or_else(|| damaged("header"))?;
        if header.file_bytes() != Some(length) {
            return Err(damaged("length"));
        }

        let (index_at, filter_at) = tail_places(&header);
        let mut crc = crc32fast::Hasher::new();
        let index = read_words(&file, index_at, header.pages, &mut crc).map_err(io_error)?;
        let filter = read_words(&file, filter_at, header.filter_words, &mut crc).map_err(io_error)?;
        if crc.finalize() != header.tail_crc {
            return Err(damaged("index or filter"));
        }
        let filter = Bloom::from_words(filter).ok_or_else(|| damaged("filter"))?;
        Ok(Self { path, header, file, index, filter })
    }

    /// The run's entry for `claim`, lapsed or not. Reads one page if the filter says "perhaps".
    pub(super) fn lookup(&self, claim: Fingerprint) -> Result<Option<ClaimEntry>, Error> {
        if !self.filter.may_contain(claim) {
            return Ok(None);
        }
        // The claim can stand in the last page that begins below it, and in pages that begin like it.
        let prefix = claim.short();
        let from = self.index.partition_point(|&first| first < prefix).saturating_sub(1);
        for (page, _) in self.index.iter().enumerate().skip(from).take_while(|&(_, &first)| first <= prefix) {
            let mut block = [0; BLOCK_BYTES];
            self.read_pages(page, &mut block)?;
            let claims = open_page(&block).ok_or_else(|| self.damaged_page())?;
            if let Ok(place) = claims.binary_search_by_key(&claim, claim_of) {
                return Ok(Some(read_claim(&claims[place])));
            }
        }
        Ok(None)
    }

    /// All entries by rising fingerprint.
    pub(super) fn entries(&self) -> Entries<'_> {
        Entries { run: self, pages: Vec::new(), next_page: 0, page: 0, place: 0 }
    }

    /// What it costs in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&self.index[..]) + size_of_val(self.filter.words())
    }

    fn read_pages(&self, first: usize, bytes: &mut [u8]) -> Result<(), Error> {
        let at = (first as u64 + 1) * BLOCK_BYTES as u64;
        self.file.read_exact_at(bytes, at).map_err(|source| Error::Io { path: self.path.clone(), source })
    }

    fn damaged_page(&self) -> Error {
        Error::Damaged { path: self.path.clone(), what: "page" }
    }
}

/// Reads a run through, some pages at a time.
pub(super) struct Entries<'a> {
    run: &'a Run,
    pages: Vec<Block>,
    next_page: usize,
    page: usize,
    place: usize,
}

impl Entries<'_> {
    pub(super) fn next(&mut self) -> Result<Option<ClaimEntry>, Error> {
        loop {
            if let Some(page) = self.pages.get(self.page) {
                // Checked once, when it was read.
                if let Some(claim) = claims_of(page).and_then(|claims| claims.get(self.place)) {
                    self.place += 1;
                    return Ok(Some(read_claim(claim)));
                }
                self.page += 1;
                self.place = 0;
            } else if self.next_page < self.run.index.len() {
                self.read()?;
            } else {
                return Ok(None);
            }
        }
    }

    fn read(&mut self) -> Result<(), Error> {
        let count = PAGES_PER_READ.min(self.run.index.len() - self.next_page);
        self.pages.resize(count, [0; BLOCK_BYTES]);
        self.run.read_pages(self.next_page, self.pages.as_flattened_mut())?;
        if self.pages.iter().any(|page| open_page(page).is_none()) {
            return Err(self.run.damaged_page());
        }
        self.next_page += count;
        self.page = 0;
        Ok(())
    }
}

/// Where index and filter begin.
fn tail_places(header: &Header) -> (u64, u64) {
    let index_at = (header.pages + 1) * BLOCK_BYTES as u64;
    (index_at, index_at + header.pages * 8)
}

/// `count` words; their bytes go through `crc`. The file's length was checked: there are as many.
fn read_words(file: &File, at: u64, count: u64, crc: &mut crc32fast::Hasher) -> io::Result<Box<[u64]>> {
    let count = usize::try_from(count).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut words = Vec::with_capacity(count);
    let mut chunk = [[0; 8]; 512];
    while words.len() < count {
        let some = chunk.len().min(count - words.len());
        file.read_exact_at(chunk[..some].as_flattened_mut(), at + words.len() as u64 * 8)?;
        crc.update(chunk[..some].as_flattened());
        words.extend(chunk[..some].iter().map(|bytes| u64::from_be_bytes(*bytes)));
    }
    Ok(words.into_boxed_slice())
}

/// Whether `path` names a run: the numbers of its first and last seal.
pub(super) fn numbers_in(path: &Path) -> Option<(u64, u64)> {
    let (first, last) = path.file_name()?.to_str()?.strip_suffix(".run")?.split_once('-')?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16);
    Some((number(first)?, number(last)?))
}

pub(super) fn name_of(first: u64, last: u64) -> String {
    format!("{first:016x}-{last:016x}.run")
}
