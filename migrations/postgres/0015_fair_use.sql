-- Fair use: what workspaces and their users used lately, by minute and by hour, and what rules do about it.

-- Of everybody together (user `*`) and, where a rule looks at them, of each user; the empty user is requests without one. Only of workspaces
-- whose plan has rules. A measure and not the truth: nodes add to it every few seconds, and what a crash loses is lost.
CREATE TABLE fair_use_usage (
    workspace_id  TEXT   COLLATE "C" NOT NULL,
    user_id       TEXT   COLLATE "C" NOT NULL,
    width_seconds BIGINT NOT NULL CHECK (width_seconds IN (60, 3600)),
    starts_at     BIGINT NOT NULL,
    plan_id       TEXT   COLLATE "C" NOT NULL,
    tokens        BIGINT NOT NULL,
    usd           BIGINT NOT NULL,
    requests      BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, user_id, width_seconds, starts_at)
);

CREATE INDEX fair_use_usage_by_time ON fair_use_usage (width_seconds, starts_at);

-- The last action of each rule on whom it is about; those before it are in the audit log. Feature `*` is every feature.
CREATE TABLE fair_use_action (
    workspace_id TEXT   COLLATE "C" NOT NULL,
    user_id      TEXT   COLLATE "C" NOT NULL,
    feature      TEXT   COLLATE "C" NOT NULL,
    rule         TEXT   COLLATE "C" NOT NULL,
    action_id    TEXT   COLLATE "C" NOT NULL UNIQUE,
    started_at   BIGINT NOT NULL,
    ends_at      BIGINT NOT NULL,
    ended_at     BIGINT,          -- An administrator ended it before its time.
    body         TEXT   NOT NULL, -- A JSON object: the whole action as it began.
    PRIMARY KEY (workspace_id, user_id, feature, rule)
);

CREATE INDEX fair_use_action_by_end ON fair_use_action (ends_at);
CREATE INDEX fair_use_action_by_start ON fair_use_action (started_at, action_id);
