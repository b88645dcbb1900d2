//! Takes one guard out after the other and runs seeds until the simulation notices.

use fanfare_core::planted::{Fault, plant};
use parking_lot::Mutex;

use crate::{POWER_CUTS, plan::Plan, runner};

/// A fault that so many seeds do not find counts as not found.
const SEEDS: u64 = 300;
/// A fault is planted in the whole process: one test at a time.
static PLANTING: Mutex<()> = Mutex::new(());

/// One that can fail: without the sync this is not survived.
#[test]
fn power_cuts_without_sync_lose_something() {
    let _alone = PLANTING.lock();
    plant(Some(Fault::NoFsync));
    let outcome = runner::run_plan(Plan::power_cuts(0, POWER_CUTS));
    plant(None);
    println!("broken: {:?}", outcome.broken.first());
    assert!(!outcome.broken.is_empty());
}

#[test]
fn every_planted_fault_is_found() {
    let from = runner::setting("FANFARE_SIM_FROM", 0);
    let seeds = from..from + runner::setting("FANFARE_SIM_SEEDS", SEEDS);
    let only = std::env::var("FANFARE_SIM_FAULT").ok();
    let wanted = |fault: &Fault| only.as_ref().is_none_or(|only| *only == format!("{fault:?}"));
    let _alone = PLANTING.lock();
    println!("{:<26}{:>6}  broken", "fault", "seed");
    let mut missed = Vec::new();
    for fault in Fault::ALL.into_iter().filter(wanted) {
        plant(Some(fault));
        let found = runner::first_broken(seeds.clone());
        plant(None);
        let name = format!("{fault:?}");
        if let Some((seed, broken)) = found {
            println!("{name:<26}{seed:>6}  {}", broken.chars().take(140).collect::<String>());
        } else {
            println!("{name:<26}  none");
            missed.push(fault);
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
