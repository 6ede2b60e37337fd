CREATE TABLE conversations (
    id           TEXT    PRIMARY KEY,       -- the Cloud's id
    user_ref     INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    ordinal      INTEGER NOT NULL,          -- counts the user's conversations; clocks of two replicas may disagree
    channel_id   TEXT    NOT NULL,          -- the channel that opened it
    features     TEXT    NOT NULL CHECK (json_valid(features)), -- names for the Client-Properties of every later request
    opened_at    INTEGER NOT NULL,
    closed_at    INTEGER,                   -- NULL: open
    close_reason TEXT,                      -- the Cloud's closeReason in lower case; NULL: not known
    UNIQUE (user_ref, ordinal),
    CHECK (closed_at IS NOT NULL OR close_reason IS NULL)
) STRICT;

-- A user has at most one conversation open at a time.
CREATE UNIQUE INDEX conversations_open ON conversations (user_ref) WHERE closed_at IS NULL;

-- A conversation has a main dialog, which bears the conversation's id, and may have a survey after it.
CREATE TABLE dialogs (
    id              TEXT    PRIMARY KEY,    -- the Cloud's id
    conversation_id TEXT    NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    kind            TEXT    NOT NULL CHECK (kind IN ('main', 'post_survey')),
    opened_at       INTEGER NOT NULL,
    closed_at       INTEGER                 -- NULL: open
) STRICT;

CREATE INDEX dialogs_conversation ON dialogs (conversation_id);
