-- A batch whose value is taken back from another one that the provider has, or put back into what is carried.
ALTER TABLE billing_batch ADD COLUMN adjusts TEXT;

-- Of one batch something is taken back once, unless it was in vain.
CREATE UNIQUE INDEX billing_batch_by_adjusted ON billing_batch (adjusts)
    WHERE adjusts IS NOT NULL AND (reason_code IS NULL OR reason_code <> 'nothing_to_tell');

-- Those from which something may be taken back.
CREATE INDEX billing_batch_giving ON billing_batch (workspace_id, meter_id, told_at)
    WHERE state = 'acknowledged' AND value > 0 AND adjusts IS NULL;
