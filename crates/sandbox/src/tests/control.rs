//! The control over HTTP, recording, faults, unknown paths, and Monitoring.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use super::*;
use crate::server::CAPACITY;
use crate::{Answer as FaultAnswer, Credentials, Fault, Operation, Reply};
use liveperson_bridge_web::cross_site::HostNames;

#[tokio::test]
async fn every_request_is_recorded_as_it_came() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    cloud.sandbox.clear_requests();

    let id = cloud.open(&tokens).await;
    cloud
        .call("PUT", "/nowhere?a=b%20c", &[("X-Test", "1")], "text")
        .await;

    let requests = cloud.sandbox.requests();
    let operations: Vec<_> = requests.iter().map(|r| r.operation).collect();
    assert_eq!(operations, [Some(Operation::Conversation), None]);
    assert_eq!(
        requests[0].header("x-lp-on-behalf"),
        Some(tokens.consumer.as_str())
    );
    assert_eq!(requests[0].json().unwrap(), batch(&json!({}), &json!({})));
    let last = &requests[1];
    assert_eq!(
        (last.method.as_str(), last.path.as_str()),
        ("PUT", "/nowhere")
    );
    assert_eq!(
        (last.query.as_str(), last.body.as_str()),
        ("a=b%20c", "text")
    );
    assert_eq!(last.parameter("a").as_deref(), Some("b c"));
    assert_eq!(last.header("x-test"), Some("1"));
    assert!(cloud.sandbox.close_conversation(&id, "AGENT"));
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused_in_json() {
    let cloud = Cloud::new();

    let path = cloud
        .call("POST", "/api/account/1/consumers", &[], "")
        .await;
    let method = cloud.call("GET", "/api/account/1/consumer", &[], "").await;

    path.assert_complaint(404, "POST /api/account/1/consumers: there is nothing");
    method.assert_complaint(405, "GET /api/account/1/consumer: expected POST");
}

#[tokio::test]
async fn pending_faults_can_be_withdrawn() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    let id = cloud.open(&tokens).await;
    cloud.sandbox.inject(Fault {
        times: 3,
        ..Fault::status(Operation::Send, StatusCode::BAD_GATEWAY)
    });
    let affected = cloud.send(&tokens, &text(&id, "x")).await;
    assert_eq!(affected.status, StatusCode::BAD_GATEWAY);

    let remaining = cloud.sandbox.withdraw_faults();

    assert_eq!(remaining.len(), 1);
    assert_eq!(remaining[0].times, 2);
    let unaffected = cloud.send(&tokens, &text(&id, "x")).await;
    assert_eq!(unaffected.status, StatusCode::OK);
}

#[tokio::test]
async fn a_fault_affects_the_given_number_of_requests_of_its_operation() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    cloud.sandbox.inject(Fault {
        times: 2,
        ..Fault::new(
            Operation::Send,
            FaultAnswer::Reply(Reply {
                body: "<html>busy</html>".to_owned(),
                content_type: Some("text/html".to_owned()),
                retry_after: Some("7".to_owned()),
                ..Reply::new(StatusCode::TOO_MANY_REQUESTS)
            }),
        )
    });
    cloud
        .sandbox
        .inject(Fault::status(Operation::Send, StatusCode::BAD_GATEWAY));
    cloud.sandbox.inject(Fault {
        skip: 1,
        ..Fault::status(Operation::Send, StatusCode::CONFLICT)
    });
    let id = cloud.open(&tokens).await;

    for _ in 0..2 {
        let affected = cloud.send(&tokens, &text(&id, "x")).await;
        affected.assert(429, json!("<html>busy</html>"));
        assert_eq!(affected.headers["content-type"], "text/html");
        assert_eq!(affected.headers["retry-after"], "7");
    }
    cloud
        .send(&tokens, &text(&id, "x"))
        .await
        .assert(502, json!(""));
    let unaffected = cloud.send(&tokens, &text(&id, "x")).await;

    assert_eq!(
        unaffected.body["body"]["sequence"], 0,
        "a fault must keep requests from taking effect"
    );
    cloud
        .send(&tokens, &text(&id, "x"))
        .await
        .assert(409, json!(""));
}

#[tokio::test]
async fn a_request_can_take_effect_and_lose_its_answer() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    cloud.sandbox.inject(Fault {
        after_applying: true,
        ..Fault::status(Operation::Conversation, StatusCode::GATEWAY_TIMEOUT)
    });

    let lost = cloud
        .open_with(&tokens, None, &batch(&json!({}), &json!({})))
        .await;
    let again = cloud
        .open_with(&tokens, None, &batch(&json!({}), &json!({})))
        .await;

    assert_eq!(lost.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(again.body[1]["code"], "BAD_REQUEST");
    assert_eq!(cloud.sandbox.conversations().len(), 1);
}

#[tokio::test]
async fn a_stalled_request_gets_no_answer_and_takes_effect_if_configured() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    let id = cloud.open(&tokens).await;
    for (after_applying, events) in [(false, 0), (true, 1)] {
        cloud.sandbox.inject(Fault {
            after_applying,
            ..Fault::stall(Operation::Send)
        });

        let request = text(&id, "x");
        let mut call = pin!(cloud.send(&tokens, &request));
        let answered = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_ready())).await;

        assert!(!answered);
        assert_eq!(cloud.conversation(&id).dialogs[0].events.len(), events);
    }
}

async fn engagement(cloud: &Cloud, query: &str, user: &str) -> Answer {
    let uri = format!("/api/account/{ACCOUNT}/app/app/engagement?{query}");
    let body = json!({"identities": [{"iss": "bridge", "acr": "loa1", "sub": user}]});
    cloud.call("POST", &uri, &[JSON], body.to_string()).await
}

#[tokio::test]
async fn monitoring_names_the_open_conversation_of_a_consumer() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    let campaign = json!({"campaignInfo": {"campaignId": 3_244_615_612_u64, "engagementId": 3_244_615_712_u64}});
    let opening = cloud
        .open_with(&tokens, None, &batch(&json!({}), &campaign))
        .await;
    let id = conversation_id(&opening);

    let open = engagement(&cloud, "v=1.0", "u-1").await;
    let other = engagement(&cloud, "v=1.0&sid=S1&vid=V1", "u-2").await;
    assert!(cloud.sandbox.close_conversation(&id, "AGENT"));
    let closed = engagement(&cloud, "v=1.1", "u-1").await;

    assert_eq!(open.status, StatusCode::CREATED);
    assert!(
        ["sessionId", "visitorId", "pageId"]
            .iter()
            .all(|m| open.body[m].is_string())
    );
    let details = json!([{
        "campaignId": 3_244_615_612_u64, "engagementId": 3_244_615_712_u64, "engagementRevision": 1,
        "contextId": "1", "status": "conversation", "conversationId": id,
    }]);
    assert_eq!(open.body["engagementDetails"], details);
    assert_eq!(other.status, StatusCode::OK, "the session existed");
    assert_eq!(
        (&other.body["sessionId"], &other.body["visitorId"]),
        (&json!("S1"), &json!("V1"))
    );
    assert!(other.body.get("engagementDetails").is_none());
    assert!(closed.body.get("engagementDetails").is_none());
}

#[tokio::test]
async fn monitoring_refuses_invalid_requests() {
    let cloud = Cloud::with(Options {
        accounts: vec![Credentials {
            account_id: ACCOUNT.to_owned(),
            client_id: "other".to_owned(),
            client_secret: "s3cret".into(),
        }],
        ..Options::default()
    });
    let uri = format!("/api/account/{ACCOUNT}/app/other/engagement?v=1.0");

    let no_version = engagement(&cloud, "", "u-1").await;
    let no_app = engagement(&cloud, "v=1.0", "u-1").await;
    let no_sub = cloud
        .call(
            "POST",
            &uri,
            &[JSON],
            r#"{"identities": [{"acr": "loa1"}]}"#,
        )
        .await;
    let weak = cloud
        .call(
            "POST",
            &uri,
            &[JSON],
            r#"{"identities": [{"acr": "0", "sub": "u"}]}"#,
        )
        .await;

    no_version.assert_complaint(400, "v=1.0");
    no_app.assert_complaint(404, "no app installation `app`");
    no_sub.assert_complaint(400, "identities[0]: missing field `sub`");
    weak.assert_complaint(400, "identities[0].acr: unknown variant `0`");
}

#[tokio::test]
async fn the_sandbox_is_controlled_over_http() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    let id = cloud.open(&tokens).await;
    let fault =
        r#"{"operation": "send", "answer": {"reply": {"status": 503, "retry_after": "1"}}}"#;
    let closing = format!("/_sandbox/conversations/{id}/close");
    let by = r#"{"by": "AGENT"}"#;

    let injected = cloud.call("POST", "/_sandbox/faults", &[JSON], fault).await;
    let affected = cloud.send(&tokens, &text(&id, "x")).await;
    let closed = cloud.call("POST", &closing, &[JSON], by).await;
    let closed_again = cloud.call("POST", &closing, &[JSON], by).await;
    let conversations = cloud.call("GET", "/_sandbox/conversations", &[], "").await;
    let requests = cloud.call("GET", "/_sandbox/requests", &[], "").await;
    let reset = cloud.call("POST", "/_sandbox/reset", &[], "").await;

    assert_eq!(injected.status, StatusCode::NO_CONTENT);
    assert_eq!(affected.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(closed.status, StatusCode::NO_CONTENT);
    assert_eq!(closed_again.status, StatusCode::NOT_FOUND);
    let conversation = &conversations.body[0];
    assert_eq!(conversation["stage"], "CLOSE");
    assert_eq!(conversation["close_reason"], "AGENT");
    assert_eq!(conversation["ext_consumer_id"], "u-1");
    assert_eq!(conversation["dialogs"][0]["events"], json!([]));
    let operations: Vec<_> = requests
        .body
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["operation"])
        .collect();
    assert_eq!(
        operations,
        ["app_token", "consumer_token", "conversation", "send"]
    );
    assert_eq!(reset.status, StatusCode::NO_CONTENT);
    assert!(cloud.sandbox.conversations().is_empty());
    assert!(cloud.sandbox.requests().is_empty());
}

#[tokio::test]
async fn a_fault_with_an_invalid_status_is_refused() {
    let fault = r#"{"operation": "send", "answer": {"reply": {"status": 7}}}"#;

    let answer = Cloud::new()
        .call("POST", "/_sandbox/faults", &[JSON], fault)
        .await;

    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_fault_for_an_event_type_affects_only_requests_that_publish_such_an_event() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    let id = cloud.open(&tokens).await;
    let fault =
        json!({"operation": "any", "event": "ContentEvent", "answer": {"reply": {"status": 503}}});
    let typing = publish(
        &id,
        &json!({"type": "ChatStateEvent", "chatState": "COMPOSING"}),
    );
    let receipt = json!({"type": "AcceptStatusEvent", "status": "READ", "sequenceList": [0]});

    let injected = cloud
        .call("POST", "/_sandbox/faults", &[JSON], fault.to_string())
        .await;
    let renewed = cloud.consumer_token(&tokens.app, "u-1").await;
    let mut statuses = Vec::new();
    for request in [
        &typing,
        &publish(&id, &receipt),
        &text(&id, "a ChatStateEvent"),
        &text(&id, "again"),
    ] {
        statuses.push(cloud.send(&tokens, request).await.status.as_u16());
    }

    assert_eq!(injected.status, StatusCode::NO_CONTENT);
    assert_eq!(renewed.status, StatusCode::CREATED);
    assert_eq!(statuses, [200, 200, 503, 200]);
}

#[tokio::test]
async fn a_pending_fault_is_listed_as_it_was_injected() {
    let cloud = Cloud::new();
    let fault = json!({"operation": "send", "event": "AcceptStatusEvent", "skip": 1, "times": 2,
        "after_applying": true, "answer": "cut"});

    let body = fault.to_string();
    cloud.call("POST", "/_sandbox/faults", &[JSON], body).await;
    let listed = cloud.call("GET", "/_sandbox/faults", &[], "").await;
    let unknown = json!({"operation": "send", "event": "TextEvent", "answer": "cut"}).to_string();
    let refused = cloud
        .call("POST", "/_sandbox/faults", &[JSON], unknown)
        .await;

    listed.assert(200, json!([fault]));
    refused.assert_complaint(422, "expected one of `ContentEvent`, `ChatStateEvent`");
}

#[tokio::test]
async fn a_full_sandbox_refuses_openings_until_it_is_reset() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    cloud.sandbox.state().retained_requests = CAPACITY - 1;
    cloud.open(&tokens).await;

    let request = batch(&json!({}), &json!({}));
    let refused = cloud.open_with(&tokens, None, &request).await;

    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.complaint().contains("/_sandbox/reset"));
    cloud.sandbox.reset();
    cloud.open(&tokens).await;
}

#[tokio::test]
async fn recorded_requests_can_be_listed_by_operation_and_after_an_id() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    let id = cloud.open(&tokens).await;
    cloud.send(&tokens, &text(&id, "first")).await;
    let list = async |query: &str| {
        let uri = format!("/_sandbox/requests{query}");
        let answer = cloud.call("GET", &uri, &[], "").await;
        let requests = answer.body.as_array().unwrap().clone();
        let ids = requests.iter().map(|request| request["id"].as_u64());
        ids.map(Option::unwrap).collect::<Vec<_>>()
    };

    cloud.send(&tokens, &text(&id, "second")).await;

    assert_eq!(list("").await, [1, 2, 3, 4, 5]);
    assert_eq!(list("?operation=send").await, [4, 5]);
    assert_eq!(list("?operation=send&after=4").await, [5]);
    assert_eq!(list("?after=5").await, [0; 0]);
    let forgotten = cloud.call("DELETE", "/_sandbox/requests", &[], "").await;
    assert_eq!(forgotten.status, StatusCode::NO_CONTENT);
    cloud.send(&tokens, &text(&id, "third")).await;
    assert_eq!(list("").await, [6]);
}

#[tokio::test]
async fn pending_faults_can_be_listed_and_withdrawn_over_http() {
    let cloud = Cloud::new();
    let inject = async |fault: Value| {
        let answer = cloud
            .call("POST", "/_sandbox/faults", &[JSON], fault.to_string())
            .await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.body);
    };
    inject(json!({"operation": "any", "times": 3, "answer": {"reply": {"status": 503}}})).await;
    inject(json!({"operation": "send", "answer": {"delay": {"seconds": 8}}})).await;
    inject(json!({"operation": "send", "answer": "cut", "after_applying": true})).await;
    inject(json!({"operation": "upload", "answer": "stall", "skip": 2})).await;

    let lookup = "/api/account/12345678/service/baseURI.json?version=1.0";
    let host = [("host", "cloud")];
    let affected = cloud.call("GET", lookup, &host, "").await;
    let shown = cloud.call("GET", "/_sandbox/faults", &[], "").await;
    let withdrawn = cloud.call("DELETE", "/_sandbox/faults", &[], "").await;
    let unaffected = cloud.call("GET", lookup, &host, "").await;

    assert_eq!(
        (affected.status, unaffected.status),
        (StatusCode::SERVICE_UNAVAILABLE, StatusCode::OK)
    );
    let reply = json!({"status": 503, "body": "", "content_type": null, "retry_after": null});
    shown.assert(
        200,
        json!([
            {"operation": "any", "skip": 0, "times": 2, "after_applying": false, "answer": {"reply": reply}},
            {"operation": "send", "skip": 0, "times": 1, "after_applying": false, "answer": {"delay": {"seconds": 8}}},
            {"operation": "send", "skip": 0, "times": 1, "after_applying": true, "answer": "cut"},
            {"operation": "upload", "skip": 2, "times": 1, "after_applying": false, "answer": "stall"},
        ]),
    );
    assert_eq!(withdrawn.status, StatusCode::NO_CONTENT);
    assert!(cloud.sandbox.faults().is_empty());
}

#[tokio::test]
async fn tokens_are_revoked_over_http() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    let revoke = |body: &'static str| cloud.call("POST", "/_sandbox/tokens/revoke", &[JSON], body);
    let opening = batch(&json!({}), &json!({}));

    revoke(r#"{"app": false, "consumer": true}"#).await;
    let consumer = cloud.open_with(&tokens, None, &opening).await;
    revoke(r#"{"app": true}"#).await;
    let app = cloud.open_with(&tokens, None, &opening).await;

    assert_eq!(
        consumer.body["body"]["errorCode"], 40103,
        "{}",
        consumer.body
    );
    assert_eq!(app.body["body"]["errorCode"], 40102, "{}", app.body);
}

/// A mistaken request: method, path below `/_sandbox`, body, and the status and text of its
/// refusal.
type Mistake = (&'static str, &'static str, &'static str, u16, &'static str);

const MISTAKES: &[Mistake] = &[
    (
        "POST",
        "/faults",
        r#"{"operation": "sendd", "answer": "stall"}"#,
        422,
        "operation: unknown variant `sendd`",
    ),
    (
        "POST",
        "/faults",
        r#"{"operation": "sendd", "answer": "stall"}"#,
        422,
        "or `any`",
    ),
    (
        "POST",
        "/faults",
        r#"{"answer": "stall"}"#,
        422,
        "missing field `operation`",
    ),
    (
        "POST",
        "/faults",
        r#"{"operation": "send", "answer": "sulk"}"#,
        422,
        "answer: unknown variant `sulk`",
    ),
    (
        "POST",
        "/faults",
        r#"{"operation": "send", "answer": "stall", "times": 0}"#,
        422,
        "times: 0 times, expected 1 or more",
    ),
    (
        "POST",
        "/faults",
        r#"{"operation": "send", "answer": {"delay": {"seconds": 0}}}"#,
        422,
        "seconds: a delay of 0 s, expected 1 to 3600",
    ),
    (
        "POST",
        "/faults",
        r#"{"operation": "send", "answer": {"reply": {"status": 503, "retry_after": "a\nb"}}}"#,
        422,
        "retry_after: not a valid header value",
    ),
    (
        "POST",
        "/faults",
        r#"{"operation": "send", "answer": "stall", "tmes": 2}"#,
        422,
        "unknown field `tmes`",
    ),
    ("POST", "/faults", "{", 400, "EOF while parsing"),
    (
        "POST",
        "/webhooks/disturbances",
        r#"{"trouble": "hail"}"#,
        422,
        "trouble: unknown variant `hail`",
    ),
    (
        "POST",
        "/webhooks/disturbances",
        r#"{"trouble": "drop", "times": 0}"#,
        422,
        "times: 0 times",
    ),
    (
        "PUT",
        "/webhooks",
        r#"{"account_id": "1"}"#,
        422,
        "missing field `client_id`",
    ),
    (
        "POST",
        "/tokens/revoke",
        r#"{"apps": true}"#,
        422,
        "unknown field `apps`",
    ),
    ("POST", "/surveys", "{}", 422, "missing field `on`"),
    (
        "POST",
        "/conversations/c1/close",
        "{}",
        422,
        "missing field `by`",
    ),
    (
        "POST",
        "/conversations/c1/close",
        r#"{"by": "AGENT"}"#,
        404,
        "no open conversation `c1`",
    ),
    (
        "POST",
        "/conversations/c1/survey/end",
        "",
        404,
        "conversation `c1`",
    ),
    (
        "GET",
        "/requests?operation=sendd",
        "",
        422,
        "operation: unknown variant `sendd`",
    ),
    (
        "GET",
        "/requests?after=x",
        "",
        422,
        "after: `x`, expected the `id` of a listed entry",
    ),
    (
        "GET",
        "/requests?before=2",
        "",
        422,
        "before: unknown, expected operation or after",
    ),
    ("GET", "/files/none", "", 404, "file `none` has no content"),
    (
        "GET",
        "/request",
        "",
        404,
        "GET /_sandbox/request: there is nothing at this path",
    ),
    (
        "PATCH",
        "/faults",
        "",
        405,
        "PATCH /_sandbox/faults: method not allowed, see the Allow header",
    ),
];

#[tokio::test]
async fn refusal_of_an_invalid_control_request_names_the_mistake() {
    let cloud = Cloud::new();

    for (method, path, body, status, complaint) in MISTAKES {
        let path = format!("/_sandbox{path}");
        let answer = cloud.call(method, &path, &[JSON], *body).await;

        answer.assert_complaint(*status, complaint);
    }
    let no_json = cloud.call("POST", "/_sandbox/faults", &[], "{}").await;
    no_json.assert_complaint(415, "application/json");
    assert!(cloud.sandbox.requests().is_empty());
}

#[tokio::test]
async fn the_list_of_conversations_can_be_limited_to_the_latest() {
    let cloud = Cloud::new();
    let mut opened = Vec::new();
    for user in ["u-1", "u-2", "u-3"] {
        opened.push(cloud.open(&cloud.tokens(user).await).await);
    }
    let ids = async |query: &str| {
        let path = format!("/_sandbox/conversations{query}");
        let answer = cloud.call("GET", &path, &[], "").await;
        let conversations = answer.body.as_array().unwrap().clone();
        conversations
            .iter()
            .map(|one| one["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };

    assert_eq!(ids("").await, opened);
    assert_eq!(ids("?latest=2").await, opened[1..]);
    assert_eq!(ids("?latest=100").await, opened);
    for (query, complaint) in [
        ("?latest=some", "latest: `some`, expected a number"),
        ("?newest=2", "newest: unknown, expected latest"),
    ] {
        let path = format!("/_sandbox/conversations{query}");
        let answer = cloud.call("GET", &path, &[], "").await;
        answer.assert_complaint(422, complaint);
    }
}

/// The header that a browser adds to a request of another site's page.
const CROSS_SITE: (&str, &str) = ("sec-fetch-site", "cross-site");

#[tokio::test]
async fn a_page_of_another_site_can_neither_read_nor_reset_the_sandbox() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    cloud.open(&tokens).await;
    let host = ("host", "127.0.0.1:9400");
    let text = ("content-type", "text/plain");
    let origin = ("origin", "http://evil.example");

    for other in [CROSS_SITE, ("sec-fetch-site", "same-site"), origin] {
        for (method, path) in [
            ("POST", "/_sandbox/reset"),
            ("GET", "/_sandbox/requests"),
            ("GET", "/_sandbox/nothing"),
            ("DELETE", "/_sandbox/requests"),
            ("GET", "/_sandbox/page/settings"),
            ("POST", "/_demo/tokens"),
            ("GET", "/_demo/nothing"),
        ] {
            let refused = cloud.call(method, path, &[host, other, text], "").await;
            refused.assert_complaint(403, "the request came from a page of another site");
        }
    }
    assert_eq!(cloud.sandbox.conversations().len(), 1);

    // A link on another site, and similar requests that are not links.
    let navigation = ("sec-fetch-mode", "navigate");
    let document = ("sec-fetch-dest", "document");
    let link = [host, CROSS_SITE, navigation, document];
    for path in ["/", "/_sandbox/conversations"] {
        assert_eq!(
            cloud.call("GET", path, &link, "").await.status,
            StatusCode::OK
        );
    }
    let form = cloud.call("POST", "/_sandbox/reset", &link, "").await;
    form.assert_complaint(403, "a page of another site");
    let frame = [host, CROSS_SITE, navigation, ("sec-fetch-dest", "iframe")];
    let frame = cloud
        .call("GET", "/_sandbox/conversations", &frame, "")
        .await;
    frame.assert_complaint(403, "a page of another site");

    // The sandbox's own page, and a program.
    let own = ("origin", "http://127.0.0.1:9400");
    for headers in [
        &[host, own][..],
        &[host, ("sec-fetch-site", "same-origin"), own],
        &[host],
    ] {
        let reset = cloud.call("POST", "/_sandbox/reset", headers, "").await;
        assert_eq!(reset.status, StatusCode::NO_CONTENT, "{}", reset.body);
    }
}

/// A page can make its own host name resolve to the sandbox's address. The browser then treats the
/// page and the sandbox as one site.
#[tokio::test]
async fn the_control_interface_refuses_unknown_host_names() {
    let cloud = Cloud::with(Options {
        hosts: HostNames::new(["sandbox".to_owned()]),
        ..Options::default()
    });
    for (host, status) in [
        ("evil", 421),
        ("evil.example:9400", 421),
        ("127.0.0.1.evil.example", 421),
        ("127.0.0.1:9400", 200),
        ("[::1]:9400", 200),
        ("localhost:9400", 200),
        ("sandbox:9400", 200),
    ] {
        for path in ["/", "/_sandbox/requests", "/_sandbox/page/settings"] {
            let headers = [("host", host), ("sec-fetch-site", "same-origin")];
            let answer = cloud.call("GET", path, &headers, "").await;
            assert_eq!(answer.status.as_u16(), status, "{host} {path}");
            if status == 421 {
                answer.assert_complaint(421, "--host");
            }
        }
    }
    // The simulated Cloud itself is protected by its tokens.
    let path = "/api/account/le12345678/service/idp/baseURI.json?version=1.0";
    let lookup = cloud
        .call("GET", path, &[("host", "cloud.example"), CROSS_SITE], "")
        .await;
    assert_eq!(lookup.status, StatusCode::OK);
}
