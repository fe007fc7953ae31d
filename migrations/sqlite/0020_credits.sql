-- Grants that were paid for, and how the credit of each stands at the billing provider. It is written with its grant, and is what must be
-- given from then on; it is never deleted.

ALTER TABLE budget_grant ADD COLUMN paid_amount INTEGER; -- In the currency's smallest unit; none: it was given.
ALTER TABLE budget_grant ADD COLUMN paid_currency TEXT;

DROP TRIGGER budget_grant_is_only_voided;
CREATE TRIGGER budget_grant_is_only_voided BEFORE UPDATE OF grant_id, workspace_id, grant_key, budget_id, unit, amount, priority,
    effective_at, expires_at, recurrence, rollover_min, rollover_max, source, created_at, paid_amount, paid_currency ON budget_grant
BEGIN
    SELECT RAISE(ABORT, 'a grant is never changed: void it and give another one');
END;

CREATE TABLE grant_credit (
    grant_id        TEXT    NOT NULL PRIMARY KEY REFERENCES budget_grant,
    workspace_id    TEXT    NOT NULL,
    created_at      INTEGER NOT NULL, -- Of the grant.
    state           TEXT    NOT NULL,
    is_void         INTEGER NOT NULL, -- 1: the grant was voided.
    customer        TEXT,             -- Whom the provider was told at the last try.
    provider_id     TEXT,             -- What the provider calls it.
    key_number      INTEGER NOT NULL, -- Which key its tries bear.
    claims          INTEGER NOT NULL, -- Rises with each claim; an answer under an older one comes too late.
    tries           INTEGER NOT NULL,
    unsure_since    INTEGER,          -- The first try that may have been taken although no answer said so.
    next_try_at     INTEGER,          -- While a node has it, when its claim ends.
    reason_code     TEXT,
    reason          TEXT,
    acknowledged_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX grant_credit_by_due ON grant_credit (next_try_at) WHERE next_try_at IS NOT NULL;
CREATE INDEX grant_credit_by_workspace ON grant_credit (workspace_id, created_at);
-- What needs an eye: all but what is done.
CREATE INDEX grant_credit_by_state ON grant_credit (created_at, grant_id) WHERE state <> 'acknowledged' AND state <> 'voided';

-- Events of the provider are kept for as long as they may come again.
CREATE INDEX inbound_event_by_time ON inbound_event (received_at);
