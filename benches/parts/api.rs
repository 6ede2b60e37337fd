//! Requests to the API's router, without a socket: one that is refused for its body, and one that
//! is a complete message, with an embedded database.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use criterion::Criterion;
use liveperson_bridge::api::{self, Access, AppState, ChannelAccess, Limits, Load};
use liveperson_bridge::bridge::{Bridge, Channel, Parts};
use liveperson_bridge::clock::{SharedClock, SystemClock};
use liveperson_bridge::crypto::{ApiKeyHash, Key, Keyring};
use liveperson_bridge::outbox::Outbox;
use liveperson_bridge::store::{Location, Store};
use liveperson_bridge::telemetry::metrics::Metrics;
use liveperson_bridge::types::conversation::Opening;
use liveperson_bridge::webhooks::{Inbox, Interpreter, Receiver, Rejections};
use sqlx::{Connection as _, SqliteConnection};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::cloud::{self, ACCOUNT};

/// A user with an open conversation.
const USER: [&str; 3] = [
    "INSERT INTO users (account_id, namespace, user_id, created_at) VALUES ('12345678', 'bench', 'user-1', 1700000000000)",
    "INSERT INTO conversations (id, user_ref, ordinal, channel_id, features, opened_at)
     SELECT 'c-1', id, 1, 'bench', '[]', 1700000000000 FROM users",
    "INSERT INTO dialogs (id, conversation_id, kind, opened_at) VALUES ('c-1', 'c-1', 'main', 1700000000000)",
];

pub(crate) fn bench(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let router = runtime.block_on(router(folder.path()));
    for (name, body, status) in [
        (
            "key and JSON of a message that is refused",
            r#"{"text":"Where is my parcel? It was due on Tuesday.","split":"no"}"#,
            422,
        ),
        (
            "message from its JSON to its answer, with sockets to the Cloud",
            r#"{"text":"Where is my parcel? It was due on Tuesday."}"#,
            201,
        ),
    ] {
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                let request = Request::post("/v1/users/user-1/messages")
                    .header("Authorization", "Bearer bench-key")
                    .header("Content-Type", "application/json")
                    .body(Body::from(body))
                    .unwrap();
                let answer = runtime.block_on(async {
                    let answer = router.clone().oneshot(request).await.unwrap();
                    assert_eq!(answer.status(), status);
                    to_bytes(answer.into_body(), 65_536).await.unwrap()
                });
                answer.len()
            });
        });
    }
}

/// Creates the API's router of a service with one channel.
async fn router(folder: &Path) -> Router {
    let location = Location::Embedded {
        data_dir: folder.to_owned(),
    };
    let store = Store::connect(&location).await.unwrap();
    store.migrate().await.unwrap();
    let file = folder.join("bridge.db");
    let mut database = SqliteConnection::connect(file.to_str().unwrap())
        .await
        .unwrap();
    for statement in USER {
        sqlx::raw_sql(statement)
            .execute(&mut database)
            .await
            .unwrap();
    }
    database.close().await.unwrap();

    let clock: SharedClock = Arc::new(SystemClock);
    let metrics = Metrics::default();
    let channel = Arc::new(Channel {
        id: "bench".parse().unwrap(),
        account_id: ACCOUNT.parse().unwrap(),
        namespace: "bench".parse().unwrap(),
        defaults: Opening::default(),
        match_choices: false,
        max_request_chars: 5000,
        max_file_bytes: 3_000_000,
        file_types: vec![],
        max_queued: 1_000_000,
        max_queued_per_user: 1000,
        deliver_for: None,
    });
    let (opened, openings) = mpsc::channel(1);
    let interpreter = Interpreter {
        scopes: Vec::new(),
        apps: HashMap::new(),
        subscriptions: HashMap::new(),
        public_url: "http://localhost".parse().unwrap(),
        signed_file_links: HashMap::new(),
        clock: Arc::clone(&clock),
    };
    let (inbox, _) = Inbox::new(
        store.clone(),
        Arc::clone(&clock),
        metrics.clone(),
        interpreter,
        openings,
    );
    let access = ChannelAccess {
        channel: Arc::clone(&channel),
        keys: vec![ApiKeyHash::of("bench-key")],
        jwt_keys: vec![],
        cors_origins: vec![],
        file_link_keys: None,
        limits: Limits::new(None, None),
    };
    let bridge = Bridge::new(Parts {
        store,
        cloud: cloud::client(&cloud::start()),
        keyring: Keyring::new(Key::random(), vec![]),
        clock: Arc::clone(&clock),
        metrics: metrics.clone(),
        channels: HashMap::from([(channel.id.clone(), channel)]),
        subscriptions: HashMap::new(),
        opened,
        tasks: TaskTracker::new(),
        stopping: CancellationToken::new(),
    });
    let outbox = Outbox::new(bridge.clone());
    api::router(AppState {
        bridge,
        outbox,
        access: Access::new(vec![access]),
        receiver: Receiver::new(
            inbox,
            metrics.clone(),
            Arc::clone(&clock),
            Rejections::new(metrics.clone(), Arc::clone(&clock)),
            HashMap::new(),
        ),
        load: Load::default(),
        clock,
        metrics,
    })
}
