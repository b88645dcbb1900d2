//! How each route is called so that it succeeds. In bodies `{n}` stands for a number that is used once, `{url}` for an
//! endpoint that answers, `{event_type}` and `{endpoint_id}` for what exists.

pub(super) struct Example {
    /// Who may use it, said once more: the server's list is not asked whether it is right.
    pub(super) needs: &'static str,
    pub(super) status: u16,
    /// With every field that the route takes.
    pub(super) body: &'static str,
}

/// A route that is missing here fails the tests: say how it is called.
pub(super) fn example(route: &str) -> Example {
    let found = EXAMPLES.iter().find(|(name, ..)| *name == route);
    let (_, needs, status, body) =
        found.unwrap_or_else(|| panic!("no example of {route} in tests/e2e/access/examples.rs"));
    Example { needs, status: *status, body }
}

const APPLICATION: &str = r#"{"name":"made","uid":"a-{n}","metadata":{"a":"b"},"throttleRate":5,"rateLimit":5,
    "publishRate":1000,"ordering":"strict"}"#;
const ENDPOINT: &str = r#"{"url":"{url}","uid":"e-{n}","description":"d","version":1,"disabled":false,
    "eventTypes":["{event_type}"],"filterTypes":["{event_type}"],"channels":["a"],"throttleRate":5,"rateLimit":5,
    "metadata":{"a":"b"},"ordering":"strict","retrySchedule":[1,2],"parkAfterSecs":5,"maxInFlight":3,"timeoutSecs":5,
    "headers":{"x-a":"b"},"secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "secretType":"hmac"}"#;
const OPERATIONAL: &str = r#"{"url":"{url}","uid":"o-{n}","description":"d","disabled":true,
    "eventTypes":["endpoint.created"],"filterTypes":["endpoint.created"],"throttleRate":5,"rateLimit":5,
    "metadata":{"a":"b"},"secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}"#;
const EVENT_TYPE: &str = r#"{"description":"d","archived":false,"deprecated":false,"featureFlag":"a","groupName":"b","schemas":{"1":{}},
    "featureFlags":["a"]}"#;

const SELECTION: &str = r#"{"since":"2026-01-31T12:00:00Z","until":"2100-01-01T00:00:00Z","eventTypes":["order.paid"],
    "channel":"a","tag":"t","status":2,"statusCodeClass":500,"messageIds":["msg_29HHYvqxq1Dw9rT7hHS0tl5tE22"],
    "maxPerSecond":100}"#;
/// Without what they do not take: what is recovered, or is a dead letter, is not of any other status.
const FAILED: &str = r#"{"since":"2026-01-31T12:00:00Z","until":"2100-01-01T00:00:00Z","eventTypes":["order.paid"],
    "channel":"a","tag":"t","statusCodeClass":500,"messageIds":["msg_29HHYvqxq1Dw9rT7hHS0tl5tE22"],
    "maxPerSecond":100}"#;
/// Nor of any answer.
const MISSING: &str = r#"{"since":"2026-01-31T12:00:00Z","until":"2100-01-01T00:00:00Z","eventTypes":["order.paid"],
    "channel":"a","tag":"t","messageIds":["msg_29HHYvqxq1Dw9rT7hHS0tl5tE22"],"maxPerSecond":100}"#;

pub(super) const EXAMPLES: &[(&str, &str, u16, &str)] = &[
    ("GET /livez", "anyone", 200, ""),
    ("GET /readyz", "anyone", 200, ""),
    ("GET /metrics", "anyone", 200, ""),
    ("GET /api/v1/health", "anyone", 200, ""),
    ("GET /api/v1/health/ping", "anyone", 204, ""),
    ("GET /api/v1/scaling", "organization read", 200, ""),
    ("GET /api/v1/app", "organization read", 200, ""),
    (
        "POST /api/v1/app",
        "organization full",
        201,
        r#"{"name":"made","uid":"made-{n}","metadata":{"a":"b"},"throttleRate":5,"rateLimit":5,"publishRate":1000,
            "ordering":"strict"}"#,
    ),
    ("GET /api/v1/app/{app_id}", "application read", 200, ""),
    ("PUT /api/v1/app/{app_id}", "organization full", 200, APPLICATION),
    ("PATCH /api/v1/app/{app_id}", "organization full", 200, APPLICATION),
    ("DELETE /api/v1/app/{app_id}", "organization full", 204, ""),
    ("GET /api/v1/app/{app_id}/endpoint", "application read", 200, ""),
    ("POST /api/v1/app/{app_id}/endpoint", "application full", 201, ENDPOINT),
    ("GET /api/v1/app/{app_id}/endpoint/{endpoint_id}", "application read", 200, ""),
    ("PUT /api/v1/app/{app_id}/endpoint/{endpoint_id}", "application full", 200, ENDPOINT),
    ("PATCH /api/v1/app/{app_id}/endpoint/{endpoint_id}", "application full", 200, ENDPOINT),
    ("DELETE /api/v1/app/{app_id}/endpoint/{endpoint_id}", "application full", 204, ""),
    ("GET /api/v1/app/{app_id}/endpoint/{endpoint_id}/headers", "application read", 200, ""),
    (
        "PUT /api/v1/app/{app_id}/endpoint/{endpoint_id}/headers",
        "application full",
        204,
        r#"{"headers":{"x-a":"b"}}"#,
    ),
    (
        "PATCH /api/v1/app/{app_id}/endpoint/{endpoint_id}/headers",
        "application full",
        204,
        r#"{"headers":{"x-a":"b"},"deleteHeaders":["x-b"]}"#,
    ),
    ("GET /api/v1/app/{app_id}/endpoint/{endpoint_id}/secret", "application full", 200, ""),
    (
        "POST /api/v1/app/{app_id}/endpoint/{endpoint_id}/secret/rotate",
        "application full",
        200,
        r#"{"key":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw","type":"hmac","gracePeriodSeconds":60}"#,
    ),
    ("GET /api/v1/operational-webhook/endpoint", "organization read", 200, ""),
    ("POST /api/v1/operational-webhook/endpoint", "organization full", 201, OPERATIONAL),
    ("GET /api/v1/operational-webhook/endpoint/{endpoint_id}", "organization read", 200, ""),
    ("PUT /api/v1/operational-webhook/endpoint/{endpoint_id}", "organization full", 200, OPERATIONAL),
    ("PATCH /api/v1/operational-webhook/endpoint/{endpoint_id}", "organization full", 200, OPERATIONAL),
    ("DELETE /api/v1/operational-webhook/endpoint/{endpoint_id}", "organization full", 204, ""),
    ("GET /api/v1/operational-webhook/endpoint/{endpoint_id}/headers", "organization read", 200, ""),
    (
        "PUT /api/v1/operational-webhook/endpoint/{endpoint_id}/headers",
        "organization full",
        204,
        r#"{"headers":{"x-a":"b"}}"#,
    ),
    (
        "PATCH /api/v1/operational-webhook/endpoint/{endpoint_id}/headers",
        "organization full",
        204,
        r#"{"headers":{"x-a":"b"},"deleteHeaders":["x-b"]}"#,
    ),
    ("GET /api/v1/operational-webhook/endpoint/{endpoint_id}/secret", "organization full", 200, ""),
    (
        "POST /api/v1/operational-webhook/endpoint/{endpoint_id}/secret/rotate",
        "organization full",
        200,
        r#"{"key":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw","type":"hmac","gracePeriodSeconds":60}"#,
    ),
    ("GET /api/v1/usage", "organization read", 200, ""),
    (
        "POST /api/v1/stats/usage/app",
        "organization full",
        200,
        r#"{"since":"2026-01-31T12:00:00Z","until":"2100-01-01T00:00:00Z"}"#,
    ),
    ("PUT /api/v1/stats/usage/event-types", "organization full", 200, "{}"),
    (
        "POST /api/v1/app/{app_id}/endpoint/{endpoint_id}/send-example",
        "application full",
        200,
        r#"{"eventType":"svix.ping","exampleIndex":0}"#,
    ),
    ("POST /api/v1/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/resend", "application full", 202, "{}"),
    (
        "POST /api/v1/app/{app_id}/msg",
        "application full",
        202,
        r#"{"eventType":"order.paid","payload":{"a":1},"eventId":"event-{n}","channels":["a"],"orderingKey":"k",
            "tags":["t"],"payloadRetentionPeriod":30,"transformationsParams":{"rawPayload":"x"}}"#,
    ),
    (
        "POST /api/v1/app/{app_id}/msg/batch",
        "application full",
        202,
        r#"{"messages":[{"eventType":"order.paid","payload":{"a":1},"idempotencyKey":"batch-{n}"}]}"#,
    ),
    ("DELETE /api/v1/app/{app_id}/msg/{msg_id}/content", "application full", 204, ""),
    ("DELETE /api/v1/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}/content", "application full", 204, ""),
    (
        "POST /api/v1/app/{app_id}/msg/bulk-expunge",
        "application full",
        200,
        r#"{"ids":["msg_29HHYvqxq1Dw9rT7hHS0tl5tE22"]}"#,
    ),
    ("POST /api/v1/app/{app_id}/msg/expunge-all-contents", "organization full", 202, "{}"),
    (
        "POST /api/v1/app/{app_id}/dead-letter/purge",
        "application full",
        200,
        r#"{"endpointId":"{endpoint_id}","reasons":["exhausted"],"eventTypes":["order.paid"],
            "statusCodeClass":500,"channel":"a","tag":"t","before":"2100-01-01T00:00:00Z","after":"2026-01-31T12:00:00Z"}"#,
    ),
    ("GET /api/v1/app/{app_id}/msg", "application read", 200, ""),
    ("GET /api/v1/app/{app_id}/msg/{msg_id}", "application read", 200, ""),
    ("GET /api/v1/app/{app_id}/msg/{msg_id}/attempt", "application read", 200, ""),
    ("GET /api/v1/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}", "application read", 200, ""),
    ("GET /api/v1/app/{app_id}/msg/{msg_id}/endpoint", "application read", 200, ""),
    ("GET /api/v1/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/attempt", "application read", 200, ""),
    ("GET /api/v1/app/{app_id}/attempt/endpoint/{endpoint_id}", "application read", 200, ""),
    ("GET /api/v1/app/{app_id}/attempt/msg/{msg_id}", "application read", 200, ""),
    ("GET /api/v1/app/{app_id}/endpoint/{endpoint_id}/msg", "application read", 200, ""),
    ("GET /api/v1/app/{app_id}/endpoint/{endpoint_id}/stats", "application read", 200, ""),
    ("GET /api/v1/app/{app_id}/endpoint/{endpoint_id}/attempt-stats", "application read", 200, ""),
    ("GET /api/v1/app/{app_id}/endpoint/{endpoint_id}/reconciliation", "application read", 200, ""),
    ("GET /api/v1/app/{app_id}/dead-letter", "application read", 200, ""),
    ("GET /api/v1/app/{app_id}/dead-letter/{dead_letter_id}", "application read", 200, ""),
    (
        "POST /api/v1/app/{app_id}/msg/precheck/active",
        "application read",
        200,
        r#"{"eventType":"order.paid","channels":["a"]}"#,
    ),
    ("GET /api/v1/event-type", "application read", 200, ""),
    (
        "POST /api/v1/event-type",
        "organization full",
        201,
        r#"{"name":"made.{n}","description":"d","archived":false,"deprecated":false,"featureFlag":"a","groupName":"b",
            "schemas":{"1":{}}}"#,
    ),
    (
        "POST /api/v1/event-type/import/openapi",
        "organization full",
        200,
        r#"{"spec":{"openapi":"3.1.0","webhooks":{"made.{n}":{"post":{}}}},"dryRun":false,"replaceAll":false}"#,
    ),
    ("GET /api/v1/event-type/{name}", "application read", 200, ""),
    ("PUT /api/v1/event-type/{name}", "organization full", 200, EVENT_TYPE),
    ("PATCH /api/v1/event-type/{name}", "organization full", 200, EVENT_TYPE),
    ("DELETE /api/v1/event-type/{name}", "organization full", 204, ""),
    ("GET /api/v1/auth/whoami", "application read", 200, ""),
    ("POST /api/v1/auth/logout", "application read", 204, "{}"),
    (
        "POST /api/v1/auth/app-portal-access/{app_id}",
        "organization full",
        200,
        r#"{"readOnly":true,"capabilities":["ViewBase"],"featureFlags":["a"],"expiry":3600,"sessionId":"s"}"#,
    ),
    ("POST /api/v1/auth/dashboard-access/{app_id}", "organization full", 200, "{}"),
    (
        "POST /api/v1/auth/app/{app_id}/expire-all",
        "organization full",
        204,
        r#"{"expiry":60,"sessionIds":["s"]}"#,
    ),
    ("GET /api/v1/auth/api-key", "organization full", 200, ""),
    (
        "POST /api/v1/auth/api-key",
        "organization full",
        201,
        r#"{"name":"key {n}","scope":"read","expiresAt":"2100-01-01T00:00:00Z"}"#,
    ),
    ("DELETE /api/v1/auth/api-key/{id}", "organization full", 204, ""),
    ("POST /api/v1/app/{app_id}/endpoint/{endpoint_id}/recover", "application full", 202, FAILED),
    ("POST /api/v1/app/{app_id}/endpoint/{endpoint_id}/replay-missing", "application full", 202, MISSING),
    ("POST /api/v1/app/{app_id}/endpoint/{endpoint_id}/bulk-replay", "application full", 202, SELECTION),
    ("POST /api/v1/app/{app_id}/endpoint/{endpoint_id}/dead-letter/replay", "application full", 202, FAILED),
    ("GET /api/v1/background-task", "application read", 200, ""),
    ("GET /api/v1/background-task/{task_id}", "application read", 200, ""),
    ("POST /api/v1/background-task/{task_id}/pause", "application full", 200, "{}"),
    ("POST /api/v1/background-task/{task_id}/resume", "application full", 200, "{}"),
    ("POST /api/v1/background-task/{task_id}/cancel", "application full", 200, "{}"),
    ("GET /api/v1/audit-log", "organization read", 200, ""),
];
