//! The page and its files.

use super::*;
use crate::sandbox::stage::{Bridge, Demo, Stage};

async fn settings(stage: Stage) -> Value {
    let options = Options {
        stage,
        ..Options::default()
    };
    let answer = Cloud::with(options)
        .call("GET", "/_sandbox/page/settings", &[], "")
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    answer.body
}

#[tokio::test]
async fn the_page_is_told_of_the_bridge_that_it_can_call() {
    let url = "http://127.0.0.1:8080/".parse().unwrap();
    let bridge = Some(Bridge { url });
    let demo = Some(Demo {
        channel: "demo".to_owned(),
        token_key: "0123456789abcdef0123456789abcdef".to_owned().into(),
    });

    let alone = settings(Stage::default()).await;
    let beside = settings(Stage {
        bridge: bridge.clone(),
        demo: None,
    })
    .await;
    let demo = settings(Stage { bridge, demo }).await;

    assert_eq!(alone, json!({"mode": "sandbox", "bridge": null}));
    assert_eq!(
        beside,
        json!({"mode": "sandbox", "bridge": {
            "url": "http://127.0.0.1:8080", "channel": null, "mints_tokens": false}})
    );
    assert_eq!(
        demo,
        json!({"mode": "demo", "bridge": {
            "url": "http://127.0.0.1:8080", "channel": "demo", "mints_tokens": true}})
    );
}
