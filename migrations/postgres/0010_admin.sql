-- What operators set or look up besides policies: providers, entries and their corrections, workspaces in a list.

-- A provider of which an operator said something. One without a row is `auto`.
CREATE TABLE provider (
    provider   TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    state      TEXT   NOT NULL CHECK (state IN ('auto', 'drained')),
    changed_at BIGINT NOT NULL
);

-- What an entry says is what it and its corrections add up to. By bytes, as entry ids are compared.
CREATE INDEX entry_by_corrected ON entry (corrects COLLATE "C") WHERE corrects IS NOT NULL;
-- Uses without a price, which are looked for when there is one. Few entries are in it.
CREATE INDEX entry_unpriced ON entry (occurred_at, entry_id) WHERE NOT priced;
-- Workspaces are listed newest first.
CREATE INDEX workspace_by_creation ON workspace (created_at, workspace_id);
