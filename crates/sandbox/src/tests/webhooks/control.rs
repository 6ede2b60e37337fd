//! Webhooks controlled over HTTP.

use super::*;

/// Returns a subscription as JSON, with these members added or replaced.
fn subscription(receiver: &Receiver, members: &Value) -> Value {
    let mut webhook = json!({
        "account_id": ACCOUNT, "client_id": CLIENT, "client_secret": SECRET, "url": receiver.url(),
    });
    let members = members.as_object().unwrap().clone();
    webhook.as_object_mut().unwrap().extend(members);
    webhook
}

impl Cloud {
    async fn control(&self, method: &str, path: &str, body: impl ToString) -> Answer {
        let uri = format!("/_sandbox{path}");
        self.call(method, &uri, &[JSON], body.to_string()).await
    }
}

#[tokio::test]
async fn webhooks_are_controlled_over_http() {
    let (cloud, receiver) = (Cloud::new(), Receiver::start().await);
    let webhook = subscription(
        &receiver,
        &json!({"algorithm": "sha256", "retry": {"time_to_live": 86_400}}),
    );
    let disturbance = json!({"trouble": "delay", "only": "content"});
    receiver.answer([ReceiverAnswer::Status(503)]);

    let subscribed = cloud.control("PUT", "/webhooks", webhook).await;
    let disturbed = cloud
        .control("POST", "/webhooks/disturbances", disturbance)
        .await;
    let tokens = cloud.tokens("u-1").await;
    let id = cloud.open(&tokens).await;
    cloud.send_text(&tokens, &id, "held back").await;
    eventually("the opening failed", || {
        (cloud.statuses() == [Some(503)]).then_some(())
    })
    .await;
    let retried = cloud.control("POST", "/webhooks/retry", "").await;
    receiver.wait_for(2).await;
    let released = cloud.control("POST", "/webhooks/release", "").await;
    cloud.settled().await;
    let list = cloud.control("GET", "/notifications", "").await;
    let newer = cloud.control("GET", "/notifications?after=2", "").await;

    for answer in [subscribed, disturbed, retried, released] {
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.body);
    }
    let list = list.body.as_array().unwrap().clone();
    let attempts: Vec<_> = list
        .iter()
        .map(|n| (&n["kind"], &n["attempt"], &n["status"]))
        .collect();
    let expected = [
        (&json!("conversation"), &json!(1), &json!(503)),
        (&json!("conversation"), &json!(2), &json!(200)),
        (&json!("content"), &json!(1), &json!(200)),
    ];
    assert_eq!(attempts, expected);
    let ids: Vec<_> = list.iter().map(|n| n["id"].as_u64()).collect();
    assert_eq!(ids, [Some(1), Some(2), Some(3)]);
    assert_eq!(newer.body, json!([list[2]]));
    assert_eq!(list[0]["conversation_id"], id);
    assert_eq!(list[0]["at"], "2027-01-15T08:00:00Z");
    assert_eq!(list[0]["client_id"], CLIENT);
    assert_eq!(
        list[2]["body"].as_str().unwrap().as_bytes(),
        receiver.got()[2].raw
    );
    let signature = receiver.got()[0]
        .header("x-liveperson-signature")
        .to_owned();
    assert!(signature.starts_with("sha256="));
}

#[tokio::test]
async fn foreign_and_raw_notifications_can_be_requested_over_http() {
    let (cloud, receiver) = (Cloud::new(), Receiver::start().await);
    let foreign = format!("/notifications/{ACCOUNT}/foreign");
    let raw = format!("/notifications/{ACCOUNT}/raw");
    let unsubscribed = cloud.control("POST", &foreign, "").await;
    let raw_unsubscribed = cloud.control("POST", &raw, "x").await;
    let webhook = subscription(&receiver, &json!({}));
    cloud.control("PUT", "/webhooks", webhook).await;

    let notified = cloud.control("POST", &foreign, "").await;
    let sent = cloud.control("POST", &raw, "not JSON").await;
    cloud.settled().await;

    unsubscribed.assert_complaint(404, "has no webhook subscription");
    raw_unsubscribed.assert_complaint(404, "has no webhook subscription");
    assert!(notified.body["conversation_id"].is_string());
    assert_eq!(sent.status, StatusCode::NO_CONTENT);
    assert!(receiver.got().iter().any(|got| got.raw == "not JSON"));
}

#[tokio::test]
async fn invalid_webhook_control_requests_are_refused() {
    let (cloud, receiver) = (Cloud::new(), Receiver::start().await);
    let with = |members: Value| ("PUT", "/webhooks", subscription(&receiver, &members));
    let disturbance = |body: Value| ("POST", "/webhooks/disturbances", body);

    for (method, path, body) in [
        with(json!({"url": "ftp://example.com"})),
        with(json!({"url": "nowhere"})),
        with(json!({"algorithm": "md5"})),
        with(json!({"retry": {"by_number": 6}})),
        with(json!({"retry": {"time_to_live": 1}})),
        with(json!({"retry": {"time_to_live": 259_201}})),
        with(json!({"retry": "for ever"})),
        with(json!({"client_secret": null})),
        with(json!({"mistyped": 1})),
        disturbance(json!({"trouble": "flood"})),
        disturbance(json!({"trouble": "drop", "only": "texts"})),
        disturbance(json!({"trouble": "drop", "time": 1})),
    ] {
        let answer = cloud.control(method, path, &body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
    }
    let no_json = cloud.control("PUT", "/webhooks", "{").await;
    assert_eq!(no_json.status, StatusCode::BAD_REQUEST);
}

#[test]
fn the_debug_output_of_a_webhook_hides_its_secret() {
    let webhook: Webhook = serde_json::from_value(json!({
        "account_id": ACCOUNT, "client_id": CLIENT, "client_secret": SECRET, "url": "http://h/",
    }))
    .unwrap();

    assert!(!format!("{webhook:?}").contains(SECRET));
    assert_eq!(webhook.algorithm, Algorithm::Sha1);
    assert_eq!(webhook.retry, Retry::ByNumber(0));
}

#[tokio::test]
async fn pending_disturbances_can_be_listed_and_withdrawn_over_http() {
    let (cloud, receiver) = Cloud::with_receiver(Retry::default()).await;
    let (tokens, id) = cloud.opened("u-1").await;
    let path = "/_sandbox/webhooks/disturbances";
    let batch = r#"{"trouble": "batch", "times": 3, "only": "content", "by": "CONSUMER"}"#;
    cloud.call("POST", path, &[JSON], batch).await;
    cloud.send_text(&tokens, &id, "first").await;

    let shown = cloud.call("GET", path, &[], "").await;
    let withdrawn = cloud.call("DELETE", path, &[], "").await;
    cloud.send_text(&tokens, &id, "second").await;
    cloud.settled().await;

    let remaining = json!({"trouble": "batch", "times": 2, "only": "content", "by": "CONSUMER"});
    shown.assert(200, json!([remaining]));
    assert_eq!(withdrawn.status, StatusCode::NO_CONTENT);
    assert!(cloud.sandbox.disturbances().is_empty());
    assert_eq!(texts(&receiver.got()), ["first", "second"]);
}
