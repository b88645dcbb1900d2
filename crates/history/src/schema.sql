-- The tables of history. One text for both databases: PostgreSQL reads BIGINT for INTEGER, BYTEA for BLOB, and nothing
-- for WITHOUT ROWID (see store.rs).
--
-- message   partition of `messages` << 48 | offset
-- delivery  offset in `deliveries`; its partition is the endpoint's
-- times     microseconds since 1970, but for `accepted`, `settled_at` and `tick`: steps of 4 ms, as in ids

CREATE TABLE about (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- How far each partition was folded, and what the fold has to remember of it.
CREATE TABLE positions (
    topic INTEGER NOT NULL,
    part INTEGER NOT NULL,
    next INTEGER NOT NULL,
    state BLOB NOT NULL,
    PRIMARY KEY (topic, part)
) WITHOUT ROWID;

CREATE TABLE messages (
    message INTEGER NOT NULL PRIMARY KEY,
    application INTEGER NOT NULL,
    id BLOB NOT NULL,
    -- 0 message, 1 alias of `first`, 2 in conflict with `first`, 3 appended again when it fell due
    kind INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    event_id TEXT,
    -- JSON arrays
    channels TEXT,
    tags TEXT,
    ordering_key TEXT,
    accepted_at INTEGER NOT NULL,
    deliver_at INTEGER,
    expires_at INTEGER,
    first BLOB
);
CREATE INDEX messages_by_id ON messages (application, id);
CREATE INDEX messages_by_type ON messages (application, event_type, id) WHERE kind = 0;
CREATE INDEX messages_by_event ON messages (application, event_id) WHERE event_id IS NOT NULL;
CREATE INDEX messages_by_expiry ON messages (expires_at);
CREATE INDEX messages_in_conflict ON messages (application, id) WHERE kind = 2;
CREATE INDEX messages_again ON messages (application, first) WHERE kind = 1;

-- Which delivery records a message has, and for whom each is.
CREATE TABLE routes (
    message INTEGER NOT NULL,
    part INTEGER NOT NULL,
    delivery INTEGER NOT NULL,
    endpoints BLOB NOT NULL,
    PRIMARY KEY (message, part, delivery)
) WITHOUT ROWID;

-- On which partition of `deliveries` an endpoint is.
CREATE TABLE endpoints (
    endpoint INTEGER NOT NULL PRIMARY KEY,
    part INTEGER NOT NULL
);

CREATE TABLE deliveries (
    endpoint INTEGER NOT NULL,
    delivery INTEGER NOT NULL,
    message INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    -- 0 pending, 1 to be tried again, 10 delivered, 11 acknowledged, 20 to 23 dead letters, 30 cancelled,
    -- 31 a dead letter that was purged
    standing INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    first_at INTEGER,
    last_at INTEGER,
    -- What came of the attempt with the highest number: an HTTP status, 0 without one.
    last_status INTEGER,
    settled_at INTEGER,
    due INTEGER,
    -- Of an injected one.
    job INTEGER,
    -- 0 alone; of several deliveries of one message to one endpoint: 1 another one counts, 2 this one does
    shadow INTEGER NOT NULL,
    PRIMARY KEY (endpoint, delivery)
) WITHOUT ROWID;
CREATE INDEX deliveries_not_delivered ON deliveries (endpoint, standing, delivery) WHERE standing <> 10;
CREATE INDEX deliveries_dead ON deliveries (endpoint, settled_at, delivery) WHERE standing >= 20 AND standing < 30;

-- In the order of their ids within each kind of answer, so that a rare kind is found at once.
CREATE TABLE attempts (
    endpoint INTEGER NOT NULL,
    -- Class of the HTTP status (0 without one) * 2, and 1 if it will be tried again
    answer INTEGER NOT NULL,
    tick INTEGER NOT NULL,
    delivery INTEGER NOT NULL,
    number INTEGER NOT NULL,
    message INTEGER NOT NULL,
    made_at INTEGER NOT NULL,
    duration INTEGER NOT NULL,
    status INTEGER NOT NULL,
    error INTEGER NOT NULL,
    manual INTEGER NOT NULL,
    due INTEGER,
    response BLOB,
    -- 0: the first of its delivery, which is found by the delivery's `first_at`.
    again INTEGER NOT NULL,
    PRIMARY KEY (endpoint, answer, tick, delivery, number)
) WITHOUT ROWID;
CREATE INDEX attempts_again ON attempts (endpoint, delivery) WHERE again <> 0;

-- Counts per endpoint and hour: of deliveries by standing (hour of acceptance), of attempts by 100 + answer.
CREATE TABLE tallies (
    endpoint INTEGER NOT NULL,
    hour INTEGER NOT NULL,
    what INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (endpoint, hour, what)
) WITHOUT ROWID;

-- Between which offsets of a partition stands what was accepted in a minute. Injected deliveries apart.
CREATE TABLE moments (
    topic INTEGER NOT NULL,
    part INTEGER NOT NULL,
    injected INTEGER NOT NULL,
    minute INTEGER NOT NULL,
    low INTEGER NOT NULL,
    high INTEGER NOT NULL,
    PRIMARY KEY (topic, part, injected, minute)
) WITHOUT ROWID;
