-- Routing: what a workspace is marked with, and which answers may be tried again on a better model.

ALTER TABLE workspace ADD COLUMN tags TEXT NOT NULL DEFAULT '{}'; -- A JSON object of texts, for routing rules.

-- What the settlement of a reservation permits, and who took it: the link between two tries of one request. Nodes of the production profile
-- have a table more, by which they tell each other of failing models; one process has nobody to tell.
CREATE TABLE escalation (
    reservation_id    TEXT    NOT NULL PRIMARY KEY,
    workspace_id      TEXT    NOT NULL,
    feature           TEXT    NOT NULL,
    model             TEXT    NOT NULL, -- Of the second try.
    min_quality_score INTEGER NOT NULL, -- In ten-thousandths.
    offered_at        INTEGER NOT NULL,
    taken_by          TEXT              -- The reservation of the second try.
) STRICT, WITHOUT ROWID;

CREATE INDEX escalation_by_time ON escalation (offered_at);
-- A reservation is the second try of one other at most.
CREATE UNIQUE INDEX escalation_by_taker ON escalation (taken_by) WHERE taken_by IS NOT NULL;
