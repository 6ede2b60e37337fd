-- When the Cloud last told of something old: conversations fall behind one by one, so that what is fresh in one says nothing of
-- an echo in another. 0: never.
ALTER TABLE hearings ADD COLUMN behind_at BIGINT NOT NULL DEFAULT 0;
