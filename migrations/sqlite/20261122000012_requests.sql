-- What was accepted before the Cloud had it, in the order of each user's requests; only who holds the user's lane works on it.
ALTER TABLE users ADD COLUMN waiting INTEGER NOT NULL DEFAULT 0; -- how many requests wait; read on the way of each message
ALTER TABLE users ADD COLUMN send_at INTEGER;           -- when the first of them is due; NULL: none waits

CREATE INDEX users_send ON users (send_at) WHERE send_at IS NOT NULL;

CREATE TABLE requests (
    ordinal         INTEGER PRIMARY KEY,     -- its place; given while the user's row is held, so that it is the order of arrival
    id              TEXT    NOT NULL UNIQUE, -- as the channel knows it
    user_ref        INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    channel_id      TEXT    NOT NULL,
    kind            TEXT    NOT NULL CHECK (kind IN ('text', 'file', 'receipts', 'close', 'rating')),
    body            TEXT    NOT NULL,        -- what is to be done, as JSON; empty once it is settled
    content         BLOB,                    -- a file's bytes until it is settled
    content_size    INTEGER NOT NULL DEFAULT 0, -- of the bytes, without reading them
    state           TEXT    NOT NULL CHECK (state IN ('waiting', 'sending', 'unknown', 'sent', 'failed')),
    created_at      INTEGER NOT NULL,
    expires_at      INTEGER NOT NULL,        -- from then on it is not tried any more
    settled_at      INTEGER,                 -- when it was sent or failed
    attempts        INTEGER NOT NULL DEFAULT 0,
    conversation_id TEXT,                    -- where it went, or was to go
    sequences       TEXT    NOT NULL DEFAULT '[]', -- the Cloud's numbers of what it was sent as, so far
    dialog_id       TEXT,                    -- where the last try went
    digest          TEXT,                    -- of what the last try said, to know its echo by
    tried_at        INTEGER,                 -- when the last try began
    file_id         TEXT,                    -- the file that was sent
    file_type       TEXT,
    failure         TEXT,                    -- why it failed, as JSON
    traceparent     TEXT                     -- the request that it came with
) STRICT;

CREATE INDEX requests_lane ON requests (user_ref, ordinal) WHERE settled_at IS NULL;
CREATE INDEX requests_user ON requests (user_ref);
CREATE INDEX requests_content ON requests (channel_id) WHERE content_size > 0;
CREATE INDEX requests_settled ON requests (settled_at) WHERE settled_at IS NOT NULL;

-- How far a request has come, step by step.
CREATE TABLE request_steps (
    number     INTEGER PRIMARY KEY,
    request_id TEXT    NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
    at         INTEGER NOT NULL,
    what       TEXT    NOT NULL CHECK (what IN ('accepted', 'postponed', 'unknown', 'sent', 'failed')),
    why        TEXT                          -- a word of the table of problems
) STRICT;

CREATE INDEX request_steps_request ON request_steps (request_id, number);

-- What users said, as the Cloud tells it back: the proof that a message whose answer was lost has arrived.
CREATE TABLE echoes (
    dialog_id  TEXT    NOT NULL,
    sequence   INTEGER NOT NULL,
    user_ref   INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    digest     TEXT    NOT NULL,             -- of what was said
    sent_at    INTEGER NOT NULL,             -- by the Cloud's clock
    attributed INTEGER NOT NULL DEFAULT 0,   -- 1: it is known which request it is of
    heard_at   INTEGER NOT NULL,
    PRIMARY KEY (dialog_id, sequence)
) STRICT;

CREATE INDEX echoes_user ON echoes (user_ref);
CREATE INDEX echoes_heard_at ON echoes (heard_at);

-- When the Cloud last told anything, account by account: an echo that is missing means more while it tells of others.
CREATE TABLE hearings (
    account_id TEXT    PRIMARY KEY,
    heard_at   INTEGER NOT NULL
) STRICT;
