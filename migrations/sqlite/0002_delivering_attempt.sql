-- The attempt that delivered an event is stored in the event's row. Most events are delivered by
-- their first attempt, and need no row in `attempts` then. NULL: the last attempt, if any, has a
-- row there.
ALTER TABLE events ADD COLUMN attempted_at INTEGER;
ALTER TABLE events ADD COLUMN duration_ms INTEGER;
ALTER TABLE events ADD COLUMN status INTEGER;
