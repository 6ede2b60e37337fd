-- When each replica last wrote something just to see whether that is possible: for its readiness. A row of its own, so that no
-- replica waits for another; that of a replica that is gone is removed after a day.
CREATE TABLE write_checks (
    replica    TEXT   PRIMARY KEY,          -- made up by each process
    written_at BIGINT NOT NULL
) WITH (fillfactor = 50);
