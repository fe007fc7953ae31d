-- What is carried from batch to batch, of each definition of a meter by itself: a fraction or a debt of one unit is none of another.
CREATE TABLE billing_carry (
    workspace_id       TEXT COLLATE "C" NOT NULL,
    meter_id           TEXT COLLATE "C" NOT NULL,
    event_name         TEXT COLLATE "C" NOT NULL,
    unit               TEXT COLLATE "C" NOT NULL,
    factor_numerator   BIGINT NOT NULL,
    factor_denominator BIGINT NOT NULL,
    carry              TEXT   NOT NULL, -- A decimal, exact.
    owed               BIGINT NOT NULL, -- How many whole ones would have to be given back so that nothing is owed.
    owed_since         BIGINT,          -- Since when anything is.
    PRIMARY KEY (workspace_id, meter_id, event_name, unit, factor_numerator, factor_denominator)
);

CREATE INDEX billing_carry_by_debt ON billing_carry (owed_since) WHERE owed > 0;

-- Until now it was of the workspace and meter, so it is of the definition of the last batch. A node of before seals no more.
INSERT INTO billing_carry
SELECT account.workspace_id, account.meter_id, batch.event_name, batch.unit, batch.factor_numerator, batch.factor_denominator, account.carry,
       CASE WHEN account.carry LIKE '-%' THEN CAST(CEIL(CAST(SUBSTR(account.carry, 2) AS NUMERIC)) AS BIGINT) ELSE 0 END,
       CASE WHEN account.carry LIKE '-%' THEN batch.sealed_at END
FROM billing_account AS account
JOIN billing_batch AS batch
    ON batch.workspace_id = account.workspace_id AND batch.meter_id = account.meter_id AND batch.seal_number = account.seals;

ALTER TABLE billing_account DROP COLUMN carry;
