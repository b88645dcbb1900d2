//! What the projector and the readers have in common.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use fanfare_core::{Clock, Offset, Partition};
use fanfare_log::Log;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{changes::Source, fold::Fold, hurry::Hurry, load, meters::Meters, store::Store};

pub(crate) type Positions = BTreeMap<(Source, Partition), Offset>;

pub(crate) struct Shared {
    pub(crate) log: Arc<dyn Log>,
    /// For reading.
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) retention: Duration,
    /// The tables are on the disk that the log is on.
    pub(crate) is_beside_log: bool,
    pub(crate) meters: Meters,
    /// How far the tables are.
    pub(crate) positions: watch::Sender<Positions>,
    pub(crate) hurry: Arc<Hurry>,
    lag: Mutex<Lag>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Lag {
    records: u64,
    seconds: Duration,
}

impl Shared {
    pub(crate) fn new(
        log: Arc<dyn Log>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        retention: Duration,
        is_beside_log: bool,
    ) -> Self {
        Self {
            is_beside_log,
            log,
            store,
            clock,
            retention,
            meters: Meters::new(),
            positions: watch::Sender::new(Positions::new()),
            hurry: Arc::default(),
            lag: Mutex::default(),
        }
    }

    /// All that is projected.
    pub(crate) fn places(&self) -> Vec<(Source, Partition)> {
        let of = |source: Source| {
            (0..self.log.partitions(source.topic())).map(move |number| (source, Partition(number)))
        };
        Source::ALL.into_iter().flat_map(of).collect()
    }

    pub(crate) fn publish(&self, fold: &Fold) {
        let positions = self.places().into_iter().map(|place| (place, fold.position(place.0, place.1)));
        self.positions.send_replace(positions.collect());
    }

    /// Resolves when the tables hold what these partitions of the log hold now.
    pub(crate) async fn catch_up(&self, places: &[(Source, Partition)]) -> bool {
        let ends = join_all(places.iter().map(|&(source, partition)| async move {
            let bounds = self.log.bounds(source.topic(), partition).await.ok()?;
            Some(((source, partition), bounds.high_watermark))
        }));
        let Some(ends) = ends.await.into_iter().collect::<Option<Vec<_>>>() else { return false };
        let passed = |positions: &Positions| {
            ends.iter().all(|(place, end)| positions.get(place).is_some_and(|at| at >= end))
        };
        let mut positions = self.positions.subscribe();
        if passed(&positions.borrow_and_update()) {
            return true;
        }
        let _waiting = self.hurry.begin();
        positions.wait_for(passed).await.is_ok()
    }

    pub(crate) async fn measure_lag(&self, fold: &Fold) {
        let behind = join_all(self.places().into_iter().map(|(source, partition)| async move {
            let bounds = self.log.bounds(source.topic(), partition).await.ok()?;
            Some(
                bounds
                    .high_watermark
                    .0
                    .saturating_sub(fold.position(source, partition).0.max(bounds.start.0)),
            )
        }));
        let records = behind.await.into_iter().flatten().sum();
        let now = self.clock.now();
        let seconds = if records == 0 {
            Duration::ZERO
        } else {
            fold.newest().map_or(Duration::ZERO, |at| now.since(at))
        };
        *self.lag.lock() = Lag { records, seconds };
        self.meters.lag(records, seconds);
    }

    pub(crate) fn lag(&self) -> (u64, Duration) {
        let lag = self.lag.lock();
        (lag.records, lag.seconds)
    }

    /// Another process projects: learns from the tables how far it is.
    pub(crate) async fn follow(&self, store: &dyn Store) -> Result<(), crate::error::QueryError> {
        let mut fold = Fold::default();
        load::restore(store, &mut fold).await?;
        self.publish(&fold);
        Ok(())
    }
}
