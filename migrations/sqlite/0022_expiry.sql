-- Who is told of reservations that expire by themselves, each try of a delivery, and for whom addresses that an operator opened are dialled.
ALTER TABLE webhook_endpoint ADD COLUMN wants_expired INTEGER NOT NULL DEFAULT 0;  -- 1: its filters pass reservation.expired.
ALTER TABLE webhook_endpoint ADD COLUMN reaches_opened INTEGER NOT NULL DEFAULT 1; -- 1: what an operator opened is dialled for it.

WITH RECURSIVE beginning (length) AS (SELECT 0 UNION ALL SELECT length + 1 FROM beginning WHERE length < 19)
UPDATE webhook_endpoint SET wants_expired = 1
WHERE ' ' || events || ' ' LIKE '% reservation.expired %'
   OR EXISTS (SELECT 1 FROM beginning WHERE ' ' || events || ' ' LIKE '% ' || substr('reservation.expired', 1, length) || '* %');

CREATE INDEX webhook_endpoint_expired ON webhook_endpoint (workspace_id) WHERE wants_expired = 1 AND enabled = 1 AND deleted_at IS NULL;

-- The tries of a delivery but for its last one, which the delivery itself has.
CREATE TABLE webhook_attempt (
    delivery_id TEXT    NOT NULL,
    number      INTEGER NOT NULL,                -- From 1, however often it was put on its way again.
    at          INTEGER NOT NULL,
    status      INTEGER,
    duration_ms INTEGER NOT NULL,
    answer      TEXT    NOT NULL,
    error       TEXT,
    PRIMARY KEY (delivery_id, number)
) STRICT, WITHOUT ROWID;
