-- Secrets that were replaced before the last one, and go on to sign; and which events are handed on, and delivered, first.
ALTER TABLE webhook_endpoint ADD COLUMN older_secrets TEXT NOT NULL DEFAULT ''; -- Each as its end, a colon and the sealed secret, between spaces.

-- All but those that there are for each use: few, and handed on and delivered before them.
CREATE INDEX event_waiting_first ON event (recorded_at, event_id) WHERE relayed_at IS NULL AND type <> 'usage.recorded';
CREATE INDEX webhook_delivery_due_first ON webhook_delivery (endpoint_id, due_at) WHERE state = 'pending' AND event_type <> 'usage.recorded';
