-- Events: what must be told, written in the transaction of what happened. Each happens once, whoever writes it: `once` says what it is.
CREATE TABLE event (
    event_id     TEXT    NOT NULL PRIMARY KEY,
    workspace_id TEXT    NOT NULL, -- Empty: it is of no workspace.
    number       INTEGER NOT NULL, -- Among the events of its workspace, in the order of their commits, with gaps. 0: of no workspace.
    type         TEXT    NOT NULL,
    audience     TEXT    NOT NULL CHECK (audience IN ('customer', 'operator')),
    once         TEXT    NOT NULL,
    occurred_at  INTEGER NOT NULL,
    recorded_at  INTEGER NOT NULL,
    body         TEXT    NOT NULL, -- A JSON object: what is told.
    renews_at    INTEGER,          -- Of a budget at its limit: when that ends, until it is told that it has.
    kept_until   INTEGER NOT NULL,
    relayed_at   INTEGER           -- When it was handed to those who deliver; NULL: it waits.
) STRICT;

CREATE UNIQUE INDEX event_once ON event (workspace_id, once);
CREATE INDEX event_by_number ON event (workspace_id, number);
CREATE INDEX event_by_time ON event (recorded_at, event_id);
CREATE INDEX event_waiting ON event (recorded_at, event_id) WHERE relayed_at IS NULL;
CREATE INDEX event_by_renewal ON event (renews_at, event_id) WHERE renews_at IS NOT NULL;
CREATE INDEX event_by_end ON event (kept_until);

-- The number of the workspace's last event. It is taken behind the lock of the row, so numbers are seen in their order.
ALTER TABLE workspace ADD COLUMN event_number INTEGER NOT NULL DEFAULT 0;

-- Which grants end soon.
CREATE INDEX budget_grant_by_expiry ON budget_grant (expires_at, grant_id) WHERE expires_at IS NOT NULL;
