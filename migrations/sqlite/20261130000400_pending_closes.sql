-- Conversations of erased users that the Cloud could not be told to close yet: the least that this needs, for 24 hours at most.
CREATE TABLE pending_closes (
    id              INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again: a claim names it
    account_id      TEXT   NOT NULL,        -- the Cloud's account
    conversation_id TEXT   UNIQUE,          -- NULL: the one that an opening of unknown outcome has come to, if any
    owner           TEXT   NOT NULL,        -- keyed hash of the user, to find it for one who is erased or comes again
    secret          BLOB   NOT NULL,        -- sealed: the ConsumerJWS, the name that a new one is asked for by, the features
    key_id          TEXT   NOT NULL,        -- the key that sealed it and keyed the hash
    tries           INTEGER NOT NULL DEFAULT 0, -- counts on with each claim: who was overtaken settles nothing
    why             TEXT,                   -- why the last try failed; NULL: none has
    due_at          INTEGER NOT NULL,       -- when it is tried next; while somebody is at it, when another may
    created_at      INTEGER NOT NULL
) STRICT;

CREATE INDEX pending_closes_due ON pending_closes (due_at);
CREATE INDEX pending_closes_owner ON pending_closes (owner);
CREATE INDEX pending_closes_created_at ON pending_closes (created_at);
