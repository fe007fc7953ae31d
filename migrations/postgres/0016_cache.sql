-- Answers that may be given to similar prompts, with their vectors: for nodes that start, and for those that follow what others store. No truth
-- of anything: what is lost here is asked of a model again.
CREATE TABLE cache_entry (
    cache_entry_id TEXT    COLLATE "C" NOT NULL PRIMARY KEY,
    workspace_id   TEXT    COLLATE "C" NOT NULL,
    feature        TEXT    COLLATE "C" NOT NULL,
    partition_key  BYTEA   NOT NULL, -- See src/decision/cache/key.rs.
    vector         BYTEA   NOT NULL, -- Of 16-bit numbers; see src/cache/vector.rs.
    signature      BYTEA   NOT NULL, -- See src/decision/cache/veto/mod.rs.
    answer         BYTEA   NOT NULL, -- See src/cache/answer.rs.
    stored_at      BIGINT  NOT NULL,
    expires_at     BIGINT  NOT NULL,
    gone_at        BIGINT,           -- It is not given any more; the row stays for a while to tell the other nodes, without what was in it.
    change_number  BIGINT  NOT NULL
);

CREATE INDEX cache_entry_by_change ON cache_entry (change_number, cache_entry_id);
CREATE INDEX cache_entry_by_feature ON cache_entry (workspace_id, feature) WHERE gone_at IS NULL;
CREATE INDEX cache_entry_by_expiry ON cache_entry (expires_at);
CREATE INDEX cache_entry_gone ON cache_entry (gone_at) WHERE gone_at IS NOT NULL;

INSERT INTO change_number (what, last) VALUES ('cache', 0);
