-- What billing has to know of the past: who suspended a workspace, and what meters were.

-- Who may lift it: what an operator suspended is not for a payment to lift. Of what was suspended before anybody wrote it down, that of a
-- customer who owes is taken for the subscription's.
ALTER TABLE workspace ADD COLUMN suspended_by TEXT; -- 'operator' or 'subscription'; none: it is active.
UPDATE workspace SET suspended_by = CASE WHEN EXISTS (SELECT 1 FROM stripe_subscription AS subscription
    WHERE subscription.customer_id = workspace.stripe_customer_id AND subscription.status IN ('unpaid', 'paused'))
    THEN 'subscription' ELSE 'operator' END WHERE status = 'suspended';

-- What a meter was, and when: a use is counted by what stood in the policy when it was recorded. A meter that was there before anybody wrote
-- this down has none, and is from its beginning on what it is when it is noted first.
CREATE TABLE billing_reign (
    meter_number       INTEGER NOT NULL REFERENCES billing_meter,
    from_at            INTEGER NOT NULL,
    until_at           INTEGER,          -- None: it is so now.
    event_name         TEXT NOT NULL,
    unit               TEXT NOT NULL,
    feature            TEXT,             -- None: it counts all of them; likewise the next two.
    model              TEXT,
    tier               TEXT,
    factor_numerator   INTEGER NOT NULL,
    factor_denominator INTEGER NOT NULL,
    PRIMARY KEY (meter_number, from_at)
) STRICT, WITHOUT ROWID;
