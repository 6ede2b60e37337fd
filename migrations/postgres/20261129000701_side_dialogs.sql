-- Dialogs that a user does not write in: among agents, for browsing together, and others. A message in a dialog that is known from
-- nowhere waits until the Cloud says what the dialog is, since one among agents is nothing for the user.
CREATE TABLE side_dialogs (
    id              TEXT   PRIMARY KEY,     -- the Cloud's id
    conversation_id TEXT   NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    is_private      BIGINT NOT NULL         -- 1: it is among agents
);

CREATE INDEX side_dialogs_conversation ON side_dialogs (conversation_id);

-- The conversation of a change that waits for its dialog; NULL: the change waits for its conversation.
ALTER TABLE early_changes ADD COLUMN withheld_of TEXT;

CREATE INDEX early_changes_withheld ON early_changes (withheld_of) WHERE withheld_of IS NOT NULL;
