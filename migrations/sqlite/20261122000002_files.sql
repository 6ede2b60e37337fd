-- A file that a user was sent or has sent. Its bytes are the Cloud's to keep; the row says where they are and whose.
CREATE TABLE files (
    id            TEXT    PRIMARY KEY,      -- the bridge's name for it, as channels see it
    user_ref      INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    relative_path TEXT    NOT NULL,         -- where the Cloud keeps it
    file_type     TEXT    NOT NULL,         -- the Cloud's word for its kind, such as JPG
    created_at    INTEGER NOT NULL,
    UNIQUE (user_ref, relative_path)        -- seen twice, a file keeps its name
) STRICT;
