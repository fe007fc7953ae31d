-- The ledger: what happened. Times are microseconds since 1970 in UTC, usd are nano-dollars, ids are text as callers see them.
-- A column bears the contract's word. Tables are STRICT, so a value of the wrong type is refused and not kept as it came.

-- One recorded use. Never changed: what an entry counts is fixed, and a correction is another entry.
CREATE TABLE entry (
    entry_id              TEXT    NOT NULL PRIMARY KEY,
    kind                  TEXT    NOT NULL,
    corrects              TEXT,
    request_id            TEXT    NOT NULL,
    reservation_id        TEXT,
    workspace_id          TEXT    NOT NULL,
    user_id               TEXT    NOT NULL, -- Empty: the shared user, as in counter_sum.
    feature               TEXT    NOT NULL,
    model                 TEXT    NOT NULL,
    requested_model       TEXT    NOT NULL,
    tier                  TEXT,
    provider              TEXT,
    mode                  TEXT    NOT NULL,
    requests              INTEGER NOT NULL,
    input_tokens          INTEGER NOT NULL,
    cache_read_tokens     INTEGER NOT NULL,
    cache_write_tokens    INTEGER NOT NULL,
    cache_write_1h_tokens INTEGER NOT NULL,
    output_tokens         INTEGER NOT NULL,
    reasoning_tokens      INTEGER NOT NULL,
    audio_input_tokens    INTEGER NOT NULL,
    audio_output_tokens   INTEGER NOT NULL,
    image_input_tokens    INTEGER NOT NULL,
    cache_hit             INTEGER NOT NULL,
    latency_ms            INTEGER,
    outcome               TEXT    NOT NULL,
    priced                INTEGER NOT NULL,
    late                  INTEGER NOT NULL,
    cost_usd              INTEGER,
    list_cost_usd         INTEGER,
    counted_tokens        INTEGER NOT NULL,
    counted_usd           INTEGER NOT NULL,
    counted_requests      INTEGER NOT NULL,
    counted_credits       INTEGER NOT NULL,
    price_version         TEXT,
    plan_id               TEXT,
    plan_version          INTEGER,
    occurred_at           INTEGER NOT NULL,
    recorded_at           INTEGER NOT NULL,
    tags                  TEXT    NOT NULL, -- A JSON object.
    provider_request_id   TEXT,
    quality_score         INTEGER,          -- In ten-thousandths.
    other_cost_usd        INTEGER,
    billable_outcomes     TEXT    NOT NULL  -- A JSON object.
) STRICT;

-- Lists are read by time. Feature and model are in the index, so that a filtered list passes over what it does not want without
-- fetching it.
CREATE INDEX entry_by_time ON entry (workspace_id, occurred_at, entry_id, feature, model);
-- A user's first counter of a period is the sum of what that user already did in it.
CREATE INDEX entry_by_user ON entry (workspace_id, user_id, occurred_at, entry_id, feature, model);

CREATE TRIGGER entry_is_never_changed BEFORE UPDATE ON entry
BEGIN
    SELECT RAISE(ABORT, 'entries are append-only: write a correction instead');
END;

CREATE TRIGGER entry_is_never_deleted BEFORE DELETE ON entry
BEGIN
    SELECT RAISE(ABORT, 'entries are append-only: write a correction instead');
END;

-- How a reservation stands, one row each. The reservation id is made from workspace and request id, for usage that was never authorized
-- too. So this primary key is what makes request ids unique over authorize, usage and events: there is no second table to keep in step.
CREATE TABLE reservation_end (
    reservation_id TEXT    NOT NULL PRIMARY KEY,
    workspace_id   TEXT    NOT NULL,
    request_id     TEXT    NOT NULL,
    revision       INTEGER NOT NULL, -- Rises with each write; a write names the one that it was decided on.
    "end"          TEXT CHECK ("end" IN ('settled', 'released', 'expired')),
    entry_id       TEXT REFERENCES entry DEFERRABLE INITIALLY DEFERRED,
    fingerprint    TEXT              -- 32 hex digits.
) STRICT, WITHOUT ROWID;

-- What a request that still runs has used so far. Spent already: a sum is over entries and these. Its dimensions are columns beside the
-- entry that it would become, so that sums are computed without reading JSON.
CREATE TABLE checkpoint (
    reservation_id   TEXT    NOT NULL PRIMARY KEY REFERENCES reservation_end DEFERRABLE INITIALLY DEFERRED,
    workspace_id     TEXT    NOT NULL,
    user_id          TEXT    NOT NULL,
    feature          TEXT    NOT NULL,
    occurred_at      INTEGER NOT NULL,
    counted_tokens   INTEGER NOT NULL,
    counted_usd      INTEGER NOT NULL,
    counted_requests INTEGER NOT NULL,
    counted_credits  INTEGER NOT NULL,
    expires_at       INTEGER NOT NULL,
    entry            TEXT    NOT NULL -- A JSON object.
) STRICT, WITHOUT ROWID;

CREATE INDEX checkpoint_by_workspace ON checkpoint (workspace_id);
CREATE INDEX checkpoint_by_expiry ON checkpoint (expires_at);

-- The truth of each counter that was ever named: the sum of what entries and checkpoints of its dimensions and period count.
-- The key begins with the dimensions, then the end of the period, because what is looked for is what has not ended yet.
CREATE TABLE counter_sum (
    workspace_id TEXT    NOT NULL,
    user_id      TEXT    NOT NULL, -- '*': everybody; empty: the shared user.
    feature      TEXT    NOT NULL, -- '*': every feature.
    unit         TEXT    NOT NULL,
    period_kind  TEXT    NOT NULL,
    period_start INTEGER NOT NULL,
    period_end   INTEGER NOT NULL,
    spent        INTEGER NOT NULL,
    version      INTEGER NOT NULL, -- The workspace's sum_version when this row last changed.
    PRIMARY KEY (workspace_id, user_id, feature, period_end, period_kind, period_start, unit)
) STRICT, WITHOUT ROWID;

-- A group is read whole when its counters are rebuilt. None of these columns ever changes, so only a birth writes here.
CREATE INDEX counter_sum_by_end ON counter_sum (workspace_id, user_id, period_end);

CREATE TABLE workspace (
    workspace_id       TEXT    NOT NULL PRIMARY KEY,
    plan_id            TEXT,
    seats              TEXT    NOT NULL, -- A JSON object.
    status             TEXT    NOT NULL,
    calendar           TEXT    NOT NULL, -- A JSON object.
    stripe_customer_id TEXT,
    revenue_usd        INTEGER,
    overrides          TEXT    NOT NULL, -- A JSON object.
    version            INTEGER NOT NULL,
    created_at         INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL,
    sum_version        INTEGER NOT NULL DEFAULT 0 -- Rises with each write that moves a sum of this workspace.
) STRICT, WITHOUT ROWID;

-- A plan is not deleted while a workspace is on it.
CREATE INDEX workspace_by_plan ON workspace (plan_id) WHERE plan_id IS NOT NULL;

-- Every policy that was ever in force. The one in force is the newest row of each object.
CREATE TABLE policy_version (
    version    INTEGER NOT NULL PRIMARY KEY,
    changed_at INTEGER NOT NULL,
    actor      TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    files_hash TEXT -- Of the files that were applied, where files were.
) STRICT;

CREATE TABLE policy_object (
    kind           TEXT    NOT NULL,
    id             TEXT    NOT NULL,
    version        INTEGER NOT NULL,
    policy_version INTEGER NOT NULL REFERENCES policy_version,
    body           TEXT, -- The document as JSON; none: deleted.
    PRIMARY KEY (kind, id, version)
) STRICT, WITHOUT ROWID;
