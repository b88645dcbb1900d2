//! Jobs: made and steered by somebody, carried on by Fanfare.

use std::sync::Arc;

use fanfare_core::{ApplicationId, JobId, Timestamp, limits};

use super::{Effect, Refusal, application, endpoint};
use crate::{
    command::Command,
    jobs::{Job, JobKind, JobState, Progress, Steer},
    view::View,
};

pub(super) fn create(view: &View, at: Timestamp, command: &Command) -> Result<Effect, Refusal> {
    let Command::CreateJob { id, application: owner, endpoint: target, kind, selection } = command else {
        unreachable!("it was just looked at")
    };
    if view.job(*id).is_some() {
        return Err(Refusal::IdTaken(id.to_string()));
    }
    let organization = application(view, *owner)?.organization;
    let erases = *kind == JobKind::EraseContents;
    match target {
        Some(target) if !erases => drop(endpoint(view, *owner, *target)?),
        None if erases && selection.below.is_some() => {}
        _ => return Err(Refusal::WrongJob(*id)),
    }
    let open = view.open_jobs().filter(|job| (job.application, job.endpoint) == (*owner, *target)).count();
    if open >= limits::JOBS_PER_ENDPOINT {
        return Err(Refusal::TooManyJobs);
    }
    Ok(Effect::Job(Arc::new(Job {
        id: *id,
        organization,
        application: *owner,
        endpoint: *target,
        kind: *kind,
        selection: selection.as_ref().clone(),
        state: JobState::Running,
        progress: Progress::default(),
        created_at: at,
        updated_at: at,
    })))
}

/// To tell a job twice is as good as once.
pub(super) fn steer(
    view: &View,
    at: Timestamp,
    (owner, id): (ApplicationId, JobId),
    order: Steer,
) -> Result<Effect, Refusal> {
    let old = view.job(id).filter(|job| job.application == owner).ok_or(Refusal::NoJob(id))?;
    if old.kind == JobKind::EraseContents {
        return Err(Refusal::ErasesToTheEnd(id));
    }
    let state = match order {
        Steer::Pause => JobState::Paused,
        Steer::Resume => JobState::Running,
        Steer::Cancel => JobState::Cancelled,
    };
    if old.state == state {
        return Ok(Effect::Job(Arc::clone(old)));
    }
    if old.state.is_ended() {
        return Err(Refusal::JobEnded(id));
    }
    Ok(Effect::Job(Arc::new(Job { state, updated_at: at, ..old.as_ref().clone() })))
}

/// Of two that carry on the same job, what is said later counts.
pub(super) fn note(
    view: &View,
    at: Timestamp,
    id: JobId,
    progress: &Progress,
    ended: Option<JobState>,
) -> Result<Effect, Refusal> {
    let old = view.job(id).ok_or(Refusal::NoJob(id))?;
    let state = ended.filter(|_| !old.state.is_ended()).unwrap_or(old.state);
    let progress = progress.clone();
    Ok(Effect::Job(Arc::new(Job { state, progress, updated_at: at, ..old.as_ref().clone() })))
}
