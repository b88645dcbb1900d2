//! The fields that a tour must miss when they are not there.

use crate::tours::Language;

/// A field of the answers of some route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) method: &'static str,
    /// `*` stands for one segment.
    pub(crate) path: &'static str,
    pub(crate) status: u16,
    /// Names, and `*` for every item of a list, with dots between.
    pub(crate) name: &'static str,
}

/// (method, path, status, names)
type Row = (&'static str, &'static str, u16, &'static [&'static str]);

const APP: &str = "/api/v1/app";
const ONE_APP: &str = "/api/v1/app/*";
const ENDPOINT: &str = "/api/v1/app/*/endpoint";
const ONE_ENDPOINT: &str = "/api/v1/app/*/endpoint/*";
const MESSAGE: &str = "/api/v1/app/*/msg";
const ONE_MESSAGE: &str = "/api/v1/app/*/msg/*";
const ATTEMPTS: &str = "/api/v1/app/*/attempt/msg/*";
const EVENT_TYPE: &str = "/api/v1/event-type";
const ONE_EVENT_TYPE: &str = "/api/v1/event-type/*";
const PORTAL: &str = "/api/v1/auth/app-portal-access/*";

/// Read by every tour.
const ALL: &[Row] = &[
    ("POST", APP, 201, &["id", "uid", "name", "metadata", "throttleRate", "createdAt", "updatedAt"]),
    ("GET", ONE_APP, 200, &["id", "uid", "name", "metadata", "throttleRate", "createdAt"]),
    ("PATCH", ONE_APP, 200, &["name", "uid", "metadata"]),
    ("PUT", ONE_APP, 200, &["id", "name", "metadata"]),
    ("GET", APP, 200, &["data", "iterator", "prevIterator", "done", "data.*.uid"]),
    ("POST", APP, 409, &["code", "detail"]),
    ("POST", APP, 422, &["detail", "detail.*.loc", "detail.*.msg", "detail.*.type"]),
    ("GET", ONE_APP, 404, &["code", "detail"]),
    ("GET", ONE_APP, 401, &["code", "detail"]),
    ("GET", APP, 403, &["code", "detail"]),
    (
        "POST",
        EVENT_TYPE,
        201,
        &[
            "name",
            "description",
            "schemas",
            "groupName",
            "featureFlags",
            "archived",
            "createdAt",
            "updatedAt",
        ],
    ),
    ("PATCH", ONE_EVENT_TYPE, 200, &["description", "deprecated"]),
    ("PUT", ONE_EVENT_TYPE, 200, &["name", "description"]),
    ("GET", ONE_EVENT_TYPE, 200, &["schemas", "archived"]),
    ("GET", EVENT_TYPE, 200, &["data", "done", "data.*.name"]),
    ("POST", "/api/v1/event-type/import/openapi", 200, &["data", "data.modified", "data.to_modify"]),
    (
        "POST",
        ENDPOINT,
        201,
        &[
            "id",
            "url",
            "uid",
            "description",
            "channels",
            "metadata",
            "throttleRate",
            "disabled",
            "createdAt",
            "updatedAt",
        ],
    ),
    ("GET", ONE_ENDPOINT, 200, &["id", "url", "uid"]),
    ("GET", ENDPOINT, 200, &["data", "done", "data.*.id"]),
    ("PATCH", ONE_ENDPOINT, 200, &["description", "url"]),
    ("PUT", ONE_ENDPOINT, 200, &["id", "description", "metadata"]),
    ("POST", ENDPOINT, 422, &["detail"]),
    ("GET", "/api/v1/app/*/endpoint/*/headers", 200, &["headers", "sensitive"]),
    ("GET", "/api/v1/app/*/endpoint/*/secret", 200, &["key"]),
    ("POST", MESSAGE, 202, &["id", "eventType", "eventId", "channels", "tags", "timestamp"]),
    ("POST", MESSAGE, 409, &["code", "detail"]),
    ("POST", MESSAGE, 422, &["detail"]),
    ("POST", PORTAL, 200, &["url", "token"]),
    ("GET", ONE_MESSAGE, 200, &["id", "eventId", "payload"]),
    ("GET", MESSAGE, 200, &["data", "data.*.id"]),
    (
        "GET",
        ATTEMPTS,
        200,
        &[
            "data",
            "data.*.id",
            "data.*.msgId",
            "data.*.endpointId",
            "data.*.responseStatusCode",
            "data.*.response",
            "data.*.url",
            "data.*.timestamp",
        ],
    ),
    ("GET", "/api/v1/app/*/msg/*/attempt/*", 200, &["id"]),
    ("GET", "/api/v1/app/*/attempt/endpoint/*", 200, &["data", "data.*.id"]),
    ("POST", "/api/v1/app/*/endpoint/*/recover", 202, &["id", "task"]),
];

/// Of the newest major. The one before it has other names for them, or fills them in itself.
const NEWEST: &[Row] = &[
    ("POST", ENDPOINT, 201, &["eventTypes"]),
    ("POST", EVENT_TYPE, 201, &["deprecated"]),
    ("POST", MESSAGE, 202, &["payload"]),
    // Zero, both of them: what is not there is zero in Go.
    ("GET", ATTEMPTS, 200, &["data.*.status", "data.*.triggerType"]),
];
const PREVIOUS: &[Row] = &[("POST", ENDPOINT, 201, &["filterTypes", "version"])];

/// Those who read the answer to a rotation.
const ROTATION: &[Row] = &[("POST", "/api/v1/app/*/endpoint/*/secret/rotate", 200, &["key"])];
const WHOAMI: &[Row] = &[("GET", "/api/v1/auth/whoami", 200, &["envId", "permissionSource"])];

pub(crate) fn fields(language: Language) -> impl Iterator<Item = Field> {
    let rows: Vec<&[Row]> = match language {
        Language::JavaScript => vec![ALL, NEWEST],
        Language::Python => vec![ALL, NEWEST, ROTATION],
        Language::Rust => vec![ALL, NEWEST, ROTATION, WHOAMI],
        Language::Go => vec![ALL, PREVIOUS],
    };
    rows.into_iter().flatten().flat_map(|&(method, path, status, names)| {
        names.iter().map(move |&name| Field { method, path, status, name })
    })
}
