-- Notifications of the Cloud that were refused, or signed and of no use: for operators. A row is an account and a reason, so there
-- are few.
CREATE TABLE rejected_notifications (
    account_id TEXT   NOT NULL,             -- the configured account; empty for all that are not configured
    reason     TEXT   NOT NULL,             -- the word for the reason
    count      BIGINT NOT NULL,             -- since first_at
    first_at   BIGINT NOT NULL,
    last_at    BIGINT NOT NULL,
    PRIMARY KEY (account_id, reason)
);
