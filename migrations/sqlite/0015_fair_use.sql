-- Fair use: what workspaces and their users used lately, by minute and by hour, and what rules do about it.

-- Of everybody together (user `*`) and, where a rule looks at them, of each user; the empty user is requests without one. Only of workspaces
-- whose plan has rules. A measure and not the truth: nodes add to it every few seconds, and what a crash loses is lost.
CREATE TABLE fair_use_usage (
    workspace_id  TEXT    NOT NULL,
    user_id       TEXT    NOT NULL,
    width_seconds INTEGER NOT NULL CHECK (width_seconds IN (60, 3600)),
    starts_at     INTEGER NOT NULL,
    plan_id       TEXT    NOT NULL,
    tokens        INTEGER NOT NULL,
    usd           INTEGER NOT NULL,
    requests      INTEGER NOT NULL,
    PRIMARY KEY (workspace_id, user_id, width_seconds, starts_at)
) STRICT, WITHOUT ROWID;

CREATE INDEX fair_use_usage_by_time ON fair_use_usage (width_seconds, starts_at);

-- The last action of each rule on whom it is about; those before it are in the audit log. Feature `*` is every feature.
CREATE TABLE fair_use_action (
    workspace_id TEXT    NOT NULL,
    user_id      TEXT    NOT NULL,
    feature      TEXT    NOT NULL,
    rule         TEXT    NOT NULL,
    action_id    TEXT    NOT NULL UNIQUE,
    started_at   INTEGER NOT NULL,
    ends_at      INTEGER NOT NULL,
    ended_at     INTEGER,          -- An administrator ended it before its time.
    body         TEXT    NOT NULL, -- A JSON object: the whole action as it began.
    PRIMARY KEY (workspace_id, user_id, feature, rule)
) STRICT, WITHOUT ROWID;

CREATE INDEX fair_use_action_by_end ON fair_use_action (ends_at);
CREATE INDEX fair_use_action_by_start ON fair_use_action (started_at, action_id);
