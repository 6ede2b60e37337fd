-- What the Cloud has told and could not be told twice.
CREATE TABLE seen_changes (
    key     TEXT   PRIMARY KEY,             -- hash of what makes the change the one that it is
    seen_at INTEGER NOT NULL
) STRICT;

CREATE INDEX seen_changes_seen_at ON seen_changes (seen_at);

-- What the Cloud has told of conversations that are not known here: not yet, or never.
CREATE TABLE early_changes (
    id          INTEGER PRIMARY KEY,
    account_id  TEXT   NOT NULL,
    place       TEXT   NOT NULL,            -- the dialog or conversation that it names
    consumer_id TEXT,                       -- whose conversation it is; finds one whose opening was not answered
    dialog_id   TEXT,                       -- where it has a number
    sequence    INTEGER,                     -- the number
    state       TEXT   CHECK (state IN ('open', 'closed')), -- of the conversation, where the change is one of its state
    kind        TEXT   NOT NULL,            -- the type of the notification that it came in
    body        TEXT   NOT NULL,            -- the change as it came
    traceparent TEXT,
    received_at INTEGER NOT NULL
) STRICT;

CREATE INDEX early_changes_place ON early_changes (place);
CREATE INDEX early_changes_consumer ON early_changes (account_id, consumer_id) WHERE consumer_id IS NOT NULL;
CREATE INDEX early_changes_received_at ON early_changes (received_at);

-- Conversations of users who were erased: what the Cloud tells of them afterwards is not kept.
CREATE TABLE erased_conversations (
    key       TEXT   PRIMARY KEY,           -- hash of the conversation's id
    erased_at INTEGER NOT NULL
) STRICT;

CREATE INDEX erased_conversations_erased_at ON erased_conversations (erased_at);
