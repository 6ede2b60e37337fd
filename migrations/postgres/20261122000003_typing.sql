-- Typing that nothing follows is ended with a pause, by whichever replica looks first once it is due.
ALTER TABLE users ADD COLUMN typing_sent_at BIGINT;  -- when the Cloud was last told that the user types
ALTER TABLE users ADD COLUMN typing_until BIGINT;    -- when it ends by itself; NULL: the user does not type

CREATE INDEX users_typing ON users (typing_until) WHERE typing_until IS NOT NULL;
