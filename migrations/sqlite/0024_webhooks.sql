-- Secrets that were replaced before the last one, and go on to sign; and which events are handed on first.
ALTER TABLE webhook_endpoint ADD COLUMN older_secrets TEXT NOT NULL DEFAULT ''; -- Each as its end, a colon and the sealed secret, between spaces.

-- All but those that there are for each use: few, and handed on before them.
CREATE INDEX event_waiting_first ON event (recorded_at, event_id) WHERE relayed_at IS NULL AND type <> 'usage.recorded';
