-- Reports of usage that a billing provider took and could not count: what is still to be done about each.
CREATE TABLE meter_report (
    event_id        TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    event_type      TEXT    NOT NULL,
    meter           TEXT,             -- The provider's id.
    received_at     BIGINT NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('fetch', 'check', 'done', 'given_up')),
    tries           BIGINT NOT NULL, -- Of this state.
    next_try_at     BIGINT,          -- None: there is nothing to be done.
    validated_from  BIGINT,          -- When the provider looked at the usage.
    validated_until BIGINT,
    error_count     BIGINT,          -- None: nobody knows yet what it says.
    reason          TEXT              -- Why the last try came to nothing.
);

CREATE INDEX meter_report_due ON meter_report (next_try_at) WHERE next_try_at IS NOT NULL;

-- What a provider was told while it looked.
CREATE INDEX billing_batch_by_claim ON billing_batch (claimed_at) WHERE claimed_at IS NOT NULL;
