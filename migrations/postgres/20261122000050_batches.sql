-- Members of a batch are asked for one by one, and JSONB is read once for all of them: what an event costs to be stored goes
-- from 34 to 20 µs.
--
-- contract: since 0.1.0 nothing names the function by its type: the version before goes on with this one, whose words are the
-- same; plans that it has made already name the old one by its number, so it stays.
ALTER FUNCTION json_each(TEXT) RENAME TO json_each_as_text;

CREATE FUNCTION json_each(batch TEXT, OUT key TEXT, OUT value JSONB) RETURNS SETOF RECORD
    LANGUAGE sql IMMUTABLE STRICT ROWS 32 AS 'SELECT e.key, e.value FROM pg_catalog.jsonb_each(batch::JSONB) e';
