-- A user is one person of one namespace of one account. Its row is also the lane that orders the user's work at the
-- Cloud: whoever holds the lease is the only one to open a conversation or to send what is queued for this user.
-- Queued work hangs below the row, numbered, and goes with it.
CREATE TABLE users (
    id           INTEGER PRIMARY KEY,
    account_id   TEXT    NOT NULL,          -- the Cloud's account
    namespace    TEXT    NOT NULL,          -- of the channel; channels that share one share their users
    user_id      TEXT    NOT NULL,          -- the channel's own name for the person
    consumer_id  TEXT,                      -- lp_consumer_id of the token; recognises the user's own echoes
    token        BLOB,                      -- the ConsumerJWS, sealed; NULL until first needed
    token_key_id TEXT,                      -- the key that sealed it; finds what a key rotation has left behind
    profile      TEXT    NOT NULL DEFAULT '{}' CHECK (json_valid(profile)), -- what agents are told about the person
    created_at   INTEGER NOT NULL,          -- milliseconds since the epoch, like every time here
    lease_id     TEXT,                      -- who holds the lane; NULL: nobody
    lease_until  INTEGER,                   -- from then on anybody may take it over
    UNIQUE (account_id, namespace, user_id),
    CHECK ((token IS NULL) = (token_key_id IS NULL)),
    CHECK ((lease_id IS NULL) = (lease_until IS NULL))
) STRICT;
