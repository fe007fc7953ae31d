-- Who changed what, why, and from what to what. Written in the transaction that makes the change, and never changed itself.
CREATE TABLE audit_log (
    audit_id     TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    changed_at   BIGINT NOT NULL,
    actor        TEXT   NOT NULL,
    action       TEXT   NOT NULL,
    subject_kind TEXT   COLLATE "C" NOT NULL,
    subject_id   TEXT   COLLATE "C" NOT NULL,
    workspace_id TEXT   COLLATE "C", -- None: of all workspaces.
    "before"     TEXT,               -- A JSON document; none: it was not there.
    "after"      TEXT,               -- A JSON document; none: it is gone.
    reason       TEXT   NOT NULL,    -- Empty: nobody gave one.
    request_id   TEXT
);

-- Newest first: of everything, of one workspace, of one thing.
CREATE INDEX audit_log_by_time ON audit_log (changed_at, audit_id);
CREATE INDEX audit_log_by_workspace ON audit_log (workspace_id, changed_at, audit_id) WHERE workspace_id IS NOT NULL;
CREATE INDEX audit_log_by_subject ON audit_log (subject_kind, subject_id, changed_at, audit_id);

CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER audit_log_is_never_changed BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION audit_log_is_append_only();
CREATE TRIGGER audit_log_is_never_emptied BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only();
