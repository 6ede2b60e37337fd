//! The contents, receivers, signatures and order of notifications.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::*;

const START: i64 = 1_800_000_000_000;

/// Returns the expected signature of a body, computed without the sandbox's code.
fn expected_signature(name: &str, algorithm: hmac::Algorithm, secret: &str, body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(algorithm, secret.as_bytes()), body);
    format!("{name}={}", BASE64_STANDARD.encode(tag.as_ref()))
}

fn conversation_details(got: &ReceivedRequest) -> &Value {
    assert_eq!(got.body["type"], "cqm.ExConversationChangeNotification");
    &got.change()["result"]["conversationDetails"]
}

#[tokio::test]
async fn an_opening_is_reported_with_the_whole_conversation_state() {
    let (cloud, receiver) = Cloud::with_receiver(Retry::default()).await;

    let tokens = cloud.tokens("u-1").await;
    let opening = json!({"skillId": "2736637412", "ttrDefName": "URGENT"});
    let answer = cloud
        .open_with(&tokens, None, &batch(&json!({}), &opening))
        .await;
    let id = conversation_id(&answer);
    let got = receiver.wait_for(1).await;

    let consumer = &cloud.conversation(&id).consumer.lp_consumer_id;
    let expected = json!({
        "kind": "notification",
        "type": "cqm.ExConversationChangeNotification",
        "body": {"changes": [{"type": "UPSERT", "result": {
            "convId": id,
            "effectiveTTR": START + 300_000,
            "conversationDetails": {
                "skillId": "2736637412",
                "participants": [{"id": consumer, "role": "CONSUMER"}],
                "dialogs": [{
                    "dialogId": id,
                    "participantsDetails": [{"id": consumer, "role": "CONSUMER", "state": "ACTIVE"}],
                    "dialogType": "MAIN",
                    "channelType": "MESSAGING",
                    "state": "OPEN",
                    "creationTs": START,
                    "metaDataLastUpdateTs": START,
                }],
                "brandId": ACCOUNT,
                "state": "OPEN",
                "stage": "OPEN",
                "startTs": START,
                "metaDataLastUpdateTs": START,
                "ttr": {"ttrType": "URGENT", "value": 300},
                "conversationHandlerDetails": {"accountId": ACCOUNT, "skillId": "2736637412"},
            },
        }}]},
    });
    assert_eq!(got[0].body, expected);
}

#[tokio::test]
async fn each_change_is_reported_with_the_whole_state_and_a_later_time() {
    let (cloud, receiver) = Cloud::with_receiver(Retry::default()).await;
    let (_, id) = cloud.opened("u-1").await;

    for action in [
        Action::Join {},
        Action::Transfer {
            skill: "558327413".to_owned(),
        },
        Action::Join {},
    ] {
        cloud.sandbox.act(&id, action).unwrap();
    }
    cloud.advance(60);
    cloud.sandbox.act(&id, Action::Close {}).unwrap();
    let got = receiver.wait_for(5).await;

    let details: Vec<_> = got.iter().map(conversation_details).collect();
    let updated: Vec<_> = details
        .iter()
        .map(|details| details["metaDataLastUpdateTs"].as_i64().unwrap())
        .collect();
    assert_eq!(
        updated,
        [START, START + 1, START + 2, START + 3, START + 60_000]
    );
    let agents: Vec<_> = details.iter().map(|d| &d["participants"][1]).collect();
    assert_eq!(agents[1]["role"], "ASSIGNED_AGENT");
    assert_eq!(agents[2], &Value::Null, "a transfer removes the agent");
    assert_ne!(
        agents[1]["id"], agents[3]["id"],
        "another skill has another agent"
    );
    let skills: Vec<_> = details.iter().map(|d| &d["skillId"]).collect();
    assert_eq!(skills, ["-1", "-1", "558327413", "558327413", "558327413"]);
    let in_dialog = &details[1]["dialogs"][0]["participantsDetails"][1];
    assert_eq!(in_dialog["id"], agents[1]["id"]);
    let last = details[4];
    assert_eq!(
        [&last["state"], &last["stage"], &last["closeReason"]],
        ["CLOSE", "CLOSE", "AGENT"]
    );
    assert_eq!(last["endTs"], START + 60_000);
    assert_eq!(got[4].change()["result"]["effectiveTTR"], -1);
    let dialog = &last["dialogs"][0];
    assert_eq!([&dialog["state"], &dialog["closedBy"]], ["CLOSE", "AGENT"]);
    assert_eq!(dialog["endTs"], START + 60_000);
    assert_eq!(details[3].get("endTs"), None);
}

#[tokio::test]
async fn changes_by_the_consumer_are_reported() {
    let (cloud, receiver) = Cloud::with_receiver(Retry::default()).await;
    let (tokens, id) = cloud.opened("u-1").await;

    let urgency = json!({"field": "TTRField", "ttrType": "URGENT", "value": 120});
    cloud.send(&tokens, &update(&id, &urgency)).await;
    cloud.send(&tokens, &close(&id)).await;
    let rating = json!({
        "field": "CSATRate", "csatRate": 5, "csatResolutionConfirmation": true, "status": "FILLED",
    });
    cloud.send(&tokens, &update(&id, &rating)).await;
    let got = receiver.wait_for(4).await;

    let details: Vec<_> = got.iter().map(conversation_details).collect();
    assert_eq!(
        details[1]["ttr"],
        json!({"ttrType": "URGENT", "value": 120})
    );
    assert_eq!(details[2]["closeReason"], "CONSUMER");
    assert_eq!(details[2].get("csat"), None);
    let csat = json!({"csatRate": 5, "csatResolutionConfirmation": true, "status": "FILLED"});
    assert_eq!(details[3]["csat"], csat);
}

#[tokio::test]
async fn a_profile_change_is_not_reported() {
    let (cloud, receiver) = Cloud::with_receiver(Retry::default()).await;
    let (tokens, id) = cloud.opened("u-1").await;

    let profile =
        json!({"kind": "req", "id": "1", "type": "userprofile.SetUserProfile", "body": {}});
    assert_eq!(cloud.send(&tokens, &profile).await.status, StatusCode::OK);
    cloud.send_text(&tokens, &id, "after it").await;
    let got = receiver.wait_for(2).await;

    assert_eq!(texts(&got), ["after it"]);
    assert_eq!(got.len(), 2);
}

#[tokio::test]
async fn the_consumers_own_events_are_echoed() {
    let (cloud, receiver) = Cloud::with_receiver(Retry::default()).await;
    let (tokens, id) = cloud.opened("u-1").await;

    let mut tagged = text(&id, "Hello 👍");
    tagged["metadata"] = json!([{"type": "ExternalId", "id": "mine"}]);
    cloud.send(&tokens, &tagged).await;
    let typing = json!({"type": "ChatStateEvent", "chatState": "COMPOSING"});
    cloud.send(&tokens, &publish(&id, &typing)).await;
    let read = json!({"type": "AcceptStatusEvent", "status": "READ", "sequenceList": [0]});
    cloud.send(&tokens, &publish(&id, &read)).await;
    let got = receiver.wait_for(4).await;

    let consumer = cloud.conversation(&id).consumer.lp_consumer_id;
    let common = json!({
        "originatorId": consumer,
        "originatorMetadata": {"id": consumer, "role": "CONSUMER"},
        "conversationId": id,
        "dialogId": id,
        "messageAudience": "ALL",
    });
    let with = |members: Value| {
        let mut change = common.clone();
        let members = members.as_object().unwrap().clone();
        change.as_object_mut().unwrap().extend(members);
        change
    };
    let events = &got[1..];
    assert!(
        events
            .iter()
            .all(|got| got.body["type"] == "ms.MessagingEventNotification")
    );
    let changes: Vec<_> = events.iter().map(|got| got.change().clone()).collect();
    let content =
        json!({"type": "ContentEvent", "contentType": "text/plain", "message": "Hello 👍"});
    let expected = [
        with(json!({
            "sequence": 0, "serverTimestamp": START, "event": content, "metadata": tagged["metadata"],
        })),
        with(json!({"event": typing})),
        with(json!({"sequence": 1, "serverTimestamp": START, "event": read})),
    ];
    assert_eq!(changes, expected);
}

#[tokio::test]
async fn every_notification_is_signed_over_its_bytes() {
    let (cloud, receiver) = Cloud::with_receiver(Retry::default()).await;
    let (tokens, id) = cloud.opened("u-1").await;
    cloud.send_text(&tokens, &id, "Grüße 👍").await;
    cloud.settled().await;

    cloud.sandbox.subscribe(Webhook {
        algorithm: Algorithm::Sha256,
        ..receiver.webhook(Retry::default())
    });
    cloud.send_text(&tokens, &id, "Grüße 👍").await;
    let got = receiver.wait_for(3).await;

    let legacy = hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;
    for (got, name, algorithm) in [
        (&got[0], "sha1", legacy),
        (&got[1], "sha1", legacy),
        (&got[2], "sha256", hmac::HMAC_SHA256),
    ] {
        let expected = expected_signature(name, algorithm, SECRET, &got.raw);
        assert_eq!(got.header("x-liveperson-signature"), expected);
        assert_eq!(got.header("x-liveperson-account-id"), ACCOUNT);
        assert_eq!(got.header("x-liveperson-client-id"), CLIENT);
        assert_eq!(got.header("content-type"), "application/json");
    }
}

#[tokio::test]
async fn notifications_of_a_conversation_arrive_in_order() {
    let (cloud, receiver) = Cloud::with_receiver(Retry::default()).await;
    let mut conversations = Vec::new();
    for name in ["u-1", "u-2", "u-3"] {
        conversations.push(cloud.opened(name).await);
    }

    for number in 0..20 {
        for (tokens, id) in &conversations {
            cloud.send_text(tokens, id, &number.to_string()).await;
            let agent = Action::text(format!("answer to {number}"));
            cloud.sandbox.act(id, agent).unwrap();
        }
    }
    cloud.settled().await;

    let got = receiver.got();
    for (_, id) in &conversations {
        let messages = got.iter().filter(|got| {
            got.change()["conversationId"] == **id && got.change()["event"].is_object()
        });
        let sequences: Vec<_> = messages
            .map(|got| got.change()["sequence"].clone())
            .collect();
        assert_eq!(sequences, (0..40).map(Value::from).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_subscriber_receives_only_later_notifications_of_its_account() {
    let receivers = [
        Receiver::start().await,
        Receiver::start().await,
        Receiver::start().await,
    ];
    let [first, second, elsewhere] = &receivers;
    let cloud = Cloud::with(Options {
        webhooks: vec![first.webhook(Retry::default())],
        ..Options::default()
    });
    let (tokens, id) = cloud.opened("u-1").await;
    cloud.send_text(&tokens, &id, "before").await;

    cloud.sandbox.subscribe(Webhook {
        client_id: "another app".to_owned(),
        client_secret: "with another secret".to_owned().into(),
        ..second.webhook(Retry::default())
    });
    cloud.sandbox.subscribe(Webhook {
        account_id: "le2".to_owned(),
        ..elsewhere.webhook(Retry::default())
    });
    cloud.send_text(&tokens, &id, "after").await;
    cloud.settled().await;

    assert_eq!(texts(&first.got()), ["before", "after"]);
    assert_eq!(texts(&second.got()), ["after"]);
    assert_eq!(second.got().len(), 1);
    assert!(elsewhere.got().is_empty());
    let signature = expected_signature(
        "sha1",
        hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        "with another secret",
        &second.got()[0].raw,
    );
    assert_eq!(second.got()[0].header("x-liveperson-signature"), signature);
}

#[tokio::test]
async fn a_private_message_is_marked_as_not_for_the_consumer() {
    let (cloud, receiver) = Cloud::with_receiver(Retry::default()).await;
    let (_, id) = cloud.opened("u-1").await;

    let private = crate::agent::Text {
        private: true,
        ..crate::agent::Text::new("He is angry")
    };
    cloud.sandbox.act(&id, Action::Text(private)).unwrap();
    let got = receiver.wait_for(3).await;

    assert_eq!(got[2].change()["messageAudience"], "AGENTS_AND_MANAGERS");
}
