-- Webhooks: whom customers' systems are told at, and what is still to be told to each.
CREATE TABLE webhook_endpoint (
    endpoint_id     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    workspace_id    TEXT COLLATE "C" NOT NULL,            -- Whose events it is told; empty: of all workspaces, and of none.
    url             TEXT    NOT NULL,
    events          TEXT    NOT NULL,            -- Filters between spaces.
    wants_usage     BIGINT  NOT NULL,            -- 1: it names the event that there is for each use.
    description     TEXT,
    enabled         BIGINT  NOT NULL,
    disabled_reason TEXT,                        -- Why it was disabled, unless somebody asked for it.
    disabled_at     BIGINT,
    secret          BYTEA   NOT NULL,            -- Sealed.
    replaced_secret BYTEA,                       -- The one before, which signs too until replaced_until.
    replaced_until  BIGINT,
    created_by      TEXT    NOT NULL,
    created_at      BIGINT  NOT NULL,
    deleted_at      BIGINT,                     -- It stays until its deliveries are forgotten.
    version         BIGINT  NOT NULL
);

CREATE INDEX webhook_endpoint_by_workspace ON webhook_endpoint (workspace_id, endpoint_id) WHERE deleted_at IS NULL;
CREATE INDEX webhook_endpoint_usage ON webhook_endpoint (workspace_id) WHERE wants_usage = 1 AND enabled = 1 AND deleted_at IS NULL;

-- One row for each endpoint. Its lock orders everything that is done with the endpoint's deliveries.
CREATE TABLE webhook_queue (
    endpoint_id   TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    next_due_at   BIGINT  NOT NULL,              -- Nothing of it can be claimed before this moment.
    is_proven     BIGINT  NOT NULL DEFAULT 0,    -- 1: the last try succeeded.
    failing_since BIGINT                         -- The first failure after the last success.
) WITH (fillfactor = 50);

CREATE INDEX webhook_queue_by_due ON webhook_queue (is_proven, next_due_at);

-- An event on its way to an endpoint.
CREATE TABLE webhook_delivery (
    delivery_id      TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    endpoint_id      TEXT COLLATE "C" NOT NULL,
    workspace_id     TEXT COLLATE "C" NOT NULL,           -- The endpoint's.
    event_id         TEXT COLLATE "C" NOT NULL,
    event_type       TEXT    NOT NULL,
    body             TEXT    NOT NULL,           -- As it is sent, the same on every try.
    state            TEXT    NOT NULL CHECK (state IN ('pending', 'delivered', 'failed', 'cancelled')),
    reason           TEXT,                       -- Of what was cancelled.
    created_at       BIGINT  NOT NULL,
    due_at           BIGINT  NOT NULL,           -- Of the next try; while one runs, when it is given up for lost.
    claim            TEXT,                       -- Of the try that runs.
    tries            BIGINT  NOT NULL DEFAULT 0,
    last_at          BIGINT,
    last_status      BIGINT,
    last_duration_ms BIGINT,
    last_answer      TEXT,
    last_error       TEXT
);

CREATE UNIQUE INDEX webhook_delivery_once ON webhook_delivery (endpoint_id, event_id);
CREATE INDEX webhook_delivery_due ON webhook_delivery (endpoint_id, due_at) WHERE state = 'pending';
CREATE INDEX webhook_delivery_by_endpoint ON webhook_delivery (endpoint_id, delivery_id);
CREATE INDEX webhook_delivery_by_workspace ON webhook_delivery (workspace_id, delivery_id);
CREATE INDEX webhook_delivery_by_event ON webhook_delivery (event_id, delivery_id);
CREATE INDEX webhook_delivery_by_state ON webhook_delivery (state, delivery_id);
