//! The outside that publishes and makes endpoints. Whatever fails is sent again, but for a message without a key,
//! which would become two.

use std::{sync::Arc, time::Duration};

use fanfare_control::{ApplicationSettings, Applied, Command, Effect, default_organization};
use fanfare_core::{ApplicationId, signature::SigningKey};
use fanfare_ingest::{AcceptError, Accepted, MessageIn};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    process::Process,
    random::{Random, SeededEntropy},
    receivers::payload,
    story::Publish,
    world::World,
};

/// What the publishers of an application do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Habit {
    /// The next message only after the 202 of the last.
    Sequential,
    /// Each message twice at once, sometimes beside another of the same key.
    Twins,
    /// Makes an endpoint, and publishes as soon as that is answered.
    Endpoints,
    /// Has old messages sent again.
    Again,
}

/// One producer.
#[derive(Clone)]
pub(crate) struct Producer {
    pub(crate) world: Arc<World>,
    pub(crate) application: ApplicationId,
    pub(crate) number: u64,
}

enum Refused {
    /// It may be sent again.
    Passing,
    Conflict,
}

impl Producer {
    /// Until `stop`, and then until what was begun is finished.
    pub(crate) async fn run(self, habit: Habit, stop: CancellationToken) {
        let plan = &self.world.surroundings.plan;
        let mut random = Random::of(plan.seed, "producer", self.number);
        let mut count = 0;
        while !stop.is_cancelled() {
            let pause = match habit {
                Habit::Sequential => random.millis(0..plan.pause_millis),
                Habit::Twins => random.millis(0..plan.pause_millis * 6),
                Habit::Endpoints => random.millis(500..8_000),
                Habit::Again => random.millis(0..plan.pause_millis * 3),
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
            count += 1;
            match habit {
                Habit::Sequential => {
                    let key = random.percent(70).then(|| format!("key {} {count}", self.number));
                    self.publish(&mut random, key).await;
                }
                Habit::Twins => self.twins(&mut random, count).await,
                Habit::Endpoints => {
                    self.world.create_endpoint(self.application, &mut random).await;
                    self.publish(&mut random, None).await;
                }
                Habit::Again => self.send_again(&mut random, count).await,
            }
        }
    }

    async fn twins(&self, random: &mut Random, count: u64) {
        let key = Some(format!("twin {} {count}", self.number));
        let number = self.begin(random, key.clone());
        let mut others = [random.clone(), random.clone(), random.clone()];
        others
            .iter_mut()
            .zip(0..)
            .for_each(|(other, index)| *other = Random::of(other.next(), "twin", index));
        let conflicting = random.percent(30).then(|| self.begin(random, key));
        let [first, second, third] = &mut others;
        tokio::join!(self.send(number, first), self.send(number, second), async {
            if let Some(conflicting) = conflicting {
                sleep(third.millis(0..30)).await;
                self.send(conflicting, third).await;
            }
        });
    }

    async fn publish(&self, random: &mut Random, key: Option<String>) {
        let number = self.begin(random, key);
        self.send(number, random).await;
    }

    fn begin(&self, random: &mut Random, key: Option<String>) -> u32 {
        let history = &self.world.surroundings.history;
        let ordering_key = random
            .percent(80)
            .then(|| format!("order {}", random.below(self.world.surroundings.plan.ordering_keys)));
        let channel = random.percent(40).then(|| random.pick(&["red", "blue"]).to_owned());
        history.publish(Publish {
            application: self.application,
            key,
            ordering_key,
            channel,
            sent_at: history.now(),
            accepted: Vec::new(),
        })
    }

    /// Sends until there is an answer that is final.
    async fn send(&self, number: u32, random: &mut Random) {
        let history = &self.world.surroundings.history;
        let publish = history.publishes()[&number].clone();
        let publish = &publish;
        loop {
            let Some(process) = self.world.process(random) else {
                sleep(random.millis(20..300)).await;
                continue;
            };
            let answer = tokio::select! {
                biased;
                () = process.dead.cancelled() => Err(Refused::Passing),
                answer = send_once(&process, publish, number) => answer,
            };
            match answer {
                Ok(accepted) => return history.accepted(number, accepted.id),
                Err(Refused::Conflict) => return history.note(format_args!("#{number} conflicts")),
                Err(Refused::Passing) if publish.key.is_none() => return,
                Err(Refused::Passing) => {}
            }
            drop(process);
            sleep(random.millis(20..300)).await;
        }
    }
}

async fn send_once(process: &Process, publish: &Publish, number: u32) -> Result<Accepted, Refused> {
    let control = &process.control;
    let known = || control.view().application_by_id(publish.application);
    let application = if let Some(application) = known() {
        application
    } else {
        control.apply_to_end().await.map_err(|_| Refused::Passing)?;
        known().ok_or(Refused::Passing)?
    };
    let message = MessageIn {
        event_type: "thing.happened".to_owned(),
        event_id: None,
        channels: publish.channel.iter().cloned().collect(),
        ordering_key: publish.ordering_key.clone(),
        tags: Vec::new(),
        payload_retention_hours: 90 * 24,
        deliver_at: None,
        only_for: None,
        payload: payload(number),
    };
    let accept = process.ingest.accept(fanfare_ingest::Publish {
        application,
        message,
        idempotency_key: publish.key.clone(),
        traceparent: None,
        memory: None,
    });
    accept.await.map_err(|error| match error {
        AcceptError::Conflict(_) => Refused::Conflict,
        _ => Refused::Passing,
    })
}

impl World {
    /// Sends a command until it is answered; perhaps it is carried out more than once.
    async fn command(&self, random: &mut Random, make: impl Fn(&Process, u64) -> Option<Command>) -> Effect {
        loop {
            if let Some(process) = self.process(random)
                && let Some(command) = make(&process, random.next())
            {
                let answer = tokio::select! {
                    biased;
                    () = process.dead.cancelled() => None,
                    answer = process.control.submit(command, None) => answer.ok(),
                };
                if let Some(Applied::Accepted(effect)) = answer {
                    return effect;
                }
            }
            sleep(random.millis(20..300)).await;
        }
    }

    pub(crate) async fn create_application(&self, random: &mut Random) -> ApplicationId {
        let make = |process: &Process, _| {
            Some(process.control.new_application(default_organization(), ApplicationSettings::default()))
        };
        match self.command(random, make).await {
            Effect::Application(application) => application.id,
            other => panic!("an application was asked for, not {other:?}"),
        }
    }

    pub(crate) async fn create_endpoint(&self, application: ApplicationId, random: &mut Random) {
        let Self { surroundings, .. } = self;
        let settings = surroundings.plan.endpoint(self.next_endpoint());
        let make = |process: &Process, seed| {
            let key = SigningKey::generate_symmetric(&SeededEntropy::new(Random::of(seed, "key", 0)));
            let application = process.control.view().application_by_id(application)?;
            Some(process.control.new_endpoint(&application, settings.clone(), &key))
        };
        match self.command(random, make).await {
            Effect::Endpoint(endpoint) => surroundings.history.endpoint_created(endpoint.number, application),
            other => panic!("an endpoint was asked for, not {other:?}"),
        }
    }
}

/// Longest that a producer needs to finish when nothing is wrong any more.
pub(crate) const FINISH: Duration = Duration::from_mins(2);
