-- The lane of a user's requests has a condition of its own, so that no other index serves who looks for its first request: a plan
-- that PostgreSQL makes and keeps while nothing waits would take any of them, and read all of a backlog for each request of it.
-- requests_oldest counts what requests_waiting did.
--
-- contract: since 0.1.0 nothing needs these indexes; the version before finds the rows by requests_user and requests_oldest.
DROP INDEX requests_lane;
DROP INDEX requests_waiting;

CREATE INDEX requests_lane ON requests (user_ref, ordinal) WHERE COALESCE(settled_at, 0) = 0;
