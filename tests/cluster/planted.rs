//! Takes one guard out after the other, of every process, and runs seeds until random actions notice.

use std::env;

use fanfare_core::planted::Fault;
use fanfare_testkit::kafka::{Cluster, Settings};

use super::{
    alone,
    chaos::{self, Plan},
    setting,
};

/// A fault that so many seeds do not find counts as not found.
const SEEDS: u64 = 5;
const ACTIONS: u64 = 14;

#[tokio::test(flavor = "multi_thread")]
async fn every_planted_fault_is_found() {
    let _alone = alone().await;
    let (from, seeds) = (setting("FANFARE_SIM_FROM", chaos::SEED), setting("FANFARE_SIM_SEEDS", SEEDS));
    let only = env::var("FANFARE_SIM_FAULT").ok();
    let mut table = Vec::new();
    let mut missed = Vec::new();
    for fault in Fault::ON_KAFKA {
        let name = name(fault);
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let mut found = None;
        for seed in from..from + seeds {
            println!("{name}, seed {seed}");
            // The one that only a broker's pause can show.
            let pauses = matches!(fault, Fault::LocalTimeout);
            let broker = pauses.then(|| Cluster::start(&Settings::new(1)).expect("Apache Kafka starts"));
            let plan = Plan { seed, actions: ACTIONS, planted: Some(name), broker };
            let broken = chaos::run(plan).await;
            if let Some(first) = broken.first() {
                found = Some(seed);
                let first: String = first.chars().take(160).collect();
                let line = format!("{name:<24}{seed:>6}  {} broken: {first}", broken.len());
                println!("{line}");
                table.push(line);
                break;
            }
        }
        if found.is_none() {
            table.push(format!("{name:<24}  none"));
            missed.push(name);
        }
    }
    println!("{:<24}{:>6}  broken\n{}", "fault", "seed", table.join("\n"));
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// With everything in place the same seeds, and the broker's pauses, show nothing.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_found_where_nothing_is_planted() {
    let _alone = alone().await;
    let broker = Cluster::start(&Settings::new(1)).expect("Apache Kafka starts");
    let seed = setting("FANFARE_SIM_FROM", chaos::SEED);
    let broken = chaos::run(Plan { seed, actions: ACTIONS, planted: None, broker: Some(broker) }).await;
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

const fn name(fault: Fault) -> &'static str {
    match fault {
        Fault::ReleasedBeforeDrain => "ReleasedBeforeDrain",
        Fault::EpochIgnored => "EpochIgnored",
        Fault::LocalTimeout => "LocalTimeout",
        Fault::ClaimsAheadOfPosition => "ClaimsAheadOfPosition",
        _ => panic!("not one of those that are planted on Kafka"),
    }
}
