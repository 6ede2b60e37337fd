-- Each message asks which conversation of its user is open. That stands in the user's row, where the message finds all else that
-- it asks for, and is kept there by the database itself: also for a version that does not know of it.
ALTER TABLE users ADD COLUMN open_conversation TEXT; -- JSON, what open_conversations says; NULL: none is open

CREATE VIEW open_conversations AS
SELECT c.user_ref,
       jsonb_build_object(
           'id', c.id,
           'features', c.features,
           -- where the user's words go: the survey, else the main one; null where both have ended
           'dialog', (SELECT d.id FROM dialogs d WHERE d.conversation_id = c.id AND d.closed_at IS NULL
                      ORDER BY d.kind DESC, d.opened_at DESC LIMIT 1)
       )::TEXT AS state
FROM conversations c
WHERE c.closed_at IS NULL;

-- The argument is the column that names the conversation.
CREATE FUNCTION note_open_conversation() RETURNS TRIGGER LANGUAGE plpgsql AS $$
DECLARE
    whose BIGINT := (SELECT user_ref FROM conversations WHERE id = to_jsonb(NEW) ->> TG_ARGV[0]);
    is_now TEXT;
BEGIN
    -- Another who changes this conversation is waited for, and what he has done is seen.
    PERFORM FROM users WHERE id = whose FOR NO KEY UPDATE;
    SELECT state INTO is_now FROM open_conversations WHERE user_ref = whose;
    UPDATE users SET open_conversation = is_now WHERE id = whose AND open_conversation IS DISTINCT FROM is_now;
    RETURN NULL;
END
$$;

-- A conversation is inserted with its main dialog.
CREATE TRIGGER conversations_closed AFTER UPDATE OF closed_at ON conversations FOR EACH ROW
WHEN (OLD.closed_at IS DISTINCT FROM NEW.closed_at) EXECUTE FUNCTION note_open_conversation('id');

CREATE TRIGGER dialogs_begun AFTER INSERT ON dialogs FOR EACH ROW
WHEN (NEW.closed_at IS NULL) EXECUTE FUNCTION note_open_conversation('conversation_id');

CREATE TRIGGER dialogs_closed AFTER UPDATE OF closed_at ON dialogs FOR EACH ROW
WHEN (OLD.closed_at IS DISTINCT FROM NEW.closed_at) EXECUTE FUNCTION note_open_conversation('conversation_id');

UPDATE users SET open_conversation = o.state FROM open_conversations o WHERE o.user_ref = users.id;
