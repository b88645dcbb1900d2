//! The topics of an installation on Kafka: what they must be, what they are, and what makes the one into the other.
//!
//! - [`plan`]: what [`apply`] would do, in words
//! - [`apply`]: makes what is missing and changes settings; never removes, never adds partitions to what is there
//! - [`delete`]: removes all of them
//! - [`create`]: makes what is missing at a first start, and refuses to fill a gap in an installation with records
//! - [`check`]: whether the topics can be worked with, and how large a record may be
//! - `changed`: whether they are still the same, while they are worked with
//! - [`first_of_control`]: what the installation was made with, for the check to compare with
//!
//! The number of partitions is fixed when a topic is made: offsets and the places of applications and endpoints rest
//! on it. A topic that was deleted and made again is another incarnation: same name, other id, its records gone.

mod admin;
mod check;
mod error;
mod first;
mod found;
mod plan;
mod reach;
mod report;
mod requests;
#[cfg(test)]
mod tests;
mod wanted;

use std::collections::BTreeMap;

use bytes::Bytes;

use self::{admin::Admin, plan::Plan, wanted::Wanted};
pub use self::{
    error::Error,
    report::{Level, Line, Report},
    wanted::BESIDE_BODY_BYTES,
};
use super::Options;
use crate::contract::Topic;

const CONTROL: &str = Topic::Control.as_str();

/// Topic ids by the topics' short names (`messages`), as the first control record keeps them.
pub type Incarnations = BTreeMap<String, String>;

/// What the first record of `control` says of the topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// None of a topic that is not to be checked.
    pub incarnations: Incarnations,
    /// Of `messages` and `dedup`.
    pub message_partitions: u32,
    /// Of `deliveries`, `attempts`, `lanes` and `load`.
    pub delivery_partitions: u32,
}

/// `max.message.bytes` by the topics' names on Kafka: the most that is taken at once, with what Kafka puts around it.
pub type BatchBytes = BTreeMap<String, u64>;

/// What a check found.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Checked {
    pub report: Report,
    /// Of the topics that are there.
    pub incarnations: Incarnations,
    /// Largest record that `messages` takes: head, payload and what Kafka puts around them.
    pub record_bytes: u64,
    /// Of the topics that are there and whose brokers tell it.
    pub batch_bytes: BatchBytes,
}

/// What `apply` would do.
pub async fn plan(options: &Options) -> Result<Report, Error> {
    with_admin(options, |admin, wanted| Ok(Plan::new(wanted, &admin.find(wanted)?).into_report())).await
}

/// Makes what is missing, and sets what is set otherwise than the options say.
pub async fn apply(options: &Options) -> Result<Report, Error> {
    with_admin(options, |admin, wanted| {
        let plan = Plan::new(wanted, &admin.find(wanted)?);
        admin.create(&plan.create)?;
        admin.change(&plan.change)?;
        Ok(plan.into_report().done())
    })
    .await
}

/// Removes the topics of an installation, and everything in them; `go`: not only in words.
pub async fn delete(options: &Options, go: bool) -> Result<Report, Error> {
    with_admin(options, move |admin, wanted| {
        let found = admin.find_bare(wanted)?;
        let mut report = Report::default();
        for name in found.keys() {
            report.say(Level::Change, format!("{name} will be deleted, with all its records"));
        }
        if !go {
            return Ok(report);
        }
        admin.delete(&found.keys().map(String::as_str).collect::<Vec<_>>())?;
        Ok(report.done())
    })
    .await
}

/// Makes the topics of a new installation; several processes may do so at once. Where some are there and hold records,
/// a missing one was deleted: that is for an operator to decide on, with [`apply`].
pub async fn create(options: &Options) -> Result<Report, Error> {
    with_admin(options, |admin, wanted| {
        let found = admin.find(wanted)?;
        let missing: Vec<Wanted> =
            wanted.iter().filter(|topic| !found.contains_key(&topic.name)).cloned().collect();
        if missing.is_empty() {
            return Ok(Report::default());
        }
        if let Some(holding) = admin.first_with_records(&found)?
            // Another process may have made them and begun to work meanwhile.
            && admin.find(&missing)?.len() < missing.len()
        {
            return Err(Error::Gap {
                missing: report::names(missing.iter().map(|topic| &topic.name)),
                holding,
            });
        }
        admin.create(&missing)?;
        Ok(Plan { create: missing, ..Plan::default() }.into_report().done())
    })
    .await
}

/// The head of the first record of `control`, by which the installation was made; `None` before that.
pub async fn first_of_control(options: &Options) -> Result<Option<Bytes>, Error> {
    let config = super::client::reader_config(options);
    with_admin(options, move |admin, wanted| {
        let control: Vec<Wanted> = wanted.iter().filter(|topic| topic.topic == CONTROL).cloned().collect();
        let found = admin.find(&control)?;
        match admin.first_with_records(&found)? {
            Some(name) => first::read(&config, admin.brokers(), &name).map(Some),
            None => Ok(None),
        }
    })
    .await
}

/// Looks at the topics as they are. `recorded`: what the installation's first control record says of them, if it has
/// one already.
pub async fn check(options: &Options, recorded: Option<&Recorded>) -> Result<Checked, Error> {
    let recorded = recorded.cloned();
    with_admin(options, move |admin, wanted| {
        let found = admin.find(wanted)?;
        Ok(check::check(wanted, &found, recorded.as_ref()))
    })
    .await
}

/// What of the topics is not any more as it was: gone, another incarnation than that, or with other partitions.
pub(super) async fn changed(options: &Options, incarnations: Incarnations) -> Result<Report, Error> {
    let recorded = Recorded {
        incarnations,
        message_partitions: options.message_partitions,
        delivery_partitions: options.delivery_partitions,
    };
    with_admin(options, move |admin, wanted| {
        Ok(check::same_topics(wanted, &admin.find_bare(wanted)?, Some(&recorded)))
    })
    .await
}

/// The id of a topic of the user's; makes the topic for its dead letters if that is not there.
pub(super) async fn user_topic(options: &Options, topic: &str, dead_letters: &str) -> Result<String, Error> {
    let (topic, aside) = (topic.to_owned(), Wanted::for_dead_letters(options, dead_letters));
    with_admin(options, move |admin, wanted| {
        for name in [&topic, &aside.name] {
            if wanted.iter().any(|own| own.name == *name) {
                return Err(Error::Own(name.clone()));
            }
        }
        let id = admin.id(&topic)?;
        let id = id.ok_or_else(|| Error::NoTopic { brokers: admin.brokers(), topic: topic.clone() })?;
        if admin.id(&aside.name)?.is_none() {
            admin.create(std::slice::from_ref(&aside))?;
        }
        Ok(id)
    })
    .await
}

/// How much each topic takes now.
pub(super) async fn batch_bytes(options: &Options) -> Result<BatchBytes, Error> {
    with_admin(options, |admin, wanted| Ok(check::batch_bytes(&admin.find(wanted)?))).await
}

/// The options with the numbers of partitions that the topics have. What is missing is for [`check`] to tell.
pub(super) async fn as_found(options: Options) -> Result<Options, Error> {
    let found = with_admin(&options, Admin::find).await?;
    let partitions = |topic: Topic| {
        let name = format!("{}{}", options.prefix, topic.as_str());
        found.get(&name).map(|topic| topic.partitions)
    };
    let message_partitions = partitions(Topic::Messages).unwrap_or(options.message_partitions);
    let delivery_partitions = partitions(Topic::Deliveries).unwrap_or(options.delivery_partitions);
    Ok(Options { message_partitions, delivery_partitions, ..options })
}

/// The client for Kafka blocks, also when it is dropped.
async fn with_admin<T: Send + 'static>(
    options: &Options,
    work: impl FnOnce(&Admin, &[Wanted]) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    if let Some(setting) = options.own_setting() {
        let cause = "Fanfare chooses it: order, durability or claims rest on it".to_owned();
        return Err(Error::Setting { setting: setting.to_owned(), cause });
    }
    let options = options.clone();
    let blocking = tokio::task::spawn_blocking(move || {
        let admin = Admin::connect(&options)?;
        work(&admin, &wanted::all(&options))
    });
    blocking.await.expect("nothing in it panics, and nobody aborts it")
}
