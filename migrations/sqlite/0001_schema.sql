-- The schema, by noun. Times are milliseconds since the epoch.

-- Users

-- A user is one person of one namespace of one account. The row is also the lane of the user's work at the Cloud: whoever holds
-- its lease is the only one to open a conversation or to send what is queued for this user. Queued work has foreign keys to the
-- row, and goes with it.
CREATE TABLE users (
    id                INTEGER PRIMARY KEY,
    account_id        TEXT   NOT NULL,      -- the Cloud's account
    namespace         TEXT   NOT NULL,      -- of the channel; channels that share one share their users
    user_id           TEXT   NOT NULL,      -- the channel's own name for the person
    consumer_id       TEXT,                 -- lp_consumer_id of the token; recognises the user's own echoes
    token             BLOB,                 -- the ConsumerJWS, sealed; NULL until first needed
    token_key_id      TEXT,                 -- the key that sealed it; finds what a key rotation has left behind
    profile           TEXT   NOT NULL DEFAULT '{}' CHECK (json_valid(profile)), -- what agents are told about the person
    created_at        INTEGER NOT NULL,
    lease_id          TEXT,                 -- who holds the lane; NULL: nobody
    lease_until       INTEGER,              -- from then on anybody may take it over
    typing_sent_at    INTEGER,              -- when the Cloud was last told that the user types
    typing_until      INTEGER,              -- when that ends by itself; NULL: the user does not type
    waiting           INTEGER NOT NULL DEFAULT 0, -- the number of requests that wait; each message reads it
    send_at           INTEGER,              -- when the first of them is due; NULL: none waits
    open_conversation TEXT,                 -- JSON: id, features and dialog of the open conversation; NULL: none is open
    opening           TEXT,                 -- JSON: an opening of unknown outcome, by which channel, how and when
    opening_until     INTEGER,              -- until then a replica may be at that opening; NULL: none is
    UNIQUE (account_id, namespace, user_id),
    CHECK ((token IS NULL) = (token_key_id IS NULL)),
    CHECK ((lease_id IS NULL) = (lease_until IS NULL))
) STRICT;

-- The Cloud names a user by the consumer id.
CREATE INDEX users_consumer ON users (account_id, consumer_id) WHERE consumer_id IS NOT NULL;
CREATE INDEX users_typing ON users (typing_until) WHERE typing_until IS NOT NULL;
CREATE INDEX users_send ON users (send_at) WHERE send_at IS NOT NULL;

-- Conversations

-- A conversation of a user with agents.
CREATE TABLE conversations (
    id           TEXT   PRIMARY KEY,        -- the Cloud's id
    user_ref     INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    ordinal      INTEGER NOT NULL,          -- counts the user's conversations
    channel_id   TEXT   NOT NULL,           -- the channel that opened it
    features     TEXT   NOT NULL CHECK (json_valid(features)), -- names for the Client-Properties of every later request
    opened_at    INTEGER NOT NULL,
    opened_by    TEXT,                      -- agent; NULL: the user
    closed_at    INTEGER,                   -- NULL: open
    close_reason TEXT,                      -- the Cloud's closeReason in lower case; NULL: not known
    updated_at   INTEGER,                   -- the Cloud's newest metaDataLastUpdateTs; older states are dropped
    fingerprint  TEXT,                      -- hash of the newest state: two states may bear one time
    announced    TEXT CHECK (announced IN ('opened', 'closed')), -- what the channel was told last
    UNIQUE (user_ref, ordinal),
    CHECK (closed_at IS NOT NULL OR close_reason IS NULL)
) STRICT;

-- A user has at most one conversation open at a time.
CREATE UNIQUE INDEX conversations_open ON conversations (user_ref) WHERE closed_at IS NULL;

-- A dialog of a conversation in which the user writes: the main one, which bears the conversation's id, and perhaps a survey.
CREATE TABLE dialogs (
    id              TEXT   PRIMARY KEY,     -- the Cloud's id
    conversation_id TEXT   NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    kind            TEXT   NOT NULL CHECK (kind IN ('main', 'post_survey')),
    opened_at       INTEGER NOT NULL,
    closed_at       INTEGER                -- NULL: open
) STRICT;

-- The open dialogs of a conversation are read from this index alone.
CREATE INDEX dialogs_of_conversation ON dialogs (conversation_id, closed_at, kind, opened_at, id);

-- A dialog in which the user does not write: among agents, for browsing together, and others.
CREATE TABLE side_dialogs (
    id              TEXT   PRIMARY KEY,     -- the Cloud's id
    conversation_id TEXT   NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    is_private      INTEGER NOT NULL        -- 1: it is among agents
) STRICT;

CREATE INDEX side_dialogs_conversation ON side_dialogs (conversation_id);

-- Files

-- A file that a user was sent or has sent. The Cloud keeps its bytes; the row says where, and whose it is.
CREATE TABLE files (
    id            TEXT   PRIMARY KEY,       -- the bridge's name for it, as channels see it
    user_ref      INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    relative_path TEXT   NOT NULL,          -- where the Cloud keeps it
    file_type     TEXT   NOT NULL,          -- the Cloud's word for its kind, such as JPG
    created_at    INTEGER NOT NULL,
    UNIQUE (user_ref, relative_path)        -- seen twice, a file keeps its name
) STRICT;

-- Requests

-- A request that was accepted before the Cloud had it. Whoever holds the user's lane works on the user's requests, in their order.
CREATE TABLE requests (
    ordinal         INTEGER PRIMARY KEY, -- given while the user's row is held: the order of arrival
    id              TEXT   NOT NULL UNIQUE, -- as the channel knows it
    user_ref        INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    channel_id      TEXT   NOT NULL,
    kind            TEXT   NOT NULL CHECK (kind IN ('text', 'file', 'receipts', 'close', 'rating')),
    body            TEXT   NOT NULL,        -- JSON: what is to be done; empty once it is settled
    content         BLOB,                   -- a file's bytes until it is settled
    content_size    INTEGER NOT NULL DEFAULT 0, -- their number, without reading them
    state           TEXT   NOT NULL CHECK (state IN ('waiting', 'sending', 'unknown', 'sent', 'failed')),
    created_at      INTEGER NOT NULL,
    expires_at      INTEGER NOT NULL,       -- from then on it is not tried any more
    settled_at      INTEGER,                -- when it was sent or failed
    attempts        INTEGER NOT NULL DEFAULT 0,
    conversation_id TEXT,                   -- where it went, or was to go
    sequences       TEXT   NOT NULL DEFAULT '[]', -- the Cloud's numbers of what it was sent as, so far
    dialog_id       TEXT,                   -- where the last try went
    digest          TEXT,                   -- of what the last try said, to know its echo by
    tried_at        INTEGER,                -- when the last try began
    file_id         TEXT,                   -- the file that was sent
    file_type       TEXT,
    failure         TEXT,                   -- JSON: why it failed
    traceparent     TEXT,                   -- the trace of the request that it came with
    tracestate      TEXT                    -- what others who take part in that trace want to be passed on
) STRICT;

-- The lane of a user's requests has a condition of its own, as PostgreSQL needs it: one text looks for the first request in both.
CREATE INDEX requests_lane ON requests (user_ref, ordinal) WHERE COALESCE(settled_at, 0) = 0;
CREATE INDEX requests_user ON requests (user_ref);
CREATE INDEX requests_content ON requests (channel_id) WHERE content_size > 0;
CREATE INDEX requests_oldest ON requests (channel_id, created_at) WHERE settled_at IS NULL;
CREATE INDEX requests_settled ON requests (settled_at) WHERE settled_at IS NOT NULL;

-- A step in the life of a request.
CREATE TABLE request_steps (
    number     INTEGER PRIMARY KEY,
    request_id TEXT   NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
    at         INTEGER NOT NULL,
    what       TEXT   NOT NULL CHECK (what IN ('accepted', 'postponed', 'unknown', 'sent', 'failed')),
    why        TEXT                         -- the code of a problem
) STRICT;

CREATE INDEX request_steps_request ON request_steps (request_id, number);

-- A message of a user as the Cloud tells it back: the proof that one whose answer was lost has arrived.
CREATE TABLE echoes (
    dialog_id  TEXT   NOT NULL,
    sequence   INTEGER NOT NULL,
    user_ref   INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    digest     TEXT   NOT NULL,             -- of what it says
    sketch     TEXT,                        -- of its text, to know it by where the Cloud has altered it; NULL: it is a file
    sent_at    INTEGER NOT NULL,            -- by the Cloud's clock
    attributed INTEGER NOT NULL DEFAULT 0,  -- 1: it is known which request it is of
    heard_at   INTEGER NOT NULL,
    PRIMARY KEY (dialog_id, sequence)
) STRICT;

CREATE INDEX echoes_user ON echoes (user_ref);
CREATE INDEX echoes_heard_at ON echoes (heard_at);

-- How recent the Cloud's notifications of an account are: an echo that is missing means more while newer things are told.
CREATE TABLE hearings (
    account_id TEXT   PRIMARY KEY,
    heard_at   INTEGER NOT NULL,            -- when the Cloud last told anything
    told_at    INTEGER NOT NULL DEFAULT 0,  -- how old that was, by the Cloud's clock; 0: it bore no time
    behind_at  INTEGER NOT NULL DEFAULT 0   -- when the Cloud last told of something old; 0: never
) STRICT;

-- A request that bears an idempotency key: the answer to a repeat, or who works on it.
CREATE TABLE idempotency_keys (
    channel_id  TEXT   NOT NULL,
    key         BLOB   NOT NULL,            -- hash of the channel's key
    fingerprint BLOB   NOT NULL,            -- hash of method, path and body; another one under the same key is refused
    message_id  TEXT   NOT NULL,            -- what a message of the request is called, whoever finishes it
    begun       TEXT,                       -- JSON: what is about to be sent; NULL: nothing, or it has been answered
    content     BLOB,                       -- a file's bytes, beside that
    lease_id    TEXT,                       -- who works on it; NULL: it has been answered
    lease_until INTEGER,                    -- from then on a repeat may take it over
    status      INTEGER,                    -- of the first answer; NULL: there is none yet
    headers     TEXT   CHECK (json_valid(headers)), -- of the first answer, as pairs
    body        TEXT,                       -- of the first answer
    user_ref    INTEGER REFERENCES users (id) ON DELETE CASCADE, -- the user whom the answer names
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (channel_id, key),
    CHECK ((lease_id IS NULL) = (lease_until IS NULL)),
    CHECK ((lease_id IS NULL) = (status IS NOT NULL)),
    CHECK ((status IS NULL) = (headers IS NULL) AND (status IS NULL) = (body IS NULL))
) STRICT;

CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);
CREATE INDEX idempotency_keys_user ON idempotency_keys (user_ref) WHERE user_ref IS NOT NULL;

-- Events

-- The log of a channel. Positions count without a gap: whoever adds events holds this row until the commit, so that no event ever
-- becomes visible behind a cursor.
CREATE TABLE logs (
    channel_id TEXT   PRIMARY KEY,
    head       INTEGER NOT NULL,            -- position of the newest event
    floor      INTEGER NOT NULL DEFAULT 0   -- position of the newest event that is not kept any more
) STRICT;

-- An event of a channel's log and, where the channel has a callback URL, how its delivery stands.
CREATE TABLE events (
    channel_id    TEXT   NOT NULL,
    position      INTEGER NOT NULL,         -- place in the channel's log, from 1
    id            TEXT   NOT NULL UNIQUE,
    user_ref      INTEGER REFERENCES users (id) ON DELETE CASCADE, -- NULL: an event to try the callback with
    kind          TEXT   NOT NULL,          -- the type, such as message.created
    body          TEXT   NOT NULL,          -- the event as it is sent, the same bytes each time
    traceparent   TEXT,                     -- the trace of what it came about by
    tracestate    TEXT,
    created_at    INTEGER NOT NULL,
    delivery      TEXT   CHECK (delivery IN ('pending', 'delivered', 'failed', 'dropped')), -- NULL: the channel had no callback URL
    deliver_until INTEGER,                  -- from then on it is too old to be delivered
    attempts      INTEGER NOT NULL DEFAULT 0,
    failure       TEXT,                     -- why it failed
    nack_at       INTEGER,                  -- when the agent is to be told that it failed; NULL: nobody waits for that
    PRIMARY KEY (channel_id, position)
) STRICT;

CREATE INDEX events_user ON events (user_ref);
CREATE INDEX events_pending ON events (channel_id, COALESCE(user_ref, 0), position) WHERE delivery = 'pending';
CREATE INDEX events_waiting ON events (channel_id, position) WHERE delivery = 'pending';
CREATE INDEX events_old ON events (deliver_until) WHERE delivery = 'pending';
CREATE INDEX events_failed ON events (channel_id, position) WHERE delivery = 'failed';
CREATE INDEX events_nack ON events (nack_at) WHERE nack_at IS NOT NULL;

-- Deliveries

-- An attempt to deliver an event.
CREATE TABLE attempts (
    event_id    TEXT   NOT NULL REFERENCES events (id) ON DELETE CASCADE,
    number      INTEGER NOT NULL,           -- from 1
    at          INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    status      INTEGER,                    -- of the HTTP answer; NULL: there was none
    error       TEXT,                       -- why there was none
    PRIMARY KEY (event_id, number)
) STRICT;

-- The events of one user that a channel has still to be told, one after the other.
CREATE TABLE delivery_lanes (
    id         INTEGER PRIMARY KEY,
    channel_id TEXT   NOT NULL,
    user_ref   INTEGER REFERENCES users (id) ON DELETE CASCADE, -- NULL: the lane of events to try the callback with
    arrivals   INTEGER NOT NULL DEFAULT 1,  -- counts events; tells who empties the lane that another has come meanwhile
    failures   INTEGER NOT NULL DEFAULT 0,  -- how often in a row the first event has failed
    due_at     INTEGER,                     -- when it may be taken; NULL: it is empty
    lease_id   TEXT                         -- who has it until due_at; NULL: nobody
) STRICT;

CREATE UNIQUE INDEX delivery_lanes_user ON delivery_lanes (channel_id, COALESCE(user_ref, 0));
CREATE INDEX delivery_lanes_of_user ON delivery_lanes (user_ref);
CREATE INDEX delivery_lanes_due ON delivery_lanes (channel_id, due_at) WHERE due_at IS NOT NULL;

-- The state of a channel's callback URL.
CREATE TABLE callbacks (
    channel_id TEXT   PRIMARY KEY,
    failures   INTEGER NOT NULL DEFAULT 0,  -- in a row, over all users
    paused_at  INTEGER,                     -- since when nothing is sent; NULL: it is
    held_at    INTEGER,                     -- equal to paused_at where an operator has paused it
    probe_at   INTEGER                     -- after too many failures, when the next single event may be sent
) STRICT;

-- Notifications

-- A change that the Cloud has told, which it may tell again.
CREATE TABLE seen_changes (
    key     TEXT   PRIMARY KEY,             -- hash of what makes the change the one that it is
    seen_at INTEGER NOT NULL
) STRICT;

CREATE INDEX seen_changes_seen_at ON seen_changes (seen_at);

-- A change of a conversation or dialog that is not known here: not yet, or never.
CREATE TABLE early_changes (
    id          INTEGER PRIMARY KEY,
    account_id  TEXT   NOT NULL,
    place       TEXT   NOT NULL,            -- the dialog or conversation that it names
    consumer_id TEXT,                       -- whose conversation it is; finds one whose opening was not answered
    dialog_id   TEXT,                       -- where it has a number
    sequence    INTEGER,                    -- the number
    state       TEXT   CHECK (state IN ('open', 'closed')), -- of the conversation, where the change is one of its state
    kind        TEXT   NOT NULL,            -- the type of the notification that it came in
    body        TEXT   NOT NULL,            -- the change as it came
    signed      TEXT,                       -- the form of the notification's signature, such as 'sha256 base64'
    traceparent TEXT,
    tracestate  TEXT,
    withheld_of TEXT,                       -- the conversation, where the change waits for its dialog alone
    received_at INTEGER NOT NULL,
    put_off_at  INTEGER                    -- when it was left for later, because its conversation may be being opened here
) STRICT;

CREATE INDEX early_changes_place ON early_changes (place);
CREATE INDEX early_changes_consumer ON early_changes (account_id, consumer_id) WHERE consumer_id IS NOT NULL;
CREATE INDEX early_changes_withheld ON early_changes (withheld_of) WHERE withheld_of IS NOT NULL;
CREATE INDEX early_changes_received_at ON early_changes (received_at);
CREATE INDEX early_changes_put_off ON early_changes (put_off_at) WHERE put_off_at IS NOT NULL;

-- Notifications that were refused, or signed and of no use, for operators. An account and a reason are a row, so there are few.
CREATE TABLE rejected_notifications (
    account_id TEXT   NOT NULL,             -- the configured account; empty for all that are not configured
    reason     TEXT   NOT NULL,             -- the word for the reason
    count      INTEGER NOT NULL,            -- since first_at
    first_at   INTEGER NOT NULL,
    last_at    INTEGER NOT NULL,
    PRIMARY KEY (account_id, reason)
) STRICT;

-- Erasures

-- A conversation of a user who was erased: what the Cloud tells of it afterwards is not kept.
CREATE TABLE erased_conversations (
    key       TEXT   PRIMARY KEY,           -- hash of the conversation's id
    erased_at INTEGER NOT NULL
) STRICT;

CREATE INDEX erased_conversations_erased_at ON erased_conversations (erased_at);

-- A conversation of an erased user that the Cloud could not be told to close yet: the least that this needs, for 24 hours at most.
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

-- Operation

-- What an operator did. It names no user and holds nothing that one wrote, so an erasure leaves it as it is.
CREATE TABLE audit (
    id         TEXT   PRIMARY KEY,
    at         INTEGER NOT NULL,
    actor      TEXT   NOT NULL,             -- key: and 8 hex digits of the API key's SHA-256, jwt, command, or service
    channel_id TEXT,                        -- the channel whose credential it was
    action     TEXT   NOT NULL,             -- a word; not checked, since the next version may know more of them
    subject    TEXT,                        -- an event's id, the key that seals, the newest migration
    details    TEXT   NOT NULL CHECK (json_valid(details)), -- by the action
    request_id TEXT                         -- of the request that asked for it
) STRICT;

CREATE INDEX audit_at ON audit (at, id);
CREATE INDEX audit_subject ON audit (subject, at) WHERE subject IS NOT NULL;

-- When each replica last wrote something just to see whether that is possible, for its readiness. A row for each, so that no
-- replica waits for another; that of a replica that is gone is removed after a day.
CREATE TABLE write_checks (
    replica    TEXT   PRIMARY KEY,          -- made up by each process
    written_at INTEGER NOT NULL
) STRICT;
