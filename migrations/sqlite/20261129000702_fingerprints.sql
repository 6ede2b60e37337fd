-- The Cloud may tell of two states of a conversation that bear one time. A hash of what was told of the newest state says whether
-- another one of that time is news.
ALTER TABLE conversations ADD COLUMN fingerprint TEXT; -- NULL: of a version that kept none
