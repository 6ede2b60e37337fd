-- When a process last wrote something just to see whether that is possible: for its readiness. The row of a process that is gone
-- is removed after a day.
CREATE TABLE write_checks (
    replica    TEXT    PRIMARY KEY,          -- made up by each process
    written_at INTEGER NOT NULL
) STRICT;
