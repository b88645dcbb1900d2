//! JSON bodies: read, parsed, and errors that name the field.

use axum::extract::{FromRef, FromRequest, Request};
use fanfare_core::limits;
use http::{HeaderMap, header};
use serde::de::{Deserialize, DeserializeOwned};
use serde_json::error::Category;
use serde_path_to_error::Segment;

use crate::{ApiError, FieldError, Gate, read_body};

/// A JSON body of a control-plane request.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<S, T> FromRequest<S> for Json<T>
where
    S: Send + Sync,
    Gate: FromRef<S>,
    T: DeserializeOwned,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        require_json(request.headers())?;
        let memory = Gate::from_ref(state).memory().clone();
        let body = read_body(request.into_body(), limits::BODY_BYTES, &memory).await?;
        parse_json(&body.bytes).map(Self)
    }
}

/// 415 unless the content type is JSON or missing.
pub fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let essence = content_type.to_str().unwrap_or("").split(';').next().unwrap_or("").trim();
    let is_json = essence.eq_ignore_ascii_case("application/json")
        || (essence.starts_with("application/") && essence.ends_with("+json"));
    if is_json { Ok(()) } else { Err(ApiError::unsupported_media_type()) }
}

/// Parses a body, which is an object. The 422 of a failure names the field and the place.
pub fn parse_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    // An array would be taken for the fields in their order, which is nobody's business but ours.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(ApiError::invalid(vec![FieldError::body::<String>(
            [],
            "must be a JSON object, not an array",
        )]));
    }
    // Tracking the path costs; it is done over only when something is wrong.
    serde_json::from_slice(body).map_err(|error| explain::<T>(body, error))
}

/// Reads a value that is JSON already.
pub fn parse_value<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path: Vec<String> = error.path().iter().filter_map(segment).collect();
        ApiError::invalid(vec![FieldError::body(path, error.into_inner().to_string())])
    })
}

fn explain<'a, T: Deserialize<'a>>(body: &'a [u8], plain: serde_json::Error) -> ApiError {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let (path, error) = match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Ok(_) => (Vec::new(), plain),
        Err(error) => {
            let path = error.path().iter().filter_map(segment).collect();
            (path, error.into_inner())
        }
    };
    let field = match error.classify() {
        Category::Data => FieldError::body(path, error.to_string()),
        Category::Syntax | Category::Eof | Category::Io => {
            FieldError::body(path, format!("malformed JSON: {error}")).of_kind("value_error.jsondecode")
        }
    };
    ApiError::invalid(vec![field])
}

fn segment(segment: &Segment) -> Option<String> {
    match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { variant } => Some(variant.clone()),
        Segment::Unknown => None,
    }
}
