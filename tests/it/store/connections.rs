//! Connections to the database: callers share them, unused ones are released, and a closed store
//! closes all.

use futures_util::future::join_all;
use liveperson_bridge::store::{Location, Store};
use liveperson_bridge::types::status::Connections;

use super::{at, key, look_up_and_write_concurrently};
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;

on_both_engines!(a_connection_is_released_after_use);

/// Returns the number of connections in use.
fn in_use(store: &Store) -> u32 {
    let connections = store.connections();
    connections
        .iter()
        .map(|Connections { in_use, .. }| in_use)
        .sum()
}

async fn a_connection_is_released_after_use(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;

    for number in 0..20 {
        let name = format!("user-{number}");
        store.ensure_user(&key(&name), at(0)).await.unwrap();
        store.user_state(&key(&name)).await.unwrap();
    }

    eventually("no connection is in use", async || {
        (in_use(&store) == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_single_connection_serves_concurrent_callers() {
    let mut database = Database::create(Engine::Postgres).await;
    let Location::Postgres {
        max_connections, ..
    } = &mut database.location
    else {
        panic!("not PostgreSQL");
    };
    *max_connections = 1;
    let store = database.store().await;

    look_up_and_write_concurrently(&store).await;

    let [connections] = store.connections()[..] else {
        panic!("more than one pool");
    };
    assert_eq!(store.reading_connections(), 1);
    assert_eq!(connections.in_use + connections.idle, 1);
}

#[tokio::test]
async fn a_closed_store_holds_no_connection() {
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
    eventually("all connections are closed", async || {
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
