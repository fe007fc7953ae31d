-- Routing: what a workspace is marked with, and which answers may be tried again on a better model.

ALTER TABLE workspace ADD COLUMN tags TEXT NOT NULL DEFAULT '{}'; -- A JSON object of texts, for routing rules.

-- What the settlement of a reservation permits, and who took it: the link between two tries of one request.
CREATE TABLE escalation (
    reservation_id    TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    workspace_id      TEXT   COLLATE "C" NOT NULL,
    feature           TEXT   NOT NULL,
    model             TEXT   NOT NULL, -- Of the second try.
    min_quality_score BIGINT NOT NULL, -- In ten-thousandths.
    offered_at        BIGINT NOT NULL,
    taken_by          TEXT   COLLATE "C" -- The reservation of the second try.
);

CREATE INDEX escalation_by_time ON escalation (offered_at);
-- A reservation is the second try of one other at most.
CREATE UNIQUE INDEX escalation_by_taker ON escalation (taken_by) WHERE taken_by IS NOT NULL;

-- What each node counted lately of models that answer and fail: one row a node, replaced each second. Worth nothing a minute later, so it
-- needs no log: after a crash of the database it is empty.
CREATE UNLOGGED TABLE provider_health (
    node    TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    told_at BIGINT NOT NULL,
    report  BYTEA  NOT NULL
);
