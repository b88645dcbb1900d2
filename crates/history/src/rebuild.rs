//! The tables dropped and made again, and what they say.

use std::{sync::Arc, time::Duration};

use fanfare_core::InstallationId;
use tokio_util::sync::CancellationToken;

use crate::{
    OpenError, Options, Place, TableDigest,
    changes::Source,
    projector, queries, service,
    shared::{Positions, Shared},
    store,
};

/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_millis(200);

/// Drops the tables and projects the log, up to where it ends now, into new ones; how many offsets that were. Tells
/// how far it is, and how far it will go.
pub async fn rebuild(options: Options, mut told: impl FnMut(u64, u64)) -> Result<u64, OpenError> {
    let Options { log, clock, place, installation, retention } = options;
    let store = store::open(&place)?;
    if !store.lead().await? {
        return Err(OpenError::Kept);
    }
    store.write(service::fresh(&*store, installation)).await?;
    let shared = Shared::new(log, Arc::clone(&store), clock, retention, place.is_beside_log());
    let (mut ends, mut starts) = (Positions::new(), 0);
    for (source, partition) in shared.places() {
        let bounds = shared.log.bounds(Source::topic(source), partition).await?;
        starts += bounds.start.0;
        ends.insert((source, partition), bounds.high_watermark);
    }
    let all = ends.values().map(|end| end.0).sum::<u64>().saturating_sub(starts);
    let stop = CancellationToken::new();
    {
        let projecting = projector::run(&shared, &*store, &stop);
        tokio::pin!(projecting);
        loop {
            let positions = shared.positions.borrow().clone();
            let done: u64 = positions.values().map(|at| at.0).sum();
            told(done.saturating_sub(starts).min(all), all);
            if ends.iter().all(|(place, end)| positions.get(place).is_some_and(|at| at >= end)) {
                break;
            }
            let mut moves = shared.positions.subscribe();
            tokio::select! {
                ended = &mut projecting => {
                    ended?;
                    break;
                }
                _ = moves.changed() => {}
                () = tokio::time::sleep(TOLD_EVERY) => {}
            }
        }
    }
    store.close().await;
    Ok(all)
}

/// What each table says.
pub async fn digest(place: &Place, installation: InstallationId) -> Result<Vec<TableDigest>, OpenError> {
    let store = store::open(place)?;
    if !service::check(&*store, installation).await? {
        return Err(OpenError::None);
    }
    let tables = queries::digest(&*store).await?;
    store.close().await;
    Ok(tables)
}
