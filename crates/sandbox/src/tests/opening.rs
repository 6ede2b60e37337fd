//! CONVERSATION.

use super::*;
use crate::{Behaviour, Stage};

#[tokio::test]
async fn an_opening_answers_both_requests_in_order() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;

    let answer = cloud
        .open_with(&tokens, None, &batch(&json!({}), &json!({})))
        .await;

    let id = conversation_id(&answer);
    answer.assert(
        200,
        json!([
            {"code": "OK", "body": {"msg": "OK User Profile set successfully"}, "reqId": "1,"},
            {"code": "OK", "body": {"conversationId": id}, "reqId": "2,"},
        ]),
    );
}

#[tokio::test]
async fn a_conversation_holds_everything_that_its_opening_requested() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    let profile = json!({"authenticatedData": {"lp_sdes": [
        {"type": "ctmrinfo", "info": {
            "ctype": "vip", "cstatus": "active", "balance": -12.5, "currency": "EUR", "customerId": "c",
            "socialId": "s", "imei": "i", "userName": "ada", "companySize": 7, "companyBranch": "North",
            "accountName": "Acme", "role": "Director", "loginStatus": 1, "storeZipCode": "1", "storeNumber": "2",
            "lastPaymentDate": {"day": 1, "month": 2, "year": 2026},
            "registrationDate": {"day": 3, "month": 4, "year": 2020}}},
        {"type": "personal", "personal": {
            "firstname": "Ada", "lastname": "Byron", "company": "Acme", "gender": "FEMALE", "language": "en-US",
            "age": {"year": 1990, "month": 12, "day": 10},
            "contacts": [{"email": "a@example.com", "phone": "1", "phoneType": "MOBILE",
                "address": {"country": "GB", "region": "London"}}]},
            "auth": {"iss": "issuer", "amr": ["pwd"]}},
    ]}, "avatarUrl": "https://example.com/a.png", "privateData": {"mail": "a@example.com"}});
    let opening = json!({
        "channelType": "MESSAGING", "ttrDefName": null, "skillId": 2_736_637_412_u64,
        "campaignInfo": {"campaignId": "3244615612", "engagementId": 3_244_615_712_u64},
        "conversationContext": {"type": "SharkContext", "visitorId": "", "sessionId": "",
            "interactionContextId": "2", "lang": "en-US"},
    });

    let answer = cloud
        .open_with(&tokens, Some(FEATURES), &batch(&profile, &opening))
        .await;

    let conversation = cloud.conversation(&conversation_id(&answer));
    assert_eq!(conversation.consumer.account, ACCOUNT);
    assert_eq!(conversation.consumer.ext_consumer_id, "u-1");
    assert_eq!(
        (conversation.state, conversation.stage),
        (Stage::Open, Stage::Open)
    );
    assert_eq!(conversation.profile, profile);
    assert_eq!(
        conversation.request["campaignInfo"],
        opening["campaignInfo"]
    );
    assert_eq!(conversation.client_properties.as_deref(), Some(FEATURES));
    assert!(conversation.features.contains("AUTO_MESSAGES"));
    assert_eq!(conversation.dialogs.len(), 1);
    assert_eq!(conversation.dialogs[0].id, conversation.id);
}

#[tokio::test]
async fn request_ids_are_returned_as_strings() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    let mut batch = batch(&json!({}), &json!({}));
    batch[0]["id"] = json!(3);
    batch[1]["id"] = json!("x".repeat(64));

    let answer = cloud.open_with(&tokens, None, &batch).await;

    assert_eq!(answer.body[0]["reqId"], "3");
    assert_eq!(answer.body[1]["reqId"], "x".repeat(64));
}

#[tokio::test]
async fn refusal_of_a_second_opening_names_the_consumer() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    let id = cloud.open(&tokens).await;
    let profile = json!({"firstName": "Ada"});

    let refused = cloud
        .open_with(&tokens, None, &batch(&profile, &json!({})))
        .await;

    let consumer = cloud.conversation(&id).consumer.lp_consumer_id;
    let text = format!(
        "Consumer request conversation failed: User {consumer} already has open conversation. Can't open another one."
    );
    refused.assert(
        400,
        json!([
            {"code": "OK", "body": {"msg": "OK User Profile set successfully"}, "reqId": "1,"},
            {"code": "BAD_REQUEST", "body": {"msg": text}, "reqId": "2,"},
        ]),
    );
    assert_eq!(cloud.sandbox.conversations().len(), 1);
    assert_eq!(
        cloud.conversation(&id).profile,
        profile,
        "the profile is set anyway"
    );
}

#[tokio::test]
async fn a_second_opening_is_refused_with_status_200_if_configured() {
    let cloud = Cloud::with(Options {
        behaviour: Behaviour {
            already_open_status: StatusCode::OK,
            ..Behaviour::default()
        },
        ..Options::default()
    });
    let tokens = cloud.tokens("u-1").await;
    cloud.open(&tokens).await;

    let refused = cloud
        .open_with(&tokens, None, &batch(&json!({}), &json!({})))
        .await;

    assert_eq!(refused.status, StatusCode::OK);
    assert_eq!(refused.body[1]["code"], "BAD_REQUEST");
}

#[tokio::test]
async fn another_consumers_or_a_closed_conversation_does_not_block_an_opening() {
    let cloud = Cloud::new();
    let ada = cloud.tokens("ada").await;
    let bob = cloud.tokens("bob").await;

    let first = cloud.open(&ada).await;
    let of_bob = cloud.open(&bob).await;
    assert!(cloud.sandbox.close_conversation(&first, "AGENT"));
    let second = cloud.open(&ada).await;

    assert_ne!(first, of_bob);
    assert_ne!(first, second);
    assert!(
        !cloud.sandbox.close_conversation(&first, "AGENT"),
        "it is closed"
    );
    assert_eq!(
        cloud.conversation(&first).close_reason.as_deref(),
        Some("AGENT")
    );
    assert_eq!(cloud.conversation(&second).stage, Stage::Open);
}

#[tokio::test]
async fn a_missing_brand_id_is_error_40001() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    let mut batch = batch(&json!({}), &json!({}));
    batch[1]["body"].as_object_mut().unwrap().remove("brandId");

    let answer = cloud.open_with(&tokens, None, &batch).await;

    assert_eq!(answer.body["body"]["errorCode"], 40001);
    assert_eq!(answer.body["body"]["title"], "Missing parameter");
    answer.assert_complaint(400, "Brand Id is missing");
}

#[tokio::test]
async fn an_opening_batch_must_hold_two_requests_in_the_right_order() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    let good = batch(&json!({}), &json!({}));

    for wrong in [
        good[1].clone(),
        json!([good[0]]),
        json!([good[0], good[1], good[1]]),
    ] {
        let answer = cloud.open_with(&tokens, None, &wrong).await;
        answer.assert_complaint(400, "expected an array of two requests");
    }
    let reversed = cloud
        .open_with(&tokens, None, &json!([good[1], good[0]]))
        .await;
    let complaint = reversed.body[0]["body"]["msg"].as_str().unwrap();
    assert!(
        complaint.contains("[0].type: `cm.ConsumerRequestConversation`, expected"),
        "{complaint}"
    );
    assert!(cloud.sandbox.conversations().is_empty());
}

/// Returns the messages to the two requests of a refused batch.
async fn complaints(cloud: &Cloud, profile: &Value, opening: &Value) -> (String, String) {
    let tokens = cloud.tokens("u-1").await;
    let answer = cloud
        .open_with(&tokens, None, &batch(profile, opening))
        .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.body);
    assert!(cloud.sandbox.conversations().is_empty());
    let msg = |index: usize| {
        assert_eq!(answer.body[index]["code"], "BAD_REQUEST");
        answer.body[index]["body"]["msg"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    (msg(0), msg(1))
}

#[tokio::test]
async fn refusal_of_a_malformed_opening_names_the_member() {
    let cloud = Cloud::new();
    let cases = [
        (json!({"brandId": "other"}), "[1].body.brandId: `other`"),
        (
            json!({"brandId": 1}),
            "[1].body.brandId: invalid type: integer",
        ),
        (
            json!({"channelType": "SMS"}),
            "[1].body.channelType: unknown variant `SMS`",
        ),
        (
            json!({"ttrDefName": "normal"}),
            "[1].body.ttrDefName: unknown variant `normal`",
        ),
        (json!({"skillId": null}), "[1].body.skillId: null"),
        (
            json!({"skillId": true}),
            "[1].body.skillId: expected a string or an integer",
        ),
        (json!({"skill": "1"}), "unknown field `skill`"),
        (
            json!({"campaignInfo": {"campaignId": "1"}}),
            "[1].body.campaignInfo: missing field `engagementId`",
        ),
        (
            json!({"conversationContext": {"type": "Other"}}),
            "[1].body.conversationContext.type: unknown variant",
        ),
        (
            json!({"conversationContext": {"visitorId": 1}}),
            "[1].body.conversationContext.visitorId: invalid type",
        ),
    ];
    for (opening, expected) in cases {
        let (profile, complaint) = complaints(&cloud, &json!({}), &opening).await;
        assert!(
            complaint.contains(expected),
            "`{expected}` not in: {complaint}"
        );
        assert!(profile.contains("not applied"), "{profile}");
    }
}

#[tokio::test]
async fn refusal_of_a_malformed_profile_names_the_member() {
    let cloud = Cloud::new();
    let customer = |info: Value| json!({"type": "ctmrinfo", "info": info});
    let person = |personal: Value| json!({"type": "personal", "personal": personal});
    let cases = [
        (
            json!({"type": "cart"}),
            "type: unknown variant `cart`, expected `ctmrinfo` or `personal`",
        ),
        (
            json!({"type": "ctmrinfo", "personal": {}}),
            "expected the member `info` alone",
        ),
        (person(json!({"gender": 1})), "personal.gender: "),
        (
            person(json!({"gender": "female"})),
            "personal.gender: unknown variant `female`",
        ),
        (
            person(json!({"firstName": "Ada"})),
            "unknown field `firstName`, expected one of `firstname`",
        ),
        (person(json!({"age": 5})), "personal.age: invalid type"),
        (
            person(json!({"age": {"month": 1}})),
            "personal.age: expected `age`, or `year`",
        ),
        (
            person(json!({"contacts": {"email": "a"}})),
            "personal.contacts: invalid type",
        ),
        (
            person(json!({"contacts": [{"phoneType": "Mobile"}]})),
            "personal.contacts[0].phoneType: unknown variant",
        ),
        (person(json!({"lastname": null})), "personal.lastname: null"),
        (
            customer(json!({"balance": "1.5"})),
            "info.balance: invalid type: string",
        ),
        (
            customer(json!({"companySize": 1.5})),
            "info.companySize: invalid type: floating point",
        ),
        (
            customer(json!({"socialId": 42})),
            "info.socialId: invalid type: integer",
        ),
        (
            customer(json!({"lastPaymentDate": {"day": 1, "month": 2}})),
            "info.lastPaymentDate: missing field `year`",
        ),
        (
            customer(json!({"registrationDate": "2020-01-01"})),
            "info.registrationDate: invalid type",
        ),
    ];
    for (attribute, expected) in cases {
        let profile = json!({"authenticatedData": {"lp_sdes": [attribute]}});
        let (complaint, opening) = complaints(&cloud, &profile, &json!({})).await;
        assert!(
            complaint.contains("[0].body.authenticatedData.lp_sdes[0]"),
            "{complaint}"
        );
        assert!(
            complaint.contains(expected),
            "`{expected}` not in: {complaint}"
        );
        assert!(opening.contains("not applied"), "{opening}");
    }
}

#[tokio::test]
async fn refusal_of_a_malformed_envelope_names_the_member() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    let cases = [
        (
            "kind",
            json!("request"),
            "[0].kind: unknown variant `request`",
        ),
        ("id", json!(""), "[0].id: 0 characters, expected 1 to 64"),
        ("id", json!("x".repeat(65)), "[0].id: 65 characters"),
        ("id", json!({}), "[0].id: expected a string or an integer"),
        (
            "type",
            json!("userprofile.Set"),
            "[0].type: `userprofile.Set`, expected `userprofile.SetUserProfile`",
        ),
        ("body", json!([]), "[0].body: invalid type: sequence"),
        ("metadata", json!({}), "[0].metadata: invalid type: map"),
        (
            "metadata",
            json!([{"id": "1"}]),
            "[0].metadata[0]: missing field `type`",
        ),
        ("reqId", json!("1"), "unknown field `reqId`"),
    ];
    for (member, value, expected) in cases {
        let mut batch = batch(&json!({}), &json!({}));
        batch[0][member] = value;
        let answer = cloud.open_with(&tokens, None, &batch).await;
        let complaint = answer.body[0]["body"]["msg"].as_str().unwrap();
        assert!(
            complaint.contains(expected),
            "`{expected}` not in: {complaint}"
        );
    }
}

#[tokio::test]
async fn version_media_type_and_client_properties_are_checked() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    let path = format!("/api/account/{ACCOUNT}/messaging/consumer/conversation");
    let app = ("authorization", tokens.app.as_str());
    let consumer = ("x-lp-on-behalf", tokens.consumer.as_str());
    let body = batch(&json!({}), &json!({})).to_string();

    let no_version = cloud
        .call("POST", &path, &[JSON, app, consumer], body.clone())
        .await;
    let no_type = cloud
        .call("POST", &format!("{path}?v=3"), &[app, consumer], body)
        .await;

    no_version.assert_complaint(404, "v=3");
    no_type.assert_complaint(415, "Content-Type");
    let cases = [
        (
            "[object Object]",
            "Client-Properties: expected a JSON object",
        ),
        (
            r#"{"features":[]}"#,
            "Client-Properties: missing field `type`",
        ),
        (
            r#"{"type":".ClientProperties"}"#,
            "Client-Properties: missing field `features`",
        ),
        (
            r#"{"type":".ClientProperties","features":"AUTO_MESSAGES"}"#,
            "Client-Properties.features: invalid type",
        ),
        (
            r#"{"type":"Properties","features":[]}"#,
            "Client-Properties.type: unknown variant",
        ),
    ];
    for (header, expected) in cases {
        let answer = cloud
            .open_with(&tokens, Some(header), &batch(&json!({}), &json!({})))
            .await;
        answer.assert_complaint(400, expected);
    }
}
