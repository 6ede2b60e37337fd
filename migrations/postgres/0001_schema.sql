-- The schema, grouped by topic. Times are milliseconds since the epoch.

-- Batches

-- A batch is sent as one JSON object of objects, and both engines unpack it with the same SQL.
-- JSONB is parsed once for all members that a statement reads.
CREATE FUNCTION json_each(batch TEXT, OUT key TEXT, OUT value JSONB) RETURNS SETOF RECORD
    LANGUAGE sql IMMUTABLE STRICT ROWS 32 AS 'SELECT e.key, e.value FROM pg_catalog.jsonb_each(batch::JSONB) e';

-- Users

-- A user: one person in one namespace of one account. The row is also the user's lane. Only the
-- holder of its lease opens a conversation or sends queued requests of the user. Queued requests
-- have foreign keys to the row, and are deleted with it.
CREATE TABLE users (
    id                BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id        TEXT   NOT NULL,      -- the account
    namespace         TEXT   NOT NULL,      -- channels of one namespace share their users
    user_id           TEXT   NOT NULL,      -- the channel's id of the user
    -- The token's lp_consumer_id; identifies the user's echoes.
    consumer_id       TEXT,
    token             BYTEA,                -- the sealed ConsumerJWS; NULL until it is first needed
    token_key_id      TEXT,                 -- the key that sealed it; key rotation searches by it
    profile           JSONB  NOT NULL DEFAULT '{}', -- the profile that agents see
    created_at        BIGINT NOT NULL,
    lease_id          TEXT,                 -- the holder of the lane; NULL: the lane is free
    lease_until       BIGINT,               -- from then on another holder may claim the lane
    typing_sent_at    BIGINT,               -- when the Cloud was last notified that the user types
    typing_until      BIGINT,               -- when the typing ends by itself; NULL: not typing
    -- The number of queued requests; every message reads it.
    waiting           BIGINT NOT NULL DEFAULT 0,
    send_at           BIGINT,               -- when the first of them is due; NULL: none is queued
    -- JSON: id, features and dialog of the open conversation; NULL: none is open.
    open_conversation TEXT,
    -- JSON: an opening with unknown outcome: its channel, features, profile and times.
    opening           TEXT,
    -- Until then a replica may be processing it; NULL: none is.
    opening_until     BIGINT,
    UNIQUE (account_id, namespace, user_id),
    CHECK ((token IS NULL) = (token_key_id IS NULL)),
    CHECK ((lease_id IS NULL) = (lease_until IS NULL))
);

-- The Cloud identifies a user by the consumer id.
CREATE INDEX users_consumer ON users (account_id, consumer_id) WHERE consumer_id IS NOT NULL;
CREATE INDEX users_typing ON users (typing_until) WHERE typing_until IS NOT NULL;
CREATE INDEX users_send ON users (send_at) WHERE send_at IS NOT NULL;

-- Conversations

-- A conversation of a user with agents.
CREATE TABLE conversations (
    id           TEXT   PRIMARY KEY,        -- the Cloud's id
    user_ref     BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    ordinal      BIGINT NOT NULL,           -- counts the user's conversations
    channel_id   TEXT   NOT NULL,           -- the channel that opened it
    features     JSONB  NOT NULL,           -- named in the Client-Properties of every later request
    opened_at    BIGINT NOT NULL,
    opened_by    TEXT,                      -- agent; NULL: the user
    closed_at    BIGINT,                    -- NULL: open
    close_reason TEXT,                      -- the Cloud's closeReason in lower case; NULL: unknown
    -- The newest metaDataLastUpdateTs from the Cloud; older states are dropped.
    updated_at   BIGINT,
    -- Hash of the newest state, because two states may have the same time.
    fingerprint  TEXT,
    -- The last state that the channel was told.
    announced    TEXT CHECK (announced IN ('opened', 'closed')),
    UNIQUE (user_ref, ordinal),
    CHECK (closed_at IS NOT NULL OR close_reason IS NULL)
);

-- A user has at most one conversation open at a time.
CREATE UNIQUE INDEX conversations_open ON conversations (user_ref) WHERE closed_at IS NULL;

-- A dialog that the user writes in: the main dialog, which has the conversation's id, or a survey.
CREATE TABLE dialogs (
    id              TEXT   PRIMARY KEY,     -- the Cloud's id
    conversation_id TEXT   NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    kind            TEXT   NOT NULL CHECK (kind IN ('main', 'post_survey')),
    opened_at       BIGINT NOT NULL,
    closed_at       BIGINT                  -- NULL: open
);

-- Index-only reads of the open dialogs of a conversation.
CREATE INDEX dialogs_of_conversation ON dialogs (conversation_id, closed_at, kind, opened_at, id);

-- A side dialog, in which the user does not write: among agents, for co-browsing, and others.
CREATE TABLE side_dialogs (
    id              TEXT   PRIMARY KEY,     -- the Cloud's id
    conversation_id TEXT   NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    is_private      BIGINT NOT NULL         -- 1: a dialog among agents
);

CREATE INDEX side_dialogs_conversation ON side_dialogs (conversation_id);

-- Files

-- A file that a user has sent or received. The Cloud stores its bytes; the row has its path and its
-- user.
CREATE TABLE files (
    id            TEXT   PRIMARY KEY,       -- the bridge's id of the file, as channels see it
    user_ref      BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    relative_path TEXT   NOT NULL,          -- the path at the Cloud
    file_type     TEXT   NOT NULL,          -- the Cloud's file type, such as JPG
    created_at    BIGINT NOT NULL,
    UNIQUE (user_ref, relative_path)        -- a file that is seen twice keeps its id
);

-- Requests

-- A queued request: accepted before the Cloud had it. The holder of the user's lane sends the
-- user's requests in order.
CREATE TABLE requests (
    -- The order of arrival; assigned while the user's row is locked.
    ordinal         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id              TEXT   NOT NULL UNIQUE, -- the id that the channel sees
    user_ref        BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    channel_id      TEXT   NOT NULL,
    kind            TEXT   NOT NULL CHECK (kind IN ('text', 'file', 'receipts', 'close', 'rating')),
    body            TEXT   NOT NULL,        -- JSON: the request itself; empty once it is settled
    content         BYTEA,                  -- the bytes of a file, until it is settled
    content_size    BIGINT NOT NULL DEFAULT 0, -- their number, to have it without reading them
    state           TEXT   NOT NULL CHECK (state IN ('waiting', 'sending', 'unknown', 'sent', 'failed')),
    created_at      BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL,        -- after this time it is not sent any more
    settled_at      BIGINT,                 -- when it was sent or failed
    attempts        BIGINT NOT NULL DEFAULT 0,
    conversation_id TEXT,                   -- the conversation that it was sent to or is meant for
    -- The sequences of the messages that were sent for it so far.
    sequences       TEXT   NOT NULL DEFAULT '[]',
    dialog_id       TEXT,                   -- the dialog of the last attempt
    digest          TEXT,                   -- digest of the last attempt, to recognize its echo
    attempted_at        BIGINT,                 -- start of the last attempt
    file_id         TEXT,                   -- the file that was sent
    file_type       TEXT,
    failure         TEXT,                   -- JSON: the reason why it failed
    traceparent     TEXT,                   -- the trace context that the request came with
    -- Data of other participants in that trace, to be passed on.
    tracestate      TEXT
);

-- The index has a condition of its own, so that no other index can serve the lookup of a user's
-- first request. PostgreSQL caches plans. A plan made while nothing is queued might use any other
-- index, and would later read the whole backlog for each of its requests.
CREATE INDEX requests_lane ON requests (user_ref, ordinal) WHERE COALESCE(settled_at, 0) = 0;
CREATE INDEX requests_user ON requests (user_ref);
CREATE INDEX requests_content ON requests (channel_id) WHERE content_size > 0;
CREATE INDEX requests_oldest ON requests (channel_id, created_at) WHERE settled_at IS NULL;
CREATE INDEX requests_settled ON requests (settled_at) WHERE settled_at IS NOT NULL;

-- A step in the life of a request.
CREATE TABLE request_steps (
    number     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id TEXT   NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
    at         BIGINT NOT NULL,
    what       TEXT   NOT NULL CHECK (what IN ('accepted', 'postponed', 'unknown', 'sent', 'failed')),
    why        TEXT                         -- the code of a problem
);

CREATE INDEX request_steps_request ON request_steps (request_id, number);

-- An echo of a user's message. It proves that a message whose response was lost has arrived.
CREATE TABLE echoes (
    dialog_id  TEXT   NOT NULL,
    sequence   BIGINT NOT NULL,
    user_ref   BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    digest     TEXT   NOT NULL,             -- digest of the message
    -- Sketch of its text, to recognize a text that the Cloud has altered; NULL: a file.
    sketch     TEXT,
    sent_at    BIGINT NOT NULL,             -- by the Cloud's clock
    attributed BIGINT NOT NULL DEFAULT 0,   -- 1: known to belong to a request
    received_at   BIGINT NOT NULL,
    PRIMARY KEY (dialog_id, sequence)
);

CREATE INDEX echoes_user ON echoes (user_ref);
CREATE INDEX echoes_received_at ON echoes (received_at);

-- The notification lag of an account. A missing echo means more if newer notifications have
-- arrived.
CREATE TABLE notification_lags (
    account_id TEXT   PRIMARY KEY,
    last_notified_at   BIGINT NOT NULL,             -- when the latest notification arrived, by our clock
    -- Time of the oldest event in the latest sample, by the Cloud's clock; 0: unknown.
    oldest_change_at    BIGINT NOT NULL DEFAULT 0,
    last_late_at  BIGINT NOT NULL DEFAULT 0    -- when a late notification last arrived; 0: never
);

-- A request with an idempotency key: its answer, for retries, or the claim on it.
CREATE TABLE idempotency_keys (
    channel_id  TEXT   NOT NULL,
    key         BYTEA  NOT NULL,            -- hash of the idempotency key
    -- Hash of method, path and body; the same key with another fingerprint is refused.
    fingerprint BYTEA  NOT NULL,
    -- The id of the request's message, whichever replica sends it.
    message_id  TEXT   NOT NULL,
    -- JSON: the write-ahead record; NULL: nothing is being sent, or the request is answered.
    write_ahead       TEXT,
    content     BYTEA,                      -- the bytes of a file, part of that record
    -- The holder of the claim; NULL: the request is answered.
    lease_id    TEXT,
    lease_until BIGINT,                     -- from then on a retry may take over the claim
    status      BIGINT,                     -- of the first answer; NULL: not answered yet
    headers     JSONB,                      -- of the first answer, as pairs
    body        TEXT,                       -- of the first answer
    user_ref    BIGINT REFERENCES users (id) ON DELETE CASCADE, -- the user in the answer
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (channel_id, key),
    CHECK ((lease_id IS NULL) = (lease_until IS NULL)),
    CHECK ((lease_id IS NULL) = (status IS NOT NULL)),
    CHECK ((status IS NULL) = (headers IS NULL) AND (status IS NULL) = (body IS NULL))
    -- The answer replaces the write-ahead record. If both fit into one page, no index entry
    -- changes.
) WITH (fillfactor = 50);

CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);
CREATE INDEX idempotency_keys_user ON idempotency_keys (user_ref) WHERE user_ref IS NOT NULL;

-- Events

-- The event log of a channel. Positions have no gaps. A transaction that appends locks this row
-- until its commit, so no event ever becomes visible behind a cursor.
CREATE TABLE logs (
    channel_id TEXT   PRIMARY KEY,
    head       BIGINT NOT NULL,             -- position of the newest event
    floor      BIGINT NOT NULL DEFAULT 0    -- position of the newest removed event
);

-- An event of a channel's log and, if the channel has a callback URL, the state of its delivery.
CREATE TABLE events (
    channel_id    TEXT   NOT NULL,
    position      BIGINT NOT NULL,          -- position in the channel's log, from 1
    id            TEXT   NOT NULL UNIQUE,
    user_ref      BIGINT REFERENCES users (id) ON DELETE CASCADE, -- NULL: a test event
    kind          TEXT   NOT NULL,          -- the type, such as message.created
    -- The event as it is delivered, the same bytes each time.
    body          TEXT   NOT NULL,
    traceparent   TEXT,                     -- the trace context of its cause
    tracestate    TEXT,
    created_at    BIGINT NOT NULL,
    -- NULL: the channel had no callback URL.
    delivery      TEXT   CHECK (delivery IN ('pending', 'delivered', 'failed', 'dropped')),
    deliver_until BIGINT,                   -- from then on it is too old to be delivered
    attempts      BIGINT NOT NULL DEFAULT 0,
    failure       TEXT,                     -- the reason why it failed
    -- When the agent is notified of the failure; NULL: not at all.
    nack_at       BIGINT,
    PRIMARY KEY (channel_id, position)
);

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
    number      BIGINT NOT NULL,            -- from 1
    at          BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    status      BIGINT,                     -- of the HTTP response; NULL: there was none
    error       TEXT,                       -- the reason why there was none
    PRIMARY KEY (event_id, number)
);

-- A delivery lane: the pending events of one user for one channel, which are delivered in order.
CREATE TABLE delivery_lanes (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel_id TEXT   NOT NULL,
    user_ref   BIGINT REFERENCES users (id) ON DELETE CASCADE, -- NULL: the lane of test events
    -- Counts events; shows a holder that empties the lane if one has arrived meanwhile.
    arrivals   BIGINT NOT NULL DEFAULT 1,
    failures   BIGINT NOT NULL DEFAULT 0,   -- failures in a row of the first event
    due_at     BIGINT,                      -- when it may be claimed; NULL: the lane is empty
    lease_id   TEXT                         -- the holder until due_at; NULL: the lane is free
);

CREATE UNIQUE INDEX delivery_lanes_user ON delivery_lanes (channel_id, COALESCE(user_ref, 0));
CREATE INDEX delivery_lanes_of_user ON delivery_lanes (user_ref);
CREATE INDEX delivery_lanes_due ON delivery_lanes (channel_id, due_at) WHERE due_at IS NOT NULL;

-- The state of a channel's callback URL.
CREATE TABLE callbacks (
    channel_id         TEXT   PRIMARY KEY,
    failures           BIGINT NOT NULL DEFAULT 0,     -- failures in a row, over all users
    paused_at          BIGINT,                        -- the start of a pause; NULL: not paused
    operator_paused_at BIGINT,                        -- equal to paused_at if an operator has paused it
    probe_at           BIGINT                         -- after too many failures: the time of the next probe
);

-- Notifications

-- A change that was received. The Cloud may send it again.
CREATE TABLE seen_changes (
    key     TEXT   PRIMARY KEY,             -- hash of the identity of the change
    seen_at BIGINT NOT NULL
);

CREATE INDEX seen_changes_seen_at ON seen_changes (seen_at);

-- An unmatched change: its conversation or dialog is not known yet, and may never be.
CREATE TABLE unmatched_changes (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id  TEXT   NOT NULL,
    subject       TEXT   NOT NULL,            -- the dialog or conversation that the change names
    -- The user; finds a conversation whose opening was not answered.
    consumer_id TEXT,
    dialog_id   TEXT,                       -- the dialog of a change with a sequence
    sequence    BIGINT,                     -- the sequence
    -- Of the conversation, if the change reports one.
    state       TEXT   CHECK (state IN ('open', 'closed')),
    kind        TEXT   NOT NULL,            -- the type of its notification
    body        TEXT   NOT NULL,            -- the change as it was received
    -- The form of the notification's signature, such as 'sha256 base64'.
    signed      TEXT,
    traceparent TEXT,
    tracestate  TEXT,
    -- The conversation, if the change waits only for its dialog.
    withheld_of TEXT,
    received_at BIGINT NOT NULL,
    -- When it was postponed, because a replica may be opening its conversation.
    postponed_at BIGINT
);

CREATE INDEX unmatched_changes_subject ON unmatched_changes (subject);
CREATE INDEX unmatched_changes_consumer ON unmatched_changes (account_id, consumer_id) WHERE consumer_id IS NOT NULL;
CREATE INDEX unmatched_changes_withheld ON unmatched_changes (withheld_of) WHERE withheld_of IS NOT NULL;
CREATE INDEX unmatched_changes_received_at ON unmatched_changes (received_at);
CREATE INDEX unmatched_changes_postponed ON unmatched_changes (postponed_at) WHERE postponed_at IS NOT NULL;

-- Counts of notifications that were refused, or correctly signed but useless, for operators. There
-- is one row for each account and reason, so the table stays small.
CREATE TABLE rejected_notifications (
    account_id TEXT   NOT NULL,             -- the configured account; empty for all others
    reason     TEXT   NOT NULL,             -- the name of the reason
    count      BIGINT NOT NULL,             -- since first_at
    first_at   BIGINT NOT NULL,
    last_at    BIGINT NOT NULL,
    PRIMARY KEY (account_id, reason)
);

-- Erasures

-- A conversation of an erased user. Later changes of it are not stored.
CREATE TABLE erased_conversations (
    key       TEXT   PRIMARY KEY,           -- hash of the conversation's id
    erased_at BIGINT NOT NULL
);

CREATE INDEX erased_conversations_erased_at ON erased_conversations (erased_at);

-- A pending close: a conversation of an erased user that the Cloud has still to close. The row has
-- the least data that this needs, and exists for at most 24 hours.
CREATE TABLE pending_closes (
    id              BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id      TEXT   NOT NULL,        -- the account
    -- NULL: the one, if any, that an opening with unknown outcome has created.
    conversation_id TEXT   UNIQUE,
    -- Keyed hash of the user, to find the row if the user is erased again or comes back.
    owner           TEXT   NOT NULL,
    -- Sealed: the ConsumerJWS, the identity for requesting a new one, and the features.
    secret          BYTEA  NOT NULL,
    key_id          TEXT   NOT NULL,        -- the key that sealed the secret and keyed the hash
    -- Counts claims; a holder that was overtaken settles nothing.
    attempts        BIGINT NOT NULL DEFAULT 0,
    -- The reason why the last attempt failed; NULL: none has.
    why             TEXT,
    -- Time of the next attempt; while one runs, the end of its claim.
    due_at          BIGINT NOT NULL,
    created_at      BIGINT NOT NULL
);

CREATE INDEX pending_closes_due ON pending_closes (due_at);
CREATE INDEX pending_closes_owner ON pending_closes (owner);
CREATE INDEX pending_closes_created_at ON pending_closes (created_at);

-- Operation

-- The audit log of operators' actions. It names no users and holds nothing that a user wrote, so
-- erasures leave it unchanged.
CREATE TABLE audit (
    id         TEXT   PRIMARY KEY,
    at         BIGINT NOT NULL,
    -- 8 hex digits of the key's SHA-256 after key: or operator:, or else jwt, command or service.
    actor      TEXT   NOT NULL,
    channel_id TEXT,                        -- the channel whose credential was used
    -- A name; not checked, because newer versions may add more.
    action     TEXT   NOT NULL,
    -- An event's id, the key that seals, or the newest migration.
    subject    TEXT,
    details    JSONB  NOT NULL,             -- depends on the action
    request_id TEXT                         -- of the request that caused it
);

CREATE INDEX audit_at ON audit (at, id);
CREATE INDEX audit_subject ON audit (subject, at) WHERE subject IS NOT NULL;

-- The last write check of each replica: a write that only tests if the database accepts writes, for
-- readiness. Each replica has its own row, so that no replica waits for another. The row of a
-- replica that is gone is removed after a day.
CREATE TABLE write_checks (
    replica    TEXT   PRIMARY KEY,          -- a random id of each process
    written_at BIGINT NOT NULL
) WITH (fillfactor = 50);
