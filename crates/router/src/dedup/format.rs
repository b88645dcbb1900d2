//! The bytes of a run: an immutable file of claims, sorted by fingerprint.
//!
//! Constraints: a lookup reads one page; a start reads header, index and filter, not the pages; nothing that
//! was damaged is taken for an answer.
//!
//! ```text
//! run    := header block · page* · index · filter
//! block  := 4,096 bytes
//! header := magic 8 · version u32 · installation 20 · partition u32 · first u64 · last u64 · oldest u64
//!         · covered u64 · lapses_at i64 · claims u64 · pages u64 · filter words u64 · crc(index · filter) u32
//!         · crc(what stands before) u32 · zeros
//! page   := claim{0..=60} · zeros · count u16 · zeros · crc(what stands before) u32
//! claim  := fingerprint 16 · body 16 · message id 20 · offset u64 · expires_at i64            68 bytes
//! index  := first 8 bytes of each page's first fingerprint, u64 each
//! filter := u64 words                                            all numbers big-endian, CRC-32 (IEEE)
//! ```
//!
//! A file is written under another name, synced, renamed, and its directory synced. `first..=last` are the
//! numbers of the seals it holds; `oldest` is the lowest number still needed when it was written. From the
//! newest file back to its `oldest` the numbers must stand without a gap; if they do not, or a checksum is
//! wrong, all files are thrown away and the table is rebuilt from the topic `dedup`.

use fanfare_core::{ClaimEntry, Fingerprint, InstallationId, MessageId, Offset, Partition, Timestamp};

pub(super) const BLOCK_BYTES: usize = 4_096;
pub(super) const CLAIM_BYTES: usize = 68;
pub(super) const CLAIMS_PER_PAGE: usize = 60;
const COUNT_AT: usize = CLAIM_BYTES * CLAIMS_PER_PAGE;
const CRC_AT: usize = BLOCK_BYTES - 4;

const MAGIC: [u8; 8] = *b"FFCLAIMS";
const VERSION: u32 = 1;

pub(super) type Block = [u8; BLOCK_BYTES];

/// Whose claims a file holds. Files of another installation or partition are no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) installation: InstallationId,
    pub(super) partition: Partition,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) owner: Owner,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) oldest: u64,
    /// Offset in `dedup` of the newest checkpoint whose claims it holds, together with the older runs.
    pub(super) covered: Offset,
    /// After this none of its claims counts.
    pub(super) lapses_at: Timestamp,
    pub(super) claims: u64,
    pub(super) pages: u64,
    pub(super) filter_words: u64,
    pub(super) tail_crc: u32,
}

impl Header {
    pub(super) fn encode(&self) -> Block {
        let mut bytes = Vec::with_capacity(BLOCK_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(self.owner.installation.as_bytes());
        bytes.extend_from_slice(&self.owner.partition.0.to_be_bytes());
        for number in [self.first, self.last, self.oldest, self.covered.0] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.lapses_at.as_micros().to_be_bytes());
        for number in [self.claims, self.pages, self.filter_words] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.tail_crc.to_be_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        let mut block = [0; BLOCK_BYTES];
        block[..bytes.len()].copy_from_slice(&bytes);
        block
    }

    /// `None`: no header, or a damaged one, or of another version.
    pub(super) fn decode(block: &Block) -> Option<Self> {
        let mut fields = Fields { rest: block };
        if fields.take() != MAGIC || u32::from_be_bytes(fields.take()) != VERSION {
            return None;
        }
        let header = Self {
            owner: Owner {
                installation: InstallationId::from_bytes(fields.take()),
                partition: Partition(u32::from_be_bytes(fields.take())),
            },
            first: fields.u64(),
            last: fields.u64(),
            oldest: fields.u64(),
            covered: Offset(fields.u64()),
            lapses_at: Timestamp::from_micros(i64::from_be_bytes(fields.take())),
            claims: fields.u64(),
            pages: fields.u64(),
            filter_words: fields.u64(),
            tail_crc: u32::from_be_bytes(fields.take()),
        };
        let checked = BLOCK_BYTES - fields.rest.len();
        (crc32fast::hash(&block[..checked]).to_be_bytes() == fields.take::<4>()).then_some(header)
    }

    /// What the file must measure; `None` for a size that no file has.
    pub(super) fn file_bytes(&self) -> Option<u64> {
        let tail = self.pages.checked_add(self.filter_words)?.checked_mul(8)?;
        self.pages.checked_add(1)?.checked_mul(BLOCK_BYTES as u64)?.checked_add(tail)
    }
}

/// Takes fields of fixed size off a block that is known to hold them.
struct Fields<'a> {
    rest: &'a [u8],
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.rest.split_first_chunk().expect("a block holds all fields");
        self.rest = rest;
        *head
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }
}

/// Writes `claim` as the `place`-th of `page`.
pub(super) fn put_claim(page: &mut Block, place: usize, entry: &ClaimEntry) {
    let bytes = &mut page[place * CLAIM_BYTES..][..CLAIM_BYTES];
    bytes[..16].copy_from_slice(&entry.claim.0);
    bytes[16..32].copy_from_slice(&entry.body.0);
    bytes[32..52].copy_from_slice(entry.id.as_bytes());
    bytes[52..60].copy_from_slice(&entry.offset.0.to_be_bytes());
    bytes[60..].copy_from_slice(&entry.expires_at.as_micros().to_be_bytes());
}

/// Completes a page of `count` claims.
pub(super) fn seal_page(page: &mut Block, count: usize) {
    let count = u16::try_from(count).expect("a page holds 60 claims");
    page[COUNT_AT..COUNT_AT + 2].copy_from_slice(&count.to_be_bytes());
    let crc = crc32fast::hash(&page[..CRC_AT]);
    page[CRC_AT..].copy_from_slice(&crc.to_be_bytes());
}

/// The claims of a page; `None` if it is damaged.
pub(super) fn open_page(page: &Block) -> Option<&[[u8; CLAIM_BYTES]]> {
    if crc32fast::hash(&page[..CRC_AT]).to_be_bytes() != page[CRC_AT..] {
        return None;
    }
    claims_of(page)
}

/// The same for a page whose checksum is known to be right.
pub(super) fn claims_of(page: &Block) -> Option<&[[u8; CLAIM_BYTES]]> {
    let count = usize::from(u16::from_be_bytes([page[COUNT_AT], page[COUNT_AT + 1]]));
    let (claims, _) = page[..COUNT_AT].as_chunks();
    claims.get(..count)
}

pub(super) fn claim_of(bytes: &[u8; CLAIM_BYTES]) -> Fingerprint {
    Fingerprint(*bytes.first_chunk().expect("a claim begins with its fingerprint"))
}

pub(super) fn read_claim(bytes: &[u8; CLAIM_BYTES]) -> ClaimEntry {
    let mut fields = Fields { rest: bytes };
    ClaimEntry {
        claim: Fingerprint(fields.take()),
        body: Fingerprint(fields.take()),
        id: MessageId::from_bytes(fields.take()),
        offset: Offset(fields.u64()),
        expires_at: Timestamp::from_micros(i64::from_be_bytes(fields.take())),
    }
}
