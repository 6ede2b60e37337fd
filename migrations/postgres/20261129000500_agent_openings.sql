-- An agent can open a conversation with a user, too: the Cloud tells of it, and nobody here has opened it.

-- The Cloud names the user by the consumer id.
CREATE INDEX users_consumer ON users (account_id, consumer_id) WHERE consumer_id IS NOT NULL;

-- An opening of the user's whose outcome is not known: a conversation that appears now may be the one.
ALTER TABLE users ADD COLUMN opening TEXT;          -- JSON: by which channel, how and when; NULL: there is none
ALTER TABLE users ADD COLUMN opening_until BIGINT;  -- until then a replica may be at it; NULL: none is

ALTER TABLE conversations ADD COLUMN opened_by TEXT; -- agent; NULL: the user

-- When a change was left for later, because its conversation may be one that is being opened here; NULL: it was not.
ALTER TABLE early_changes ADD COLUMN put_off_at BIGINT;

CREATE INDEX early_changes_put_off ON early_changes (put_off_at) WHERE put_off_at IS NOT NULL;
