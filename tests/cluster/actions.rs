//! Random things that happen to the processes of an installation. One seed gives one sequence.

use std::{fmt, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    installation::Installation,
    judge::{Disturbance, Kind},
    process::{Name, Role},
};
use crate::support::random::Random;

/// Longer than a member may be silent, so that its partitions are somebody else's when it wakes.
const FROZEN: Duration = Duration::from_millis(11_500);
/// So many actions come between a freeze and its thaw.
const BETWEEN: u64 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Start(Role),
    Stop(Name),
    Kill(Name),
    Freeze(Name),
    Thaw(Name),
}

/// Carries actions out, and remembers what may be followed by repeats.
pub(crate) struct Actions {
    random: Random,
    number: u64,
    frozen: Vec<(Name, u64)>,
    pub(crate) disturbances: Vec<Disturbance>,
}

/// How many processes of a role there may be, and how many of them have to be awake.
const fn bounds(role: Role) -> (usize, usize) {
    match role {
        Role::Front => (2, 1),
        Role::Router => (3, 1),
        Role::Worker => (4, 2),
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(role) => write!(f, "start a {role:?}"),
            Self::Stop(name) => write!(f, "stop {name} (SIGTERM)"),
            Self::Kill(name) => write!(f, "kill -9 {name}"),
            Self::Freeze(name) => write!(f, "freeze {name} (SIGSTOP)"),
            Self::Thaw(name) => write!(f, "thaw {name} (SIGCONT)"),
        }
    }
}

impl Actions {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Random::seeded(seed), number: 0, frozen: Vec::new(), disturbances: Vec::new() }
    }

    /// One more action, and a pause after it.
    pub(crate) async fn next(&mut self, installation: &mut Installation) {
        self.number += 1;
        let action = self.choose(installation);
        println!("action {:>2}: {action}", self.number);
        self.carry_out(installation, action).await;
        sleep(self.random.millis(300..3_000)).await;
    }

    /// Everybody is awake when this returns.
    pub(crate) async fn finish(&mut self, installation: &mut Installation) {
        while let Some(&(name, _)) = self.frozen.first() {
            println!("at the end: {}", Action::Thaw(name));
            self.carry_out(installation, Action::Thaw(name)).await;
        }
    }

    fn choose(&mut self, installation: &Installation) -> Action {
        if let Some(&(name, since)) = self.frozen.first()
            && self.number > since + BETWEEN
        {
            return Action::Thaw(name);
        }
        loop {
            let role = match self.random.below(10) {
                0 => Role::Front,
                1..=3 => Role::Router,
                _ => Role::Worker,
            };
            let is_frozen = |name: &Name| self.frozen.iter().any(|(frozen, _)| frozen == name);
            let all = installation.of(role);
            let awake: Vec<Name> = all.iter().copied().filter(|name| !is_frozen(name)).collect();
            let (most, least) = bounds(role);
            let draw = self.random.below(10);
            let victim = awake[usize::try_from(self.random.below(awake.len() as u64)).expect("few")];
            match draw {
                0..=3 if all.len() < most => return Action::Start(role),
                4 | 5 if awake.len() > least => return Action::Stop(victim),
                6 | 7 if awake.len() > least => return Action::Kill(victim),
                8 | 9 if awake.len() > least => return Action::Freeze(victim),
                _ => {}
            }
        }
    }

    async fn carry_out(&mut self, installation: &mut Installation, action: Action) {
        match action {
            Action::Start(role) => drop(installation.start(role).await),
            Action::Stop(name) => {
                let status = installation.take(name).stop().await;
                assert!(status.success(), "{name}: {status}");
            }
            Action::Kill(name) => {
                self.disturb(name, Kind::Killed);
                installation.take(name).kill();
            }
            Action::Freeze(name) => {
                self.disturb(name, Kind::Frozen);
                installation.running.get_mut(&name).expect("it runs").freeze();
                self.frozen.push((name, self.number));
            }
            Action::Thaw(name) => {
                let process = installation.running.get_mut(&name).expect("a frozen process is left alone");
                let frozen_at = process.frozen_at.expect("it is frozen");
                tokio::time::sleep_until(frozen_at + FROZEN).await;
                self.disturb(name, Kind::Thawed);
                process.thaw();
                self.frozen.retain(|(frozen, _)| *frozen != name);
            }
        }
    }

    /// Only who delivers can deliver twice.
    fn disturb(&mut self, name: Name, kind: Kind) {
        if name.0 == Role::Worker {
            self.disturbances.push(Disturbance { kind, at: Instant::now() });
        }
    }
}
