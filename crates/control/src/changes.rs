//! What happened to endpoints of late, for those who tell others of it.
//!
//! The view knows how an endpoint is, not what it was before. So what changed is noted as records are applied; of that the
//! last part is remembered. Who stopped for so long that it is forgotten folds `control` again ([`replay_changes`]).

use std::collections::VecDeque;

use fanfare_core::{ApplicationId, EndpointId, Offset, OrganizationId, Timestamp, limits};
use fanfare_log::Log;

use crate::{
    command::{Command, Envelope},
    install::{RunError, read_run},
    model::Endpoint,
    reducer::{Applied, Effect},
    view::View,
};

/// One thing that happened to an endpoint. A record may do two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointChange {
    /// Of the record that did it.
    pub offset: Offset,
    pub at: Timestamp,
    pub organization: OrganizationId,
    pub application: ApplicationId,
    pub endpoint: EndpointId,
    pub uid: Option<Box<str>>,
    pub kind: ChangeKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Created,
    Updated,
    Deleted,
    Enabled,
    /// By hand.
    Disabled,
    /// Because it fails; since when, if that is known.
    DisabledByPolicy {
        failing_since: Option<Timestamp>,
    },
}

/// The last of all changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EndpointChanges {
    all: VecDeque<EndpointChange>,
    /// Of those of records below some may be forgotten.
    known_from: Offset,
}

impl EndpointChanges {
    pub(crate) fn remember(&mut self, change: EndpointChange) {
        if self.all.len() == limits::ENDPOINT_CHANGES_REMEMBERED
            && let Some(forgotten) = self.all.pop_front()
        {
            self.known_from = forgotten.offset.next();
        }
        self.all.push_back(change);
    }

    /// Those of records at or above `from`; `None` where some of them are forgotten.
    pub(crate) fn since(&self, from: Offset) -> Option<impl Iterator<Item = &EndpointChange>> {
        let first = self.all.partition_point(|change| change.offset < from);
        (from >= self.known_from).then(|| self.all.range(first..))
    }
}

/// What the record at `offset` is about to change in the view.
pub(crate) fn changes_of(
    view: &View,
    offset: Offset,
    envelope: &Envelope,
    effect: &Effect,
) -> Vec<EndpointChange> {
    let of = |endpoint: &Endpoint, kind| EndpointChange {
        offset,
        at: envelope.at,
        organization: endpoint.organization,
        application: endpoint.application,
        endpoint: endpoint.id,
        uid: endpoint.settings.uid.as_deref().map(Box::from),
        kind,
    };
    match effect {
        Effect::Endpoint(new) => {
            let old = view.endpoint_by_id(new.application, new.id);
            kinds(old.map(|old| &**old), new, &envelope.command)
                .into_iter()
                .map(|kind| of(new, kind))
                .collect()
        }
        Effect::EndpointDeleted { application, id } => {
            let old = view.endpoint_by_id(*application, *id);
            old.map(|old| of(old, ChangeKind::Deleted)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

fn kinds(old: Option<&Endpoint>, new: &Endpoint, command: &Command) -> Vec<ChangeKind> {
    let Some(old) = old else { return vec![ChangeKind::Created] };
    if old.revision == new.revision {
        return Vec::new();
    }
    if let Command::DisableEndpointByPolicy { failing_since, .. } = command {
        return vec![ChangeKind::DisabledByPolicy { failing_since: *failing_since }];
    }
    let mut kinds = vec![ChangeKind::Updated];
    match (old.settings.disabled, new.settings.disabled) {
        (false, true) => kinds.push(ChangeKind::Disabled),
        (true, false) => kinds.push(ChangeKind::Enabled),
        _ => {}
    }
    kinds
}

/// Changes of records at or above `from`, and how far they were looked for: not all the way, where there are very many.
pub(crate) async fn replay_changes(
    log: &dyn Log,
    from: Offset,
) -> Result<(Vec<EndpointChange>, Offset), RunError> {
    let mut view = View::default();
    let mut found = Vec::new();
    loop {
        let run = read_run(log, view.position()).await?;
        for (offset, envelope) in &run.records {
            let Ok(Applied::Accepted(_)) = view.apply(*offset, envelope) else { continue };
            if *offset >= from {
                found.extend(view.endpoint_changes_since(*offset).into_iter().flatten().cloned());
            }
        }
        view.pass(run.position);
        if run.at_end || found.len() >= limits::ENDPOINT_CHANGES_REMEMBERED {
            return Ok((found, view.position()));
        }
    }
}

#[cfg(test)]
mod tests;
