-- Answers that may be given to similar prompts, with their vectors: for nodes that start, and for those that follow what others store. No truth
-- of anything: what is lost here is asked of a model again.
CREATE TABLE cache_entry (
    cache_entry_id TEXT    NOT NULL PRIMARY KEY,
    workspace_id   TEXT    NOT NULL,
    feature        TEXT    NOT NULL,
    partition_key  BLOB    NOT NULL, -- See src/decision/cache/key.rs.
    vector         BLOB    NOT NULL, -- Of 16-bit numbers; see src/cache/vector.rs.
    signature      BLOB    NOT NULL, -- See src/decision/cache/veto/mod.rs.
    answer         BLOB    NOT NULL, -- See src/cache/answer.rs.
    stored_at      INTEGER NOT NULL,
    expires_at     INTEGER NOT NULL,
    gone_at        INTEGER,          -- It is not given any more; the row stays for a while to tell the other nodes, without what was in it.
    change_number  INTEGER NOT NULL
) STRICT;

CREATE INDEX cache_entry_by_change ON cache_entry (change_number, cache_entry_id);
CREATE INDEX cache_entry_by_feature ON cache_entry (workspace_id, feature) WHERE gone_at IS NULL;
CREATE INDEX cache_entry_by_expiry ON cache_entry (expires_at);
CREATE INDEX cache_entry_gone ON cache_entry (gone_at) WHERE gone_at IS NOT NULL;

INSERT INTO change_number (what, last) VALUES ('cache', 0);
