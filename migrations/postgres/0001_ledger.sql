-- The ledger: what happened. Times are microseconds since 1970 in UTC, usd are nano-dollars, ids are text as callers see them.
-- A column bears the contract's word, the same as in SQLite. Ids and names sort by their bytes (COLLATE "C"), so that lists and locks have
-- one order, whatever the locale of the database.

-- One recorded use. Never changed: what an entry counts is fixed, and a correction is another entry.
-- One partition a month of `occurred_at`, which is what sums and lists select by. An entry id is unique within its month; that a use is
-- recorded once is kept by `reservation_end`.
CREATE TABLE entry (
    entry_id              TEXT    COLLATE "C" NOT NULL,
    kind                  TEXT    NOT NULL,
    corrects              TEXT,
    request_id            TEXT    NOT NULL,
    reservation_id        TEXT,
    workspace_id          TEXT    COLLATE "C" NOT NULL,
    user_id               TEXT    COLLATE "C" NOT NULL, -- Empty: the shared user, as in counter_sum.
    feature               TEXT    COLLATE "C" NOT NULL,
    model                 TEXT    COLLATE "C" NOT NULL,
    requested_model       TEXT    NOT NULL,
    tier                  TEXT,
    provider              TEXT,
    mode                  TEXT    NOT NULL,
    requests              BIGINT  NOT NULL,
    input_tokens          BIGINT  NOT NULL,
    cache_read_tokens     BIGINT  NOT NULL,
    cache_write_tokens    BIGINT  NOT NULL,
    cache_write_1h_tokens BIGINT  NOT NULL,
    output_tokens         BIGINT  NOT NULL,
    reasoning_tokens      BIGINT  NOT NULL,
    audio_input_tokens    BIGINT  NOT NULL,
    audio_output_tokens   BIGINT  NOT NULL,
    image_input_tokens    BIGINT  NOT NULL,
    cache_hit             BOOLEAN NOT NULL,
    latency_ms            BIGINT,
    outcome               TEXT    NOT NULL,
    priced                BOOLEAN NOT NULL,
    late                  BOOLEAN NOT NULL,
    cost_usd              BIGINT,
    list_cost_usd         BIGINT,
    counted_tokens        BIGINT  NOT NULL,
    counted_usd           BIGINT  NOT NULL,
    counted_requests      BIGINT  NOT NULL,
    counted_credits       BIGINT  NOT NULL,
    price_version         TEXT,
    plan_id               TEXT,
    plan_version          BIGINT,
    occurred_at           BIGINT  NOT NULL,
    recorded_at           BIGINT  NOT NULL,
    tags                  TEXT    NOT NULL, -- A JSON object.
    provider_request_id   TEXT,
    quality_score         BIGINT,           -- In ten-thousandths.
    other_cost_usd        BIGINT,
    billable_outcomes     TEXT    NOT NULL, -- A JSON object.
    PRIMARY KEY (entry_id, occurred_at)
) PARTITION BY RANGE (occurred_at);

-- Lists are read by time. Feature and model are in the index, so that a filtered list passes over what it does not want without
-- fetching it.
CREATE INDEX entry_by_time ON entry (workspace_id, occurred_at, entry_id, feature, model);
-- A user's first counter of a period is the sum of what that user already did in it.
CREATE INDEX entry_by_user ON entry (workspace_id, user_id, occurred_at, entry_id, feature, model);
-- What was recorded lately is copied to the counters again, in case its copy was lost.
CREATE INDEX entry_by_record ON entry (recorded_at, entry_id);

-- Months that nobody made a partition for; the service makes them ahead of time, so this one stays as good as empty.
CREATE TABLE entry_other PARTITION OF entry DEFAULT;

CREATE FUNCTION entry_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'entries are append-only: write a correction instead' USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER entry_is_never_changed BEFORE UPDATE OR DELETE ON entry FOR EACH ROW EXECUTE FUNCTION entry_is_append_only();
CREATE TRIGGER entry_is_never_emptied BEFORE TRUNCATE ON entry FOR EACH STATEMENT EXECUTE FUNCTION entry_is_append_only();
CREATE TRIGGER entry_is_never_emptied BEFORE TRUNCATE ON entry_other FOR EACH STATEMENT EXECUTE FUNCTION entry_is_append_only();

-- Makes the partition of one month, if it is not there. It is made apart and attached afterwards: that locks writers out for the moment
-- that it takes to see that `entry_other` has nothing of that month. Has it something, the month stays there, and the answer is false.
CREATE FUNCTION make_entry_month(name TEXT, first_micros BIGINT, end_micros BIGINT) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('entry months'), hashtext(current_schema()));
    IF to_regclass(format('%I', name)) IS NOT NULL THEN
        RETURN true;
    END IF;
    IF EXISTS (SELECT FROM entry_other WHERE occurred_at >= first_micros AND occurred_at < end_micros) THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE entry INCLUDING DEFAULTS)', name);
    EXECUTE format('CREATE TRIGGER entry_is_never_emptied BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION entry_is_append_only()',
                   name);
    EXECUTE format('ALTER TABLE entry ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', name, first_micros, end_micros);
    RETURN true;
END $$;

-- How a reservation stands, one row each. The reservation id is made from workspace and request id, for usage that was never authorized
-- too. So this primary key is what makes request ids unique over authorize, usage and events: there is no second table to keep in step.
-- Slim and not partitioned. `entry_id` references an entry, which is kept by `post_batch` and not by a foreign key: that would lock and
-- rewrite the entry that was just written. `entry_occurred_at` says in which month it is.
CREATE TABLE reservation_end (
    reservation_id    TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    workspace_id      TEXT   COLLATE "C" NOT NULL,
    request_id        TEXT   NOT NULL,
    revision          BIGINT NOT NULL, -- Rises with each write; a write names the one that it was decided on.
    "end"             TEXT CHECK ("end" IN ('settled', 'released', 'expired')),
    entry_id          TEXT   COLLATE "C",
    entry_occurred_at BIGINT,
    fingerprint       TEXT             -- 32 hex digits.
) WITH (fillfactor = 90);

-- What a request that still runs has used so far. Spent already: a sum is over entries and these. Its dimensions are columns beside the
-- entry that it would become, so that sums are computed without reading JSON.
CREATE TABLE checkpoint (
    reservation_id   TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    workspace_id     TEXT   COLLATE "C" NOT NULL,
    user_id          TEXT   COLLATE "C" NOT NULL,
    feature          TEXT   COLLATE "C" NOT NULL,
    occurred_at      BIGINT NOT NULL,
    counted_tokens   BIGINT NOT NULL,
    counted_usd      BIGINT NOT NULL,
    counted_requests BIGINT NOT NULL,
    counted_credits  BIGINT NOT NULL,
    expires_at       BIGINT NOT NULL,
    entry            TEXT   NOT NULL -- A JSON object.
);

CREATE INDEX checkpoint_by_workspace ON checkpoint (workspace_id);
CREATE INDEX checkpoint_by_expiry ON checkpoint (expires_at, reservation_id);

-- The truth of each counter that was ever named: the sum of what entries and checkpoints of its dimensions and period count.
-- The key begins with the dimensions, then the end of the period, because what is looked for is what has not ended yet. Half of each page
-- is left free and no changing column is in an index, so that an update stays in its page and touches no index (HOT).
CREATE TABLE counter_sum (
    workspace_id TEXT   COLLATE "C" NOT NULL,
    user_id      TEXT   COLLATE "C" NOT NULL, -- '*': everybody; empty: the shared user.
    feature      TEXT   COLLATE "C" NOT NULL, -- '*': every feature.
    unit         TEXT   COLLATE "C" NOT NULL,
    period_kind  TEXT   COLLATE "C" NOT NULL,
    period_start BIGINT NOT NULL,
    period_end   BIGINT NOT NULL,
    spent        BIGINT NOT NULL,
    version      BIGINT NOT NULL, -- The workspace's sum_version when this row last changed.
    PRIMARY KEY (workspace_id, user_id, feature, period_end, period_kind, period_start, unit)
) WITH (fillfactor = 50);

-- A group is read whole when its counters are rebuilt. None of these columns ever changes, so only a birth writes here.
CREATE INDEX counter_sum_by_end ON counter_sum (workspace_id, user_id, period_end);

-- Its row is also the lock of a workspace: who writes anything about its reservations or sums holds it first. Never deleted.
CREATE TABLE workspace (
    workspace_id       TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    plan_id            TEXT   COLLATE "C",
    seats              TEXT   NOT NULL, -- A JSON object.
    status             TEXT   NOT NULL,
    calendar           TEXT   NOT NULL, -- A JSON object.
    stripe_customer_id TEXT,
    revenue_usd        BIGINT,
    overrides          TEXT   NOT NULL, -- A JSON object.
    version            BIGINT NOT NULL,
    created_at         BIGINT NOT NULL,
    updated_at         BIGINT NOT NULL,
    sum_version        BIGINT NOT NULL DEFAULT 0, -- Rises with each write that moves a sum of this workspace.
    change_number      BIGINT NOT NULL DEFAULT 0  -- Of its last description; 0: it came into being by use and was never described.
) WITH (fillfactor = 50);

-- A plan is not deleted while a workspace is on it.
CREATE INDEX workspace_by_plan ON workspace (plan_id, workspace_id) WHERE plan_id IS NOT NULL;
-- Nodes follow what others described.
CREATE INDEX workspace_by_change ON workspace (change_number) WHERE change_number > 0;

-- The last number given to a change of each kind of thing. A row and not a sequence: its lock makes changes commit in the order of their
-- numbers, so that who follows them misses none.
CREATE TABLE change_number (
    what TEXT   NOT NULL PRIMARY KEY,
    last BIGINT NOT NULL
);
INSERT INTO change_number (what, last) VALUES ('workspace', 0);

-- Every policy that was ever in force. The one in force is the newest row of each object.
CREATE TABLE policy_version (
    version    BIGINT NOT NULL PRIMARY KEY,
    changed_at BIGINT NOT NULL,
    actor      TEXT   NOT NULL,
    reason     TEXT   NOT NULL,
    files_hash TEXT -- Of the files that were applied, where files were.
);

CREATE TABLE policy_object (
    kind           TEXT   COLLATE "C" NOT NULL,
    id             TEXT   COLLATE "C" NOT NULL,
    version        BIGINT NOT NULL,
    policy_version BIGINT NOT NULL REFERENCES policy_version,
    body           TEXT, -- The document as JSON; none: deleted.
    PRIMARY KEY (kind, id, version)
);
