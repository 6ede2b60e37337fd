//! Other actions of a user: profile, choices, rating, requests of any type, and erasure.

use liveperson_bridge::sandbox::{Fault, Operation};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::channel::{Reply, send};
use crate::support::configuration::{APP_KEY, WHATSAPP_KEY};
use crate::support::database::Engine;

on_both_engines!(
    a_profile_is_sent_at_once_and_again_with_the_next_opening,
    a_profile_replaces_the_stored_one_but_an_opening_merges_it,
    a_profile_is_not_stored_when_the_cloud_fails,
    a_choice_is_sent_as_an_action_event_and_a_text,
    a_rating_is_taken_after_the_close,
    a_request_of_any_type_has_its_ids_filled_in,
    a_request_of_any_type_needs_a_conversation,
    an_erased_user_leaves_no_data_behind,
    erasure_does_not_affect_other_users_and_namespaces,
);

fn sends(app: &TestApp) -> Vec<Value> {
    app.cloud.bodies(Operation::Send)
}

async fn erase(app: &TestApp, path: &str) -> Reply {
    send(app.sms.request(Method::DELETE, path)).await
}

async fn a_profile_is_sent_at_once_and_again_with_the_next_opening(engine: Engine) {
    let app = TestApp::start(engine).await;
    let profile = json!({"first_name": "Ada", "customer": {"type": "vip"}});
    let attributes = json!([
        {"type": "ctmrinfo", "info": {"ctype": "vip"}},
        {"type": "personal", "personal": {"firstname": "Ada"}},
    ]);
    app.sms.say("ada", "hello").await.expect(201);

    let reply = app.sms.put("/v1/users/ada/profile", profile.clone()).await;

    assert_eq!(reply.expect(200), profile);
    let request = sends(&app).pop().unwrap();
    assert_eq!(request["type"], "userprofile.SetUserProfile");
    assert_eq!(request["body"]["authenticatedData"]["lp_sdes"], attributes);
    let close = "/v1/users/ada/conversation/close";
    app.sms.post(close, json!({})).await.expect(200);
    app.sms.say("ada", "again").await.expect(201);
    let opening = app.cloud.bodies(Operation::Conversation).pop().unwrap();
    assert_eq!(
        opening[0]["body"]["authenticatedData"]["lp_sdes"],
        attributes
    );
}

async fn a_profile_replaces_the_stored_one_but_an_opening_merges_it(engine: Engine) {
    let app = TestApp::start(engine).await;
    let path = "/v1/users/ada/profile";
    let first = json!({"first_name": "Ada", "company": "Engines"});
    app.sms.put(path, first).await.expect(200);
    let second = json!({"first_name": "Augusta", "customer": {"type": "vip"}});
    app.sms.put(path, second.clone()).await.expect(200);
    let stored_profile = async || app.sms.get("/v1/users/ada").await.expect(200)["profile"].take();
    assert_eq!(stored_profile().await, second);

    let open = json!({"profile": {"last_name": "Byron", "customer": {"role": "countess"}}});
    let path = "/v1/users/ada/conversation";
    app.sms.post(path, open).await.expect(201);

    let merged = json!({
        "first_name": "Augusta", "last_name": "Byron", "customer": {"type": "vip", "role": "countess"},
    });
    assert_eq!(stored_profile().await, merged);
}

async fn a_profile_is_not_stored_when_the_cloud_fails(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "hello").await.expect(201);
    app.cloud.sandbox.inject(Fault::status(
        Operation::Send,
        StatusCode::SERVICE_UNAVAILABLE,
    ));

    let path = "/v1/users/ada/profile";
    let refused = app.sms.put(path, json!({"first_name": "Ada"})).await;

    refused.expect_problem(503, "cloud-unavailable");
    let user = app.sms.get("/v1/users/ada").await.expect(200);
    assert_eq!(user["profile"], json!({}));
}

async fn a_choice_is_sent_as_an_action_event_and_a_text(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "hello").await.expect(201);
    let metadata = json!([{"type": "ExternalId", "id": "Y1"}]);

    let reply = app
        .sms
        .post(
            "/v1/users/ada/messages",
            json!({"text": "yes", "reply_to": {"sequence": 4, "metadata": metadata}}),
        )
        .await
        .expect(201);

    let sends = sends(&app);
    let [_, choice, text] = &sends[..] else {
        panic!("{sends:#?}");
    };
    let event = json!({"type": "AcceptStatusEvent", "status": "ACTION", "sequenceList": [4]});
    assert_eq!(choice["body"]["event"], event);
    assert_eq!(choice["metadata"], metadata);
    assert_eq!(text["body"]["event"]["message"], "yes");
    assert_eq!(text["metadata"], metadata);
    // The choice took a sequence of its own.
    assert_eq!(reply["sequence"], 2);
}

async fn a_rating_is_taken_after_the_close(engine: Engine) {
    let app = TestApp::start(engine).await;
    let path = "/v1/users/ada/conversation/rating";
    let rating = json!({"csat": 5, "fcr": "yes"});
    let refused = app.sms.put(path, rating.clone()).await;
    refused.expect_problem(404, "conversation-not-found");
    app.sms.say("ada", "hello").await.expect(201);
    let refused = app.sms.put(path, rating.clone()).await;
    refused.expect_problem(409, "conversation-open");
    let close = "/v1/users/ada/conversation/close";
    app.sms.post(close, json!({})).await.expect(200);

    for (rating, field) in [
        (
            rating,
            json!({"field": "CSATRate", "csatRate": 5, "csatResolutionConfirmation": true, "status": "FILLED"}),
        ),
        (
            json!({"csat": 1, "status": "partially_filled"}),
            json!({"field": "CSATRate", "csatRate": 1, "status": "PARTIALLY_FILLED"}),
        ),
        (
            json!({"status": "skipped"}),
            json!({"field": "CSATRate", "status": "SKIPPED"}),
        ),
    ] {
        app.sms.put(path, rating).await.expect(204);
        assert_eq!(app.cloud.only_conversation().csat, Some(field));
    }
    for bad in [
        json!({"csat": 6}),
        json!({}),
        json!({"csat": 5, "fcr": true}),
    ] {
        let refused = app.sms.put(path, bad).await;
        refused.expect_problem(422, "invalid-request");
    }
}

async fn a_request_of_any_type_has_its_ids_filled_in(engine: Engine) {
    let app = TestApp::start(engine).await;
    let path = "/v1/users/ada/send";
    let sent = app.sms.say("ada", "hello").await.expect(201);
    let id = &sent["conversation_id"];

    let field = json!({"field": "TTRField", "ttrType": "URGENT", "value": 300});
    let body = json!({"conversationField": field});
    let update = json!({"type": "cm.UpdateConversationField", "body": body});
    let answer = app.sms.post(path, update).await.expect(200);
    let event = json!({"type": "ContentEvent", "contentType": "text/plain", "message": "raw"});
    let metadata = json!([{"type": "ExternalId", "id": "1"}]);
    let publish =
        json!({"type": "ms.PublishEvent", "body": {"event": event}, "metadata": metadata});
    let published = app.sms.post(path, publish).await.expect(200);

    assert_eq!(answer["code"], "OK");
    assert_eq!(app.cloud.only_conversation().ttr, Some(field));
    let last = sends(&app).pop().unwrap();
    assert_eq!(&last["body"]["dialogId"], id);
    assert_eq!(&last["body"]["conversationId"], id);
    assert_eq!(last["metadata"], metadata);
    assert_eq!(published["body"]["sequence"], 1);
    let unknown = json!({"type": "cm.Unknown", "body": {}});
    let refused = app.sms.post(path, unknown).await;
    let problem = refused.expect_problem(422, "cloud-refused");
    assert_eq!(problem["upstream"]["code"], "BAD_REQUEST");
}

async fn a_request_of_any_type_needs_a_conversation(engine: Engine) {
    let app = TestApp::start(engine).await;

    let raw = json!({"type": "ms.PublishEvent", "body": {"event": {}}});
    let refused = app.sms.post("/v1/users/ada/send", raw).await;

    refused.expect_problem(409, "no-open-conversation");
}

async fn an_erased_user_leaves_no_data_behind(engine: Engine) {
    let app = TestApp::start(engine).await;
    let profile = json!({"first_name": "marker-name", "contacts": [{"phone": "marker-phone"}]});
    let open = json!({"text": "marker-text", "open": {"profile": profile}});
    let path = "/v1/users/marker-user";
    let request = app
        .sms
        .request(Method::POST, &format!("{path}/messages"))
        .header("content-type", "application/json")
        .header("idempotency-key", "marker-key")
        .body(open.to_string());
    let sent = send(request).await.expect(201);
    let before = app.database.dump().await;
    let answer = sent["id"].as_str().unwrap();
    for marker in ["marker-user", "marker-name", "marker-phone", answer] {
        assert!(before.contains(marker), "the scan finds no {marker}");
    }

    erase(&app, path).await.expect(204);

    let closed = app.cloud.only_conversation();
    assert_eq!(closed.close_reason.as_deref(), Some("CONSUMER"));
    let after = app.database.dump().await;
    let id = sent["conversation_id"].as_str().unwrap();
    for marker in [
        "marker",
        answer,
        id,
        closed.consumer.lp_consumer_id.as_str(),
    ] {
        assert!(!after.contains(marker), "{marker} is still there");
    }
    app.sms
        .get(path)
        .await
        .expect_problem(404, "user-not-found");
    // Erasing is repeatable, also for a user that never existed.
    erase(&app, path).await.expect(204);
    erase(&app, "/v1/users/nobody").await.expect(204);
    // The person may come back as a new user.
    app.sms.say("marker-user", "hello").await.expect(201);
}

async fn erasure_does_not_affect_other_users_and_namespaces(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "hello").await.expect(201);
    app.sms.say("bob", "hello").await.expect(201);
    let apps = app.sms.with_key(APP_KEY);
    apps.say("ada", "hello").await.expect(201);

    // Any channel of the namespace may erase the user.
    let whatsapp = app.sms.with_key(WHATSAPP_KEY);
    send(whatsapp.request(Method::DELETE, "/v1/users/ada"))
        .await
        .expect(204);

    app.sms.get("/v1/users/ada").await.expect(404);
    app.sms.get("/v1/users/bob").await.expect(200);
    apps.get("/v1/users/ada").await.expect(200);
}
