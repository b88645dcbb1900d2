//! Waiting for what another process does: the one place that looks at the clock and sleeps.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const PAUSE: Duration = Duration::from_millis(25);

/// Asks until there is an answer. An error ends the waiting at once.
#[allow(
    clippy::disallowed_methods,
    reason = "other processes live by the clock on the wall, and nobody wakes us"
)]
pub(crate) fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {} s", limit.as_secs());
        }
        std::thread::sleep(PAUSE);
    }
}
