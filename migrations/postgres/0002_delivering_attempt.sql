-- The attempt that delivered an event is stored in the event's row. Most events are delivered by
-- their first attempt, and need no row in `attempts` then. NULL: the last attempt, if any, has a
-- row there.
ALTER TABLE events
    ADD COLUMN attempted_at BIGINT,
    ADD COLUMN duration_ms  BIGINT,
    ADD COLUMN status       BIGINT;
