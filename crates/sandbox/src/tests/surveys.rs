//! Surveys after a conversation.

use super::*;
use crate::{Behaviour, DialogKind, Stage};

const SURVEY: &str =
    r#"{"type":".ClientProperties","features":["RICH_CONTENT","QUICK_REPLIES","MULTI_DIALOG"]}"#;

fn close_dialog(conversation: &str, dialog: &str) -> Value {
    let dialog = json!({"dialogId": dialog, "state": "CLOSE", "closedCause": "Closed by consumer"});
    let field = json!({"field": "DialogChange", "type": "UPDATE", "dialog": dialog});
    update(conversation, &field)
}

/// Builds a text for a dialog besides the main one.
fn text_in(dialog: &str, conversation: &str, message: &str) -> Value {
    let mut request = text(conversation, message);
    request["body"]["dialogId"] = json!(dialog);
    request
}

/// Creates a consumer with a conversation that was opened with these members and features.
async fn opened(opening: Value, features: &str) -> (Cloud, Tokens, String) {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    let batch = batch(&json!({}), &opening);
    let answer = cloud.open_with(&tokens, Some(features), &batch).await;
    let id = conversation_id(&answer);
    (cloud, tokens, id)
}

async fn with_skill() -> (Cloud, Tokens, String) {
    opened(json!({"skillId": "2736637412"}), SURVEY).await
}

impl Cloud {
    async fn send_survey(&self, tokens: &Tokens, request: &Value) -> Answer {
        self.post("/send", tokens, Some(SURVEY), request).await
    }

    /// Closes the main dialog as its consumer. Returns the id of the survey.
    async fn begin_survey(&self, tokens: &Tokens, id: &str) -> String {
        let answer = self.send_survey(tokens, &close_dialog(id, id)).await;
        assert_eq!(answer.body["code"], "OK", "{}", answer.body);
        self.conversation(id).dialogs[1].id.clone()
    }
}

fn question() -> Value {
    json!({"type": "ContentEvent", "contentType": "text/plain", "message": "How was it?"})
}

#[tokio::test]
async fn a_survey_follows_the_main_dialog_with_its_own_sequences() {
    let (cloud, tokens, id) = with_skill().await;
    cloud.send_survey(&tokens, &text(&id, "hello")).await;

    let survey = cloud.begin_survey(&tokens, &id).await;
    assert_eq!(cloud.sandbox.publish_in_survey(&id, question()), Some(0));
    let answer = cloud
        .send_survey(&tokens, &text_in(&survey, &id, "fine"))
        .await;

    assert_eq!(answer.body["body"]["sequence"], 1);
    let conversation = cloud.conversation(&id);
    assert_eq!(
        (conversation.state, conversation.stage),
        (Stage::Close, Stage::Open)
    );
    assert_eq!(conversation.close_reason, None);
    let [main, second] = &conversation.dialogs[..] else {
        panic!("{conversation:#?}")
    };
    assert_eq!((main.kind, main.state), (DialogKind::Main, Stage::Close));
    assert_eq!(main.closed_by.as_deref(), Some("CONSUMER"));
    assert_eq!(
        (second.kind, second.state),
        (DialogKind::PostSurvey, Stage::Open)
    );
    assert_ne!(second.id, id);
    assert_eq!(second.events.len(), 2);
}

#[tokio::test]
async fn the_end_of_the_survey_closes_the_conversation() {
    let (cloud, tokens, id) = with_skill().await;
    assert!(cloud.sandbox.close_main_dialog(&id, "AGENT"));
    let survey = cloud.conversation(&id).dialogs[1].id.clone();
    let reopen = cloud
        .open_with(&tokens, Some(SURVEY), &batch(&json!({}), &json!({})))
        .await;

    assert!(cloud.sandbox.end_survey(&id));

    let complaint = reopen.body[1]["body"]["msg"].as_str().unwrap();
    assert!(complaint.contains("already has open conversation"));
    let conversation = cloud.conversation(&id);
    assert_eq!(conversation.stage, Stage::Close);
    assert_eq!(conversation.close_reason.as_deref(), Some("AGENT"));
    let late = text_in(&survey, &id, "late");
    let late = cloud.send_survey(&tokens, &late).await;
    late.assert_complaint(400, "Conversation is close");
    // An ended survey cannot be ended again.
    assert!(!cloud.sandbox.end_survey(&id));
    assert!(!cloud.sandbox.close_main_dialog(&id, "AGENT"));
    assert_eq!(cloud.sandbox.publish_in_survey(&id, question()), None);
    assert!(!cloud.sandbox.end_survey("nowhere"));
    assert!(!cloud.sandbox.close_main_dialog("nowhere", "AGENT"));
    assert_eq!(cloud.sandbox.publish_in_survey("nowhere", question()), None);
}

#[tokio::test]
async fn a_survey_needs_a_skill_or_campaign_the_feature_and_surveys_enabled() {
    let campaign = json!({"campaignInfo": {"campaignId": "1", "engagementId": "2"}});
    let skill = json!({"skillId": "2736637412"});
    for (opening, features, surveys, dialogs) in [
        (skill.clone(), SURVEY, true, 2),
        (campaign, SURVEY, true, 2),
        (json!({}), SURVEY, true, 1),
        (json!({"skillId": "-1"}), SURVEY, true, 1),
        (json!({"skillId": -1}), SURVEY, true, 1),
        (skill.clone(), FEATURES, true, 1),
        (skill, SURVEY, false, 1),
    ] {
        let (cloud, tokens, id) = opened(opening.clone(), features).await;
        cloud.sandbox.set_behaviour(Behaviour {
            surveys,
            ..Behaviour::default()
        });

        let request = close_dialog(&id, &id);
        let answer = cloud.post("/send", &tokens, Some(features), &request).await;

        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        let conversation = cloud.conversation(&id);
        assert_eq!(conversation.dialogs.len(), dialogs, "{opening} {features}");
        let ended = conversation.stage == Stage::Close;
        assert_eq!(ended, dialogs == 1, "{opening} {features}");
    }
}

#[tokio::test]
async fn the_main_dialog_accepts_nothing_after_the_survey_starts() {
    let (cloud, tokens, id) = with_skill().await;
    cloud.begin_survey(&tokens, &id).await;

    for request in [text(&id, "x"), close_dialog(&id, &id), close(&id)] {
        let answer = cloud.send_survey(&tokens, &request).await;
        answer.assert_complaint(400, "Conversation is close");
    }
    assert_eq!(cloud.conversation(&id).stage, Stage::Open);
    let stage = json!({"field": "Stage", "conversationState": "CLOSE"});
    let answer = cloud.send_survey(&tokens, &update(&id, &stage)).await;

    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let conversation = cloud.conversation(&id);
    assert_eq!(conversation.stage, Stage::Close);
    assert_eq!(conversation.dialogs[1].state, Stage::Close);
}

#[tokio::test]
async fn a_survey_takes_no_chat_states_and_no_rating() {
    let (cloud, tokens, id) = with_skill().await;
    let survey = cloud.begin_survey(&tokens, &id).await;
    let mut composing = text_in(&survey, &id, "");
    composing["body"]["event"] = json!({"type": "ChatStateEvent", "chatState": "COMPOSING"});
    let rating = json!({"field": "CSATRate", "csatRate": 5, "csatResolutionConfirmation": true, "status": "FILLED"});

    let composing = cloud.send_survey(&tokens, &composing).await;
    let rating = cloud.send_survey(&tokens, &update(&id, &rating)).await;

    composing.assert_complaint(400, "a survey accepts no chat states");
    rating.assert_complaint(400, "CSATRate is accepted after the close");
    assert!(cloud.conversation(&id).dialogs[1].events.is_empty());
}

#[tokio::test]
async fn a_survey_accepts_requests_only_of_its_conversation_and_consumer() {
    let (cloud, tokens, id) = with_skill().await;
    let survey = cloud.begin_survey(&tokens, &id).await;
    let bob = cloud.tokens("bob").await;
    let (_, _, other) = with_skill().await;

    let foreign = cloud.send_survey(&bob, &text_in(&survey, &id, "x")).await;
    let mixed = cloud
        .send_survey(&tokens, &text_in(&survey, &other, "x"))
        .await;
    let confused = cloud
        .send_survey(&tokens, &close_dialog(&survey, &survey))
        .await;

    foreign.assert_complaint(401, "belongs to another consumer");
    mixed.assert_complaint(400, "to which the dialog belongs");
    confused.assert_complaint(404, "body.conversationId: there is no conversation");
}

#[tokio::test]
async fn refusal_of_a_malformed_dialog_change_names_the_member() {
    let (cloud, tokens, id) = with_skill().await;
    let valid = close_dialog(&id, &id);
    let field = "/body/conversationField";

    for (member, value, expected) in [
        (
            "dialog/dialogId",
            json!("other"),
            "dialog.dialogId: `other`",
        ),
        ("dialog/state", json!("OPEN"), "dialog.state: unknown"),
        ("dialog/closedCause", json!(null), "dialog.closedCause"),
        ("type", json!("DELETE"), "type: unknown variant `DELETE`"),
        ("dialog", json!(null), "dialog: null, expected a value"),
    ] {
        let mut request = valid.clone();
        *request.pointer_mut(&format!("{field}/{member}")).unwrap() = value;

        let answer = cloud.send_survey(&tokens, &request).await;

        answer.assert_complaint(400, &format!("body.conversationField.{expected}"));
    }
    assert_eq!(cloud.conversation(&id).state, Stage::Open);
}

#[tokio::test]
async fn surveys_are_controlled_over_http() {
    let (cloud, _, id) = with_skill().await;
    let control = async |path: &str, body: Value| {
        let uri = format!("/_sandbox/{path}");
        cloud.call("POST", &uri, &[JSON], body.to_string()).await
    };
    let (survey, end) = (
        format!("conversations/{id}/survey"),
        format!("conversations/{id}/survey/end"),
    );
    let close = format!("conversations/{id}/close-main-dialog");
    let event = json!({"event": question()});

    assert_eq!(control(&survey, event.clone()).await.status, 404);
    assert_eq!(control(&end, json!({})).await.status, 404);
    assert_eq!(control(&close, json!({})).await.status, 422);
    assert_eq!(control(&close, json!({"by": "AGENT"})).await.status, 204);
    assert_eq!(control(&close, json!({"by": "AGENT"})).await.status, 404);
    let published = control(&survey, event).await;
    let listed = cloud.call("GET", "/_sandbox/conversations", &[], "").await;
    assert_eq!(control(&end, json!({})).await.status, 204);
    let off = control("surveys", json!({"on": false})).await;

    published.assert(200, json!({"sequence": 0}));
    let dialogs = &listed.body[0]["dialogs"];
    assert_eq!(dialogs[0]["kind"], "MAIN");
    assert_eq!(dialogs[1]["kind"], "POST_SURVEY");
    assert_eq!(cloud.conversation(&id).stage, Stage::Close);
    assert_eq!(off.status, 204);
    let tokens = cloud.tokens("bob").await;
    let opening = batch(&json!({}), &json!({"skillId": "1"}));
    let opening = cloud.open_with(&tokens, Some(SURVEY), &opening).await;
    let second = conversation_id(&opening);
    assert!(cloud.sandbox.close_main_dialog(&second, "AGENT"));
    assert_eq!(cloud.conversation(&second).dialogs.len(), 1);
}
