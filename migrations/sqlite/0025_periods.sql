-- When the periods of a subscription begin and end, as its provider told it: a JSON object. None: it was told of before anybody wrote this
-- down, so they follow from its anchor.
ALTER TABLE stripe_subscription ADD COLUMN cycle TEXT;
