use wiremock::matchers::header;

use super::*;
use crate::types::conversation::{Context, Routing, Urgency};
use crate::types::profile::Profile;

const MONITORING: &str = "/api/account/12345678/app/app/engagement";

fn parsed<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// Opens a conversation without any options.
async fn open(cloud: &Cloud) -> Result<ConversationId, Error> {
    open_with(cloud, None, None, None, None).await
}

async fn open_with(
    cloud: &Cloud,
    profile: Option<&Profile>,
    routing: Option<&Routing>,
    context: Option<&Context>,
    urgency: Option<Urgency>,
) -> Result<ConversationId, Error> {
    let opening = Opening {
        profile,
        routing,
        context,
        urgency,
        features: &cloud.features,
    };
    cloud
        .client
        .open(&cloud.consumer(), &opening, &cloud.trace)
        .await
}

/// Answers both parts of a batch, each under its own id, in the wrong order.
fn batch(status: u16, profile: Value, conversation: Value) -> impl Respond {
    move |request: &Request| {
        let sent: Value = request.body_json().unwrap();
        let part = |index: usize, answer: &Value| {
            let mut answer = answer.clone();
            answer["reqId"] = sent[index]["id"].clone();
            answer
        };
        ResponseTemplate::new(status).set_body_json([part(1, &conversation), part(0, &profile)])
    }
}

fn profile_set() -> Value {
    json!({"code": "OK", "body": {"msg": "OK User Profile set successfully"}})
}

fn opened() -> Value {
    json!({"code": "OK", "body": {"conversationId": CONV}})
}

/// Checks the ids in the batch that was sent, and returns the batch without them.
async fn sent(cloud: &Cloud) -> Value {
    let requests = cloud.requests_to(OPEN).await;
    let [request] = requests.as_slice() else {
        panic!("{requests:?}")
    };
    assert_eq!(request.url.query(), Some("v=3"));
    let mut body: Value = request.body_json().unwrap();
    let ids: Vec<_> = body
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .map(|part| part.as_object_mut().unwrap().remove("id").unwrap())
        .collect();
    assert!(
        ids.iter()
            .all(|id| id.as_str().unwrap().parse::<Uuid>().is_ok())
    );
    assert_ne!(ids[0], ids[1]);
    body
}

#[tokio::test]
async fn an_empty_opening_sends_a_profile_and_the_channel_type() {
    let cloud = Cloud::ready().await;
    cloud.on(OPEN, batch(200, profile_set(), opened())).await;

    let conversation = open(&cloud).await.unwrap();

    assert_eq!(conversation.as_str(), CONV);
    assert_eq!(
        sent(&cloud).await,
        json!([
            {"kind": "req", "type": "userprofile.SetUserProfile", "body": {}},
            {"kind": "req", "type": "cm.ConsumerRequestConversation",
             "body": {"brandId": ACCOUNT, "channelType": "MESSAGING"}}])
    );
}

#[tokio::test]
async fn ids_beyond_32_bits_are_sent_as_text() {
    let cloud = Cloud::ready().await;
    cloud.on(OPEN, batch(200, profile_set(), opened())).await;
    let routing = parsed(json!({"campaign_id": "88052402300", "engagement_id": "88052412300"}));
    let context = parsed(
        json!({"visitor_id": "V1", "session_id": "S1", "interaction_context_id": "2", "language": "en-US"}),
    );
    let profile = parsed(json!({"first_name": "Ada", "gender": "female"}));

    open_with(
        &cloud,
        Some(&profile),
        Some(&routing),
        Some(&context),
        Some(Urgency::Urgent),
    )
    .await
    .unwrap();

    assert_eq!(
        sent(&cloud).await,
        json!([
            {"kind": "req", "type": "userprofile.SetUserProfile", "body": {"authenticatedData": {"lp_sdes": [
                {"type": "personal", "personal": {"firstname": "Ada", "gender": "FEMALE"}}]}}},
            {"kind": "req", "type": "cm.ConsumerRequestConversation", "body": {
                "brandId": ACCOUNT, "channelType": "MESSAGING", "ttrDefName": "URGENT",
                "campaignInfo": {"campaignId": "88052402300", "engagementId": "88052412300"},
                "conversationContext": {"type": "SharkContext", "visitorId": "V1", "sessionId": "S1",
                    "interactionContextId": "2", "lang": "en-US"}}}])
    );
}

#[tokio::test]
async fn a_skill_is_sent_directly_and_an_empty_context_is_omitted() {
    let cloud = Cloud::ready().await;
    cloud.on(OPEN, batch(200, profile_set(), opened())).await;
    let routing = parsed(json!({"skill_id": "2736637412"}));

    open_with(
        &cloud,
        None,
        Some(&routing),
        Some(&Context::default()),
        Some(Urgency::Prioritized),
    )
    .await
    .unwrap();

    assert_eq!(
        sent(&cloud).await[1]["body"],
        json!({"brandId": ACCOUNT, "channelType": "MESSAGING", "ttrDefName": "PRIORITIZED", "skillId": "2736637412"})
    );
}

#[tokio::test]
async fn a_context_is_sent_with_its_type_and_given_members() {
    let cloud = Cloud::ready().await;
    cloud.on(OPEN, batch(200, profile_set(), opened())).await;
    let context = parsed(json!({"language": "fr-CA"}));

    open_with(&cloud, None, None, Some(&context), None)
        .await
        .unwrap();

    assert_eq!(
        sent(&cloud).await[1]["body"]["conversationContext"],
        json!({"type": "SharkContext", "lang": "fr-CA"})
    );
}

#[tokio::test]
async fn client_properties_are_one_header_line_of_json() {
    let mut cloud = Cloud::ready().await;
    cloud.features = parsed(json!(["AUTO_MESSAGES", "RICH_CONTENT"]));
    posted(OPEN)
        .and(header("x-lp-on-behalf", CONSUMER_TOKEN))
        .and(header("authorization", cloud.app_token(1).as_str()))
        .respond_with(batch(200, profile_set(), opened()))
        .mount(&cloud.server)
        .await;

    open(&cloud).await.unwrap();

    let requests = cloud.requests_to(OPEN).await;
    assert_eq!(
        requests[0].headers["client-properties"],
        r#"{"type":".ClientProperties","features":["AUTO_MESSAGES","RICH_CONTENT"]}"#
    );
}

#[tokio::test]
async fn an_opening_recognizes_an_open_conversation_under_http_200_and_400() {
    let refused = json!({"code": "BAD_REQUEST", "body": {"msg":
        "Consumer request conversation failed: User CONS already has open conversation. Can't open another one."}});
    for status in [200, 400] {
        let cloud = Cloud::ready().await;
        cloud
            .on(OPEN, batch(status, profile_set(), refused.clone()))
            .await;

        let error = open(&cloud).await.unwrap_err();

        assert!(matches!(error, Error::AlreadyOpen), "{status}: {error:?}");
    }
}

#[tokio::test]
async fn a_refused_profile_does_not_prevent_the_opening() {
    let cloud = Cloud::ready().await;
    let refused = json!({"code": "BAD_REQUEST", "body": {"msg": "no"}});
    cloud.on(OPEN, batch(400, refused, opened())).await;

    assert_eq!(open(&cloud).await.unwrap().as_str(), CONV);
}

#[tokio::test]
async fn an_opening_with_an_unknown_outcome_is_not_repeated() {
    for answer in [
        ResponseTemplate::new(504),
        ResponseTemplate::new(200).set_body_string("<html>Welcome</html>"),
    ] {
        let cloud = Cloud::ready().await;
        cloud.on(OPEN, answer).await;

        let error = open(&cloud).await.unwrap_err();

        assert!(error.outcome_unknown(), "{error:?}");
        assert_eq!(cloud.requests_to(OPEN).await.len(), 1);
    }
}

#[tokio::test]
async fn a_conversation_id_is_found_in_other_response_formats() {
    for body in [
        json!([{"code": "OK", "body": {"msg": "OK"}}, {"code": "OK", "body": {"conversationId": CONV}}]),
        json!([{"code": "OK", "body": {"conversationId": CONV}}]),
        json!({"code": 200, "body": {"convId": CONV}}),
    ] {
        let cloud = Cloud::ready().await;
        cloud.on(OPEN, ok(&body)).await;
        assert_eq!(open(&cloud).await.unwrap().as_str(), CONV, "{body}");
    }
    let cloud = Cloud::ready().await;
    cloud
        .on(
            OPEN,
            batch(
                200,
                profile_set(),
                json!({"code": "OK", "body": {"conversationId": 4_611_686_018_427_i64}}),
            ),
        )
        .await;
    assert_eq!(open(&cloud).await.unwrap().as_str(), "4611686018427");
}

#[tokio::test]
async fn an_answer_without_a_conversation_id_is_not_understood() {
    let cloud = Cloud::ready().await;
    let answer = json!({"code": "OK", "body": {"conversationId": ""}});
    cloud.on(OPEN, batch(200, profile_set(), answer)).await;

    assert!(matches!(open(&cloud).await, Err(Error::Undecodable { .. })));
}

#[tokio::test]
async fn the_monitoring_api_returns_the_open_conversation_of_a_consumer() {
    let cloud = Cloud::ready().await;
    posted(MONITORING)
        .and(query_param("v", "1.0"))
        .and(Without("authorization"))
        .and(wiremock::matchers::body_json(
            json!({"identities": [{"iss": "LivePerson", "acr": "loa1", "sub": EXTERNAL_ID}]}),
        ))
        .respond_with(ResponseTemplate::new(201).set_body_json(
            json!({"sessionId": "S1", "engagementDetails": [
            {"campaignId": 880_524_023_i64, "status": "expose"},
            {"campaignId": 880_524_023_i64, "status": "Conversation", "conversationId": CONV}]}),
        ))
        .mount(&cloud.server)
        .await;

    let found = cloud
        .client
        .find_open_conversation(&cloud.account, EXTERNAL_ID, &cloud.trace);

    assert_eq!(found.await.unwrap().unwrap().as_str(), CONV);
}

#[tokio::test]
async fn a_consumer_without_an_open_conversation_is_no_error() {
    for body in [
        json!({"sessionId": "S1"}),
        json!({"engagementDetails": null}),
        json!({"engagementDetails": [{"status": "expose", "conversationId": CONV}]}),
    ] {
        let cloud = Cloud::ready().await;
        cloud.on(MONITORING, ok(&body)).await;

        let found = cloud
            .client
            .find_open_conversation(&cloud.account, EXTERNAL_ID, &cloud.trace);

        assert_eq!(found.await.unwrap(), None, "{body}");
    }
}

#[tokio::test]
async fn a_transient_error_of_the_monitoring_api_is_retried() {
    let cloud = Cloud::ready().await;
    let fault = json!({"time": 1, "message": "Loading account: 1", "internalCode": 20});
    posted(MONITORING)
        .respond_with(ResponseTemplate::new(500).set_body_json(fault))
        .up_to_n_times(2)
        .mount(&cloud.server)
        .await;
    cloud.on(MONITORING, ok(json!({}))).await;

    let found = cloud
        .client
        .find_open_conversation(&cloud.account, EXTERNAL_ID, &cloud.trace);

    assert_eq!(found.await.unwrap(), None);
}
