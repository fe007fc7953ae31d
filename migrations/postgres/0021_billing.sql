-- What billing has to know of the past: who suspended a workspace, and what meters were.

-- Who may lift it: what an operator suspended is not for a payment to lift. Of what was suspended before anybody wrote it down, that of a
-- customer who owes is taken for the subscription's.
ALTER TABLE workspace ADD COLUMN suspended_by TEXT COLLATE "C"; -- 'operator' or 'subscription'; none: it is active.
UPDATE workspace SET suspended_by = CASE WHEN EXISTS (SELECT 1 FROM stripe_subscription AS subscription
    WHERE subscription.customer_id = workspace.stripe_customer_id AND subscription.status IN ('unpaid', 'paused'))
    THEN 'subscription' ELSE 'operator' END WHERE status = 'suspended';

-- What a meter was, and when: a use is counted by what stood in the policy when it was recorded. A meter that was there before anybody wrote
-- this down has none, and is from its beginning on what it is when it is noted first.
CREATE TABLE billing_reign (
    meter_number       BIGINT NOT NULL REFERENCES billing_meter,
    from_at            BIGINT NOT NULL,
    until_at           BIGINT,          -- None: it is so now.
    event_name         TEXT COLLATE "C" NOT NULL,
    unit               TEXT COLLATE "C" NOT NULL,
    feature            TEXT COLLATE "C",             -- None: it counts all of them; likewise the next two.
    model              TEXT COLLATE "C",
    tier               TEXT COLLATE "C",
    factor_numerator   BIGINT NOT NULL,
    factor_denominator BIGINT NOT NULL,
    PRIMARY KEY (meter_number, from_at)
);
