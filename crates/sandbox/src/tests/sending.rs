//! SEND.

use super::*;
use crate::{Behaviour, Stage};

fn accept(conversation: &str, sequences: &Value) -> Value {
    let event = json!({"type": "AcceptStatusEvent", "status": "READ", "sequenceList": sequences});
    publish(conversation, &event)
}

fn chat_state(conversation: &str, state: &str) -> Value {
    publish(
        conversation,
        &json!({"type": "ChatStateEvent", "chatState": state}),
    )
}

fn sequence(answer: &Answer) -> u64 {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    answer.body["body"]["sequence"].as_u64().unwrap()
}

/// Creates a consumer with an open conversation.
async fn opened() -> (Cloud, Tokens, String) {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    let id = cloud.open(&tokens).await;
    (cloud, tokens, id)
}

#[tokio::test]
async fn content_and_accept_statuses_get_a_sequence_but_chat_states_do_not() {
    let (cloud, tokens, id) = opened().await;

    let answer = cloud.send(&tokens, &text(&id, "Hello")).await;
    answer.assert(
        200,
        json!({"code": "OK", "body": {"sequence": 0}, "reqId": "p"}),
    );
    for state in ["ACTIVE", "INACTIVE", "GONE", "COMPOSING", "PAUSE"] {
        assert_eq!(
            sequence(&cloud.send(&tokens, &chat_state(&id, state)).await),
            0
        );
    }
    assert_eq!(
        sequence(&cloud.send(&tokens, &accept(&id, &json!([0, 7]))).await),
        1
    );
    let mut tagged = text(&id, "Yes");
    tagged["metadata"] = json!([{"type": "ExternalId", "id": "Y1"}]);
    assert_eq!(sequence(&cloud.send(&tokens, &tagged).await), 2);

    let events = cloud.conversation(&id).dialogs[0].events.clone();
    let sequences: Vec<_> = events.iter().map(|e| e.sequence).collect();
    assert_eq!(
        sequences,
        [Some(0), None, None, None, None, None, Some(1), Some(2)]
    );
    assert_eq!(events[0].event["message"], "Hello");
    assert_eq!(events[0].request_id.as_deref(), Some("p"));
    assert_eq!(events[7].metadata, Some(tagged["metadata"].clone()));
}

#[tokio::test]
async fn every_accept_status_can_be_sent() {
    let (cloud, tokens, id) = opened().await;

    for (index, status) in (0..).zip(["ACCEPT", "READ", "ACCESS", "NACK", "ACTION"]) {
        let mut request = accept(&id, &json!([0]));
        request["body"]["event"]["status"] = json!(status);
        assert_eq!(sequence(&cloud.send(&tokens, &request).await), index);
    }
}

#[tokio::test]
async fn each_conversation_has_its_own_sequences() {
    let (cloud, ada, first) = opened().await;
    let bob = cloud.tokens("bob").await;
    let second = cloud.open(&bob).await;

    cloud.send(&ada, &text(&first, "one")).await;
    let answer = cloud.send(&bob, &text(&second, "one")).await;

    assert_eq!(sequence(&answer), 0);
}

#[tokio::test]
async fn refusal_of_a_malformed_event_names_the_member() {
    let (cloud, tokens, id) = opened().await;

    let cases = [
        (
            json!({"type": "TextEvent"}),
            "body.event.type: unknown variant `TextEvent`",
        ),
        (
            json!({"type": "ContentEvent", "message": "x"}),
            "body.event: missing field `contentType`",
        ),
        (
            json!({"type": "ContentEvent", "contentType": "text/html", "message": "x"}),
            "body.event.contentType: unknown variant",
        ),
        (
            json!({"type": "ContentEvent", "contentType": "text/plain", "message": {"text": "x"}}),
            "body.event.message: invalid type: map",
        ),
        (
            json!({"type": "ContentEvent", "contentType": "text/plain", "message": "x", "text": "x"}),
            "unknown field `text`",
        ),
        (
            json!({"type": "ContentEvent", "contentType": "hosted/file", "message": {"fileType": "PNG"}}),
            "body.event.message: missing field `relativePath`",
        ),
        (
            json!({"type": "ContentEvent", "contentType": "hosted/file", "message": {
                "relativePath": "/v1/a.PDF", "fileType": "PDF"}}),
            "body.event.message.fileType: `PDF`, expected `JPG`",
        ),
        (
            json!({"type": "ChatStateEvent", "chatState": "TYPING"}),
            "body.event.chatState: unknown variant `TYPING`",
        ),
        (
            json!({"type": "AcceptStatusEvent", "status": "SEEN", "sequenceList": [1]}),
            "body.event.status: unknown variant `SEEN`",
        ),
        (
            json!({"type": "AcceptStatusEvent", "status": "READ", "sequenceList": []}),
            "body.event.sequenceList: empty",
        ),
        (
            json!({"type": "AcceptStatusEvent", "status": "READ", "sequenceList": ["1"]}),
            "body.event.sequenceList[0]: invalid type: string",
        ),
        (
            json!({"type": "AcceptStatusEvent", "status": "READ"}),
            "body.event: missing field `sequenceList`",
        ),
    ];
    for (event, expected) in cases {
        let answer = cloud.send(&tokens, &publish(&id, &event)).await;
        assert_eq!(answer.body["code"], "BAD_REQUEST");
        assert_eq!(answer.body["reqId"], "p");
        answer.assert_complaint(400, expected);
    }
    assert!(cloud.conversation(&id).dialogs[0].events.is_empty());
}

#[tokio::test]
async fn a_message_must_name_a_dialog_of_its_conversation() {
    let (cloud, tokens, id) = opened().await;
    let mut no_dialog = text(&id, "x");
    no_dialog["body"]
        .as_object_mut()
        .unwrap()
        .remove("dialogId");
    let mut no_conversation = text(&id, "x");
    no_conversation["body"]
        .as_object_mut()
        .unwrap()
        .remove("conversationId");
    let mut other = text(&id, "x");
    other["body"]["conversationId"] = json!("other");

    let without_dialog = cloud.send(&tokens, &no_dialog).await;
    let with_other = cloud.send(&tokens, &other).await;
    let without_conversation = cloud.send(&tokens, &no_conversation).await;

    without_dialog.assert_complaint(400, "body: missing field `dialogId`");
    with_other.assert_complaint(400, "body.conversationId: `other`");
    assert_eq!(sequence(&without_conversation), 0);
}

#[tokio::test]
async fn a_batch_or_an_unknown_request_is_refused() {
    let (cloud, tokens, id) = opened().await;
    let mut unknown = text(&id, "x");
    unknown["type"] = json!("ms.Publish");

    let array = cloud.send(&tokens, &json!([text(&id, "x")])).await;
    let unknown = cloud.send(&tokens, &unknown).await;

    array.assert_complaint(400, "id: missing");
    unknown.assert_complaint(400, "type: `ms.Publish`, expected `ms.PublishEvent`");
}

#[tokio::test]
async fn a_conversation_of_another_consumer_is_unauthorized_and_an_unknown_one_not_found() {
    let (cloud, _, id) = opened().await;
    let bob = cloud.tokens("bob").await;

    let foreign = cloud.send(&bob, &text(&id, "x")).await;
    let foreign_close = cloud.send(&bob, &close(&id)).await;
    let unknown = cloud.send(&bob, &text("nowhere", "x")).await;

    foreign.assert_complaint(401, "belongs to another consumer");
    foreign_close.assert_complaint(401, "belongs to another consumer");
    unknown.assert_complaint(404, "body.dialogId: there is no conversation `nowhere`");
}

#[tokio::test]
async fn a_request_of_more_than_5000_characters_is_refused() {
    let (cloud, tokens, id) = opened().await;
    let frame = text(&id, "").to_string().len();
    // Two bytes, one character.
    let longest = "é".repeat(5000 - frame);

    let fits = cloud.send(&tokens, &text(&id, &longest)).await;
    let too_long = cloud
        .send(&tokens, &text(&id, &format!("{longest}x")))
        .await;

    assert_eq!(sequence(&fits), 0);
    too_long.assert(
        400,
        json!({"code": "BAD_REQUEST", "body": {"msg": "Bad Request"}, "reqId": "p"}),
    );
}

#[tokio::test]
async fn state_and_stage_fields_close_a_conversation_as_object_or_array() {
    for field in ["ConversationStateField", "Stage"] {
        for array in [false, true] {
            let (cloud, tokens, id) = opened().await;
            let element = json!({"field": field, "conversationState": "CLOSE"});
            let field = if array { json!([element]) } else { element };

            let answer = cloud.send(&tokens, &update(&id, &field)).await;

            let body = json!({"msg": "OK Conversation resolved successfully"});
            answer.assert(200, json!({"code": "OK", "body": body, "reqId": "u"}));
            let conversation = cloud.conversation(&id);
            assert_eq!(
                (conversation.state, conversation.stage),
                (Stage::Close, Stage::Close)
            );
            assert_eq!(conversation.close_reason.as_deref(), Some("CONSUMER"));
        }
    }
}

#[tokio::test]
async fn a_closed_conversation_takes_nothing_but_a_rating() {
    let (cloud, tokens, id) = opened().await;
    assert!(cloud.sandbox.close_conversation(&id, "AGENT"));
    let urgency = update(
        &id,
        &json!({"field": "TTRField", "ttrType": "URGENT", "value": 300}),
    );

    for request in [
        text(&id, "x"),
        chat_state(&id, "ACTIVE"),
        close(&id),
        urgency,
    ] {
        let answer = cloud.send(&tokens, &request).await;
        let body = json!({"msg": "Bad Request, Conversation is close"});
        answer.assert(
            400,
            json!({"code": "BAD_REQUEST", "body": body, "reqId": request["id"]}),
        );
    }
    let rating = json!({"field": "CSATRate", "csatRate": 5, "csatResolutionConfirmation": true, "status": "FILLED"});
    let rated = cloud.send(&tokens, &update(&id, &rating)).await;

    assert_eq!(rated.status, StatusCode::OK);
    assert_eq!(cloud.conversation(&id).csat, Some(rating));
}

#[tokio::test]
async fn a_closed_conversation_refuses_with_status_200_if_configured() {
    let (cloud, tokens, id) = opened().await;
    cloud.sandbox.set_behaviour(Behaviour {
        closed_status: StatusCode::OK,
        ..Behaviour::default()
    });
    cloud.send(&tokens, &close(&id)).await;

    let answer = cloud.send(&tokens, &text(&id, "x")).await;

    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body["code"], "BAD_REQUEST");
}

#[tokio::test]
async fn the_urgency_of_an_open_conversation_can_be_set() {
    let (cloud, tokens, id) = opened().await;
    let field = json!({"field": "TTRField", "ttrType": "URGENT", "value": 300});

    let answer = cloud.send(&tokens, &update(&id, &json!([field]))).await;

    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(cloud.conversation(&id).ttr, Some(field));
}

#[tokio::test]
async fn refusal_of_a_malformed_conversation_field_names_the_member() {
    let (cloud, tokens, id) = opened().await;

    let rating = |rate: Value| json!({"field": "CSATRate", "csatRate": rate, "csatResolutionConfirmation": true, "status": "FILLED"});
    let cases = [
        (
            json!({"field": "Skill"}),
            "body.conversationField.field: unknown variant `Skill`",
        ),
        (
            json!({"conversationState": "CLOSE"}),
            "body.conversationField: missing field `field`",
        ),
        (
            json!({"field": "Stage", "conversationState": "CLOSED"}),
            "body.conversationField.conversationState: unknown variant",
        ),
        (json!([]), "body.conversationField: an array of 0 elements"),
        (
            rating(json!("5")),
            "body.conversationField.csatRate: invalid type: string",
        ),
        (
            rating(json!(6)),
            "body.conversationField.csatRate: 6, expected 1 to 5",
        ),
        (
            rating(json!(null)),
            "body.conversationField.status: FILLED, expected both",
        ),
        (rating(json!(5)), "CSATRate is accepted after the close"),
        (
            json!({"field": "TTRField", "ttrType": "URGENT"}),
            "body.conversationField: missing field `value`",
        ),
        (
            json!({"field": "TTRField", "ttrType": "SOON", "value": 1}),
            "body.conversationField.ttrType: unknown variant",
        ),
    ];
    for (field, expected) in cases {
        let answer = cloud.send(&tokens, &update(&id, &field)).await;
        answer.assert_complaint(400, expected);
    }
    assert_eq!(cloud.conversation(&id).stage, Stage::Open);
}

#[tokio::test]
async fn a_skipped_rating_may_lack_its_values() {
    let (cloud, tokens, id) = opened().await;
    cloud.send(&tokens, &close(&id)).await;

    let skipped = json!({"field": "CSATRate", "csatRate": null, "status": "SKIPPED"});
    let answer = cloud.send(&tokens, &update(&id, &skipped)).await;

    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}

#[tokio::test]
async fn a_profile_can_be_set_with_send() {
    let (cloud, tokens, id) = opened().await;
    let profile = json!({"firstName": "Ada"});
    let set = |body: &Value| json!({"kind": "req", "id": 5, "type": "userprofile.SetUserProfile", "body": body});

    let answer = cloud.send(&tokens, &set(&profile)).await;
    let malformed = cloud
        .send(&tokens, &set(&json!({"firstname": "Ada"})))
        .await;

    let body = json!({"msg": "OK User Profile set successfully"});
    answer.assert(200, json!({"code": "OK", "body": body, "reqId": "5"}));
    malformed.assert_complaint(400, "unknown field `firstname`");
    assert_eq!(cloud.conversation(&id).profile, profile);
}

#[tokio::test]
async fn every_send_must_repeat_the_features_of_the_opening() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    let opening = cloud
        .open_with(&tokens, Some(FEATURES), &batch(&json!({}), &json!({})))
        .await;
    let id = conversation_id(&opening);
    let other = r#"{"type":".ClientProperties","features":["RICH_CONTENT"]}"#;

    let missing = cloud.post("/send", &tokens, None, &text(&id, "x")).await;
    let different = cloud
        .post("/send", &tokens, Some(other), &text(&id, "x"))
        .await;
    let same = cloud
        .post("/send", &tokens, Some(FEATURES), &text(&id, "x"))
        .await;

    missing.assert_complaint(
        400,
        "Client-Properties: missing, expected features {\"AUTO_MESSAGES\"}",
    );
    different.assert_complaint(400, "Client-Properties: features {\"RICH_CONTENT\"}");
    assert_eq!(sequence(&same), 0);
}

#[tokio::test]
async fn automatic_messages_expect_the_first_send_within_ten_seconds() {
    let cloud = Cloud::new();
    for (user, delay, complaints) in [("quick", 10, 0), ("slow", 11, 1)] {
        let tokens = cloud.tokens(user).await;
        let opening = cloud
            .open_with(&tokens, Some(FEATURES), &batch(&json!({}), &json!({})))
            .await;
        let id = conversation_id(&opening);

        cloud.advance(delay);
        let first = cloud
            .post("/send", &tokens, Some(FEATURES), &text(&id, "x"))
            .await;
        cloud.advance(60);
        let second = cloud
            .post("/send", &tokens, Some(FEATURES), &text(&id, "x"))
            .await;

        assert_eq!(
            (sequence(&first), sequence(&second)),
            (0, 1),
            "nothing is refused"
        );
        assert_eq!(cloud.conversation(&id).complaints.len(), complaints);
    }
}
