-- What reconcile looks for: the batches that a customer was told of, and those of a window.
CREATE INDEX billing_batch_by_customer ON billing_batch (customer, event_name, told_at) WHERE customer IS NOT NULL;
CREATE INDEX billing_batch_by_window ON billing_batch (window_start);
