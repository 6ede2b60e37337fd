//! The one look-up on the way of a message, for all users at once who write at that moment.

use serde_json::json;

use super::postgres::Lent;
use super::together::{AllTogether, Question, Together, by_place};
use super::users::{StandingRow, standing_of};
use super::{Engine, Error, Store};
use crate::types::ids::UserKey;

/// The look-up of each stands apart (`OFFSET 0`), so that it goes by index whatever PostgreSQL expects of the tables. How long
/// the arrays are is hidden from it (`SELECT`): it would make a plan for each length, every time, at twice the cost of the rest.
const IN_POSTGRES: &str = concat!(
    "SELECT k.place - 1 AS place, s.* FROM unnest((SELECT $1::text[]), (SELECT $2::text[]), (SELECT $3::text[]))
         WITH ORDINALITY AS k (account_id, namespace, user_id, place)
     CROSS JOIN LATERAL (",
    standing_of!("", "", "k.account_id", "k.namespace", "k.user_id"),
    " OFFSET 0) s"
);

/// `CROSS` keeps SQLite from beginning with the users.
const IN_SQLITE: &str = standing_of!(
    "k.key AS place, ",
    "json_each($1) k CROSS JOIN ",
    "k.value ->> 0",
    "k.value ->> 1",
    "k.value ->> 2"
);

/// What is known of a user?
#[derive(Debug)]
pub(super) struct LookUp(pub(super) UserKey);

#[derive(sqlx::FromRow)]
struct Row {
    place: i64,
    #[sqlx(flatten)]
    row: StandingRow,
}

impl Question for LookUp {
    type Answer = Option<StandingRow>;

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
                    .fetch_all(sqlite.readers());
                store.health.note(rows.await)?
            }
        };
        let rows = rows.into_iter().map(|it| (it.place, it.row));
        Ok(by_place(questions.len(), rows, |found, row| {
            *found = Some(row);
        }))
    }
}
