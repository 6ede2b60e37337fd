//! The payloads at the Cloud: the requests of the vendor's own examples arrive with the same
//! members and values, except for ids.

use liveperson_bridge::sandbox::{Operation, RecordedRequest};
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::cloud::{ACCOUNT, Cloud};
use crate::support::configuration::WEB_KEY;
use crate::support::database::Engine;

on_both_engines!(
    an_opening_with_social_id_type_and_name,
    an_opening_with_a_company_branch,
    an_opening_without_options,
    an_opening_by_campaign_with_context,
    an_opening_by_skill,
    every_urgency,
    a_complete_profile_arrives_at_the_cloud,
    a_text,
    every_chat_state,
    every_receipt,
    a_close,
    features_are_sent_with_the_opening_and_all_later_requests,
    a_first_message_opens_with_the_channels_defaults,
    a_first_message_may_override_the_channels_defaults,
    tokens_and_ids_are_sent_in_the_headers_of_the_cloud,
);

/// Removes the ids of a body's requests, which the bridge generates. Asserts that each has 1 to 64
/// characters and is unique.
fn without_ids(mut body: Value) -> Value {
    let items = match &mut body {
        Value::Array(items) => items.iter_mut().collect(),
        item => vec![item],
    };
    let mut ids = Vec::new();
    for item in items {
        let id = item.as_object_mut().unwrap().remove("id").unwrap();
        let length = id.as_str().unwrap().len();
        assert!((1..=64).contains(&length), "{id}");
        assert!(!ids.contains(&id), "{id} twice");
        ids.push(id);
    }
    body
}

fn only_opening(cloud: &Cloud) -> Value {
    let mut bodies = cloud.bodies(Operation::Conversation);
    assert_eq!(bodies.len(), 1);
    without_ids(bodies.remove(0))
}

fn last_send(cloud: &Cloud) -> Value {
    without_ids(cloud.bodies(Operation::Send).pop().unwrap())
}

fn request(kind: &str, body: &Value) -> Value {
    json!({"kind": "req", "type": kind, "body": body})
}

async fn open(app: &TestApp, opening: Value) -> String {
    let reply = app.sms.post("/v1/users/ada/conversation", opening).await;
    let body = reply.expect(201);
    body["id"].as_str().unwrap().to_owned()
}

async fn an_opening_with_social_id_type_and_name(engine: Engine) {
    let app = TestApp::start(engine).await;

    open(
        &app,
        json!({
            "profile": {
                "first_name": "Ada", "last_name": "Byron", "gender": "female",
                "customer": {"social_id": "1234567890", "type": "vip"},
            },
            "urgency": "normal",
        }),
    )
    .await;

    assert_eq!(
        only_opening(&app.cloud),
        json!([
            request(
                "userprofile.SetUserProfile",
                &json!({"authenticatedData": {"lp_sdes": [
                    {"type": "ctmrinfo", "info": {"socialId": "1234567890", "ctype": "vip"}},
                    {"type": "personal", "personal": {"firstname": "Ada", "lastname": "Byron", "gender": "FEMALE"}},
                ]}})
            ),
            request(
                "cm.ConsumerRequestConversation",
                &json!({
                    "brandId": ACCOUNT, "channelType": "MESSAGING", "ttrDefName": "NORMAL",
                })
            ),
        ])
    );
}

async fn an_opening_with_a_company_branch(engine: Engine) {
    let app = TestApp::start(engine).await;

    open(
        &app,
        json!({"profile": {"customer": {"company_branch": "North"}}}),
    )
    .await;

    assert_eq!(
        only_opening(&app.cloud)[0],
        request(
            "userprofile.SetUserProfile",
            &json!({"authenticatedData": {"lp_sdes": [
                {"type": "ctmrinfo", "info": {"companyBranch": "North"}},
            ]}})
        )
    );
}

async fn an_opening_without_options(engine: Engine) {
    let app = TestApp::start(engine).await;

    open(&app, json!({})).await;

    assert_eq!(
        only_opening(&app.cloud),
        json!([
            request("userprofile.SetUserProfile", &json!({})),
            request(
                "cm.ConsumerRequestConversation",
                &json!({"brandId": ACCOUNT, "channelType": "MESSAGING"})
            ),
        ])
    );
}

async fn an_opening_by_campaign_with_context(engine: Engine) {
    let app = TestApp::start(engine).await;

    open(
        &app,
        json!({
            // Numbers beyond 32 bits, and beyond the precision of a double.
            "routing": {"campaign_id": "99999999999999991", "engagement_id": "880524123"},
            "context": {
                "visitor_id": "A3ZTY3Zjk1MDExZTczYTU4", "session_id": "mnmcRp8nTBKoUQEt0MXXcA",
                "interaction_context_id": "2", "language": "en-US",
            },
        }),
    )
    .await;

    assert_eq!(
        only_opening(&app.cloud)[1],
        request(
            "cm.ConsumerRequestConversation",
            &json!({
                "brandId": ACCOUNT, "channelType": "MESSAGING",
                "campaignInfo": {"campaignId": "99999999999999991", "engagementId": "880524123"},
                "conversationContext": {
                    "visitorId": "A3ZTY3Zjk1MDExZTczYTU4", "sessionId": "mnmcRp8nTBKoUQEt0MXXcA",
                    "interactionContextId": "2", "type": "SharkContext", "lang": "en-US",
                },
            })
        )
    );
}

async fn an_opening_by_skill(engine: Engine) {
    let app = TestApp::start(engine).await;

    open(&app, json!({"routing": {"skill_id": "2736637412"}})).await;

    assert_eq!(
        only_opening(&app.cloud)[1],
        request(
            "cm.ConsumerRequestConversation",
            &json!({"brandId": ACCOUNT, "channelType": "MESSAGING", "skillId": "2736637412"})
        )
    );
}

async fn every_urgency(engine: Engine) {
    let app = TestApp::start(engine).await;

    for urgency in ["normal", "urgent", "prioritized"] {
        let path = format!("/v1/users/{urgency}/conversation");
        app.sms
            .post(&path, json!({"urgency": urgency}))
            .await
            .expect(201);

        let opening = app.cloud.bodies(Operation::Conversation).pop().unwrap();
        assert_eq!(opening[1]["body"]["ttrDefName"], urgency.to_uppercase());
    }
}

async fn a_complete_profile_arrives_at_the_cloud(engine: Engine) {
    let app = TestApp::start(engine).await;
    let profile = json!({
        "first_name": "Ada", "last_name": "Byron", "gender": "other", "birth_date": "1985-12-10",
        "language": "en-GB", "company": "Analytical Engines",
        "contacts": [
            {"email": "ada@example.com", "phone": "+15551234567", "phone_type": "home_fax",
             "address": {"country": "GB", "region": "London"}},
            {"phone": "2"},
        ],
        "customer": {
            "type": "vip", "status": "new", "social_id": "s", "customer_id": "c", "company_branch": "North",
            "account_name": "a", "balance": -400.99, "currency": "USD", "user_name": "u", "company_size": 500,
            "role": "r", "imei": "i", "store_number": "n", "store_zip_code": "z", "login_status": 1,
            "last_payment_date": "2026-10-31", "registration_date": "2013-05-01",
        },
    });

    open(&app, json!({"profile": profile})).await;

    assert_eq!(
        only_opening(&app.cloud)[0]["body"]["authenticatedData"]["lp_sdes"],
        json!([
            {"type": "ctmrinfo", "info": {
                "ctype": "vip", "cstatus": "new", "socialId": "s", "customerId": "c", "companyBranch": "North",
                "accountName": "a", "balance": -400.99, "currency": "USD", "userName": "u", "companySize": 500,
                "role": "r", "imei": "i", "storeNumber": "n", "storeZipCode": "z", "loginStatus": 1,
                "lastPaymentDate": {"day": 31, "month": 10, "year": 2026},
                "registrationDate": {"day": 1, "month": 5, "year": 2013},
            }},
            {"type": "personal", "personal": {
                "firstname": "Ada", "lastname": "Byron", "gender": "OTHER", "language": "en-GB",
                "company": "Analytical Engines", "age": {"year": 1985, "month": 12, "day": 10},
                "contacts": [
                    {"email": "ada@example.com", "phone": "+15551234567", "phoneType": "HOME_FAX",
                     "address": {"country": "GB", "region": "London"}},
                    {"phone": "2"},
                ],
            }},
        ])
    );
    let user = app.sms.get("/v1/users/ada").await.expect(200);
    assert_eq!(user["profile"], profile);
    let consumer = app.cloud.only_conversation().consumer;
    assert_eq!(consumer.ext_consumer_id, "sms:ada");
    assert_eq!(user["consumer_id"], consumer.lp_consumer_id);
}

async fn a_text(engine: Engine) {
    let app = TestApp::start(engine).await;
    let conversation = open(&app, json!({})).await;

    let text = "Hi \"there\"\n\t\\ 👍 ünïcödé\u{2028}";
    let sent = app.sms.say("ada", text).await.expect(201);

    assert_eq!(
        last_send(&app.cloud),
        request(
            "ms.PublishEvent",
            &json!({
                "dialogId": conversation, "conversationId": conversation,
                "event": {"type": "ContentEvent", "contentType": "text/plain", "message": text},
            })
        )
    );
    assert_eq!(sent["conversation_id"], conversation);
    assert_eq!(sent["user_id"], "ada");
    assert_eq!(sent["sequence"], 0);
    assert_eq!(sent["status"], "sent");
    assert!(sent["id"].as_str().unwrap().starts_with("msg_"));
    assert!(sent["created_at"].as_str().unwrap().ends_with('Z'));
    let next = app.sms.say("ada", "more").await.expect(201);
    assert_eq!(next["sequence"], 1);
    assert_ne!(next["id"], sent["id"]);
}

async fn every_chat_state(engine: Engine) {
    let app = TestApp::start(engine).await;
    let conversation = open(&app, json!({})).await;

    for state in ["composing", "pause", "active", "inactive", "gone"] {
        app.sms
            .put("/v1/users/ada/typing", json!({"state": state}))
            .await
            .expect(204);

        assert_eq!(
            last_send(&app.cloud),
            request(
                "ms.PublishEvent",
                &json!({
                    "dialogId": conversation, "conversationId": conversation,
                    "event": {"type": "ChatStateEvent", "chatState": state.to_uppercase()},
                })
            )
        );
    }
    // The answer to a chat state has a sequence of its own, which is no message's.
    let sent = app.sms.say("ada", "first").await.expect(201);
    assert_eq!(sent["sequence"], 0);
}

async fn every_receipt(engine: Engine) {
    let app = TestApp::start(engine).await;
    let conversation = open(&app, json!({})).await;

    for status in ["accept", "read", "access", "nack", "action"] {
        app.sms
            .post(
                "/v1/users/ada/receipts",
                json!({"status": status, "sequences": [1, 2]}),
            )
            .await
            .expect(204);

        assert_eq!(
            last_send(&app.cloud),
            request(
                "ms.PublishEvent",
                &json!({
                    "dialogId": conversation, "conversationId": conversation,
                    "event": {"type": "AcceptStatusEvent", "status": status.to_uppercase(), "sequenceList": [1, 2]},
                })
            )
        );
    }
}

async fn a_close(engine: Engine) {
    let app = TestApp::start(engine).await;
    let conversation = open(&app, json!({})).await;

    let closed = app
        .sms
        .post("/v1/users/ada/conversation/close", json!({}))
        .await
        .expect(200);

    assert_eq!(
        last_send(&app.cloud),
        request(
            "cm.UpdateConversationField",
            &json!({
                "conversationId": conversation,
                "conversationField": {"field": "ConversationStateField", "conversationState": "CLOSE"},
            })
        )
    );
    assert_eq!(closed["id"], conversation);
    assert_eq!(closed["state"], "closed");
    assert_eq!(closed["close_reason"], "consumer");
}

const AUTO_MESSAGES: &str = r#"{"type":".ClientProperties","features":["AUTO_MESSAGES"]}"#;

fn client_properties(requests: &[RecordedRequest]) -> Vec<Option<&str>> {
    requests
        .iter()
        .map(|request| request.header("client-properties"))
        .collect()
}

async fn features_are_sent_with_the_opening_and_all_later_requests(engine: Engine) {
    let app = TestApp::start(engine).await;
    let opened = app
        .sms
        .post(
            "/v1/users/ada/conversation",
            json!({"features": ["AUTO_MESSAGES"]}),
        )
        .await
        .expect(201);

    app.sms.say("ada", "hello").await.expect(201);
    app.sms
        .put("/v1/users/ada/typing", json!({"state": "composing"}))
        .await
        .expect(204);
    app.sms
        .post("/v1/users/ada/conversation/close", json!({}))
        .await
        .expect(200);

    assert_eq!(opened["features"], json!(["AUTO_MESSAGES"]));
    let openings = app.cloud.requests(Operation::Conversation);
    assert_eq!(client_properties(&openings), [Some(AUTO_MESSAGES)]);
    let sends = app.cloud.requests(Operation::Send);
    assert_eq!(client_properties(&sends), [Some(AUTO_MESSAGES); 3]);
}

async fn a_first_message_opens_with_the_channels_defaults(engine: Engine) {
    let app = TestApp::start(engine).await;
    let web = app.sms.with_key(WEB_KEY);

    web.say("ada", "hello").await.expect(201);

    assert_eq!(
        only_opening(&app.cloud)[1],
        request(
            "cm.ConsumerRequestConversation",
            &json!({
                "brandId": ACCOUNT, "channelType": "MESSAGING", "ttrDefName": "URGENT", "skillId": "2736637412",
                "conversationContext": {"type": "SharkContext", "lang": "en-US"},
            })
        )
    );
    // The Cloud greets automatically only if the first message follows its opening within 10 s.
    let conversation = app.cloud.only_conversation();
    let first_send = conversation.first_send_at.unwrap();
    assert!(first_send - conversation.opened_at < chrono::Duration::seconds(10));
    assert!(conversation.complaints.is_empty(), "{conversation:?}");
    let sends = app.cloud.requests(Operation::Send);
    assert_eq!(client_properties(&sends), [Some(AUTO_MESSAGES)]);
}

async fn a_first_message_may_override_the_channels_defaults(engine: Engine) {
    let app = TestApp::start(engine).await;
    let web = app.sms.with_key(WEB_KEY);

    let open = json!({"routing": {"skill_id": "-1"}, "profile": {"first_name": "Ada"}});
    web.post(
        "/v1/users/ada/messages",
        json!({"text": "hello", "open": open}),
    )
    .await
    .expect(201);
    // An open conversation is not opened again, no matter what the next message contains.
    let other = json!({"profile": {"first_name": "Eve"}});
    web.post(
        "/v1/users/ada/messages",
        json!({"text": "again", "open": other}),
    )
    .await
    .expect(201);

    let opening = only_opening(&app.cloud);
    assert_eq!(
        opening[0]["body"]["authenticatedData"]["lp_sdes"],
        json!([{"type": "personal", "personal": {"firstname": "Ada"}}])
    );
    assert_eq!(
        opening[1],
        request(
            "cm.ConsumerRequestConversation",
            &json!({"brandId": ACCOUNT, "channelType": "MESSAGING", "skillId": "-1"})
        )
    );
}

async fn tokens_and_ids_are_sent_in_the_headers_of_the_cloud(engine: Engine) {
    let app = TestApp::start(engine).await;
    let request = app
        .sms
        .request(reqwest::Method::POST, "/v1/users/ada/messages")
        .header("content-type", "application/json")
        .header("x-request-id", "request-1")
        .header(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        .body(r#"{"text": "hello"}"#);

    let reply = crate::support::channel::send(request).await;

    assert_eq!(reply.headers["x-request-id"], "request-1");
    reply.expect(201);
    for request in app.cloud.sandbox.requests() {
        let operation = request.operation.unwrap();
        assert_eq!(
            request.header("x-request-id"),
            Some("request-1"),
            "{operation:?}"
        );
        let traceparent = request.header("traceparent").unwrap();
        assert!(traceparent.starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    }
    let send = app.cloud.requests(Operation::Send).pop().unwrap();
    let authorization = send.header("authorization").unwrap();
    assert!(authorization.starts_with("ey"), "a raw AppJWT, no Bearer");
    assert!(send.header("x-lp-on-behalf").unwrap().starts_with("ey"));
    assert_eq!(send.query, "v=3");
    assert!(send.path.ends_with("/messaging/consumer/conversation/send"));
}
