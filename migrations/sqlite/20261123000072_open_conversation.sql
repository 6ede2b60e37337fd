-- Each message asks which conversation of its user is open. That stands in the user's row, where the message finds all else that
-- it asks for, and is kept there by the database itself: also for a version that does not know of it.
ALTER TABLE users ADD COLUMN open_conversation TEXT; -- JSON, what open_conversations says; NULL: none is open

CREATE VIEW open_conversations AS
SELECT c.user_ref,
       json_object(
           'id', c.id,
           'features', json(c.features),
           -- where the user's words go: the survey, else the main one; null where both have ended
           'dialog', (SELECT d.id FROM dialogs d WHERE d.conversation_id = c.id AND d.closed_at IS NULL
                      ORDER BY d.kind DESC, d.opened_at DESC LIMIT 1)
       ) AS state
FROM conversations c
WHERE c.closed_at IS NULL;

-- A conversation is inserted with its main dialog.
CREATE TRIGGER conversations_closed AFTER UPDATE OF closed_at ON conversations FOR EACH ROW
WHEN OLD.closed_at IS NOT NEW.closed_at
BEGIN
    UPDATE users SET open_conversation = (SELECT state FROM open_conversations WHERE user_ref = NEW.user_ref)
    WHERE id = NEW.user_ref;
END;

CREATE TRIGGER dialogs_begun AFTER INSERT ON dialogs FOR EACH ROW
WHEN NEW.closed_at IS NULL
BEGIN
    UPDATE users SET open_conversation = (SELECT state FROM open_conversations WHERE user_ref = users.id)
    WHERE id = (SELECT user_ref FROM conversations WHERE id = NEW.conversation_id);
END;

CREATE TRIGGER dialogs_closed AFTER UPDATE OF closed_at ON dialogs FOR EACH ROW
WHEN OLD.closed_at IS NOT NEW.closed_at
BEGIN
    UPDATE users SET open_conversation = (SELECT state FROM open_conversations WHERE user_ref = users.id)
    WHERE id = (SELECT user_ref FROM conversations WHERE id = NEW.conversation_id);
END;

UPDATE users SET open_conversation = o.state FROM open_conversations o WHERE o.user_ref = users.id;
