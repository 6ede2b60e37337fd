-- What is about to be sent for a request that bears an idempotency key, so that a repeat knows what may be at the Cloud when the
-- replica has died over it. Cleared with the answer.
ALTER TABLE idempotency_keys ADD COLUMN begun TEXT;   -- JSON
ALTER TABLE idempotency_keys ADD COLUMN content BLOB; -- the file's bytes
