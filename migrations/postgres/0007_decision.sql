-- The decision log: what was decided and by which facts, for whoever asks why, and for simulations. Nothing refers to it; it is written in
-- the background and pruned by age and number, the oldest first.
CREATE TABLE decision (
    decision_id    TEXT    COLLATE "C" NOT NULL PRIMARY KEY,
    reservation_id TEXT    COLLATE "C",  -- Of an allow.
    workspace_id   TEXT    COLLATE "C" NOT NULL,
    decided_at     BIGINT  NOT NULL,
    verdict        TEXT    NOT NULL CHECK (verdict IN ('allow', 'deny')),
    facts          BYTEA   NOT NULL -- Encoded; see src/flow/decided.rs.
);

CREATE INDEX decision_by_age ON decision (verdict, decided_at);
CREATE INDEX decision_by_reservation ON decision (reservation_id) WHERE reservation_id IS NOT NULL;
