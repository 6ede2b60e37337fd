-- How old it is what the Cloud tells now, by its own clock: after an outage of its notifications it first tells of what is old,
-- and an echo that is missing then may be yet to come. 0 where an older version wrote the row.
ALTER TABLE hearings ADD COLUMN told_at BIGINT NOT NULL DEFAULT 0;
