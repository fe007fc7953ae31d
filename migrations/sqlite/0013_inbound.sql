-- What a billing provider told: each event once, what a customer has subscribed to, what was paid, and what could not be counted.

-- Events that were received, with what became of them. That an event has a row is that it was handled.
CREATE TABLE inbound_event (
    event_id    TEXT    NOT NULL PRIMARY KEY,
    event_type  TEXT    NOT NULL,
    created_at  INTEGER NOT NULL, -- By the provider's clock.
    received_at INTEGER NOT NULL,
    customer_id TEXT,
    outcome     TEXT    NOT NULL CHECK (outcome IN ('applied', 'unchanged', 'stale', 'unmatched', 'unmapped', 'ignored'))
) STRICT, WITHOUT ROWID;

-- Subscriptions as their newest event told them.
CREATE TABLE stripe_subscription (
    subscription_id TEXT    NOT NULL PRIMARY KEY,
    customer_id     TEXT    NOT NULL,
    status          TEXT    NOT NULL, -- The provider's word.
    items           TEXT    NOT NULL, -- A JSON list.
    anchor_day      INTEGER,
    anchor_at       INTEGER,
    started_at      INTEGER NOT NULL,
    told_at         INTEGER NOT NULL, -- When the event came to be that told this.
    rank            INTEGER NOT NULL, -- Its place among those of one second.
    revision        INTEGER NOT NULL  -- Rises with each change.
) STRICT, WITHOUT ROWID;

CREATE INDEX stripe_subscription_by_customer ON stripe_subscription (customer_id);

-- What customers paid and were paid back, for which period. Never changed.
CREATE TABLE revenue (
    source_id    TEXT    NOT NULL PRIMARY KEY, -- Of invoice and line.
    document_id  TEXT    NOT NULL,
    customer_id  TEXT    NOT NULL,
    workspace_id TEXT,                         -- None: no workspace had this customer then.
    amount       INTEGER NOT NULL,             -- In the currency's smallest unit, without taxes.
    currency     TEXT    NOT NULL,
    usd          INTEGER,                      -- In nano-dollars, where the currency is usd.
    period_start INTEGER NOT NULL,
    period_end   INTEGER NOT NULL,
    paid_at      INTEGER NOT NULL,
    event_id     TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX revenue_by_workspace ON revenue (workspace_id, period_start);
CREATE INDEX revenue_by_customer ON revenue (customer_id, period_start) WHERE workspace_id IS NULL;

-- Usage that the provider took, and then could not count.
CREATE TABLE meter_error (
    event_id    TEXT    NOT NULL,
    place       INTEGER NOT NULL,
    reported_at INTEGER NOT NULL,
    meter       TEXT,              -- The provider's id.
    identifier  TEXT,              -- Of the batch; none: no example was named.
    code        TEXT    NOT NULL,
    message     TEXT    NOT NULL,
    PRIMARY KEY (event_id, place)
) STRICT, WITHOUT ROWID;

CREATE INDEX meter_error_by_time ON meter_error (reported_at);
CREATE INDEX meter_error_by_identifier ON meter_error (identifier) WHERE identifier IS NOT NULL;

CREATE INDEX workspace_by_customer ON workspace (stripe_customer_id) WHERE stripe_customer_id IS NOT NULL;
