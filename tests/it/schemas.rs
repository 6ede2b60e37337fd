//! Several bridges in one PostgreSQL database, each in its own schema.

use chrono::{DateTime, Utc};
use liveperson_bridge::store::{Location, NewEvent, PageSize, Store};
use liveperson_bridge::types::event::{EventId, EventType};
use uuid::Uuid;

use crate::support::changes::append;
use crate::support::cloud::Cloud;
use crate::support::configuration::bridge_toml;
use crate::support::database::{Database, Engine};
use crate::support::process::{Process, run_configured};

/// Returns the location of the same database, with the tables in a schema.
fn in_schema(database: &Database, name: &str) -> Location {
    let mut location = database.location.clone();
    let Location::Postgres { schema, .. } = &mut location else {
        panic!("SQLite has no schemas");
    };
    *schema = Some(name.parse().unwrap());
    location
}

fn event(channel_id: &str, body: &str) -> NewEvent {
    NewEvent {
        id: EventId::new(Uuid::new_v4()),
        channel_id: channel_id.parse().unwrap(),
        user: None,
        kind: EventType::MessageCreated,
        body: body.to_owned(),
        parent: None,
        deliver_until: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_bridges_in_two_schemas_are_isolated() {
    let cloud = Cloud::start().await;
    let database = Database::create(Engine::Postgres).await;
    let mut bridges = Vec::new();
    for name in ["bridge_emea", "bridge_apac"] {
        let toml = bridge_toml(&in_schema(&database, name), &cloud.url);
        bridges.push((name, Process::serve(&toml).await));
    }

    for (name, (_, sms, _)) in &bridges {
        sms.say(name, "hello").await.expect(201);
    }

    assert_eq!(cloud.sandbox.conversations().len(), 2);
    let users = "SELECT 'bridge_emea', user_id FROM bridge_emea.users
                 UNION ALL SELECT 'bridge_apac', user_id FROM bridge_apac.users";
    for (schema, user_id) in database.pairs(users).await {
        assert_eq!(user_id, schema);
    }
    // Nothing was created in the schema of the role's own search path.
    let elsewhere = "SELECT table_name::text, 'public' FROM information_schema.tables WHERE table_schema = 'public'";
    assert_eq!(database.pairs(elsewhere).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_up_does_not_reach_another_schema() {
    let at: DateTime<Utc> = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let database = Database::create(Engine::Postgres).await;
    let mut stores = Vec::new();
    for name in ["one", "other"] {
        let store = Store::connect(&in_schema(&database, name)).await.unwrap();
        store.migrate().await.unwrap();
        stores.push(store);
    }
    let [one, other] = &stores[..] else {
        unreachable!()
    };
    let mut sms = one.wakeup(&"sms".parse().unwrap());
    let mut app = one.wakeup(&"app".parse().unwrap());
    let listening = tokio::task::spawn(one.clone().listen());
    // Each subscriber gets one wake-up when the listening begins.
    sms.wait().await;
    app.wait().await;

    append(other, &[event("sms", "1")], at).await;
    append(one, &[event("app", "2")], at).await;

    // PostgreSQL sends notifications in the order of the commits.
    app.wait().await;
    tokio::select! {
        biased;
        () = sms.wait() => panic!("the wake-up came for the other schema"),
        () = std::future::ready(()) => {}
    }
    let sms = "sms".parse().unwrap();
    let read = one.events_after(&sms, 0, PageSize::events(9)).await;
    assert!(read.unwrap().events.is_empty());
    listening.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_schema_needs_no_right_to_create_one() {
    let database = Database::create(Engine::Postgres).await;
    let role = format!("role_{}", Uuid::new_v4().simple());
    let mut connection = database.connection().await;
    for statement in [
        format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'"),
        format!("CREATE SCHEMA bridge AUTHORIZATION {role}"),
    ] {
        let statement = sqlx::AssertSqlSafe(statement);
        sqlx::query(statement)
            .execute(&mut connection)
            .await
            .unwrap();
    }
    let as_role = |location: Location| {
        let Location::Postgres {
            mut url, schema, ..
        } = location
        else {
            unreachable!()
        };
        let mut parsed: url::Url = secrecy::ExposeSecret::expose_secret(&url).parse().unwrap();
        parsed.set_username(&role).unwrap();
        parsed.set_password(Some("secret")).unwrap();
        url = parsed.to_string().into();
        Location::Postgres {
            url,
            schema,
            max_connections: 2,
        }
    };

    let store = Store::connect(&as_role(in_schema(&database, "bridge")))
        .await
        .unwrap();
    store.migrate().await.unwrap();
    assert!(store.inspect().await.unwrap().writable);

    let missing = as_role(in_schema(&database, "missing"));
    let store = Store::connect(&missing).await.unwrap();
    let survey = store.inspect().await.unwrap();
    assert!(!survey.writable);
    store.migrate().await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_without_postgresql_is_refused() {
    let cloud = Cloud::start().await;
    let database = Database::create(Engine::Sqlite).await;
    let toml = bridge_toml(&database.location, &cloud.url);
    let toml = toml.replace("[database]", "[database]\nschema = \"bridge\"");

    let ended = run_configured("serve", &toml).await;

    assert_eq!(ended.code, 2, "{}", ended.errors);
    let expected =
        "database.schema: expected a url as well, since the embedded database has no schemas";
    assert!(ended.errors.contains(expected), "{}", ended.errors);
}
