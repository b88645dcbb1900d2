//! `/api/v1/event-type`.

use std::sync::Arc;

use axum::{Json as Answer, extract::State as Shared};
use fanfare_control::{
    Applied, Command, CommandError, ControlKey, Effect, EventType, EventTypeSettings, Refusal, Resource,
};
use fanfare_core::{OrganizationId, limits};
use fanfare_http::{
    ApiError, Authenticated, FieldError, Fields, Json, List, NAME_FORM, Order, Page, Path, Query, Routes,
    Who, is_name, paginate,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    State,
    application::shown,
    patch::{Patch, merge},
    post::Post,
    state::{TRIES, change, contended},
};

pub(crate) fn routes() -> Routes<State> {
    let (all, one) = ("/api/v1/event-type", "/api/v1/event-type/{name}");
    Routes::new()
        .get(all, Who::Application, list)
        .post(all, Who::Organization, create)
        .get(one, Who::Application, read)
        .put(one, Who::Organization, upsert)
        .patch(one, Who::Organization, update)
        .delete(one, Who::Organization, archive)
}

/// An event type as clients send it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventTypeForm {
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) archived: Option<bool>,
    pub(crate) deprecated: Option<bool>,
    /// The former form of `featureFlags`: the first of them.
    pub(crate) feature_flag: Option<String>,
    pub(crate) feature_flags: Option<Vec<String>>,
    pub(crate) group_name: Option<String>,
    /// JSON Schemas by version.
    pub(crate) schemas: Option<Value>,
}

/// An event type as clients see it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EventTypeOut {
    #[serde(flatten)]
    form: EventTypeForm,
    created_at: String,
    updated_at: String,
}

/// A form that was found right.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) settings: EventTypeSettings,
    pub(crate) archived: bool,
}

#[derive(Deserialize)]
struct ListOptions {
    #[serde(default)]
    include_archived: bool,
    #[serde(default)]
    with_content: bool,
}

#[derive(Deserialize)]
struct ArchiveOptions {
    #[serde(default)]
    expunge: bool,
}

impl EventTypeForm {
    fn of(event_type: &EventType) -> Self {
        let checked = Checked { settings: event_type.settings.clone(), archived: event_type.archived };
        Self::of_settings(&event_type.name, &checked)
    }

    pub(crate) fn of_settings(name: &str, Checked { settings, archived }: &Checked) -> Self {
        let settings = settings.clone();
        // Those of old have one at most.
        let flags = settings.feature_flags.or_else(|| settings.feature_flag.map(|flag| vec![flag]));
        Self {
            name: Some(name.to_owned()),
            description: Some(settings.description),
            archived: Some(*archived),
            deprecated: Some(settings.deprecated),
            feature_flag: flags.as_ref().and_then(|flags| flags.first().cloned()),
            feature_flags: flags,
            group_name: settings.group_name,
            schemas: settings.schemas,
        }
    }

    /// The settings, and whether it is archived; 422 naming all that is wrong.
    pub(crate) fn check(self, name: &str) -> Result<Checked, ApiError> {
        let mut fields = Fields::default();
        let max = limits::EVENT_TYPE_CHARACTERS;
        fields.check(is_name(name, max), "name", format_args!("must be 1 to {max} characters: {NAME_FORM}"));
        let description = self.description.unwrap_or_default();
        let max = limits::METADATA_BYTES;
        fields.check(description.len() <= max, "description", format_args!("must be at most {max} bytes"));
        let max = limits::NAME_CHARACTERS;
        let right = self.group_name.as_ref().is_none_or(|text| is_name(text, max));
        fields.check(right, "groupName", format_args!("must be 1 to {max} characters: {NAME_FORM}"));
        let flags = self.feature_flags.or_else(|| self.feature_flag.map(|flag| vec![flag]));
        check_flags(&mut fields, flags.as_deref().unwrap_or_default());
        let right = self.schemas.as_ref().is_none_or(Value::is_object);
        fields.check(right, "schemas", "must be an object: JSON Schemas by version");
        fields.finish()?;
        let settings = EventTypeSettings {
            description,
            deprecated: self.deprecated.unwrap_or(false),
            // Programs that know one only know the first.
            feature_flag: flags.as_ref().and_then(|flags| flags.first().cloned()),
            feature_flags: flags.filter(|flags| !flags.is_empty()),
            group_name: self.group_name,
            schemas: self.schemas,
        };
        Ok(Checked { settings, archived: self.archived.unwrap_or(false) })
    }
}

fn check_flags(fields: &mut Fields, flags: &[String]) {
    let (count, characters) = (limits::FEATURE_FLAGS, limits::NAME_CHARACTERS);
    fields.check(flags.len() <= count, "featureFlags", format_args!("must be at most {count}"));
    for (index, flag) in flags.iter().enumerate().take(count) {
        if !is_name(flag, characters) {
            let message = format!("must be 1 to {characters} characters: {NAME_FORM}");
            fields.push(FieldError::body(["featureFlags".to_owned(), index.to_string()], message));
        }
    }
}

impl EventTypeOut {
    fn of(event_type: &EventType) -> Self {
        Self {
            form: EventTypeForm::of(event_type),
            created_at: shown(event_type.created_at),
            updated_at: shown(event_type.updated_at),
        }
    }
}

async fn list(
    Shared(state): Shared<State>,
    who: Authenticated,
    page: Page,
    Query(options): Query<ListOptions>,
) -> Result<Answer<List<EventTypeOut>>, ApiError> {
    state.gate.catch_up().await?;
    let view = state.control().view();
    let event_types = view.event_types(who.organization());
    let event_types = event_types.filter(|event_type| options.include_archived || !event_type.archived);
    let key = |event_type: &&Arc<EventType>| event_type.name.clone();
    Ok(Answer(paginate(event_types, &page, Order::Ascending, key, |event_type| {
        let mut out = EventTypeOut::of(event_type);
        if !options.with_content {
            out.form.schemas = None;
        }
        out
    })))
}

async fn create(
    Shared(state): Shared<State>,
    who: Authenticated,
    post: Post<EventTypeForm>,
) -> Result<(StatusCode, Answer<EventTypeOut>), ApiError> {
    let organization = who.organization();
    let name = post.body.name.clone().unwrap_or_default();
    let checked = post.body.check(&name)?;
    let event_type = submit_creation(&state, who, (organization, &name), checked, post.key).await?;
    Ok((StatusCode::CREATED, Answer(EventTypeOut::of(&event_type))))
}

async fn submit_creation(
    state: &State,
    who: Authenticated,
    (organization, name): (OrganizationId, &str),
    Checked { settings, archived }: Checked,
    key: Option<ControlKey>,
) -> Result<Arc<EventType>, CommandOr> {
    let command = Command::CreateEventType { organization, name: name.to_owned(), archived, settings };
    let applied = state.submit(who, command, key).await.map_err(CommandOr::Command)?;
    made(state, applied).map_err(CommandOr::Api)
}

/// A command's own error, which the caller may want to look at, or one that is ready to be answered.
enum CommandOr {
    Command(CommandError),
    Api(ApiError),
}

impl From<CommandOr> for ApiError {
    fn from(error: CommandOr) -> Self {
        match error {
            CommandOr::Command(error) => Self::from(error),
            CommandOr::Api(error) => error,
        }
    }
}

/// The event type that a command left.
fn made(state: &State, applied: Applied) -> Result<Arc<EventType>, ApiError> {
    match applied {
        Applied::Accepted(Effect::EventType(event_type)) => Ok(event_type),
        Applied::Repeated(Resource::EventType { organization, name }) => {
            let found = state.control().view().event_type(organization, &name);
            found.ok_or_else(|| ApiError::not_found("event type", &name))
        }
        Applied::Accepted(_) | Applied::Repeated(_) => unreachable!("the command was on an event type"),
    }
}

async fn find(state: &State, organization: OrganizationId, name: &str) -> Result<Arc<EventType>, ApiError> {
    let known = || state.control().view().event_type(organization, name);
    if let Some(found) = known() {
        return Ok(found);
    }
    state.gate.catch_up().await?;
    known().ok_or_else(|| ApiError::not_found("event type", name))
}

async fn read(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(name): Path<String>,
) -> Result<Answer<EventTypeOut>, ApiError> {
    Ok(Answer(EventTypeOut::of(&*find(&state, who.organization(), &name).await?)))
}

async fn upsert(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(name): Path<String>,
    Json(form): Json<EventTypeForm>,
) -> Result<(StatusCode, Answer<EventTypeOut>), ApiError> {
    let checked = form.check(&name)?;
    let (status, event_type) = put(&state, who, (who.organization(), &name), &checked).await?;
    Ok((status, Answer(EventTypeOut::of(&event_type))))
}

/// Makes the event type what it is to be: 201 where there was none.
pub(crate) async fn put(
    state: &State,
    who: Authenticated,
    (organization, name): (OrganizationId, &str),
    checked: &Checked,
) -> Result<(StatusCode, Arc<EventType>), ApiError> {
    for _ in 0..TRIES {
        match replace(state, who, (organization, name), |_| Ok(checked.clone())).await {
            Err(error) if error.status() == StatusCode::NOT_FOUND => {}
            replaced => return Ok((StatusCode::OK, replaced?)),
        }
        match submit_creation(state, who, (organization, name), checked.clone(), None).await {
            // Somebody else made it meanwhile.
            Err(CommandOr::Command(CommandError::Refused(Refusal::EventTypeExists(_)))) => {}
            created => return Ok((StatusCode::CREATED, created?)),
        }
    }
    Err(contended())
}

async fn update(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(name): Path<String>,
    Json(mut patch): Json<Patch>,
) -> Result<Answer<EventTypeOut>, ApiError> {
    let organization = who.organization();
    patch.remove("name");
    // Whatever form is used replaces both; where both are, both must be right.
    if patch.contains_key("featureFlags") && !patch.contains_key("featureFlag") {
        patch.insert("featureFlag".to_owned(), Value::Null);
    }
    if let Some(flag) = patch.get("featureFlag").cloned()
        && !patch.contains_key("featureFlags")
    {
        let flags = if flag.is_null() { flag } else { Value::Array(vec![flag]) };
        patch.insert("featureFlags".to_owned(), flags);
    }
    let patched = |event_type: &EventType| merge(&EventTypeForm::of(event_type), &patch, &[])?.check(&name);
    let event_type = replace(&state, who, (organization, &name), patched).await?;
    Ok(Answer(EventTypeOut::of(&event_type)))
}

/// Gives the event type other settings, which may depend on those it has.
async fn replace(
    state: &State,
    who: Authenticated,
    (organization, name): (OrganizationId, &str),
    form: impl Fn(&EventType) -> Result<Checked, ApiError> + Sync,
) -> Result<Arc<EventType>, ApiError> {
    let applied = change(state, who, || async {
        let event_type = find(state, organization, name).await?;
        let Checked { settings, archived } = form(&event_type)?;
        Ok(Command::UpdateEventType {
            organization,
            name: name.to_owned(),
            expected_revision: Some(event_type.revision),
            archived: Some(archived),
            settings,
        })
    });
    made(state, applied.await?)
}

async fn archive(
    Shared(state): Shared<State>,
    who: Authenticated,
    Path(name): Path<String>,
    Query(options): Query<ArchiveOptions>,
) -> Result<StatusCode, ApiError> {
    let organization = who.organization();
    find(&state, organization, &name).await?;
    let command = Command::ArchiveEventType { organization, name, expunge: options.expunge };
    state.submit(who, command, None).await?;
    Ok(StatusCode::NO_CONTENT)
}
