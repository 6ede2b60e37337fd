//! The batched operations of requests with a key, each as one statement on either engine.

use super::statements::{ClaimKey, Hashed, RecordSend, StoreAnswer};
use super::{ClaimedRow, postgres, sqlite};
use crate::store::engine::batching::{BatchedQuery, by_index};
use crate::store::{Engine, Error, Store};

impl BatchedQuery for ClaimKey {
    /// The claimed row, if this caller's claim succeeded.
    type Answer = Option<ClaimedRow>;

    fn bytes(&self) -> usize {
        self.intent.as_ref().map_or(0, |intent| intent.body.len())
    }

    async fn run(store: &Store, queries: &[&Self]) -> Result<Vec<Self::Answer>, Error> {
        let firsts = first_claims(queries);
        let mut claimed = match &store.engine {
            Engine::Postgres(connections) => postgres::claim_keys(connections, &firsts).await?,
            Engine::Sqlite(sqlite) => sqlite::claim_keys(sqlite, &firsts).await?,
        };
        let answers = queries.iter().map(|query| {
            let is_own = |row: &ClaimedRow| row.lease_id == query.lease.id;
            let index = claimed.iter().position(is_own)?;
            Some(claimed.swap_remove(index))
        });
        Ok(answers.collect())
    }
}

/// Returns the first claim of each key. One statement can claim a row only once, so a second claim
/// finds it taken.
fn first_claims<'a>(queries: &[&'a ClaimKey]) -> Vec<Hashed<'a, ClaimKey>> {
    let mut hashed = Hashed::all(queries, |it| &it.request);
    // Sorted, so that two replicas never deadlock.
    hashed.sort_by(|a, b| {
        let (first, second) = (&a.query.request, &b.query.request);
        let channels = first.channel_id.cmp(&second.channel_id);
        channels.then_with(|| a.hash.cmp(&b.hash))
    });
    hashed.dedup_by(|b, a| {
        a.query.request.channel_id == b.query.request.channel_id && a.hash == b.hash
    });
    hashed
}

impl BatchedQuery for RecordSend {
    type Answer = bool;

    fn bytes(&self) -> usize {
        self.body.len()
    }

    async fn run(store: &Store, queries: &[&Self]) -> Result<Vec<bool>, Error> {
        let hashed = Hashed::all(queries, |it| &it.request);
        let indexes = match &store.engine {
            Engine::Postgres(connections) => postgres::record_sends(connections, &hashed).await?,
            Engine::Sqlite(sqlite) => sqlite::record_sends(sqlite, &hashed).await?,
        };
        Ok(flags_at(indexes, queries.len()))
    }
}

impl BatchedQuery for StoreAnswer {
    type Answer = bool;

    fn bytes(&self) -> usize {
        self.answer.body.len()
    }

    async fn run(store: &Store, queries: &[&Self]) -> Result<Vec<bool>, Error> {
        let hashed = Hashed::all(queries, |it| &it.request);
        let indexes = match &store.engine {
            Engine::Postgres(connections) => postgres::store_answers(connections, &hashed).await?,
            Engine::Sqlite(sqlite) => sqlite::store_answers(sqlite, &hashed).await?,
        };
        Ok(flags_at(indexes, queries.len()))
    }
}

/// Returns a value for each of `count` operations: true if its index is in `indexes`.
fn flags_at(indexes: Vec<i64>, count: usize) -> Vec<bool> {
    let indexes = indexes.into_iter().map(|index| (index, ()));
    by_index(count, indexes, |flag, ()| *flag = true)
}
