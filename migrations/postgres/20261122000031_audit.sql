-- What operators did. It names no user and holds nothing that one wrote, so an erasure leaves it as it is.
CREATE TABLE audit (
    id         TEXT   PRIMARY KEY,
    at         BIGINT NOT NULL,
    actor      TEXT   NOT NULL, -- who: key: and 8 hex digits of the API key's SHA-256, jwt, command, or service
    channel_id TEXT,            -- the channel whose credential it was
    action     TEXT   NOT NULL, -- a word; not checked, since the next version may know more of them
    subject    TEXT,            -- what it was done to: an event's id, the key that seals, the newest migration
    details    JSONB  NOT NULL, -- by the action
    request_id TEXT             -- of the request that asked for it
);

CREATE INDEX audit_at ON audit (at, id);
