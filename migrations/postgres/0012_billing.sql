-- What a billing provider is told of recorded use. Entries are made members of batches, one row each; a batch gets its value when it is
-- sealed, and is what must be told from then on: sealing and queueing are one write.

-- A meter that a policy ever had, as a number: the members are many.
CREATE TABLE billing_meter (
    meter_number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    meter_id     TEXT COLLATE "C" NOT NULL UNIQUE,
    since        BIGINT  NOT NULL, -- When it came.
    rounds       BIGINT  NOT NULL  -- Raised by who collects: its row is the lock of the collectors of a meter.
);

-- How far entries were looked at, in the order of recording. Each is looked at by several passes, the later ones long after it was recorded,
-- so that a commit which was late is found all the same.
CREATE TABLE billing_pass (
    meter_number BIGINT  NOT NULL REFERENCES billing_meter,
    pass         BIGINT  NOT NULL,
    recorded_at  BIGINT  NOT NULL,
    entry_id     TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (meter_number, pass)
);

-- One workspace and meter: what is carried from batch to batch, and who sends. One batch of it is under way at a time.
CREATE TABLE billing_account (
    workspace_id TEXT COLLATE "C" NOT NULL,
    meter_id     TEXT COLLATE "C" NOT NULL,
    carry        TEXT    NOT NULL, -- A decimal, exact.
    seals        BIGINT  NOT NULL, -- How many batches were sealed.
    due_at       BIGINT,           -- When something is to be sent next; none: nothing is.
    lease_until  BIGINT  NOT NULL, -- Until then whoever claimed a batch has it.
    lease        BIGINT  NOT NULL, -- Rises with each claim; an answer under an older one comes too late.
    PRIMARY KEY (workspace_id, meter_id)
) WITH (fillfactor = 80);

CREATE INDEX billing_account_by_due ON billing_account (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE billing_batch (
    batch_number       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_id           TEXT COLLATE "C" NOT NULL UNIQUE,
    workspace_id       TEXT COLLATE "C" NOT NULL,
    meter_id           TEXT COLLATE "C" NOT NULL,
    window_start       BIGINT  NOT NULL,
    window_end         BIGINT  NOT NULL,
    sequence           BIGINT  NOT NULL, -- Of its window, from 1.
    event_name         TEXT    NOT NULL,
    unit               TEXT    NOT NULL,
    factor_numerator   BIGINT  NOT NULL,
    factor_denominator BIGINT  NOT NULL,
    members            BIGINT  NOT NULL,
    counted            BIGINT  NOT NULL, -- What its members count.
    last_used_at       BIGINT  NOT NULL,
    opened_at          BIGINT  NOT NULL,
    seals_at           BIGINT  NOT NULL,
    sealed_at          BIGINT,
    seal_number        BIGINT,           -- Of its workspace and meter, from 1.
    value              BIGINT,
    carry              TEXT,             -- After it.
    state              TEXT    NOT NULL,
    generation         BIGINT  NOT NULL,
    customer           TEXT,
    told_at            BIGINT,
    tries              BIGINT  NOT NULL,
    claimed_at         BIGINT,
    unsure_since       BIGINT,
    next_try_at        BIGINT,
    reason_code        TEXT,
    reason             TEXT,
    acknowledged_at    BIGINT,
    UNIQUE (workspace_id, meter_id, window_start, window_end, sequence)
);

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
    meter_number BIGINT  NOT NULL,
    entry_id     TEXT COLLATE "C" NOT NULL,
    batch_number BIGINT  NOT NULL, -- Of billing_batch; kept by who writes it, as a foreign key would lock and look up once for each row.
    counted      BIGINT  NOT NULL,
    PRIMARY KEY (meter_number, entry_id)
);

CREATE INDEX billing_member_by_batch ON billing_member (batch_number);
