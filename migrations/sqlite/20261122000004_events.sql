-- What channels are told: one log per channel, read by cursor and, where the channel has a callback URL, delivered.

ALTER TABLE conversations ADD COLUMN updated_at INTEGER;   -- the Cloud's newest metaDataLastUpdateTs; older states are dropped
ALTER TABLE conversations ADD COLUMN announced TEXT CHECK (announced IN ('opened', 'closed')); -- what the channel was told last

-- Positions count without a gap: whoever adds events holds the log's row until the commit, so that no event ever becomes
-- visible behind a cursor.
CREATE TABLE logs (
    channel_id TEXT   PRIMARY KEY,
    head       INTEGER NOT NULL,             -- position of the newest event
    floor      INTEGER NOT NULL DEFAULT 0    -- position of the newest event that is not kept any more
) STRICT;

CREATE TABLE events (
    channel_id    TEXT   NOT NULL,
    position      INTEGER NOT NULL,          -- place in the channel's log, from 1
    id            TEXT   NOT NULL UNIQUE,
    user_ref      INTEGER REFERENCES users (id) ON DELETE CASCADE, -- NULL: an event to try the callback with
    kind          TEXT   NOT NULL,          -- the type, such as message.created
    body          TEXT   NOT NULL,          -- the event as it is sent, the same bytes each time
    traceparent   TEXT,                     -- what it came about by
    created_at    INTEGER NOT NULL,
    delivery      TEXT   CHECK (delivery IN ('pending', 'delivered', 'failed', 'dropped')), -- NULL: the channel had no callback URL
    deliver_until INTEGER,                   -- from then on it is too old to be delivered
    attempts      INTEGER NOT NULL DEFAULT 0,
    failure       TEXT,                     -- why it failed
    nack_at       INTEGER,                   -- when the agent is to be told that it failed; NULL: nobody waits for that
    PRIMARY KEY (channel_id, position)
) STRICT;

CREATE INDEX events_user ON events (user_ref);
CREATE INDEX events_pending ON events (channel_id, COALESCE(user_ref, 0), position) WHERE delivery = 'pending';
CREATE INDEX events_failed ON events (channel_id, position) WHERE delivery = 'failed';
CREATE INDEX events_nack ON events (nack_at) WHERE nack_at IS NOT NULL;

-- One try to deliver an event.
CREATE TABLE attempts (
    event_id    TEXT   NOT NULL REFERENCES events (id) ON DELETE CASCADE,
    number      INTEGER NOT NULL,            -- from 1
    at          INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    status      INTEGER,                     -- of the HTTP answer; NULL: there was none
    error       TEXT,                       -- why there was none
    PRIMARY KEY (event_id, number)
) STRICT;

-- The events of one user that a channel has still to be told, one after the other.
CREATE TABLE delivery_lanes (
    id         INTEGER PRIMARY KEY,
    channel_id TEXT   NOT NULL,
    user_ref   INTEGER REFERENCES users (id) ON DELETE CASCADE, -- NULL: the lane of events to try the callback with
    arrivals   INTEGER NOT NULL DEFAULT 1,   -- counts events; tells who empties the lane that another has come meanwhile
    failures   INTEGER NOT NULL DEFAULT 0,   -- how often in a row the first event has failed
    due_at     INTEGER,                      -- when it may be taken; NULL: it is empty
    lease_id   TEXT                         -- who has it until due_at; NULL: nobody
) STRICT;

CREATE UNIQUE INDEX delivery_lanes_user ON delivery_lanes (channel_id, COALESCE(user_ref, 0));
CREATE INDEX delivery_lanes_of_user ON delivery_lanes (user_ref);
CREATE INDEX delivery_lanes_due ON delivery_lanes (channel_id, due_at) WHERE due_at IS NOT NULL;

-- How a channel's callback URL fares.
CREATE TABLE callbacks (
    channel_id TEXT   PRIMARY KEY,
    failures   INTEGER NOT NULL DEFAULT 0,   -- in a row, over all users
    paused_at  INTEGER,                      -- since when nothing is sent; NULL: it is
    probe_at   INTEGER                       -- after too many failures, when the next single event may be sent
) STRICT;
