-- What of a channel waits for the Cloud is counted now and then.
CREATE INDEX requests_waiting ON requests (channel_id) WHERE settled_at IS NULL;
