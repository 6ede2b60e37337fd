-- Requests that bear an idempotency key: what a repeat is answered with, and who works on one that has no answer yet.
CREATE TABLE idempotency_keys (
    channel_id  TEXT   NOT NULL,
    key         BYTEA  NOT NULL,            -- hash of the channel's key
    fingerprint BYTEA  NOT NULL,            -- hash of method, path and body; another one under the same key is refused
    message_id  TEXT   NOT NULL,            -- what a message of the request is called, whoever finishes it
    lease_id    TEXT,                       -- who works on it; NULL: it has been answered
    lease_until BIGINT,                     -- from then on a repeat may take it over
    status      BIGINT,                     -- of the first answer; NULL: there is none yet
    headers     JSONB,                      -- of the first answer, as pairs
    body        TEXT,                       -- of the first answer
    user_ref    BIGINT REFERENCES users (id) ON DELETE CASCADE, -- whom the answer names
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (channel_id, key),
    CHECK ((lease_id IS NULL) = (lease_until IS NULL)),
    CHECK ((lease_id IS NULL) = (status IS NOT NULL)),
    CHECK ((status IS NULL) = (headers IS NULL) AND (status IS NULL) = (body IS NULL))
);

CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);
CREATE INDEX idempotency_keys_user ON idempotency_keys (user_ref) WHERE user_ref IS NOT NULL;
