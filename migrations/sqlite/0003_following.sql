-- What nodes need to follow what others described, and what is copied to the counters again: the words of the other engine. One process
-- has nothing to follow, but the trait is one.
ALTER TABLE workspace ADD COLUMN change_number INTEGER NOT NULL DEFAULT 0; -- Of its last description; 0: it was never described.

CREATE INDEX workspace_by_change ON workspace (change_number) WHERE change_number > 0;

CREATE TABLE change_number (
    what TEXT    NOT NULL PRIMARY KEY,
    last INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO change_number (what, last) VALUES ('workspace', 0);

-- What was recorded lately is copied to the counters again, in case its copy was lost.
CREATE INDEX entry_by_record ON entry (recorded_at, entry_id);
