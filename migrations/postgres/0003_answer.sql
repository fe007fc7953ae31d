-- What requests under an Idempotency-Key were answered with, for a day: a repeated request is told the same, by whichever node it
-- reaches. Nothing else refers to this, and older rows are deleted as new ones come.
CREATE TABLE answer (
    answer_key   TEXT   NOT NULL PRIMARY KEY, -- 32 hex digits: of who asked, which path, and which key.
    fingerprint  TEXT   NOT NULL,             -- 32 hex digits: of what was asked.
    status       BIGINT NOT NULL,
    content_type TEXT   NOT NULL,
    body         TEXT   NOT NULL,
    answered_at  BIGINT NOT NULL
);

CREATE INDEX answer_by_time ON answer (answered_at);
