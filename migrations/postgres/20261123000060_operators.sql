-- What operators do on their page: who paused a callback, and what was done to an event.

-- When an operator paused it. Where it is paused_at, that is why; a version that does not know it leaves it behind, and then
-- the two differ.
ALTER TABLE callbacks ADD COLUMN held_at BIGINT;

CREATE INDEX audit_subject ON audit (subject, at) WHERE subject IS NOT NULL;
