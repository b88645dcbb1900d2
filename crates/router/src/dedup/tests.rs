#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use proptest::{collection::vec, prelude::*};
use tempfile::TempDir;

use super::*;

const HOUR: Duration = Duration::from_hours(1);
const SMALL: Tuning = Tuning { seal_claims: 8, seal_checkpoints: 6, runs_merged: 3 };

fn print(number: u64) -> Fingerprint {
    Fingerprint::of(&[&number.to_be_bytes()])
}

fn entry(number: u64, offset: u64, expires_at: Timestamp) -> ClaimEntry {
    let id = MessageId::mint(expires_at, [u8::try_from(offset % 251).unwrap(); 15]);
    ClaimEntry { claim: print(number), body: print(offset), id, offset: Offset(offset), expires_at }
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn open(dir: &TempDir, tuning: Tuning) -> DedupTable {
    DedupTable::open(dir.path(), InstallationId::from_bytes([1; 20]), Partition(3), tuning).unwrap()
}

fn run_files(dir: &TempDir) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

/// Seals `count` runs of 8 claims without merging: checkpoint `n` holds claims `8n..8n+8`.
fn seal_runs(table: &DedupTable, count: u64) {
    for run in 0..count {
        let entries: Vec<_> =
            (0..8).map(|place| 8 * run + place).map(|n| entry(n, n, at(1_000_000))).collect();
        table.insert(&entries, Offset(run), at(0));
        table.seal().unwrap();
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A checkpoint with these claims, which are given to new messages if they are free.
    Checkpoint(Vec<u64>),
    Announce(u64),
    Advance(Duration),
    Seal,
    Merge,
    /// The process dies and starts again: what stands in no checkpoint is gone.
    Reopen,
    /// The same after somebody damaged or removed a file.
    Spoil(prop::sample::Index, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => vec(0..40_u64, 0..6).prop_map(Step::Checkpoint),
        2 => (0..40_u64).prop_map(Step::Announce),
        2 => (0..8 * 3_600_u64).prop_map(|secs| Step::Advance(Duration::from_secs(secs))),
        3 => Just(Step::Seal),
        2 => Just(Step::Merge),
        1 => Just(Step::Reopen),
        1 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, remove)| Step::Spoil(which, remove)),
    ]
}

/// The table beside the plainest thing that could be right: the log of checkpoints, folded into a map.
struct Pair {
    dir: TempDir,
    table: DedupTable,
    topic: Vec<Vec<ClaimEntry>>,
    announced: Vec<ClaimEntry>,
    now: Timestamp,
    offset: u64,
}

impl Pair {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let table = open(&dir, SMALL);
        Self { dir, table, topic: Vec::new(), announced: Vec::new(), now: at(1_000_000), offset: 0 }
    }

    fn model(&self) -> HashMap<Fingerprint, ClaimEntry> {
        self.topic.iter().flatten().chain(&self.announced).map(|entry| (entry.claim, *entry)).collect()
    }

    fn take(&mut self, number: u64) -> Option<ClaimEntry> {
        let live = self.model().get(&print(number)).is_some_and(|entry| self.now < entry.expires_at);
        self.offset += 1;
        let window = if number.is_multiple_of(4) { HOUR / 4 } else { 24 * HOUR };
        (!live).then(|| entry(number, self.offset, self.now + window))
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Checkpoint(numbers) => {
                for number in numbers {
                    if let Some(entry) = self.take(number) {
                        self.table.announce(&entry);
                        self.announced.push(entry);
                    }
                }
                let entries = std::mem::take(&mut self.announced);
                self.table.insert(&entries, Offset(self.topic.len() as u64), self.now);
                self.topic.push(entries);
            }
            Step::Announce(number) => {
                if let Some(entry) = self.take(number) {
                    self.table.announce(&entry);
                    self.announced.push(entry);
                }
            }
            Step::Advance(by) => self.now = self.now + by,
            Step::Seal => self.table.seal().unwrap(),
            Step::Merge => self.table.merge().unwrap(),
            Step::Reopen => self.reopen(),
            Step::Spoil(which, remove) => {
                let files = run_files(&self.dir);
                if !files.is_empty() {
                    spoil(&files[which.index(files.len())], remove);
                    self.reopen();
                }
            }
        }
    }

    /// As the router does it: from the checkpoint that the runs cover, that one included.
    fn reopen(&mut self) {
        self.announced.clear();
        self.table.retire();
        self.table = open(&self.dir, SMALL);
        let from = self.table.covered().map_or(0, |covered| covered.0);
        for checkpoint in from..self.topic.len() as u64 {
            let entries = &self.topic[usize::try_from(checkpoint).unwrap()];
            self.table.insert(entries, Offset(checkpoint), at(0));
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let model = self.model();
        for number in 0..40 {
            let expected = model.get(&print(number)).filter(|entry| self.now < entry.expires_at);
            prop_assert_eq!(self.table.lookup(print(number), self.now).unwrap(), expected.copied());
            let Some(expected) = expected else { continue };
            let own = self.table.lookup_below(print(number), expected.offset, self.now).unwrap();
            prop_assert_eq!(own, None, "a message is no duplicate of itself");
        }
        Ok(())
    }
}

/// Flips one byte of the header or takes the file away.
fn spoil(path: &Path, remove: bool) {
    if remove {
        fs::remove_file(path).unwrap();
    } else {
        let mut bytes = fs::read(path).unwrap();
        bytes[100] ^= 1;
        fs::write(path, bytes).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn table_equals_the_fold_of_its_topic(steps in vec(step(), 1..60)) {
        let mut pair = Pair::new();
        for step in steps {
            pair.apply(step);
            pair.check()?;
        }
    }

    #[test]
    fn memory_only_table_equals_it_too(steps in vec(step(), 1..60)) {
        let mut pair = Pair::new();
        pair.table = DedupTable::new(None, Vec::new(), SMALL);
        let steps = steps.into_iter().filter(|step| !matches!(step, Step::Reopen | Step::Spoil(..)));
        for step in steps {
            pair.apply(step);
            pair.check()?;
        }
        prop_assert!(run_files(&pair.dir).is_empty());
    }

    #[test]
    fn any_damaged_byte_is_noticed(at_byte in any::<prop::sample::Index>(), flip in 1_u8..) {
        let dir = TempDir::new().unwrap();
        let table = open(&dir, SMALL);
        seal_runs(&table, 1);
        let path = run_files(&dir).remove(0);
        let mut bytes = fs::read(&path).unwrap();
        let place = at_byte.index(bytes.len());
        bytes[place] ^= flip;
        fs::write(&path, &bytes).unwrap();

        let table = open(&dir, SMALL);
        if table.covered().is_none() {
            prop_assert!(run_files(&dir).is_empty(), "damaged files are removed");
            return Ok(());
        }
        for number in 0..8 {
            match table.lookup(print(number), at(0)) {
                Ok(found) => prop_assert_eq!(found, Some(entry(number, number, at(1_000_000)))),
                Err(Error::Damaged { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// A block with garbage at its ends, where its fields stand.
fn block() -> impl Strategy<Value = format::Block> {
    (vec(any::<u8>(), 160), any::<u8>(), vec(any::<u8>(), 32)).prop_map(|(front, fill, back)| {
        let mut block = [fill; format::BLOCK_BYTES];
        block[..front.len()].copy_from_slice(&front);
        block[format::BLOCK_BYTES - back.len()..].copy_from_slice(&back);
        block
    })
}

fn read_page(page: &format::Block) {
    let _ = format::open_page(page);
    for claim in format::claims_of(page).unwrap_or_default() {
        let _ = format::claim_of(claim);
        let _ = format::read_claim(claim);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn blocks_of_garbage_never_panic(mut block in block(), count in 0_u16..70) {
        let _ = format::Header::decode(&block);
        read_page(&block);
        // A count as pages have it, and a checksum that is right.
        let count_at = format::CLAIM_BYTES * format::CLAIMS_PER_PAGE;
        block[count_at..count_at + 2].copy_from_slice(&count.to_be_bytes());
        let (checked, crc) = block.split_last_chunk_mut::<4>().unwrap();
        *crc = crc32fast::hash(checked).to_be_bytes();
        prop_assert_eq!(format::open_page(&block).is_some(), usize::from(count) <= format::CLAIMS_PER_PAGE);
        read_page(&block);
    }

    /// Numbers that no file has are read as they are, and give no size.
    #[test]
    fn a_header_of_any_numbers_reads_back(
        numbers in prop::array::uniform::<_, 7>(prop_oneof![any::<u64>(), 0..1_u64 << 40]),
        lapses_at in any::<i64>(),
        tail_crc in any::<u32>(),
    ) {
        let [first, last, oldest, covered, claims, pages, filter_words] = numbers;
        let owner = Owner { installation: InstallationId::from_bytes([1; 20]), partition: Partition(3) };
        let (covered, lapses_at) = (Offset(covered), Timestamp::from_micros(lapses_at));
        let header =
            format::Header { owner, first, last, oldest, covered, lapses_at, claims, pages, filter_words, tail_crc };
        prop_assert_eq!(format::Header::decode(&header.encode()), Some(header));
        let size = u128::from(pages) * 4_104 + u128::from(filter_words) * 8 + 4_096;
        prop_assert_eq!(header.file_bytes(), u64::try_from(size).ok());
    }
}

#[test]
fn only_a_lower_offset_counts() {
    let table = DedupTable::in_memory();
    table.insert(&[entry(1, 10, at(100))], Offset(0), at(0));
    // After a restart the table may know a later claim of the same name; the earlier one must stay visible.
    table.announce(&entry(1, 20, at(500)));
    let below =
        |offset| table.lookup_below(print(1), Offset(offset), at(50)).unwrap().map(|entry| entry.offset.0);
    assert_eq!(below(10), None);
    assert_eq!(below(11), Some(10));
    assert_eq!(below(20), Some(10));
    assert_eq!(below(21), Some(20));
}

#[test]
fn a_missing_run_makes_all_unusable() {
    for missing in 0..3 {
        let dir = TempDir::new().unwrap();
        seal_runs(&open(&dir, Tuning { runs_merged: 9, ..SMALL }), 3);
        fs::remove_file(&run_files(&dir)[missing]).unwrap();
        let table = open(&dir, SMALL);
        // Without the newest the older ones are still a whole, of an earlier time.
        assert_eq!(table.covered(), (missing == 2).then_some(Offset(1)), "{missing}");
    }
}

#[test]
fn runs_of_another_installation_or_partition_are_no_use() {
    for (installation, partition) in [([2; 20], 3), ([1; 20], 4)] {
        let dir = TempDir::new().unwrap();
        seal_runs(&open(&dir, SMALL), 1);
        let id = InstallationId::from_bytes(installation);
        let table = DedupTable::open(dir.path(), id, Partition(partition), SMALL).unwrap();
        assert_eq!((table.covered(), run_files(&dir).len()), (None, 0));
    }
}

#[test]
fn what_a_crash_in_a_merge_leaves_behind_is_removed() {
    let dir = TempDir::new().unwrap();
    let table = open(&dir, SMALL);
    seal_runs(&table, 3);
    let inputs: Vec<_> = run_files(&dir).into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
    table.merge().unwrap();
    assert_eq!(table.run_count(), 1);
    for (bytes, path) in &inputs {
        fs::write(path, bytes).unwrap();
    }
    fs::write(dir.path().join("half-written.tmp"), b"half").unwrap();

    let table = open(&dir, SMALL);
    assert_eq!((table.run_count(), table.covered(), run_files(&dir).len()), (1, Some(Offset(2)), 1));
    for number in 0..24 {
        assert!(table.lookup(print(number), at(0)).unwrap().is_some());
    }
}

#[test]
fn runs_that_lapsed_are_dropped_whole() {
    let dir = TempDir::new().unwrap();
    let table = open(&dir, Tuning { runs_merged: 100, ..SMALL });
    for run in 0..40_u64 {
        let now = at(i64::try_from(run).unwrap() * 3_600);
        let entries: Vec<_> = (0..8).map(|n| entry(8 * run + n, 8 * run + n, now + 24 * HOUR)).collect();
        table.insert(&entries, Offset(run), now);
        table.seal().unwrap();
    }
    assert!(table.run_count() <= 26, "{}", table.run_count());
    assert_eq!(run_files(&dir).len(), table.run_count());
    assert_eq!(open(&dir, SMALL).run_count(), table.run_count(), "and what is left is still a whole");
}

#[test]
fn checkpoints_without_claims_are_sealed_too_so_that_a_start_reads_few() {
    let dir = TempDir::new().unwrap();
    let table = open(&dir, Tuning::default());
    let count = limits::DEDUP_SEAL_CHECKPOINTS as u64 + 1;
    for checkpoint in 0..count {
        table.insert(&[], Offset(checkpoint), at(0));
        table.maintain().unwrap();
    }
    assert_eq!(open(&dir, Tuning::default()).covered(), Some(Offset(count - 2)));
}

#[test]
fn sealed_claims_cost_less_than_two_bytes_each() {
    let dir = TempDir::new().unwrap();
    let table = open(&dir, Tuning::default());
    let count = 400_000_u64;
    for checkpoint in 0..count / 2_000 {
        let numbers = 2_000 * checkpoint..2_000 * (checkpoint + 1);
        let entries: Vec<_> = numbers.map(|n| entry(n, n, at(1_000_000))).collect();
        table.insert(&entries, Offset(checkpoint), at(0));
        table.maintain().unwrap();
    }
    let (claims, bytes) = table.sealed();
    assert!(claims > count - 2 * limits::DEDUP_SEAL_CLAIMS as u64, "{claims}");
    assert!(bytes as u64 <= 2 * claims, "{bytes} bytes for {claims} claims");
    assert!(table.run_count() <= 16, "{}", table.run_count());
    for number in (0..count).step_by(997) {
        assert_eq!(table.lookup(print(number), at(0)).unwrap().unwrap().offset, Offset(number));
        assert_eq!(table.lookup(print(number + count), at(0)).unwrap(), None);
    }
}

/// How 20 million claims are put in through the router's own code:
/// `cargo test -p fanfare-router --lib -- --ignored --nocapture twenty_million`.
#[test]
#[ignore = "a measurement: writes 1.4 GB"]
fn twenty_million_claims() {
    let resident = || {
        let pages = fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
    };
    let dir = TempDir::new().unwrap();
    let before = resident();
    let mut peak = 0;
    let table = open(&dir, Tuning::default());
    for checkpoint in 0..20_000_u64 {
        let entries: Vec<_> =
            (0..1_000).map(|n| 1_000 * checkpoint + n).map(|n| entry(n, n, at(1_000_000))).collect();
        table.insert(&entries, Offset(checkpoint), at(0));
        table.maintain().unwrap();
        peak = peak.max(resident() - before);
    }
    let after = resident() - before;
    let (claims, bytes) = table.sealed();
    let runs = table.run_count();
    println!("{claims} claims, {runs} runs, {bytes} bytes: {} per 100 claims", 100 * bytes as u64 / claims);
    println!("resident growth: {} MB at the end, {} MB at most", after >> 20, peak >> 20);
    assert!(peak < 200 << 20);
}
