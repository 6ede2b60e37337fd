//! What a request to the Cloud needs to know of its user: the one look-up on the way of a message, for all users at once who
//! write at that moment.

use chrono::DateTime;
use serde_json::json;
use sqlx::types::Json;

use super::postgres::Lent;
use super::together::{AllTogether, Question, Together, by_place};
use super::{Engine, Error, OpenConversation, Store, StoredToken, Typing, UserRef};
use crate::crypto::Sealed;
use crate::types::conversation::{CurrentDialog, Features};
use crate::types::ids::UserKey;

/// The text of a look-up, with this before the columns and the tables, of the users whose key these expressions name.
macro_rules! standing_of {
    ($columns:literal, $tables:literal, $account:literal, $namespace:literal, $user:literal) => {
        concat!(
            "SELECT ",
            $columns,
            "u.id, u.token, u.token_key_id, u.consumer_id, u.typing_sent_at, u.typing_until, u.waiting,
                    c.id AS conversation_id, c.features, d.id AS dialog_id, d.kind, d.opened_at
             FROM ",
            $tables,
            "users u
             -- conversations_open: at most one row
             LEFT JOIN conversations c ON c.user_ref = u.id AND c.closed_at IS NULL
             -- one at most is open at the Cloud; two here would be a notification that got lost
             LEFT JOIN dialogs d ON d.conversation_id = c.id AND d.closed_at IS NULL
             WHERE u.account_id = ",
            $account,
            " AND u.namespace = ",
            $namespace,
            " AND u.user_id = ",
            $user
        )
    };
}

/// The look-up of each stands apart (`OFFSET 0`), so that it goes by index whatever PostgreSQL expects of the tables. How long
/// the arrays are is hidden from it (`SELECT`): it would make a plan for each length, every time, at twice the cost of the rest.
const IN_POSTGRES: &str = concat!(
    "SELECT k.place - 1, s.* FROM unnest((SELECT $1::text[]), (SELECT $2::text[]), (SELECT $3::text[]))
         WITH ORDINALITY AS k (account_id, namespace, user_id, place)
     CROSS JOIN LATERAL (",
    standing_of!("", "", "k.account_id", "k.namespace", "k.user_id"),
    " OFFSET 0) s"
);

/// `CROSS` keeps SQLite from beginning with the users.
const IN_SQLITE: &str = standing_of!(
    "k.key, ",
    "json_each($1) k CROSS JOIN ",
    "k.value ->> 0",
    "k.value ->> 1",
    "k.value ->> 2"
);

/// What a request to the Cloud needs to know of its user, read in one look-up.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The user's row.
    pub user: UserRef,
    /// The user's ConsumerJWS; absent until first needed.
    pub token: Option<StoredToken>,
    /// The conversation that is open.
    pub open: Option<OpenConversation>,
    /// Whether the agent sees the user typing.
    pub typing: Option<Typing>,
    /// How many of the user's requests wait to be sent.
    pub waiting: u32,
}

/// What is known of a user?
#[derive(Debug)]
pub(super) struct LookUp(UserKey);

/// A user with one of the open dialogs of its open conversation. It is read by place: finding each column by its name costs a
/// message as much as reading it.
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
    Option<Json<Features>>,
    Option<String>,
    Option<String>,
    Option<i64>,
);

/// What was found of a user.
#[derive(Debug)]
pub(super) struct Found {
    standing: Standing,
    /// When its survey began, where one is on.
    survey_at: Option<i64>,
}

impl Store {
    /// What is known of a user, for a request to the Cloud: the one look-up on the way of a message.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn standing(&self, key: &UserKey) -> Result<Option<Standing>, Error> {
        let found = self.ask(LookUp(key.clone())).await?;
        found
            .map(|found| found.map(|found| found.standing))
            .transpose()
    }
}

impl Question for LookUp {
    type Answer = Option<Result<Found, Error>>;

    fn together(all: &AllTogether) -> &Together<Self> {
        &all.look_ups
    }

    async fn ask(store: &Store, questions: &[&Self]) -> Result<Vec<Self::Answer>, Error> {
        let rows: Vec<Row> = match &store.engine {
            Engine::Postgres(pool) => {
                let column = |of: fn(&UserKey) -> &str| -> Vec<&str> {
                    questions.iter().map(|LookUp(key)| of(key)).collect()
                };
                let rows = sqlx::query_as(IN_POSTGRES)
                    .bind(column(|key| key.account_id.as_str()))
                    .bind(column(|key| key.namespace.as_str()))
                    .bind(column(|key| key.user_id.as_str()));
                Lent::run(pool, &store.health, async |db| rows.fetch_all(db).await).await?
            }
            Engine::Sqlite(sqlite) => {
                let keys = questions
                    .iter()
                    .map(|LookUp(key)| json!([key.account_id, key.namespace, key.user_id]));
                let keys: serde_json::Value = keys.collect();
                let rows = sqlx::query_as(IN_SQLITE)
                    .bind(keys.to_string())
                    .fetch_all(sqlite.look_ups());
                store.health.note(rows.await)?
            }
        };
        let rows = rows.into_iter().map(|row| (row.0, Found::read(row)));
        Ok(by_place(
            questions.len(),
            rows,
            |found: &mut Self::Answer, row| {
                if latest_survey(&row) >= found.as_ref().and_then(latest_survey) {
                    *found = Some(row);
                }
            },
        ))
    }
}

/// When the survey began that is on, by what was found of a user.
fn latest_survey(found: &Result<Found, Error>) -> Option<i64> {
    found.as_ref().ok().and_then(|found| found.survey_at)
}

impl Found {
    fn read(row: Row) -> Result<Self, Error> {
        let (_, user, token, key_id, consumer_id, typing_sent_at, typing_until, waiting, ..) = row;
        let (.., conversation_id, features, dialog_id, kind, opened_at) = row;
        let unreadable = |what| Error::Unreadable { what };
        let survey = dialog_id.filter(|_| kind.as_deref() == Some("post_survey"));
        let survey_at = opened_at.filter(|_| survey.is_some());
        let token = token.zip(key_id).zip(consumer_id);
        let open = match conversation_id.zip(features) {
            None => None,
            Some((id, features)) => Some(OpenConversation {
                id: id.parse().map_err(|_| unreadable("conversation id"))?,
                features: features.0,
                dialog: match survey {
                    Some(id) => {
                        CurrentDialog::Survey(id.parse().map_err(|_| unreadable("dialog id"))?)
                    }
                    None if kind.is_some() => CurrentDialog::Main,
                    None => CurrentDialog::Ended,
                },
            }),
        };
        let time = |ms| DateTime::from_timestamp_millis(ms).ok_or(unreadable("time of typing"));
        let typing = match typing_sent_at.zip(typing_until) {
            None => None,
            Some((sent_at, until)) => Some(Typing {
                sent_at: time(sent_at)?,
                until: time(until)?,
            }),
        };
        Ok(Self {
            standing: Standing {
                user: UserRef(user),
                token: token.map(|((sealed, key_id), consumer_id)| StoredToken {
                    sealed: Sealed(sealed),
                    key_id,
                    consumer_id,
                }),
                open,
                typing,
                waiting: u32::try_from(waiting).unwrap_or_default(),
            },
            survey_at,
        })
    }
}
