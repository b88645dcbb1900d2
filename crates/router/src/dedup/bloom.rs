//! A filter that says of most claims that are not in a run that they are not, without reading the run.

use fanfare_core::Fingerprint;

/// Words of 64 bits in a block: one cache line, so that a question costs one miss.
const BLOCK_WORDS: usize = 8;
const BLOCK_BITS: usize = BLOCK_WORDS * 64;
/// With 7 bits set per claim about one wrong "perhaps" in 200.
const BITS_PER_CLAIM: usize = 12;
const BITS_SET: usize = 7;

/// Blocked bloom filter. Fingerprints are digests already: their halves serve as the two hashes.
pub(super) struct Bloom {
    words: Box<[u64]>,
}

impl Bloom {
    pub(super) fn for_claims(claims: u64) -> Self {
        let bits = usize::try_from(claims).expect("a run fits the address space") * BITS_PER_CLAIM;
        let blocks = bits.div_ceil(BLOCK_BITS).max(1);
        Self { words: vec![0; blocks * BLOCK_WORDS].into_boxed_slice() }
    }

    pub(super) fn insert(&mut self, claim: Fingerprint) {
        let (block, bits) = self.place(claim);
        for (word, bit) in bits {
            self.words[block + word] |= bit;
        }
    }

    /// False: certainly not inserted.
    pub(super) fn may_contain(&self, claim: Fingerprint) -> bool {
        let (block, mut bits) = self.place(claim);
        bits.all(|(word, bit)| self.words[block + word] & bit != 0)
    }

    /// First word of the claim's block, and its bits there as (word, mask).
    fn place(&self, claim: Fingerprint) -> (usize, impl Iterator<Item = (usize, u64)> + use<>) {
        let digest = u128::from_be_bytes(claim.0);
        let blocks = (self.words.len() / BLOCK_WORDS) as u128;
        let low = digest & u128::from(u64::MAX);
        let block = usize::try_from((low * blocks) >> 64).expect("below the number of blocks");
        let bits = (0..BITS_SET).map(move |place| {
            let bit = (digest >> (64 + 9 * place)) as usize % BLOCK_BITS;
            (bit / 64, 1 << (bit % 64))
        });
        (block * BLOCK_WORDS, bits)
    }

    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }

    /// The filter with these words; `None` if they are not whole blocks.
    pub(super) fn from_words(words: Box<[u64]>) -> Option<Self> {
        (!words.is_empty() && words.len().is_multiple_of(BLOCK_WORDS)).then_some(Self { words })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(number: u64) -> Fingerprint {
        Fingerprint::of(&[&number.to_be_bytes()])
    }

    #[test]
    fn never_denies_what_is_there_and_seldom_affirms_what_is_not() {
        let mut bloom = Bloom::for_claims(20_000);
        (0..20_000).for_each(|number| bloom.insert(claim(number)));
        assert!((0..20_000).all(|number| bloom.may_contain(claim(number))));
        let wrong = (20_000..120_000).filter(|&number| bloom.may_contain(claim(number))).count();
        assert!(wrong < 1_000, "{wrong} of 100,000 wrongly affirmed");
    }
}
