//! The one place that turns errors into HTTP answers.
//!
//! Every error is `application/problem+json` (RFC 9457) with `type`, `title`, `status`, `detail` and our `code`.
//! 422 is `application/json` and its `detail` is the list `[{loc, msg, type}]` that Svix clients parse, unless
//! the client asks for `application/problem+json`: then `detail` is a text and the list is `errors`.

use std::{borrow::Cow, fmt::Display, time::Duration};

use axum::response::{IntoResponse, Response};
use fanfare_core::limits;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const PLAIN_JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The type that draft-ietf-httpapi-ratelimit-headers registers.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
/// A message may quote what the client sent; this much of it.
const DETAIL_CHARACTERS: usize = 400;

/// An error as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    detail: Cow<'static, str>,
    fields: Vec<FieldError>,
    retry_after: Option<Duration>,
    quota: Option<Box<Quota>>,
}

/// What a 429 says beside the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The names of the policies that the request exceeds.
    pub violated: Vec<&'static str>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// One thing wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Where: `body`, `query` or `header`, then the path of names and indexes.
    pub loc: Vec<String>,
    /// What is wrong and what would be right.
    pub msg: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
}

impl FieldError {
    /// A wrong value at a path below the body.
    pub fn body<S: Into<String>>(path: impl IntoIterator<Item = S>, message: impl Into<String>) -> Self {
        Self::at("body", path, message)
    }

    pub fn at<S: Into<String>>(
        place: &str,
        path: impl IntoIterator<Item = S>,
        message: impl Into<String>,
    ) -> Self {
        let loc = std::iter::once(place.to_owned()).chain(path.into_iter().map(Into::into)).collect();
        Self { loc, msg: shortened(message.into()), kind: "value_error" }
    }

    #[must_use]
    pub fn of_kind(mut self, kind: &'static str) -> Self {
        self.kind = kind;
        self
    }
}

/// Gathers what is wrong with a body, so that one answer names it all.
#[derive(Debug, Default)]
pub struct Fields(Vec<FieldError>);

impl Fields {
    /// Notes a wrong value of the body's field.
    pub fn wrong(&mut self, field: &str, message: impl Display) {
        self.0.push(FieldError::body([field], message.to_string()));
    }

    pub fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    /// Notes `message` unless `right`. With `format_args!` it costs nothing when all is well.
    pub fn check(&mut self, right: bool, field: &str, message: impl Display) {
        if !right {
            self.wrong(field, message);
        }
    }

    /// The 422, if anything was noted.
    pub fn finish(self) -> Result<(), ApiError> {
        if self.0.is_empty() { Ok(()) } else { Err(ApiError::invalid(self.0)) }
    }
}

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, detail: detail.into(), fields: Vec::new(), retry_after: None, quota: None }
    }

    /// 400.
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "generic_error", detail)
    }

    /// 400: there are as many as there may be.
    pub fn limit_reached(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "limit_reached", detail)
    }

    /// 401.
    pub fn unauthorized(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "authentication_failed", detail)
    }

    /// 403.
    pub fn forbidden() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "insufficient_access",
            "this token is for one application only; use an organization's token (`fanfare token`)",
        )
    }

    /// 403.
    pub fn read_only() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "insufficient_access",
            "this token only reads; use one that may change things and see secrets",
        )
    }

    /// 404 for a thing (`application`, …) by the id that was asked for.
    pub fn not_found(what: &str, id: &str) -> Self {
        let detail = format!("Entity not found: there is no {what} `{id}`; check its id or uid");
        Self::new(StatusCode::NOT_FOUND, "not_found", shortened(detail))
    }

    /// 409.
    pub fn conflict(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// 413.
    pub fn too_large(limit_bytes: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "payload_too_large",
            format!("the body exceeds the limit of {limit_bytes} bytes; send less or raise the limit"),
        )
    }

    /// 415.
    pub fn unsupported_media_type() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "the body must be JSON; send `content-type: application/json`",
        )
    }

    /// 422 for all that is wrong.
    pub fn invalid(fields: Vec<FieldError>) -> Self {
        let mut error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_error", "");
        error.fields = fields;
        error
    }

    /// 422 for one field of the body.
    pub fn invalid_field(field: &str, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::body([field], message)])
    }

    /// 429 with `Retry-After`: a policy of the operator's, and nothing that the server suffers from.
    pub fn rate_limited(detail: impl Into<Cow<'static, str>>, retry_after: Duration, quota: Quota) -> Self {
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail);
        error.retry_after = Some(retry_after);
        error.quota = Some(Box::new(quota));
        error
    }

    /// 503 with `Retry-After`: the client may send the same again.
    pub fn unavailable(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        error.retry_after = Some(limits::RETRY_AFTER);
        error
    }

    /// 500. What happened is in the log, not in the answer.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "internal error; see the server's log")
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Of a 422: all that is wrong.
    pub fn fields(&self) -> &[FieldError] {
        &self.fields
    }

    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The same answer for a client that accepts `application/problem+json`.
    pub(crate) fn into_problem(self) -> Response {
        self.respond(PROBLEM_JSON, &self.problem())
    }

    /// What `application/problem+json` says of it.
    pub fn problem(&self) -> Value {
        let mut body = self.head(Value::String(self.text()));
        if !self.fields.is_empty() {
            body["errors"] = json!(self.fields);
        }
        body
    }

    /// The same of a part of the body: the fields stand below `place`.
    #[must_use]
    pub fn below(mut self, place: &[String]) -> Self {
        for field in &mut self.fields {
            let at = field.loc.len().min(1);
            field.loc.splice(at..at, place.iter().cloned());
        }
        self
    }

    /// The detail as one text.
    fn text(&self) -> String {
        if self.fields.is_empty() {
            return self.detail.clone().into_owned();
        }
        let texts: Vec<String> =
            self.fields.iter().map(|field| format!("{}: {}", field.loc.join("."), field.msg)).collect();
        texts.join("; ")
    }

    #[allow(clippy::needless_pass_by_value, reason = "json! moves it")]
    fn head(&self, detail: Value) -> Value {
        let mut head = json!({
            "type": format!("urn:fanfare:error:{}", self.code),
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": detail,
        });
        if let Some(quota) = &self.quota {
            head["type"] = QUOTA_EXCEEDED.into();
            head["violated-policies"] = json!(quota.violated);
        }
        head
    }

    fn respond(&self, content_type: HeaderValue, body: &Value) -> Response {
        let mut response = (self.status, body.to_string()).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        if let Some(retry_after) = self.retry_after {
            let seconds = retry_after.as_secs().max(1);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(quota) = &self.quota {
            response.headers_mut().extend(quota.headers.iter().cloned());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.fields.is_empty() {
            return self.into_problem();
        }
        let mut response = self.respond(PLAIN_JSON, &self.head(json!(self.fields)));
        // The request is out of reach here; the surface renders it again if the client prefers the other form.
        response.extensions_mut().insert(self);
        response
    }
}

fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(DETAIL_CHARACTERS) {
        text.truncate(end);
        text.push('…');
    }
    text
}
