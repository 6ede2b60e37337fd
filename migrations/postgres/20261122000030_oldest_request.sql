-- How old the oldest request of a channel is that waits for the Cloud. It serves whoever counts them as well, so that
-- requests_waiting can go once no version needs it.
CREATE INDEX requests_oldest ON requests (channel_id, created_at) WHERE settled_at IS NULL;
