//! Jobs: work that takes a while and goes on over restarts. What a job is to do, and how far it came, stands in `control`;
//! who does it reads that, and writes progress now and then.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fanfare_core::{
    ApplicationId, EndpointId, Fingerprint, JobId, MessageId, Offset, OrganizationId, Partition, Timestamp,
    limits,
};
use serde::{Deserialize, Serialize};

/// What is sent again to one endpoint, or erased of one application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub id: JobId,
    pub organization: OrganizationId,
    pub application: ApplicationId,
    /// `None`: it is about the application.
    pub endpoint: Option<EndpointId>,
    pub kind: JobKind,
    pub selection: Selection,
    pub state: JobState,
    pub progress: Progress,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// What ended without success, and is neither delivered nor on its way by now.
    Recover,
    /// What the endpoint wants as it is set now, and was never sent.
    ReplayMissing,
    /// What it was sent, whatever came of it.
    BulkReplay,
    /// Its dead letters.
    DeadLetters,
    /// The contents of all messages of the application are overwritten, where the log can. From the job's making on they
    /// are hidden.
    EraseContents,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Running,
    /// Nothing is injected until somebody resumes it.
    Paused,
    /// Nothing more is sent.
    Cancelled,
    /// All that it injected is settled.
    Finished,
    /// It cannot go on.
    Failed,
}

impl JobState {
    /// Nothing will change any more.
    pub const fn is_ended(self) -> bool {
        match self {
            Self::Running | Self::Paused => false,
            Self::Cancelled | Self::Finished | Self::Failed => true,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
            Self::Finished => "finished",
            Self::Failed => "failed",
        }
    }
}

/// Which messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Selection {
    /// Accepted at or after.
    pub since: Timestamp,
    /// Accepted at or before.
    pub until: Timestamp,
    /// `None`: all. So are the others.
    pub event_types: Option<Vec<String>>,
    pub channel: Option<String>,
    pub tag: Option<String>,
    pub outcome: Option<OutcomeFilter>,
    /// Of the last answer: 100, 200, … or 0 where none came.
    pub status_class: Option<u16>,
    pub messages: Option<Vec<MessageId>>,
    /// Injected in a second at most.
    pub per_second: Option<u32>,
    /// Whose contents are erased: those below this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below: Option<Place>,
}

/// Of `messages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub partition: Partition,
    pub offset: Offset,
}

/// How a message's delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeFilter {
    Delivered,
    DeadLetter,
    Cancelled,
}

/// How far a job came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Messages to be sent, if that is known.
    pub total: Option<u64>,
    pub injected: u64,
    pub delivered: u64,
    pub dead_letters: u64,
    pub cancelled: u64,
    /// Messages whose contents are overwritten.
    #[serde(skip_serializing_if = "is_zero")]
    pub erased: u64,
    /// Why it failed.
    pub failure: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What somebody tells a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Steer {
    Pause,
    Resume,
    Cancel,
}

/// The name of a job in the records that it injects.
pub fn job_number(id: JobId) -> u64 {
    Fingerprint::of(&[b"job", id.as_bytes()]).short()
}

/// All jobs that are remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Jobs {
    all: BTreeMap<JobId, Arc<Job>>,
    by_organization: BTreeMap<OrganizationId, BTreeSet<JobId>>,
    open: BTreeSet<JobId>,
    /// By the names that their records give.
    cancelled: BTreeSet<u64>,
}

impl Jobs {
    pub(crate) fn get(&self, id: JobId) -> Option<&Arc<Job>> {
        self.all.get(&id)
    }

    /// An organization's, by rising id.
    pub(crate) fn of(&self, organization: OrganizationId) -> impl DoubleEndedIterator<Item = &Arc<Job>> {
        let ids = self.by_organization.get(&organization).into_iter().flatten();
        ids.filter_map(|id| self.get(*id))
    }

    /// Those that have not ended, by rising id.
    pub(crate) fn open(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.open.iter().filter_map(|id| self.get(*id))
    }

    pub(crate) fn was_cancelled(&self, number: u64) -> bool {
        self.cancelled.contains(&number)
    }

    pub(crate) fn put(&mut self, job: &Arc<Job>) {
        if job.state.is_ended() {
            self.open.remove(&job.id);
        } else {
            self.open.insert(job.id);
        }
        if job.state == JobState::Cancelled {
            self.cancelled.insert(job_number(job.id));
        }
        self.all.insert(job.id, Arc::clone(job));
        let of_organization = self.by_organization.entry(job.organization).or_default();
        of_organization.insert(job.id);
        // Those that go on are few: the oldest of the others goes.
        if of_organization.len() > limits::JOBS_KEPT
            && let Some(&oldest) = of_organization.iter().find(|id| !self.open.contains(*id))
        {
            of_organization.remove(&oldest);
            self.cancelled.remove(&job_number(oldest));
            self.all.remove(&oldest);
        }
    }
}
