-- The look-up of each message asks for the open dialogs of a conversation, and finds all of it in this index: among a million
-- users each table that is not read is a page less that is in no cache. The one in its place goes last: until then messages are
-- looked up while this is built.
--
-- contract: since 0.1.0 nothing names the index; the version before finds a conversation's dialogs by the new one.
CREATE INDEX dialogs_of_conversation ON dialogs (conversation_id, closed_at, kind, opened_at, id);

DROP INDEX dialogs_conversation;
