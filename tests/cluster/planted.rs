//! Takes one guard out after the other, and runs the course that leads to it until what is broken shows.

use std::env;

use fanfare_core::planted::Fault;

use super::{alone, directed::Course, process::Role, setting};

/// What is planted, in the processes of which role, and the course that has to show it.
const PLANTED: [(Fault, Role, Course); 5] = [
    (Fault::ReleasedBeforeDrain, Role::Worker, Course::Handovers),
    (Fault::EpochIgnored, Role::Worker, Course::Zombie),
    (Fault::LocalTimeout, Role::Router, Course::BrokerPauses),
    (Fault::LocalTimeout, Role::Worker, Course::BrokerPauses),
    (Fault::ClaimsAheadOfPosition, Role::Router, Course::RoutersKilled),
];
/// A fault that so many seeds do not find counts as not found.
const SEEDS: u64 = 5;
const SEED: u64 = 1;

#[tokio::test(flavor = "multi_thread")]
async fn every_planted_fault_is_found() {
    let _alone = alone().await;
    let (from, seeds) = (setting("FANFARE_SIM_FROM", SEED), setting("FANFARE_SIM_SEEDS", SEEDS));
    let mut table = Vec::new();
    let mut missed = Vec::new();
    for fault in Fault::ON_KAFKA {
        assert!(PLANTED.iter().any(|(planted, ..)| *planted == fault), "nothing leads to {fault:?}");
    }
    for (fault, role, course) in wanted() {
        let name = format!("{fault:?}, {role:?}");
        let mut found = None;
        for seed in from..from + seeds {
            println!("{name}: {course:?}, seed {seed}");
            let broken = course.run(seed, Some((fault, role))).await;
            if let Some(first) = broken.first() {
                let first: String = first.chars().take(160).collect();
                found = Some(format!("{seed:>6}  {} broken: {first}", broken.len()));
                break;
            }
        }
        if found.is_none() {
            missed.push(name.clone());
        }
        let line = format!("{name:<34}{}", found.as_deref().unwrap_or("  none"));
        println!("{line}");
        table.push(line);
    }
    println!("{:<34}{:>6}  broken\n{}", "fault", "seed", table.join("\n"));
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// With everything in place the same courses show nothing.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_found_where_nothing_is_planted() {
    let _alone = alone().await;
    let seed = setting("FANFARE_SIM_FROM", SEED);
    for course in Course::ALL {
        if !wanted().iter().any(|(_, _, of)| *of == course) {
            continue;
        }
        println!("nothing planted: {course:?}, seed {seed}");
        let broken = course.run(seed, None).await;
        assert!(broken.is_empty(), "{course:?}, seed {seed}\n{}", broken.join("\n"));
    }
}

/// All, or those that were asked for.
fn wanted() -> Vec<(Fault, Role, Course)> {
    let only = env::var("FANFARE_SIM_FAULT").ok();
    let is_wanted = |fault: Fault| only.as_ref().is_none_or(|only| *only == format!("{fault:?}"));
    let wanted: Vec<_> = PLANTED.into_iter().filter(|(fault, ..)| is_wanted(*fault)).collect();
    assert!(!wanted.is_empty(), "there is no fault {only:?}");
    wanted
}
