-- The answer to a request that bears an idempotency key takes the place of what was about to be sent, in the same row. Where its
-- page has room for both, no index has to be told.
ALTER TABLE idempotency_keys SET (fillfactor = 50);
