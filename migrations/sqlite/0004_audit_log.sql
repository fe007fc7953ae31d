-- Who changed what, why, and from what to what. Written in the transaction that makes the change, and never changed itself.
CREATE TABLE audit_log (
    audit_id     TEXT    NOT NULL PRIMARY KEY,
    changed_at   INTEGER NOT NULL,
    actor        TEXT    NOT NULL,
    action       TEXT    NOT NULL,
    subject_kind TEXT    NOT NULL,
    subject_id   TEXT    NOT NULL,
    workspace_id TEXT,             -- None: of all workspaces.
    "before"     TEXT,             -- A JSON document; none: it was not there.
    "after"      TEXT,             -- A JSON document; none: it is gone.
    reason       TEXT    NOT NULL, -- Empty: nobody gave one.
    request_id   TEXT
) STRICT;

-- Newest first: of everything, of one workspace, of one thing.
CREATE INDEX audit_log_by_time ON audit_log (changed_at, audit_id);
CREATE INDEX audit_log_by_workspace ON audit_log (workspace_id, changed_at, audit_id) WHERE workspace_id IS NOT NULL;
CREATE INDEX audit_log_by_subject ON audit_log (subject_kind, subject_id, changed_at, audit_id);

CREATE TRIGGER audit_log_is_never_changed BEFORE UPDATE ON audit_log
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

CREATE TRIGGER audit_log_is_never_deleted BEFORE DELETE ON audit_log
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
