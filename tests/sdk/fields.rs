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
const STATS: &str = "/api/v1/app/*/endpoint/*/stats";
/// Messages of an endpoint, with their standing there.
const ATTEMPTED: &str = "/api/v1/app/*/endpoint/*/msg";
const MESSAGE: &str = "/api/v1/app/*/msg";
const ONE_MESSAGE: &str = "/api/v1/app/*/msg/*";
/// Endpoints of a message, likewise.
const DESTINATIONS: &str = "/api/v1/app/*/msg/*/endpoint";
const ATTEMPTS: &str = "/api/v1/app/*/attempt/msg/*";
const ENDPOINT_ATTEMPTS: &str = "/api/v1/app/*/attempt/endpoint/*";
const ONE_ATTEMPT: &str = "/api/v1/app/*/msg/*/attempt/*";
const EVENT_TYPE: &str = "/api/v1/event-type";
const ONE_EVENT_TYPE: &str = "/api/v1/event-type/*";
const IMPORT: &str = "/api/v1/event-type/import/openapi";
const OPERATIONAL: &str = "/api/v1/operational-webhook/endpoint";
const ONE_OPERATIONAL: &str = "/api/v1/operational-webhook/endpoint/*";
const TASK: &str = "/api/v1/background-task";
const ONE_TASK: &str = "/api/v1/background-task/*";
const PORTAL: &str = "/api/v1/auth/app-portal-access/*";

/// Read by every tour. Tours compare whole objects; of one that several routes show, all fields are taken away from one
/// or two of them, and some from the others.
const ALL: &[Row] = &[
    ("POST", APP, 201, &["id", "uid", "name", "metadata", "throttleRate", "createdAt", "updatedAt"]),
    // The one that there is.
    ("POST", APP, 200, &["id", "updatedAt"]),
    ("GET", ONE_APP, 200, &["id", "uid", "name", "metadata", "throttleRate", "createdAt", "updatedAt"]),
    ("PATCH", ONE_APP, 200, &["id", "name", "uid", "metadata", "createdAt", "updatedAt"]),
    ("PUT", ONE_APP, 200, &["id", "name", "metadata", "throttleRate", "updatedAt"]),
    (
        "GET",
        APP,
        200,
        &["data", "iterator", "prevIterator", "done", "data.*.id", "data.*.uid", "data.*.updatedAt"],
    ),
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
            "featureFlag",
            "archived",
            "createdAt",
            "updatedAt",
        ],
    ),
    ("PATCH", ONE_EVENT_TYPE, 200, &["name", "description", "deprecated", "updatedAt"]),
    ("PUT", ONE_EVENT_TYPE, 200, &["name", "description", "schemas", "updatedAt"]),
    (
        "GET",
        ONE_EVENT_TYPE,
        200,
        &[
            "name",
            "description",
            "schemas",
            "groupName",
            "featureFlags",
            "featureFlag",
            "archived",
            "deprecated",
            "createdAt",
            "updatedAt",
        ],
    ),
    (
        "GET",
        EVENT_TYPE,
        200,
        &["data", "iterator", "prevIterator", "done", "data.*.name", "data.*.schemas", "data.*.updatedAt"],
    ),
    (
        "POST",
        IMPORT,
        200,
        &[
            "data",
            "data.modified",
            "data.to_modify",
            "data.to_modify.*.name",
            "data.to_modify.*.description",
            "data.to_modify.*.schemas",
            "data.to_modify.*.deprecated",
            "data.to_modify.*.groupName",
            "data.to_modify.*.featureFlags",
        ],
    ),
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
    (
        "GET",
        ONE_ENDPOINT,
        200,
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
    (
        "GET",
        ENDPOINT,
        200,
        &["data", "iterator", "prevIterator", "done", "data.*.id", "data.*.url", "data.*.updatedAt"],
    ),
    ("PATCH", ONE_ENDPOINT, 200, &["id", "description", "url", "updatedAt"]),
    ("PUT", ONE_ENDPOINT, 200, &["id", "description", "metadata", "throttleRate", "updatedAt"]),
    ("POST", ENDPOINT, 422, &["detail"]),
    ("GET", "/api/v1/app/*/endpoint/*/headers", 200, &["headers", "sensitive"]),
    ("GET", "/api/v1/app/*/endpoint/*/secret", 200, &["key"]),
    (
        "POST",
        OPERATIONAL,
        201,
        &[
            "id",
            "url",
            "uid",
            "description",
            "metadata",
            "throttleRate",
            "disabled",
            "createdAt",
            "updatedAt",
        ],
    ),
    ("GET", ONE_OPERATIONAL, 200, &["id", "url", "updatedAt"]),
    (
        "GET",
        OPERATIONAL,
        200,
        &["data", "iterator", "prevIterator", "done", "data.*.id", "data.*.url", "data.*.updatedAt"],
    ),
    ("PUT", ONE_OPERATIONAL, 200, &["id", "description", "updatedAt"]),
    ("GET", "/api/v1/operational-webhook/endpoint/*/secret", 200, &["key"]),
    ("POST", MESSAGE, 202, &["id", "eventType", "eventId", "channels", "tags", "timestamp"]),
    ("POST", MESSAGE, 409, &["code", "detail"]),
    ("POST", MESSAGE, 422, &["detail"]),
    ("GET", ONE_MESSAGE, 200, &["id", "eventType", "eventId", "channels", "tags", "timestamp", "payload"]),
    (
        "GET",
        MESSAGE,
        200,
        &["data", "iterator", "prevIterator", "done", "data.*.id", "data.*.payload", "data.*.timestamp"],
    ),
    (
        "GET",
        ATTEMPTS,
        200,
        &[
            "data",
            "iterator",
            "prevIterator",
            "done",
            "data.*.id",
            "data.*.msgId",
            "data.*.endpointId",
            "data.*.status",
            "data.*.statusText",
            "data.*.responseStatusCode",
            "data.*.responseDurationMs",
            "data.*.response",
            "data.*.triggerType",
            "data.*.url",
            "data.*.timestamp",
        ],
    ),
    ("GET", ONE_ATTEMPT, 200, &["id", "statusText", "responseDurationMs", "response", "timestamp"]),
    (
        "GET",
        ENDPOINT_ATTEMPTS,
        200,
        &[
            "data",
            "iterator",
            "prevIterator",
            "done",
            "data.*.id",
            "data.*.responseDurationMs",
            "data.*.msg",
            "data.*.msg.id",
            "data.*.msg.eventType",
            "data.*.msg.eventId",
            "data.*.msg.channels",
            "data.*.msg.tags",
            "data.*.msg.timestamp",
            "data.*.msg.payload",
        ],
    ),
    (
        "GET",
        ATTEMPTED,
        200,
        &[
            "data",
            "iterator",
            "prevIterator",
            "done",
            "data.*.id",
            "data.*.eventType",
            "data.*.eventId",
            "data.*.channels",
            "data.*.tags",
            "data.*.timestamp",
            "data.*.payload",
            "data.*.status",
            "data.*.statusText",
        ],
    ),
    (
        "GET",
        DESTINATIONS,
        200,
        &[
            "data",
            "iterator",
            "prevIterator",
            "done",
            "data.*.id",
            "data.*.url",
            "data.*.uid",
            "data.*.description",
            "data.*.channels",
            "data.*.throttleRate",
            "data.*.disabled",
            "data.*.createdAt",
            "data.*.updatedAt",
            "data.*.statusText",
        ],
    ),
    ("POST", "/api/v1/app/*/endpoint/*/send-example", 200, &["id", "eventType", "payload", "timestamp"]),
    ("POST", "/api/v1/app/*/msg/precheck/active", 200, &["active"]),
    ("POST", "/api/v1/app/*/endpoint/*/recover", 202, &["id", "status", "task", "updatedAt"]),
    ("POST", "/api/v1/app/*/endpoint/*/replay-missing", 202, &["id", "status", "task", "updatedAt"]),
    ("POST", "/api/v1/app/*/endpoint/*/bulk-replay", 202, &["id", "status", "task", "updatedAt"]),
    (
        "GET",
        ONE_TASK,
        200,
        &[
            "id",
            "status",
            "task",
            "data",
            "updatedAt",
            "data.appId",
            "data.endpointId",
            "data.total",
            "data.sent",
            "data.delivered",
            "data.appStats",
            "data.appStats.*.messageDestinations",
            "data.appEventTypes",
        ],
    ),
    (
        "GET",
        TASK,
        200,
        &[
            "data",
            "iterator",
            "prevIterator",
            "done",
            "data.*.id",
            "data.*.status",
            "data.*.task",
            "data.*.data",
            "data.*.updatedAt",
        ],
    ),
    ("GET", STATS, 200, &["success", "fail"]),
    ("POST", "/api/v1/stats/usage/app", 200, &["id", "status", "task", "updatedAt", "unresolvedAppIds"]),
    ("PUT", "/api/v1/stats/usage/event-types", 200, &["id", "status", "task", "updatedAt"]),
    ("POST", PORTAL, 200, &["url", "token"]),
    ("POST", "/api/v1/app/*/msg/*/endpoint/*/resend", 400, &["code", "detail"]),
    ("POST", "/api/v1/app/*/msg/expunge-all-contents", 202, &["id", "status", "task", "updatedAt"]),
];

/// Of the newest major. The one before it has other names for them, or fills them in itself; or they are zero, and what
/// is not there is zero in Go.
const NEWEST: &[Row] = &[
    ("POST", ENDPOINT, 201, &["eventTypes"]),
    ("GET", ONE_ENDPOINT, 200, &["eventTypes"]),
    ("POST", EVENT_TYPE, 201, &["deprecated"]),
    ("PUT", ONE_EVENT_TYPE, 200, &["deprecated"]),
    ("POST", OPERATIONAL, 201, &["eventTypes"]),
    ("POST", MESSAGE, 202, &["payload"]),
    ("GET", ONE_ATTEMPT, 200, &["status", "triggerType"]),
    ("GET", ENDPOINT_ATTEMPTS, 200, &["data.*.status", "data.*.triggerType"]),
    ("GET", DESTINATIONS, 200, &["data.*.status", "data.*.eventTypes"]),
    ("GET", STATS, 200, &["pending", "sending", "canceled"]),
    ("POST", "/api/v1/app/*/msg/bulk-expunge", 200, &["results"]),
];
const PREVIOUS: &[Row] = &[
    ("POST", APP, 201, &["rateLimit"]),
    ("POST", IMPORT, 200, &["data.to_modify.*.featureFlag"]),
    ("POST", ENDPOINT, 201, &["filterTypes", "version", "rateLimit"]),
    ("GET", ONE_ENDPOINT, 200, &["filterTypes", "version", "rateLimit"]),
    ("POST", OPERATIONAL, 201, &["filterTypes", "rateLimit"]),
    ("GET", DESTINATIONS, 200, &["data.*.filterTypes", "data.*.version", "data.*.rateLimit"]),
    ("POST", "/api/v1/auth/dashboard-access/*", 200, &["url", "token"]),
];

/// Those who read the answer to a rotation.
const ROTATION: &[Row] = &[("POST", "/api/v1/app/*/endpoint/*/secret/rotate", 200, &["key"])];
const ATTEMPT_STATS: &[Row] =
    &[("GET", "/api/v1/app/*/endpoint/*/attempt-stats", 200, &["success", "fail", "canceled"])];
const WHOAMI: &[Row] =
    &[("GET", "/api/v1/auth/whoami", 200, &["envId", "appId", "permissionSource", "sessionId"])];

pub(crate) fn fields(language: Language) -> impl Iterator<Item = Field> {
    let rows: Vec<&[Row]> = match language {
        Language::JavaScript => vec![ALL, NEWEST],
        Language::Python => vec![ALL, NEWEST, ROTATION, ATTEMPT_STATS],
        Language::Rust => vec![ALL, NEWEST, ROTATION, ATTEMPT_STATS, WHOAMI],
        Language::Go => vec![ALL, PREVIOUS],
    };
    rows.into_iter().flatten().flat_map(|&(method, path, status, names)| {
        names.iter().map(move |&name| Field { method, path, status, name })
    })
}
