-- A sketch of the text that the Cloud tells back, so that an altered copy of a message is told from another message. NULL: it is
-- a file, or the version before wrote it.
ALTER TABLE echoes ADD COLUMN sketch TEXT;
