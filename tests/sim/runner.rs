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

use crate::world::{self, Outcome};

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
    watch_panics();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut outcome = runtime.block_on(world::run(seed));
    drop(runtime);
    outcome.broken.extend(PANICS.take().into_iter().map(|panic| format!("nothing panics: {panic}")));
    outcome
}

/// Runs seeds and prints how each ended; gives those in which something was broken.
pub(crate) fn run_all(seeds: Range<u64>) -> Vec<u64> {
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = run(seed);
                    println!("seed {seed}: {} events, trace {:016x}", outcome.events, outcome.trace);
                    if !outcome.broken.is_empty() {
                        failed.lock().push(seed);
                        report(seed, &outcome);
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner();
    failed.sort_unstable();
    failed
}

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
            tracing_subscriber::fmt().with_env_filter(filter).without_time().with_writer(std::io::stdout).init();
        }
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
            default(info);
        }));
    });
}
