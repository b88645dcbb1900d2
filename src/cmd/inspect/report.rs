//! What `inspect` found, as its JSON says it.

use std::{fmt, num::NonZeroU32, path::PathBuf};

use fanfare_control::{Endpoint, View};
use fanfare_core::{
    Attempt, EndpointNumber, MessageId, Offset, Outcome, Partition, Timestamp, Trigger, lane::HeldBy,
};
use fanfare_delivery::inspect::{LaneState, PartitionState, Query};
use fanfare_log::{Bounds, Topic};
use serde::Serialize;

use crate::settings::Settings;

/// Where it was looked.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    DataDir(PathBuf),
    Kafka { brokers: String, prefix: String },
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// This or [`Self::kafka`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data_dir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kafka: Option<KafkaOut>,
    #[serde(skip)]
    pub(super) place: String,
    pub(crate) at: String,
    /// What this view of a running server can miss.
    pub(crate) note: &'static str,
    pub(crate) installation: Option<InstallationOut>,
    pub(crate) topics: Vec<TopicOut>,
    pub(crate) partitions: Vec<PartitionOut>,
    /// Those with work first.
    pub(crate) lanes: Vec<LaneOut>,
    pub(crate) lane_count: usize,
    /// Oldest first.
    pub(crate) dead_letters: Vec<DeadLetterOut>,
    pub(crate) dead_letter_count: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KafkaOut {
    pub(crate) brokers: String,
    pub(crate) prefix: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InstallationOut {
    pub(crate) id: String,
    pub(crate) message_partitions: u32,
    pub(crate) delivery_partitions: u32,
    pub(crate) applications: usize,
    pub(crate) endpoints: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TopicOut {
    pub(crate) topic: &'static str,
    pub(crate) partition: u32,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PartitionOut {
    pub(crate) partition: u32,
    pub(crate) checkpoint: Option<CheckpointOut>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CheckpointOut {
    pub(crate) epoch: u64,
    /// Facts below are in the lanes' snapshots.
    pub(crate) attempts: u64,
    /// Delivery records below were looked at.
    pub(crate) deliveries: u64,
    /// Per partition of `messages` the highest offset taken.
    pub(crate) highest_source: Vec<PlaceOut>,
    /// Offset ranges of delivery records refused as repeats or gaps.
    pub(crate) refused_ranges: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlaceOut {
    pub(crate) partition: u32,
    pub(crate) offset: u64,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LaneOut {
    pub(crate) endpoint: String,
    pub(crate) application: String,
    pub(crate) url: String,
    pub(crate) disabled: bool,
    pub(crate) partition: u32,
    pub(crate) ordering: &'static str,
    pub(crate) cursor: u64,
    pub(crate) next: u64,
    /// Unsettled deliveries below `next`.
    pub(crate) pending: u64,
    /// Deliveries from `next` on that the lane had no room for.
    pub(crate) behind: u64,
    pub(crate) held_by: Option<&'static str>,
    pub(crate) held_because: Option<String>,
    pub(crate) failing_since: Option<String>,
    /// The message at the cursor, if it waits.
    pub(crate) oldest_message: Option<MessageId>,
    pub(crate) retries: Vec<RetryOut>,
    pub(crate) retry_count: u64,
    /// The newest last.
    pub(crate) attempts: Vec<AttemptOut>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RetryOut {
    pub(crate) offset: u64,
    pub(crate) message: Option<MessageId>,
    pub(crate) attempts: u32,
    pub(crate) due: String,
    /// Negative: it is due.
    pub(crate) due_in_ms: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AttemptOut {
    pub(crate) message: Option<MessageId>,
    pub(crate) offset: u64,
    pub(crate) attempt_number: u32,
    pub(crate) trigger: &'static str,
    pub(crate) outcome: &'static str,
    /// HTTP status; none where no answer came.
    pub(crate) status: Option<u16>,
    pub(crate) error: Option<&'static str>,
    pub(crate) at: String,
    pub(crate) duration_us: u64,
    pub(crate) due: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeadLetterOut {
    /// None once the endpoint is deleted, and where the message was for none.
    pub(crate) endpoint: Option<String>,
    pub(crate) endpoint_number: Option<u32>,
    /// None once retention has taken the record.
    pub(crate) message: Option<MessageId>,
    pub(crate) reason: &'static str,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) at: String,
    /// Of an `idempotency_conflict`: the message that the key stands for.
    pub(crate) first: Option<MessageId>,
    #[serde(skip)]
    pub(super) order: Timestamp,
}

impl Place {
    pub(crate) fn of(settings: &Settings) -> Self {
        match &settings.kafka {
            None => Self::DataDir(settings.data_dir.clone()),
            Some(kafka) => Self::Kafka { brokers: kafka.brokers.clone(), prefix: kafka.prefix.clone() },
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataDir(path) => write!(f, "{}", path.display()),
            Self::Kafka { brokers, prefix } => write!(f, "topics {prefix}* on Kafka at {brokers}"),
        }
    }
}

impl Report {
    pub(crate) fn new(place: &Place, view: &View, now: Timestamp) -> Self {
        let installation = view.installation().map(|installation| InstallationOut {
            id: installation.id.to_string(),
            message_partitions: installation.message_partitions,
            delivery_partitions: installation.delivery_partitions,
            applications: view.application_count(),
            endpoints: view.endpoint_count(),
        });
        let (data_dir, kafka, note) = match place {
            Place::DataDir(path) => {
                let note = "as written to disk; a running server is some milliseconds ahead of it";
                (Some(path.display().to_string()), None, note)
            }
            Place::Kafka { brokers, prefix } => {
                let note = "as the brokers have it; running processes are some milliseconds ahead of it";
                (None, Some(KafkaOut { brokers: brokers.clone(), prefix: prefix.clone() }), note)
            }
        };
        Self {
            data_dir,
            kafka,
            place: place.to_string(),
            at: now.to_string(),
            note,
            installation,
            topics: Vec::new(),
            partitions: Vec::new(),
            lanes: Vec::new(),
            lane_count: 0,
            dead_letters: Vec::new(),
            dead_letter_count: 0,
        }
    }

    pub(crate) fn add_topic(&mut self, topic: Topic, partition: Partition, bounds: Bounds) {
        self.topics.push(TopicOut {
            topic: topic.as_str(),
            partition: partition.0,
            start: bounds.start.0,
            end: bounds.end.0,
        });
    }

    pub(crate) fn add_partition(
        &mut self,
        partition: Partition,
        state: &PartitionState,
        view: &View,
        query: &Query,
    ) {
        let checkpoint = state.checkpoint.as_ref().map(|checkpoint| CheckpointOut {
            epoch: checkpoint.epoch.0,
            attempts: checkpoint.attempts.0,
            deliveries: checkpoint.deliveries.0,
            highest_source: checkpoint
                .highest_source
                .iter()
                .map(|(partition, offset)| PlaceOut { partition: partition.0, offset: offset.0 })
                .collect(),
            refused_ranges: checkpoint.refused.len(),
        });
        self.partitions.push(PartitionOut { partition: partition.0, checkpoint });

        let wanted = |endpoint: &Endpoint| {
            endpoint.partition == partition && query.endpoint.is_none_or(|only| only == endpoint.number)
        };
        for endpoint in view.endpoints().filter(|endpoint| wanted(endpoint)) {
            self.lane_count += 1;
            self.lanes.push(lane(endpoint, state, view, query));
        }
        self.dead_letter_count += state.dead_letter_count;
        self.dead_letters.extend(state.dead_letters.iter().map(|letter| DeadLetterOut {
            endpoint: letter.endpoint.and_then(|number| endpoint_id(view, number)),
            endpoint_number: letter.endpoint.map(|number| number.0),
            message: state.messages.get(&letter.offset).copied(),
            reason: letter.reason.as_str(),
            partition: partition.0,
            offset: letter.offset.0,
            at: letter.at.to_string(),
            first: letter.first,
            order: letter.at,
        }));
        self.trim(query.items);
    }

    /// Keeps memory within what is shown.
    fn trim(&mut self, limit: usize) {
        self.lanes.sort_by(|a, b| {
            (b.pending + b.behind).cmp(&(a.pending + a.behind)).then_with(|| a.endpoint.cmp(&b.endpoint))
        });
        self.lanes.truncate(limit);
        self.dead_letters.sort_by_key(|letter| letter.order);
        let surplus = self.dead_letters.len().saturating_sub(limit);
        self.dead_letters.drain(..surplus);
    }
}

fn endpoint_id(view: &View, number: EndpointNumber) -> Option<String> {
    view.endpoint_by_number(number).map(|endpoint| endpoint.id.to_string())
}

fn lane(endpoint: &Endpoint, state: &PartitionState, view: &View, query: &Query) -> LaneOut {
    let attempts = state.attempts.get(&endpoint.number).into_iter().flatten();
    let base = LaneOut {
        endpoint: endpoint.id.to_string(),
        application: endpoint.application.to_string(),
        url: endpoint.settings.url.clone(),
        disabled: endpoint.settings.disabled,
        partition: endpoint.partition.0,
        attempts: attempts.map(|attempt| attempt_out(attempt, state)).collect(),
        ..LaneOut::default()
    };
    let Some(lane) = state.lanes.get(&endpoint.number) else {
        // Nothing to do: it has looked at everything.
        let ordering = ordering(view.policy(endpoint, &query.policy).ordering);
        return LaneOut { ordering, cursor: state.tail.0, next: state.tail.0, ..base };
    };
    let retries = lane.retries.iter().map(|retry| RetryOut {
        offset: retry.offset.0,
        message: state.messages.get(&retry.offset).copied(),
        attempts: retry.attempts,
        due: retry.due.to_string(),
        due_in_ms: retry.due.as_millis() - query.now.as_millis(),
    });
    let (held_by, held_because) = held(endpoint, lane, state, query.now);
    LaneOut {
        ordering: ordering(lane.ordering),
        cursor: lane.cursor.0,
        next: lane.next.0,
        pending: lane.pending,
        behind: lane.behind,
        held_by,
        held_because,
        failing_since: lane.failing_since.map(|at| at.to_string()),
        oldest_message: (lane.pending > 0).then(|| state.messages.get(&lane.cursor).copied()).flatten(),
        retries: retries.collect(),
        retry_count: lane.retry_count,
        ..base
    }
}

/// Why nothing is sent though something waits, in one word and in a sentence.
fn held(
    endpoint: &Endpoint,
    lane: &LaneState,
    state: &PartitionState,
    now: Timestamp,
) -> (Option<&'static str>, Option<String>) {
    if lane.pending + lane.behind == 0 {
        return (None, None);
    }
    if endpoint.settings.disabled {
        let why = endpoint.disabled_by_policy.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        return (Some("disabled"), Some(format!("the endpoint is disabled{why}")));
    }
    let Some(held_by) = lane.held_by else { return (None, None) };
    let next = lane.retries.iter().min_by_key(|retry| retry.due);
    let (failed, due) = next.map_or_else(Default::default, |retry| {
        let failed = format!("{} failed {}", name(state, retry.offset), times(retry.attempts));
        let due = if retry.due <= now { "now".to_owned() } else { format!("at {}", retry.due) };
        (failed, format!("next attempt due {due}"))
    });
    let because = match held_by {
        HeldBy::Ordering => format!("the messages after it wait in order: {failed}, {due}"),
        // What had failed may have run out of its schedule since.
        HeldBy::Circuit if failed.is_empty() => {
            "the endpoint takes nothing now, it is probed now and then".to_owned()
        }
        HeldBy::Circuit => format!("the endpoint takes nothing now, it is probed now and then: {failed}"),
        HeldBy::Retry => format!("all that is left failed before: {failed}, {due}"),
        HeldBy::Paused => "the endpoint is paused".to_owned(),
        HeldBy::Window => "as much is in flight as may be".to_owned(),
        HeldBy::Throttle => {
            let rate = lane.throttle_rate.map_or(0, NonZeroU32::get);
            format!("its throttleRate, or its application's, lets {rate} attempts a second go")
        }
    };
    (Some(held_by.as_str()), Some(because))
}

fn name(state: &PartitionState, offset: Offset) -> String {
    state.messages.get(&offset).map_or_else(|| format!("offset {offset}"), ToString::to_string)
}

fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

fn attempt_out(attempt: &Attempt, state: &PartitionState) -> AttemptOut {
    AttemptOut {
        message: state.messages.get(&attempt.offset).copied(),
        offset: attempt.offset.0,
        attempt_number: attempt.number,
        trigger: match attempt.trigger {
            Trigger::Scheduled => "scheduled",
            Trigger::Manual => "manual",
        },
        outcome: match attempt.outcome {
            Outcome::Delivered => "delivered",
            Outcome::Failed => "failed",
        },
        status: (attempt.status != 0).then_some(attempt.status),
        error: attempt.error.map(fanfare_core::AttemptError::as_str),
        at: attempt.at.to_string(),
        duration_us: u64::try_from(attempt.duration.as_micros()).unwrap_or(u64::MAX),
        due: attempt.due.map(|due| due.to_string()),
    }
}

fn ordering(ordering: fanfare_core::Ordering) -> &'static str {
    use fanfare_core::Ordering;
    match ordering {
        Ordering::Strict => "strict",
        Ordering::Keyed => "keyed",
        Ordering::Unordered => "unordered",
    }
}
