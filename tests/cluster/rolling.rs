//! All processes are replaced, one after the other, under a steady load: no publisher notices, and endpoints pause
//! only as long as a handover takes.
//!
//! What a publisher may have to try again is what found nobody behind the address of a front that is being replaced,
//! and then the other front takes it at the first try. While routers and workers go and come nothing is tried again.

use std::{env, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    alone,
    endpoints::{Endpoints, Wanted},
    installation::{DELIVERY_PARTITIONS, Installation},
    load::{Load, Pace, Retry, Trouble},
    process::{Name, Role},
    scene::missing_in_the_end,
};
use crate::support::{judge::out_of_order, wait};

const APPLICATIONS: usize = 4;
/// One message per application in so much time.
const PACE: Duration = Duration::from_millis(50);
/// The session's timeout.
const SESSION: Duration = Duration::from_secs(10);
/// What is promised: a pause when a partition was drained, and on top of the session's timeout when it was not.
const DRAINED: Duration = Duration::from_secs(2);
const KILLED: Duration = Duration::from_secs(3);
/// A publisher that found nobody is there to note it after so long, on a machine that does something else.
const NOTED: Duration = Duration::from_millis(500);

/// What was done to one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Stopped,
    Started,
    Killed,
}

struct Stretch {
    name: Name,
    step: Step,
    from: Instant,
    until: Instant,
}

/// From the request to stop a front until its successor was ready: nobody may be found behind its address.
struct Away {
    address: usize,
    from: Instant,
    until: Instant,
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_restart_is_not_noticed() {
    let _alone = alone().await;
    // Seconds are promised for a machine that is not also building something.
    let leniency = if env::var_os("FANFARE_LONG").is_some() { 1 } else { 2 };
    let mut installation = Installation::new(fanfare_testkit::kafka::shared(), 1);
    for role in [Role::Front, Role::Front, Role::Router, Role::Router, Role::Worker, Role::Worker] {
        installation.start(role).await;
    }
    let wanted = (0..DELIVERY_PARTITIONS as usize).map(|number| Wanted {
        application: number % APPLICATIONS,
        ordering: "strict",
        takes: Duration::from_millis(2),
    });
    let endpoints = Endpoints::start(wanted.collect()).await;
    let mut load = Load::set_up(&installation, &endpoints, APPLICATIONS).await;
    for application in 0..APPLICATIONS {
        load.publish(&installation, application, application as u64, Pace::Steady(PACE));
    }
    let watching = installation.watch.begin(load.unsettled.clone());
    flows(&endpoints).await;

    let (mut stretches, mut away) = (Vec::new(), Vec::new());
    let before: Vec<Name> = installation.running.keys().copied().collect();
    for name in before {
        let (address, stopped) = (installation.address_of(name), Instant::now());
        assert!(installation.take(name).stop().await.success());
        flows(&endpoints).await;
        stretches.push(Stretch { name, step: Step::Stopped, from: stopped, until: Instant::now() });
        let from = Instant::now();
        let name = installation.start(name.0).await;
        away.extend(address.map(|address| Away { address, from: stopped, until: Instant::now() }));
        flows(&endpoints).await;
        stretches.push(Stretch { name, step: Step::Started, from, until: Instant::now() });
    }
    // Once without a word to anybody.
    for role in [Role::Worker, Role::Router] {
        let name = installation.of(role)[0];
        let from = Instant::now();
        installation.take(name).kill();
        sleep(SESSION).await;
        flows(&endpoints).await;
        stretches.push(Stretch { name, step: Step::Killed, from, until: Instant::now() });
    }
    let published = load.stop().await;
    let missing = missing_in_the_end(&endpoints, &published).await;
    installation.stop().await;
    watching.abort();
    installation.watch.look(0);

    assert!(missing.is_empty(), "{}", missing.join("\n"));
    println!("{} publishes were tried again; failed: {:?}", published.retries.len(), published.failed);
    assert!(published.failed.is_empty(), "a retrying client noticed: {:?}", published.failed);
    let needless = needless(&published.retries, &away, &stretches);
    assert!(needless.is_empty(), "tried again without need:\n{}", needless.join("\n"));
    assert!(!published.retries.is_empty(), "two fronts were replaced, and no publisher had to try again");
    let arrivals: Vec<_> = (0..endpoints.wanted().count()).map(|number| endpoints.arrivals(number)).collect();
    for (number, arrivals) in arrivals.iter().enumerate() {
        let late = out_of_order("strict", arrivals, |_| true);
        assert!(late.is_empty(), "endpoint {number}: {late:?} arrived late");
    }
    assert_eq!(installation.watch.seen().errors, Vec::<String>::new());

    let times: Vec<Vec<Instant>> =
        arrivals.iter().map(|arrivals| arrivals.iter().map(|arrival| arrival.at).collect()).collect();
    let mut too_long = Vec::new();
    for stretch in &stretches {
        let mut pauses: Vec<Duration> = times.iter().map(|times| longest_pause(times, stretch)).collect();
        pauses.sort();
        let (middle, longest) = (pauses[pauses.len() / 2], pauses[pauses.len() - 1]);
        println!(
            "{} {:?}: endpoints paused for {middle:.2?} (median), {longest:.2?} (longest)",
            stretch.name, stretch.step
        );
        let limit = match stretch.step {
            Step::Stopped | Step::Started => DRAINED,
            Step::Killed => SESSION + KILLED,
        };
        if longest > limit * leniency {
            too_long.push(format!("{} {:?}: {longest:?}", stretch.name, stretch.step));
        }
    }
    assert!(too_long.is_empty(), "endpoints paused for too long: {too_long:?}");
}

/// Retries that the exit of a front does not explain: while both listened, at the address of the other one, of a
/// message that had been tried already, or after an answer.
fn needless(retries: &[Retry], away: &[Away], stretches: &[Stretch]) -> Vec<String> {
    let is_explained = |retry: &&Retry| {
        let found_nobody = matches!(retry.trouble, Trouble::Nobody(_)) && retry.earlier == 0;
        let explains = |away: &Away| {
            away.address == retry.address && (away.from..=away.until + NOTED).contains(&retry.at)
        };
        found_nobody && away.iter().any(explains)
    };
    let tell = |retry: &Retry| {
        let during = stretches.iter().find(|stretch| (stretch.from..=stretch.until).contains(&retry.at));
        let during = during.map(|stretch| format!("{} {:?}", stretch.name, stretch.step));
        format!(
            "during {}: try {} at address {}: {}",
            during.as_deref().unwrap_or("nothing"),
            retry.earlier + 1,
            retry.address,
            retry.trouble
        )
    };
    retries.iter().filter(|retry| !is_explained(retry)).map(tell).collect()
}

/// Beyond the pace of what is published.
fn longest_pause(times: &[Instant], stretch: &Stretch) -> Duration {
    let during = times.windows(2).filter(|pair| (stretch.from..=stretch.until).contains(&pair[1]));
    let longest = during.map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    longest.saturating_sub(PACE)
}

/// Waits until all endpoints have been given what comes for a while, without a pause.
async fn flows(endpoints: &Endpoints) {
    const WHILE: Duration = Duration::from_millis(1_500);
    const PAUSE: Duration = Duration::from_millis(400);
    let begun = Instant::now();
    wait::until("all endpoints are served", Duration::from_secs(40), async || {
        let since = Instant::now().checked_sub(WHILE).filter(|since| *since > begun)?;
        for number in 0..endpoints.wanted().count() {
            let arrivals = endpoints.arrivals(number);
            let mut times: Vec<Instant> =
                arrivals.iter().rev().map(|arrival| arrival.at).take_while(|at| *at > since).collect();
            times.push(since);
            times.reverse();
            times.push(Instant::now());
            if times.windows(2).any(|pair| pair[1] - pair[0] > PAUSE) {
                return None;
            }
        }
        Some(())
    })
    .await;
}
