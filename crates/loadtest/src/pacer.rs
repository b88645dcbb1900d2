//! Sends at a pace whatever the answers take: a turn has a time at which it is due, and latency counts from
//! that time even when no connection was free then.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use fanfare_core::{Clock as _, SystemClock, Timestamp};
use tokio::{sync::Semaphore, time::Instant};

/// The pacer's thread sleeps at least this long: at higher rates it gives several turns at once.
const SHORTEST_SLEEP: Duration = Duration::from_micros(50);
/// And at most this long, so that it notices its end.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);

/// Hands out turns at a rate to whoever waits first.
#[derive(Debug)]
pub struct Pacer {
    turns: Arc<Semaphore>,
    taken: AtomicU64,
    start: Timestamp,
    interval: Duration,
}

impl Pacer {
    /// Starts now, on a thread of its own: the timer of tokio ticks in whole milliseconds.
    pub fn start(per_second: f64) -> Self {
        let turns = Arc::new(Semaphore::new(0));
        let interval = Duration::from_secs_f64(1.0 / per_second);
        let given_to = Arc::clone(&turns);
        let start = SystemClock.now();
        let first = Instant::now();
        thread::spawn(move || give_turns(&given_to, first, interval));
        Self { turns, taken: AtomicU64::new(0), start, interval }
    }

    /// Waits for the next turn and says when it was due; `None` after the end.
    pub async fn turn(&self) -> Option<Timestamp> {
        self.turns.acquire().await.ok()?.forget();
        let number = self.taken.fetch_add(1, Relaxed);
        Some(self.start + self.interval.mul_f64(as_f64(number)))
    }

    /// No more turns.
    pub fn end(&self) {
        self.turns.close();
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.end();
    }
}

#[allow(clippy::disallowed_methods, reason = "a thread that does nothing else")]
fn give_turns(turns: &Semaphore, start: Instant, interval: Duration) {
    let mut given: u64 = 0;
    while !turns.is_closed() {
        let due = start + interval.mul_f64(as_f64(given));
        let now = Instant::now();
        if now < due {
            thread::sleep((due - now).clamp(SHORTEST_SLEEP, LONGEST_SLEEP));
            continue;
        }
        turns.add_permits(1);
        given += 1;
    }
}

#[allow(clippy::cast_precision_loss, reason = "fewer than 2^52 turns")]
fn as_f64(number: u64) -> f64 {
    number as f64
}
