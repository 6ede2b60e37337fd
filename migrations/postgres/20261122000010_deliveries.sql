-- Deliveries that grow too old, and the list of those that are pending.

CREATE INDEX events_old ON events (deliver_until) WHERE delivery = 'pending';
CREATE INDEX events_waiting ON events (channel_id, position) WHERE delivery = 'pending';
