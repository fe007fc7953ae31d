-- API keys: credentials that Weir makes, each shown to its owner once. What is kept of a secret is a keyed hash.
CREATE TABLE api_key (
    key_id         TEXT    COLLATE "C" NOT NULL PRIMARY KEY, -- Stands in the key itself, and is no secret.
    name           TEXT,
    scopes         TEXT    NOT NULL,             -- Words between spaces.
    workspace_id   TEXT,                         -- The one workspace that it sees; none: all.
    secret_hash    TEXT    NOT NULL,             -- 48 hex digits.
    replaced_hash  TEXT,                         -- Of the secret that was replaced last, which works until replaced_until.
    replaced_until BIGINT,
    created_by     TEXT    NOT NULL,
    created_at     BIGINT  NOT NULL,
    expires_at     BIGINT,
    revoked_at     BIGINT,                      -- A revoked key stays, so that it is not taken for one that was never heard of.
    last_used_at   BIGINT,
    version        BIGINT  NOT NULL,
    change_number  BIGINT  NOT NULL DEFAULT 0
);

CREATE INDEX api_key_by_change ON api_key (change_number);

INSERT INTO change_number (what, last) VALUES ('api_key', 0);
