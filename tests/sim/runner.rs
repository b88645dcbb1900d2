//! Runs seeds, each on a runtime of its own, two at a time.

use std::{
    cell::RefCell,
    ops::Range,
    sync::{
        Once,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    plan::Plan,
    world::{self, Outcome},
};

const THREADS: usize = 2;

thread_local! {
    /// Panics of the run on this thread, of whatever task.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// Runs one seed.
pub(crate) fn run(seed: u64) -> Outcome {
    run_plan(Plan::of(seed))
}

pub(crate) fn run_plan(plan: Plan) -> Outcome {
    watch_panics();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut outcome = runtime.block_on(world::run(plan));
    drop(runtime);
    outcome.broken.extend(PANICS.take().into_iter().map(|panic| format!("nothing panics: {panic}")));
    outcome
}

/// Runs seeds and prints how each ended; gives those in which something was broken.
#[cfg(not(feature = "planted"))]
pub(crate) fn run_all(seeds: Range<u64>) -> Vec<u64> {
    let failed = Mutex::new(Vec::new());
    run_each(seeds, |seed, outcome| {
        println!("seed {seed}: {} events, trace {:016x}", outcome.events, outcome.trace);
        if !outcome.broken.is_empty() {
            failed.lock().push(seed);
            report(seed, &outcome);
        }
        true
    });
    let mut failed = failed.into_inner();
    failed.sort_unstable();
    failed
}

/// The first seed in which something is broken, and what.
#[cfg(feature = "planted")]
pub(crate) fn first_broken(seeds: Range<u64>) -> Option<(u64, String)> {
    let found = Mutex::new(None::<(u64, String)>);
    run_each(seeds, |seed, outcome| {
        let Some(broken) = outcome.broken.into_iter().next() else { return true };
        let mut found = found.lock();
        if found.as_ref().is_none_or(|(before, _)| seed < *before) {
            *found = Some((seed, broken));
        }
        false
    });
    found.into_inner()
}

/// Runs seeds in order until `ended` says that it is enough.
fn run_each(seeds: Range<u64>, ended: impl Fn(u64, Outcome) -> bool + Sync) {
    let next = AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if !ended(seed, run(seed)) {
                        next.store(seeds.end, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

#[cfg(not(feature = "planted"))]
fn report(seed: u64, outcome: &Outcome) {
    for broken in &outcome.broken {
        println!("seed {seed}: BROKEN {broken}");
    }
    println!("seed {seed}: run it again with: cargo xtask sim --seeds 1 --from {seed}");
}

fn watch_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        if let Ok(filter) = std::env::var("FANFARE_SIM_LOG") {
            tracing_subscriber::fmt()
                .with_env_filter(filter)
                .without_time()
                .with_writer(std::io::stdout)
                .init();
        }
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
            default(info);
        }));
    });
}
