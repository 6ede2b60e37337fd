//! User state: the data about a user that a request to the Cloud needs.
//!
//! It is the only lookup that a message needs before it is sent, and it is batched over all
//! users who write at that moment. It reads the user's row alone: whenever a conversation or one of
//! its dialogs opens or closes, the open conversation is copied into that row.

use chrono::DateTime;
use serde::Deserialize;
use serde_json::json;

use super::engine::batching::{BatchedQuery, by_index};
use super::{Engine, Error, OpenConversation, Store, StoredToken, Typing, UserRef};
use crate::crypto::Sealed;
use crate::types::conversation::{CurrentDialog, Features};
use crate::types::ids::{ConversationId, DialogId, UserKey};

/// The columns that the lookup reads.
macro_rules! columns {
    () => {
        "u.id, u.token, u.token_key_id, u.consumer_id, u.typing_sent_at, u.typing_until, u.waiting, u.open_conversation"
    };
}

/// The lookup in PostgreSQL.
///
/// `OFFSET 0` keeps the lookup of each user separate, so that it uses the index, whatever the table
/// statistics say. The inner `SELECT`s hide the array lengths from the planner. Otherwise it would
/// plan each execution for its length, which costs twice as much as the rest of the statement.
const IN_POSTGRES: &str = concat!(
    "SELECT k.ordinal - 1, s.* FROM unnest((SELECT $1::text[]), (SELECT $2::text[]), (SELECT $3::text[]))
         WITH ORDINALITY AS k (account_id, namespace, user_id, ordinal)
     CROSS JOIN LATERAL (SELECT ",
    columns!(),
    " FROM users u
      WHERE u.account_id = k.account_id AND u.namespace = k.namespace AND u.user_id = k.user_id OFFSET 0) s"
);

/// The lookup in SQLite. `CROSS` keeps SQLite from scanning the users first.
const IN_SQLITE: &str = concat!(
    "SELECT k.key, ",
    columns!(),
    " FROM json_each($1) k CROSS JOIN users u
     WHERE u.account_id = k.value ->> 0 AND u.namespace = k.value ->> 1 AND u.user_id = k.value ->> 2"
);

/// The state of a user as a request to the Cloud needs it, read in one lookup.
#[derive(Debug, Clone)]
pub struct UserState {
    /// The user's row.
    pub user: UserRef,
    /// The user's ConsumerJWS; `None` until it is first needed.
    pub token: Option<StoredToken>,
    /// The open conversation.
    pub open: Option<OpenConversation>,
    /// The user's typing, if the agent sees it.
    pub typing: Option<Typing>,
    /// The number of the user's queued requests.
    pub waiting: u32,
}

/// A batched query for the state of a user.
#[derive(Debug)]
pub(super) struct UserStateQuery(UserKey);

/// A row of the lookup. Columns are read by position, because finding each by name would cost as
/// much as reading it.
type Row = (
    i64,
    i64,
    Option<Vec<u8>>,
    Option<String>,
    Option<String>,
    Option<i64>,
    Option<i64>,
    i64,
    Option<String>,
);

/// The open conversation in the JSON form that the user's row holds.
#[derive(Deserialize)]
struct OpenConversationJson {
    id: ConversationId,
    features: Features,
    /// The dialog that the user writes in; `None` if all dialogs have ended.
    dialog: Option<DialogId>,
}

impl Store {
    /// Reads the state of a user for a request to the Cloud. It is the only lookup that a message
    /// needs.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn user_state(&self, key: &UserKey) -> Result<Option<UserState>, Error> {
        self.run_batched(UserStateQuery(key.clone()))
            .await?
            .transpose()
    }
}

impl BatchedQuery for UserStateQuery {
    type Answer = Option<Result<UserState, Error>>;

    async fn run(store: &Store, queries: &[&Self]) -> Result<Vec<Self::Answer>, Error> {
        let rows: Vec<Row> = match &store.engine {
            Engine::Postgres(postgres) => {
                let column = |of: fn(&UserKey) -> &str| -> Vec<&str> {
                    queries.iter().map(|UserStateQuery(key)| of(key)).collect()
                };
                let rows = sqlx::query_as(IN_POSTGRES)
                    .bind(column(|key| key.account_id.as_str()))
                    .bind(column(|key| key.namespace.as_str()))
                    .bind(column(|key| key.user_id.as_str()));
                postgres.run(async |db| rows.fetch_all(db).await).await?
            }
            Engine::Sqlite(sqlite) => {
                let keys = queries
                    .iter()
                    .map(|UserStateQuery(key)| json!([key.account_id, key.namespace, key.user_id]));
                let keys: serde_json::Value = keys.collect();
                let rows = sqlx::query_as(IN_SQLITE).bind(keys.to_string());
                let rows = sqlite.look_up(async |db| rows.fetch_all(db).await);
                store.health.record(rows.await)?
            }
        };
        let rows = rows
            .into_iter()
            .map(|row| (row.0, UserState::try_from(row)));
        Ok(by_index(
            queries.len(),
            rows,
            |found: &mut Self::Answer, row| *found = Some(row),
        ))
    }
}

impl TryFrom<Row> for UserState {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let (_, user, token, key_id, consumer_id, typing_sent_at, typing_until, waiting, open) =
            row;
        let unreadable = |what| Error::Unreadable { what };
        let token = token.zip(key_id).zip(consumer_id);
        let open = open.as_deref().map(parse_open_conversation).transpose();
        let time = |ms| DateTime::from_timestamp_millis(ms).ok_or(unreadable("time of typing"));
        let typing = match typing_sent_at.zip(typing_until) {
            None => None,
            Some((sent_at, until)) => Some(Typing {
                sent_at: time(sent_at)?,
                until: time(until)?,
            }),
        };
        Ok(Self {
            user: UserRef(user),
            token: token.map(|((sealed, key_id), consumer_id)| StoredToken {
                sealed: Sealed(sealed),
                key_id,
                consumer_id,
            }),
            open: open?,
            typing,
            waiting: u32::try_from(waiting).unwrap_or_default(),
        })
    }
}

/// Parses the open conversation from the user's row.
pub(super) fn parse_open_conversation(text: &str) -> Result<OpenConversation, Error> {
    let json_form: OpenConversationJson =
        serde_json::from_str(text).map_err(|_| Error::Unreadable {
            what: "open conversation",
        })?;
    Ok(json_form.into())
}

impl From<OpenConversationJson> for OpenConversation {
    fn from(json_form: OpenConversationJson) -> Self {
        Self {
            dialog: match json_form.dialog {
                None => CurrentDialog::Ended,
                Some(id) if id.as_str() == json_form.id.as_str() => CurrentDialog::Main,
                Some(survey) => CurrentDialog::Survey(survey),
            },
            id: json_form.id,
            features: json_form.features,
        }
    }
}
