-- What a billing provider is told of recorded use. Entries are made members of batches, one row each; a batch gets its value when it is
-- sealed, and is what must be told from then on: sealing and queueing are one write.

-- A meter that a policy ever had, as a number: the members are many.
CREATE TABLE billing_meter (
    meter_number INTEGER NOT NULL PRIMARY KEY,
    meter_id     TEXT    NOT NULL UNIQUE,
    since        INTEGER NOT NULL, -- When it came.
    rounds       INTEGER NOT NULL  -- Raised by who collects: its row is the lock of the collectors of a meter.
) STRICT;

-- How far entries were looked at, in the order of recording. Each is looked at by several passes, the later ones long after it was recorded,
-- so that a commit which was late is found all the same.
CREATE TABLE billing_pass (
    meter_number INTEGER NOT NULL REFERENCES billing_meter,
    pass         INTEGER NOT NULL,
    recorded_at  INTEGER NOT NULL,
    entry_id     TEXT    NOT NULL,
    PRIMARY KEY (meter_number, pass)
) STRICT, WITHOUT ROWID;

-- One workspace and meter: what is carried from batch to batch, and who sends. One batch of it is under way at a time.
CREATE TABLE billing_account (
    workspace_id TEXT    NOT NULL,
    meter_id     TEXT    NOT NULL,
    carry        TEXT    NOT NULL, -- A decimal, exact.
    seals        INTEGER NOT NULL, -- How many batches were sealed.
    due_at       INTEGER,          -- When something is to be sent next; none: nothing is.
    lease_until  INTEGER NOT NULL, -- Until then whoever claimed a batch has it.
    lease        INTEGER NOT NULL, -- Rises with each claim; an answer under an older one comes too late.
    PRIMARY KEY (workspace_id, meter_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX billing_account_by_due ON billing_account (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE billing_batch (
    batch_number       INTEGER NOT NULL PRIMARY KEY,
    batch_id           TEXT    NOT NULL UNIQUE,
    workspace_id       TEXT    NOT NULL,
    meter_id           TEXT    NOT NULL,
    window_start       INTEGER NOT NULL,
    window_end         INTEGER NOT NULL,
    sequence           INTEGER NOT NULL, -- Of its window, from 1.
    event_name         TEXT    NOT NULL,
    unit               TEXT    NOT NULL,
    factor_numerator   INTEGER NOT NULL,
    factor_denominator INTEGER NOT NULL,
    members            INTEGER NOT NULL,
    counted            INTEGER NOT NULL, -- What its members count.
    last_used_at       INTEGER NOT NULL,
    opened_at          INTEGER NOT NULL,
    seals_at           INTEGER NOT NULL,
    sealed_at          INTEGER,
    seal_number        INTEGER,          -- Of its workspace and meter, from 1.
    value              INTEGER,
    carry              TEXT,             -- After it.
    state              TEXT    NOT NULL,
    generation         INTEGER NOT NULL,
    customer           TEXT,
    told_at            INTEGER,
    tries              INTEGER NOT NULL,
    claimed_at         INTEGER,
    unsure_since       INTEGER,
    next_try_at        INTEGER,
    reason_code        TEXT,
    reason             TEXT,
    acknowledged_at    INTEGER,
    UNIQUE (workspace_id, meter_id, window_start, window_end, sequence)
) STRICT;

CREATE INDEX billing_batch_to_seal ON billing_batch (seals_at, batch_number) WHERE state = 'open';
CREATE INDEX billing_batch_to_send ON billing_batch (workspace_id, meter_id, next_try_at) WHERE next_try_at IS NOT NULL;
CREATE INDEX billing_batch_under_way ON billing_batch (workspace_id, meter_id) WHERE state = 'sending';
-- What needs an eye: all but what is done.
CREATE INDEX billing_batch_by_state ON billing_batch (state, opened_at) WHERE state <> 'acknowledged';
-- Lists are newest first.
CREATE INDEX billing_batch_by_opening ON billing_batch (opened_at, batch_id);
CREATE INDEX billing_batch_by_workspace ON billing_batch (workspace_id, opened_at, batch_id);

-- Which entry is in which batch: one of each meter. What it counted is kept beside, as it was added.
CREATE TABLE billing_member (
    meter_number INTEGER NOT NULL,
    entry_id     TEXT    NOT NULL,
    batch_number INTEGER NOT NULL REFERENCES billing_batch,
    counted      INTEGER NOT NULL,
    PRIMARY KEY (meter_number, entry_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX billing_member_by_batch ON billing_member (batch_number);
