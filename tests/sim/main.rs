//! Simulation: the production control plane, ingest, router, delivery and log, in a world that one seed decides.
//! See docs/internals/simulation.md.
//!
//! `FANFARE_SIM_SEEDS` says how many seeds are run (200), `FANFARE_SIM_FROM` from which on (0). One seed alone, with
//! what happens in it: `FANFARE_SIM_TRACE=1 FANFARE_SIM_SEEDS=1 FANFARE_SIM_FROM=… cargo test --test sim -- --nocapture
//! seeds`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::unchecked_time_subtraction, reason = "virtual time runs one way, and a panic would say so")]

#[path = "../support/invariants.rs"]
mod invariants;
#[path = "../support/story.rs"]
mod story;

mod again;
mod clock;
mod history;
mod lanes;
mod plan;
#[cfg(feature = "planted")]
mod planted;
mod process;
mod producers;
mod random;
mod receivers;
mod runner;
mod watched;
mod world;

const POWER_CUTS: u64 = 50;

/// Seeds in the short form, which every change has to pass.
#[cfg(not(feature = "planted"))]
const SEEDS: u64 = 200;

#[cfg(not(feature = "planted"))]
#[test]
fn seeds_hold_the_invariants() {
    let (from, count) = (runner::setting("FANFARE_SIM_FROM", 0), runner::setting("FANFARE_SIM_SEEDS", SEEDS));
    let failed = runner::run_all(from..from + count);
    assert!(failed.is_empty(), "broken: {failed:?}");
}

/// The power-cut form of the kill test (tests/e2e/kill.rs): the disk loses what was not synced, 50 times in a row.
#[cfg(not(feature = "planted"))]
#[test]
fn fifty_power_cuts_in_a_row_lose_nothing() {
    let outcome = runner::run_plan(plan::Plan::power_cuts(0, POWER_CUTS));
    println!("{} events", outcome.events);
    assert_eq!(outcome.broken, Vec::<String>::new());
}

#[cfg(not(feature = "planted"))]
#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 1_000_000..1_000_004 {
        let [first, second] = [runner::run(seed), runner::run(seed)];
        assert_eq!((first.trace, first.events), (second.trace, second.events), "seed {seed}");
    }
}
