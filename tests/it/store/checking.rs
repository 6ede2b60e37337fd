//! The check that the database can be written, and the removal of deleted data from its files.

use liveperson_bridge::store::Location;
use liveperson_bridge::types::status::Outage;

use super::{at, erase, key};
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;

on_both_engines!(
    a_writable_database_passes_the_check,
    a_read_only_database_fails_the_check_until_a_write_succeeds,
    write_checks_of_ended_replicas_are_removed,
);

async fn a_writable_database_passes_the_check(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;

    // A recent write counts for later checks.
    for second in 0..20 {
        assert_eq!(store.check(at(second)).await, Ok(()));
    }
    store.maintain(at(20)).await.unwrap();
    store.close().await;

    assert_eq!(store.check(at(21)).await, Err(Outage::Silent));
}

async fn a_read_only_database_fails_the_check_until_a_write_succeeds(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    // A full disk refuses writes differently, but both engines can fail like this.
    database
        .execute("ALTER TABLE write_checks RENAME TO not_there")
        .await;

    assert_eq!(store.check(at(0)).await, Err(Outage::Unwritable));

    database
        .execute("ALTER TABLE not_there RENAME TO write_checks")
        .await;
    eventually("the store is writable again", async || {
        store.check(at(1)).await.ok()
    })
    .await;
}

async fn write_checks_of_ended_replicas_are_removed(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    store.check(at(10)).await.unwrap();

    assert_eq!(store.remove_write_checks(at(10), 10).await.unwrap(), 0);
    assert_eq!(store.remove_write_checks(at(11), 10).await.unwrap(), 1);
    assert_eq!(store.remove_write_checks(at(11), 10).await.unwrap(), 0);
}

#[tokio::test]
async fn erased_data_leaves_the_database_file_and_its_wal() {
    let database = Database::create(Engine::Sqlite).await;
    let store = database.store().await;
    let Location::Embedded { data_dir } = &database.location else {
        panic!("not the embedded database");
    };
    let is_there = |name: &str| {
        let bytes = std::fs::read(data_dir.join(name)).unwrap();
        String::from_utf8_lossy(&bytes).contains("countess")
    };
    let user = store.ensure_user(&key("countess"), at(0)).await.unwrap();
    store.maintain(at(0)).await.unwrap();
    assert!(is_there("bridge.db") && !is_there("bridge.db-wal"));

    assert!(erase(&store, user, 1).await);

    eventually("the data is gone", async || {
        store.maintain(at(2)).await.unwrap();
        (!is_there("bridge.db") && !is_there("bridge.db-wal")).then_some(())
    })
    .await;
}
