//! `/api/v1/background-task`: jobs, as clients know them; and how they are made and steered.

use std::{str::FromStr, sync::Arc};

use axum::{Json as Answer, extract::State as Shared};
use fanfare_control::{
    Applied, Command, Effect, Endpoint, Job, JobKind, JobState, OutcomeFilter, Report, Resource, Selection,
    Steer,
};
use fanfare_core::{JobId, MessageEndpointId, Timestamp, limits};
use fanfare_history::Reach;
use fanfare_http::{
    ApiError, Authenticated, FieldError, Fields, List, Order, Page, Path, Query, Routes, Who, paginate,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    State,
    application::shown,
    endpoint::find,
    history::{STATUS_CLASS, refused},
    owner::EndpointPath,
    patch::Patch,
    post::{Post, given},
    report,
};

pub(crate) fn routes() -> Routes<State> {
    let (all, one) = ("/api/v1/background-task", "/api/v1/background-task/{task_id}");
    Routes::new()
        .post("/api/v1/app/{app_id}/endpoint/{endpoint_id}/recover", Who::Application, recover)
        .post("/api/v1/app/{app_id}/endpoint/{endpoint_id}/replay-missing", Who::Application, replay_missing)
        .post("/api/v1/app/{app_id}/endpoint/{endpoint_id}/bulk-replay", Who::Application, bulk_replay)
        .post(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/dead-letter/replay",
            Who::Application,
            replay_dead_letters,
        )
        .get(all, Who::Application, list)
        .get(one, Who::Application, read)
        .post("/api/v1/background-task/{task_id}/pause", Who::Application, pause)
        .post("/api/v1/background-task/{task_id}/resume", Who::Application, resume)
        .post("/api/v1/background-task/{task_id}/cancel", Who::Application, cancel)
}

/// What is to be sent again. Each kind of job takes some of it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SelectionIn {
    since: Option<String>,
    until: Option<String>,
    event_types: Option<Vec<String>>,
    channel: Option<String>,
    tag: Option<String>,
    status: Option<i64>,
    status_code_class: Option<i64>,
    message_ids: Option<Vec<String>>,
    /// Ours.
    max_per_second: Option<i64>,
}

/// Which dead letters; without any field all of the endpoint. So a field that is spelt otherwise must not be passed over,
/// nor one that is `null`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeadLettersIn {
    #[serde(default, deserialize_with = "given")]
    ids: Option<Vec<String>>,
    #[serde(default, deserialize_with = "given")]
    message_ids: Option<Vec<String>>,
    #[serde(default, deserialize_with = "given")]
    since: Option<String>,
    #[serde(default, deserialize_with = "given")]
    until: Option<String>,
    #[serde(default, deserialize_with = "given")]
    event_types: Option<Vec<String>>,
    #[serde(default, deserialize_with = "given")]
    channel: Option<String>,
    #[serde(default, deserialize_with = "given")]
    tag: Option<String>,
    #[serde(default, deserialize_with = "given")]
    status_code_class: Option<i64>,
    max_per_second: Option<i64>,
}

impl DeadLettersIn {
    /// The ids of dead letters, if they are named by these, and all other fields.
    fn split(self) -> Result<(Option<Vec<MessageEndpointId>>, SelectionIn), ApiError> {
        let Self {
            ids,
            message_ids,
            since,
            until,
            event_types,
            channel,
            tag,
            status_code_class,
            max_per_second,
        } = self;
        let mut fields = Fields::default();
        if ids.is_some() {
            fields.check(message_ids.is_none(), "messageIds", "must not stand beside `ids`");
        }
        let ids = ids.map(|ids| parsed(&mut fields, "ids", &ids));
        fields.finish()?;
        let rest = SelectionIn {
            since,
            until,
            event_types,
            channel,
            tag,
            status: None,
            status_code_class,
            message_ids,
            max_per_second,
        };
        Ok((ids, rest))
    }
}

/// The messages of these dead letters, each of which is of the endpoint.
async fn messages_of(
    state: &State,
    endpoint: &Endpoint,
    ids: &[MessageEndpointId],
) -> Result<Vec<String>, ApiError> {
    let reading = state.reading(Reach::Endpoints(endpoint.partition)).await?;
    let mut fields = Fields::default();
    let mut messages = Vec::with_capacity(ids.len());
    for (index, id) in ids.iter().enumerate() {
        let found = reading.history.delivery_by_id(*id).await.map_err(refused)?;
        match found.filter(|row| row.standing.is_dead_letter() && row.endpoint == endpoint.number) {
            Some(row) => messages.push(row.message.id.to_string()),
            None => fields.push(FieldError::body(
                ["ids".to_owned(), index.to_string()],
                "is no dead letter of this endpoint",
            )),
        }
    }
    fields.finish()?;
    Ok(messages)
}

async fn recover(
    state: Shared<State>,
    who: Authenticated,
    path: EndpointPath,
    post: Post<SelectionIn>,
) -> Result<(StatusCode, Answer<TaskOut>), ApiError> {
    create(state, who, path, post, JobKind::Recover).await
}

async fn replay_missing(
    state: Shared<State>,
    who: Authenticated,
    path: EndpointPath,
    post: Post<SelectionIn>,
) -> Result<(StatusCode, Answer<TaskOut>), ApiError> {
    create(state, who, path, post, JobKind::ReplayMissing).await
}

async fn bulk_replay(
    state: Shared<State>,
    who: Authenticated,
    path: EndpointPath,
    post: Post<SelectionIn>,
) -> Result<(StatusCode, Answer<TaskOut>), ApiError> {
    create(state, who, path, post, JobKind::BulkReplay).await
}

/// All, some by filter, or those that are named.
async fn replay_dead_letters(
    Shared(state): Shared<State>,
    who: Authenticated,
    path: EndpointPath,
    post: Post<DeadLettersIn>,
) -> Result<(StatusCode, Answer<TaskOut>), ApiError> {
    let Post { body, key } = post;
    let (ids, mut body) = body.split()?;
    if let Some(ids) = ids {
        let endpoint = find(&state, who, &path).await?;
        body.message_ids = Some(messages_of(&state, &endpoint, &ids).await?);
    }
    create(Shared(state), who, path, Post { body, key }, JobKind::DeadLetters).await
}

async fn create(
    Shared(state): Shared<State>,
    who: Authenticated,
    path: EndpointPath,
    post: Post<SelectionIn>,
    kind: JobKind,
) -> Result<(StatusCode, Answer<TaskOut>), ApiError> {
    let selection = post.body.check(kind, state.gate.clock().now())?;
    let endpoint = find(&state, who, &path).await?;
    let command = state.control().new_job(&endpoint, kind, selection);
    let job = made(&state, state.submit(who, command, post.key).await?)?;
    Ok((StatusCode::ACCEPTED, Answer(TaskOut::of(&job))))
}

impl SelectionIn {
    /// 422 naming all that is wrong.
    fn check(self, kind: JobKind, now: Timestamp) -> Result<Selection, ApiError> {
        let mut fields = Fields::default();
        // Dead letters have an end of their own: all of them may be meant.
        let since = match (&self.since, kind) {
            (None, JobKind::DeadLetters) => Timestamp::ZERO,
            (since, _) => time(&mut fields, "since", since.as_deref()),
        };
        let until = self.until.as_ref().map_or(now, |until| time(&mut fields, "until", Some(until.as_str())));
        fields.check(since <= now, "since", "must not lie in the future");
        fields.check(since <= until, "until", "must not lie before `since`");
        let takes = kind == JobKind::BulkReplay || self.status.is_none();
        fields.check(takes, "status", "is for bulk-replay alone");
        let takes = kind != JobKind::ReplayMissing || self.status_code_class.is_none();
        fields.check(takes, "statusCodeClass", "is not for what was never sent");
        let outcome = self.status.and_then(|status| outcome(&mut fields, status));
        let status_class = self.status_code_class.and_then(|class| {
            let right = [0, 100, 200, 300, 400, 500].contains(&class);
            fields.check(right, "statusCodeClass", STATUS_CLASS);
            u16::try_from(class).ok()
        });
        let per_second = self.max_per_second.and_then(|rate| {
            let most = limits::JOB_PER_SECOND_MAX;
            let right = (1..=i64::from(most)).contains(&rate);
            fields.check(right, "maxPerSecond", format_args!("must be 1 to {most}"));
            u32::try_from(rate).ok()
        });
        let most = limits::EVENT_TYPES_PER_ENDPOINT;
        let few = self.event_types.as_ref().is_none_or(|types| types.len() <= most);
        fields.check(few, "eventTypes", format_args!("must be at most {most}"));
        let messages = self.message_ids.map(|ids| parsed(&mut fields, "messageIds", &ids));
        fields.finish()?;
        Ok(Selection {
            since,
            until: until.min(now),
            event_types: self.event_types,
            channel: self.channel,
            tag: self.tag,
            outcome,
            status_class,
            messages,
            per_second,
            below: None,
        })
    }
}

fn time(fields: &mut Fields, field: &str, text: Option<&str>) -> Timestamp {
    match text.map(Timestamp::from_str) {
        Some(Ok(at)) => return at,
        Some(Err(error)) => fields.wrong(field, error),
        None => fields.wrong(field, "is required: a time such as 2026-01-31T12:00:00Z"),
    }
    Timestamp::ZERO
}

/// As clients number what became of a message.
fn outcome(fields: &mut Fields, status: i64) -> Option<OutcomeFilter> {
    match status {
        0 => Some(OutcomeFilter::Delivered),
        2 => Some(OutcomeFilter::DeadLetter),
        4 => Some(OutcomeFilter::Cancelled),
        1 | 3 => {
            fields.wrong("status", "must be 0, 2 or 4: what is pending is still being delivered");
            None
        }
        _ => {
            fields.wrong("status", "must be 0 (delivered), 2 (failed) or 4 (cancelled)");
            None
        }
    }
}

fn parsed<T: FromStr<Err = fanfare_core::ParseError>>(
    fields: &mut Fields,
    field: &str,
    ids: &[String],
) -> Vec<T> {
    let most = limits::JOB_MESSAGES;
    fields.check((1..=most).contains(&ids.len()), field, format_args!("must be 1 to {most}"));
    let mut parsed = Vec::with_capacity(ids.len().min(most));
    for (index, id) in ids.iter().enumerate().take(most) {
        match id.parse::<T>() {
            Ok(id) => parsed.push(id),
            Err(error) => {
                fields.push(FieldError::body([field.to_owned(), index.to_string()], error.to_string()));
            }
        }
    }
    parsed
}

pub(crate) fn made(state: &State, applied: Applied) -> Result<Arc<Job>, ApiError> {
    match applied {
        Applied::Accepted(Effect::Job(job)) => Ok(job),
        Applied::Repeated(Resource::Job(id)) => {
            let found = state.control().view().job(id).map(Arc::clone);
            found.ok_or_else(|| ApiError::not_found("background task", &id.to_string()))
        }
        Applied::Accepted(_) | Applied::Repeated(_) => unreachable!("the command was on a job"),
    }
}

/// A job as clients know it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TaskOut {
    id: JobId,
    status: &'static str,
    task: &'static str,
    data: Value,
    updated_at: String,
}

impl TaskOut {
    pub(crate) fn of(job: &Job) -> Self {
        let data = if job.kind == JobKind::EraseContents { of_erasure(job) } else { of_sending(job) };
        Self {
            id: job.id,
            status: status(job.state),
            task: task(job.kind),
            data,
            updated_at: shown(job.updated_at),
        }
    }
}

fn of_sending(job: &Job) -> Value {
    let progress = &job.progress;
    let settled = progress.delivered + progress.dead_letters + progress.cancelled;
    json!({
        "appId": job.application,
        "endpointId": job.endpoint,
        "kind": job.kind,
        "state": job.state.as_str(),
        "since": shown(job.selection.since),
        "until": shown(job.selection.until),
        "total": progress.total,
        "sent": progress.injected,
        // As clients of Svix know it.
        "messagesSent": progress.injected,
        "delivered": progress.delivered,
        "deadLettered": progress.dead_letters,
        "cancelled": progress.cancelled,
        "pending": progress.injected.saturating_sub(settled),
        "error": progress.failure,
        "createdAt": shown(job.created_at),
    })
}

/// `erased`: overwritten where they stand. Hidden were all from the beginning.
fn of_erasure(job: &Job) -> Value {
    json!({
        "appId": job.application,
        "kind": job.kind,
        "state": job.state.as_str(),
        "until": shown(job.selection.until),
        "total": job.progress.total,
        "erased": job.progress.erased,
        // As clients of Svix know it.
        "messagesPurged": job.progress.erased,
        "error": job.progress.failure,
        "createdAt": shown(job.created_at),
    })
}

impl TaskOut {
    fn of_report(report: &Report, data: Value) -> Self {
        Self {
            id: report.id,
            status: report::FINISHED,
            task: report::task(&report.kind),
            data,
            updated_at: shown(report.created_at),
        }
    }
}

/// Clients know three; which of ours it is stands in `data`.
fn status(state: JobState) -> &'static str {
    match state {
        JobState::Running | JobState::Paused => "running",
        JobState::Finished | JobState::Cancelled => "finished",
        JobState::Failed => "failed",
    }
}

fn task(kind: JobKind) -> &'static str {
    match kind {
        JobKind::Recover | JobKind::DeadLetters => "endpoint.recover",
        JobKind::ReplayMissing => "endpoint.replay",
        JobKind::BulkReplay => "endpoint.bulk-replay",
        JobKind::EraseContents => "application.purge_content",
    }
}

#[derive(Deserialize)]
struct ListOptions {
    status: Option<String>,
    task: Option<String>,
}

/// A job, or a report that was asked for.
enum Task {
    Job(Arc<Job>),
    Report(Arc<Report>),
}

impl Task {
    fn id(&self) -> JobId {
        match self {
            Self::Job(job) => job.id,
            Self::Report(report) => report.id,
        }
    }

    fn status(&self) -> &'static str {
        match self {
            Self::Job(job) => status(job.state),
            Self::Report(_) => report::FINISHED,
        }
    }

    fn task(&self) -> &'static str {
        match self {
            Self::Job(job) => task(job.kind),
            Self::Report(report) => report::task(&report.kind),
        }
    }

    /// Without what a report says: that takes a look at each.
    fn shown(&self) -> TaskOut {
        match self {
            Self::Job(job) => TaskOut::of(job),
            Self::Report(report) => TaskOut::of_report(report, json!({})),
        }
    }
}

async fn list(
    Shared(state): Shared<State>,
    who: Authenticated,
    Query(options): Query<ListOptions>,
    page: Page,
) -> Result<Answer<List<TaskOut>>, ApiError> {
    state.gate.catch_up().await?;
    let view = state.control().view();
    let own = who.principal().application();
    let jobs = view.jobs(who.organization()).filter(|job| own.is_none_or(|own| job.application == own));
    let reports = view.reports(who.organization()).filter(|_| own.is_none());
    let mut tasks: Vec<Task> = jobs
        .map(|job| Task::Job(Arc::clone(job)))
        .chain(reports.map(|report| Task::Report(Arc::clone(report))))
        .collect();
    tasks.sort_by_key(Task::id);
    tasks.retain(|task| {
        options.status.as_deref().is_none_or(|wanted| wanted == task.status())
            && options.task.as_deref().is_none_or(|wanted| wanted == task.task())
    });
    let key = |task: &Task| task.id().to_string();
    Ok(Answer(paginate(tasks, &page, Order::Descending, key, Task::shown)))
}

/// The job of a path, if it is of whom the token is for.
async fn find_job(state: &State, who: Authenticated, task_id: &str) -> Result<Arc<Job>, ApiError> {
    let unknown = || ApiError::not_found("background task", task_id);
    let id: JobId = task_id.parse().map_err(|_| unknown())?;
    let own = who.principal().application();
    let known = || {
        let job = state.control().view().job(id).map(Arc::clone)?;
        let is_its = job.organization == who.organization() && own.is_none_or(|own| job.application == own);
        is_its.then_some(job)
    };
    state.gate.catch_up().await?;
    known().ok_or_else(unknown)
}

async fn read(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(task_id): Path<String>,
) -> Result<Answer<TaskOut>, ApiError> {
    state.gate.catch_up().await?;
    let report = task_id.parse().ok().and_then(|id| state.control().view().report(id).map(Arc::clone));
    let is_its = |report: &Arc<Report>| {
        report.organization == who.organization() && who.principal().application().is_none()
    };
    if let Some(report) = report.filter(is_its) {
        let data = report::data(&state, &report).await?;
        return Ok(Answer(TaskOut::of_report(&report, data)));
    }
    Ok(Answer(TaskOut::of(&*find_job(&state, who, &task_id).await?)))
}

async fn pause(
    state: Shared<State>,
    who: Authenticated,
    path: Path<String>,
    post: Post<Patch>,
) -> Result<Answer<TaskOut>, ApiError> {
    steer(state, who, path, post, Steer::Pause).await
}

async fn resume(
    state: Shared<State>,
    who: Authenticated,
    path: Path<String>,
    post: Post<Patch>,
) -> Result<Answer<TaskOut>, ApiError> {
    steer(state, who, path, post, Steer::Resume).await
}

async fn cancel(
    state: Shared<State>,
    who: Authenticated,
    path: Path<String>,
    post: Post<Patch>,
) -> Result<Answer<TaskOut>, ApiError> {
    steer(state, who, path, post, Steer::Cancel).await
}

async fn steer(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(task_id): Path<String>,
    _: Post<Patch>,
    order: Steer,
) -> Result<Answer<TaskOut>, ApiError> {
    let job = find_job(&state, who, &task_id).await?;
    let command = Command::SteerJob { application: job.application, id: job.id, order };
    let job = made(&state, state.submit(who, command, None).await?)?;
    Ok(Answer(TaskOut::of(&job)))
}
