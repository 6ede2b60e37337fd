-- JSON: the choices in the latest message to the user, with its dialog and sequence; NULL: it has
-- none, or the conversation is closed.
ALTER TABLE conversations ADD COLUMN offer TEXT;
