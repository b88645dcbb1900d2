//! How a worker ends: with a drain, or with its last words.

#[cfg(test)]
mod tests;

use std::time::Duration;

use fanfare_log::Sync;
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::{Ending, Worker};
use crate::send::Transport;

/// For the last words of a worker that was replaced.
const PARTING: Duration = Duration::from_millis(100);

impl<T: Transport> Worker<T> {
    /// Tells the log what has come back, though the partition is somebody else's by now: what was delivered counts, of
    /// whatever epoch, and is not sent again.
    pub(super) async fn part(&mut self) {
        self.budget = 0;
        while self.land_others() {}
        // A log that takes nothing is told nothing.
        drop(tokio::time::timeout(PARTING, self.facts.flush(Sync::Lazy)).await);
    }

    /// Starts nothing more, lets what is in flight finish until the deadline, and writes everything down.
    pub(super) async fn drain(mut self, within: Duration) -> Ending {
        let deadline = Instant::now() + within;
        while !self.flights.is_empty() {
            tokio::select! {
                biased;
                Some(landed) = self.flights.next() => {
                    self.budget = 0;
                    self.landed(&landed);
                }
                () = tokio::time::sleep_until(deadline) => {
                    let in_flight = self.flights.len();
                    self.shared.meters.late.add(in_flight as u64);
                    tracing::warn!(partition = %self.partition, in_flight,
                        "drain is over before all answers came; their messages may arrive twice");
                    break;
                }
            }
        }
        let written = async {
            self.facts.finish().await?;
            self.checkpoint.finish().await?;
            self.write_checkpoint().await?;
            self.checkpoint.finish().await
        };
        match written.await {
            Ok(()) => Ending::Drained,
            Err(error) => {
                tracing::warn!(partition = %self.partition, %error, "drain could not be written down");
                Ending::Abandoned
            }
        }
    }
}
