-- Grants: extra allowance for budgets, and what they paid. A grant's balance is nowhere stored: it is folded from what was paid.

-- A grant is void from a moment on, and otherwise never changed.
CREATE TABLE budget_grant (
    grant_id     TEXT    NOT NULL PRIMARY KEY,
    workspace_id TEXT    NOT NULL,
    grant_key    TEXT,              -- What the caller calls it.
    budget_id    TEXT    NOT NULL,
    unit         TEXT    NOT NULL,
    amount       INTEGER NOT NULL,
    priority     INTEGER NOT NULL,
    effective_at INTEGER NOT NULL,
    expires_at   INTEGER,           -- Exclusive.
    recurrence   TEXT,              -- A JSON object.
    rollover_min INTEGER,
    rollover_max INTEGER,
    source       TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    voided_at    INTEGER,
    ends_at      INTEGER NOT NULL   -- The earlier of expiry and void.
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX budget_grant_by_key ON budget_grant (workspace_id, grant_key) WHERE grant_key IS NOT NULL;
CREATE INDEX budget_grant_by_end ON budget_grant (workspace_id, budget_id, ends_at);
CREATE INDEX budget_grant_by_time ON budget_grant (workspace_id, created_at, grant_id);

CREATE TRIGGER budget_grant_is_only_voided BEFORE UPDATE OF grant_id, workspace_id, grant_key, budget_id, unit, amount, priority,
    effective_at, expires_at, recurrence, rollover_min, rollover_max, source, created_at ON budget_grant
BEGIN
    SELECT RAISE(ABORT, 'a grant is never changed: void it and give another one');
END;

CREATE TRIGGER budget_grant_is_never_deleted BEFORE DELETE ON budget_grant
BEGIN
    SELECT RAISE(ABORT, 'a grant is never deleted: void it');
END;

-- What a grant paid for one use on one counter. Never changed.
CREATE TABLE grant_payment (
    workspace_id   TEXT    NOT NULL,
    grant_id       TEXT    NOT NULL REFERENCES budget_grant,
    segment        INTEGER NOT NULL, -- When the part of its life began from whose balance it was taken.
    amount         INTEGER NOT NULL,
    reservation_id TEXT    NOT NULL,
    user_id        TEXT    NOT NULL, -- The counter, as in counter_sum.
    feature        TEXT    NOT NULL,
    unit           TEXT    NOT NULL,
    period_kind    TEXT    NOT NULL,
    period_start   INTEGER NOT NULL,
    period_end     INTEGER NOT NULL,
    occurred_at    INTEGER NOT NULL,
    recorded_at    INTEGER NOT NULL
) STRICT;

CREATE INDEX grant_payment_by_grant ON grant_payment (grant_id, segment);
CREATE INDEX grant_payment_by_counter ON grant_payment (workspace_id, user_id, feature, period_end, period_kind, period_start, unit);

CREATE TRIGGER grant_payment_is_never_changed BEFORE UPDATE ON grant_payment
BEGIN
    SELECT RAISE(ABORT, 'payments are append-only');
END;

CREATE TRIGGER grant_payment_is_never_deleted BEFORE DELETE ON grant_payment
BEGIN
    SELECT RAISE(ABORT, 'payments are append-only');
END;

-- The sum of a grant's payments in one segment.
CREATE TABLE grant_paid (
    grant_id     TEXT    NOT NULL REFERENCES budget_grant,
    segment      INTEGER NOT NULL,
    workspace_id TEXT    NOT NULL,
    paid         INTEGER NOT NULL,
    PRIMARY KEY (grant_id, segment)
) STRICT, WITHOUT ROWID;

-- What grants paid of a counter: it stays on top of the limit of that period. Under the row's own version, like spent.
ALTER TABLE counter_sum ADD COLUMN paid INTEGER NOT NULL DEFAULT 0;

ALTER TABLE workspace ADD COLUMN granted TEXT NOT NULL DEFAULT '[]'; -- A JSON list: the budgets that have or had a grant.
ALTER TABLE workspace ADD COLUMN top_ups TEXT NOT NULL DEFAULT '{}'; -- A JSON object.
