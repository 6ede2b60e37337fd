//! The initial content of the database: users, each with an open conversation, and waiting requests
//! and events.

use crate::database::Database;

/// The number of users who write and receive messages, in a database whose other users have waiting
/// work. They are the first users.
pub(crate) const WRITERS: u32 = 1_000;

/// Users 1 to $1, each with an open conversation.
const USERS: [&str; 4] = [
    "INSERT INTO users (account_id, namespace, user_id, created_at)
     WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < $1)
     SELECT '12345678', 'bench', 'user-' || n, 1700000000000 FROM numbers",
    "INSERT INTO conversations (id, user_ref, ordinal, channel_id, features, opened_at)
     SELECT 'c-' || substr(user_id, 6), id, 1, 'bench', '[]', 1700000000000 FROM users WHERE id <= $1",
    "INSERT INTO dialogs (id, conversation_id, kind, opened_at)
     SELECT c.id, c.id, 'main', 1700000000000 FROM conversations c JOIN users u ON u.id = c.user_ref WHERE u.id <= $1",
    // The copy of the open conversation in the user's row (`store/open_conversation.rs`).
    "UPDATE users SET open_conversation = '{\"id\":\"c-' || substr(user_id, 6) || '\",\"features\":[],\"dialog\":\"c-' || substr(user_id, 6) || '\"}'
     WHERE id <= $1",
];

/// For users after $1 up to $2: a request and an event that are due in the year 2096. The request
/// was postponed, and the event's delivery failed once.
const WAITING: [&str; 5] = [
    "UPDATE users SET waiting = 1, send_at = 4000000000000 WHERE id > $1 AND id <= $2",
    "INSERT INTO requests (id, user_ref, channel_id, kind, body, state, created_at, expires_at, attempts)
     SELECT 'msg_00000000000000000000' || CAST(100000000000 + id AS TEXT), id, 'bench', 'text',
            '{\"text\":{\"pieces\":[\"Where is my parcel? It was due on Tuesday.\"],\"reply_to\":null,\"open\":null}}',
            'waiting', 1700000000000, 4000000000000, 1
     FROM users WHERE id > $1 AND id <= $2",
    "INSERT INTO delivery_lanes (channel_id, user_ref, failures, due_at)
     SELECT 'bench', id, 1, 4000000000000 FROM users WHERE id > $1 AND id <= $2",
    "INSERT INTO events (channel_id, position, id, user_ref, kind, body, created_at, delivery, deliver_until, attempts)
     SELECT 'bench', id - $1, 'evt_00000000000000000000' || CAST(100000000000 + id AS TEXT), id, 'message.created', '{}',
            1700000000000, 'pending', 4000000000000, 1
     FROM users WHERE id > $1 AND id <= $2",
    "INSERT INTO logs (channel_id, head) SELECT 'bench', $2 - $1",
];

/// Fills a database whose tables are empty. `waiting` users after the writers have waiting work.
pub(crate) async fn fill(database: &mut Database, users: u32, waiting: u32) {
    for statement in USERS {
        database.execute(statement, &[users.into()]).await;
    }
    if waiting > 0 {
        let first = i64::from(WRITERS);
        let last = i64::from(WRITERS + waiting);
        for statement in WAITING {
            database.execute(statement, &[first, last]).await;
        }
    }
    database.analyze().await;
}
