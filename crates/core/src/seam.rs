//! Wall-clock time and randomness each come through one seam, so that tests and simulation own them.

use crate::Timestamp;

/// Tells the wall-clock time. It may step backwards or ahead: nothing may rely on its being even.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
}

/// Gives random bytes good enough for ids, sessions, nonces and keys.
pub trait Entropy: Send + Sync + 'static {
    fn fill(&self, bytes: &mut [u8]);
}

impl dyn Entropy {
    /// `N` random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    pub fn u64(&self) -> u64 {
        u64::from_ne_bytes(self.bytes())
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that asks the machine's clock")]
    fn now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp::ZERO + since_epoch.unwrap_or_default()
    }
}

/// A generator per thread, seeded and reseeded by the operating system's; good for keys. Asking the system itself
/// costs a call per attempt.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        rand::fill(bytes);
    }
}
