//! Reports: counts that were asked for as a background task. What is to be counted stands in `control`; it is counted when
//! somebody looks, from tables that every process has, so that no result has to be kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fanfare_core::{ApplicationId, JobId, OrganizationId, Timestamp, limits};
use serde::{Deserialize, Serialize};

/// A report that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub id: JobId,
    pub organization: OrganizationId,
    pub kind: ReportKind,
    pub created_at: Timestamp,
}

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ReportKind {
    /// Deliveries of messages that were accepted in a time, by application.
    Usage {
        since: Timestamp,
        until: Timestamp,
        /// `None`: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        applications: Option<Vec<ApplicationId>>,
    },
    /// Event types that endpoints are limited to, by application.
    EventTypes,
}

/// Those that are remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reports {
    all: BTreeMap<JobId, Arc<Report>>,
    by_organization: BTreeMap<OrganizationId, BTreeSet<JobId>>,
}

impl Reports {
    pub(crate) fn get(&self, id: JobId) -> Option<&Arc<Report>> {
        self.all.get(&id)
    }

    /// An organization's, by rising id.
    pub(crate) fn of(&self, organization: OrganizationId) -> impl DoubleEndedIterator<Item = &Arc<Report>> {
        let ids = self.by_organization.get(&organization).into_iter().flatten();
        ids.filter_map(|id| self.get(*id))
    }

    pub(crate) fn put(&mut self, report: &Arc<Report>) {
        self.all.insert(report.id, Arc::clone(report));
        let of_organization = self.by_organization.entry(report.organization).or_default();
        of_organization.insert(report.id);
        if of_organization.len() > limits::REPORTS_KEPT
            && let Some(oldest) = of_organization.pop_first()
        {
            self.all.remove(&oldest);
        }
    }
}
