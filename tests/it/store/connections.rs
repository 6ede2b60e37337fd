//! Connections to the database: callers share them, unused ones are released, and a closed store
//! closes all.

use futures_util::future::join_all;
use liveperson_bridge::store::{Location, Store};
use liveperson_bridge::types::status::Connections;

use super::{ask_all_the_time, at, key};
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;

on_both_engines!(a_connection_that_was_used_is_not_in_use);

/// Returns the number of connections in use.
fn in_use(store: &Store) -> u32 {
    let connections = store.connections();
    connections
        .iter()
        .map(|Connections { in_use, .. }| in_use)
        .sum()
}

async fn a_connection_that_was_used_is_not_in_use(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;

    for number in 0..20 {
        let name = format!("user-{number}");
        store.ensure_user(&key(&name), at(0)).await.unwrap();
        store.standing(&key(&name)).await.unwrap();
    }

    eventually("nothing is in use", async || {
        (in_use(&store) == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_single_connection_serves_all_who_ask_all_the_time() {
    let mut database = Database::create(Engine::Postgres).await;
    let Location::Postgres {
        max_connections, ..
    } = &mut database.location
    else {
        panic!("not PostgreSQL");
    };
    *max_connections = 1;
    let store = database.store().await;

    ask_all_the_time(&store).await;

    let [connections] = store.connections()[..] else {
        panic!("more than one pool");
    };
    assert_eq!(store.reading_connections(), 1);
    assert_eq!(connections.in_use + connections.idle, 1);
}

#[tokio::test]
async fn a_store_that_is_closed_holds_no_connection() {
    let database = Database::create(Engine::Postgres).await;
    let store = database.store().await;
    let names = (0..20).map(|number| format!("user-{number}"));
    join_all(names.map(|name| {
        let store = &store;
        async move { store.user(&key(&name)).await.unwrap() }
    }))
    .await;

    store.close().await;

    let mut connection = database.connection().await;
    eventually("all are gone", async || {
        let (count,): (i64,) = sqlx::query_as(
            "SELECT COUNT(*) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'liveperson-bridge'",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap();
        (count == 0).then_some(())
    })
    .await;
    assert!(store.user(&key("user-0")).await.is_err());
}
