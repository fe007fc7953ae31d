-- Reports of usage that a billing provider took and could not count: what is still to be done about each.
CREATE TABLE meter_report (
    event_id        TEXT    NOT NULL PRIMARY KEY,
    event_type      TEXT    NOT NULL,
    meter           TEXT,             -- The provider's id.
    received_at     INTEGER NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('fetch', 'check', 'done', 'given_up')),
    tries           INTEGER NOT NULL, -- Of this state.
    next_try_at     INTEGER,          -- None: there is nothing to be done.
    validated_from  INTEGER,          -- When the provider looked at the usage.
    validated_until INTEGER,
    error_count     INTEGER,          -- None: nobody knows yet what it says.
    reason          TEXT              -- Why the last try came to nothing.
) STRICT, WITHOUT ROWID;

CREATE INDEX meter_report_due ON meter_report (next_try_at) WHERE next_try_at IS NOT NULL;

-- What a provider was told while it looked.
CREATE INDEX billing_batch_by_claim ON billing_batch (claimed_at) WHERE claimed_at IS NOT NULL;
