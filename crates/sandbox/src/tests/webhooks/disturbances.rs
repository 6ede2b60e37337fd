//! Disturbances of deliveries, and notifications of conversations that the sandbox does not have.

use super::*;
use crate::agent::{self, AcceptStatus};

/// Opens a conversation, waits for its notifications, and then injects a disturbance.
async fn disturbed(disturbance: Disturbance) -> (Cloud, Receiver, Tokens, String) {
    let (cloud, receiver) = Cloud::with_receiver(Retry::ByNumber(1)).await;
    let (tokens, id) = cloud.opened("u-1").await;
    cloud.sandbox.disturb(disturbance);
    (cloud, receiver, tokens, id)
}

/// Sends these texts under a disturbance, and returns the notifications that arrive.
async fn send_under(disturbance: Disturbance, messages: &[&str]) -> (Cloud, Vec<ReceivedRequest>) {
    let (cloud, receiver, tokens, id) = disturbed(disturbance).await;
    for message in messages {
        cloud.send_text(&tokens, &id, message).await;
    }
    cloud.settled().await;
    let got = receiver.got().split_off(1);
    (cloud, got)
}

#[tokio::test]
async fn a_duplicate_disturbance_delivers_a_notification_twice() {
    let duplicate = Disturbance {
        times: 2,
        ..Disturbance::next(DisturbanceKind::Duplicate)
    };

    let (_, got) = send_under(duplicate, &["a", "b", "c"]).await;

    assert_eq!(texts(&got), ["a", "a", "b", "b", "c"]);
    assert_eq!(got[0].raw, got[1].raw);
}

#[tokio::test]
async fn a_reorder_disturbance_delivers_a_notification_after_the_next_one() {
    let (_, got) = send_under(
        Disturbance::next(DisturbanceKind::Reorder),
        &["a", "b", "c"],
    )
    .await;

    let texts = texts(&got);
    assert_eq!(texts[0], "b");
    assert!(texts.contains(&"a".to_owned()) && texts.contains(&"c".to_owned()));
}

#[tokio::test]
async fn a_delay_disturbance_holds_a_notification_until_it_is_released() {
    let (cloud, receiver, tokens, id) = disturbed(Disturbance::next(DisturbanceKind::Delay)).await;

    cloud.send_text(&tokens, &id, "a").await;
    cloud.send_text(&tokens, &id, "b").await;
    eventually("one notification is held back", || {
        (cloud.sandbox.pending_notifications() == 1).then_some(())
    })
    .await;
    assert_eq!(texts(&receiver.got()), ["b"]);
    cloud.sandbox.release_notifications();
    cloud.settled().await;

    assert_eq!(texts(&receiver.got()), ["b", "a"]);
}

#[tokio::test]
async fn a_drop_disturbance_loses_a_notification() {
    let (_, got) = send_under(Disturbance::next(DisturbanceKind::Drop), &["a", "b"]).await;

    assert_eq!(texts(&got), ["b"]);
}

#[tokio::test]
async fn a_bad_signature_disturbance_affects_only_the_first_attempt() {
    let (cloud, receiver, tokens, id) =
        disturbed(Disturbance::next(DisturbanceKind::BadSignature)).await;
    receiver.answer([ReceiverAnswer::Status(401)]);

    cloud.send_text(&tokens, &id, "a").await;
    eventually("it was refused", || {
        (cloud.statuses() == [Some(200), Some(401)]).then_some(())
    })
    .await;
    cloud.sandbox.retry_now();
    cloud.settled().await;

    let got = receiver.got();
    assert_eq!(got[1].raw, got[2].raw);
    let signatures = [1, 2].map(|i: usize| got[i].header("x-liveperson-signature").to_owned());
    assert!(signatures[0] != signatures[1] && signatures[0].len() == signatures[1].len());
}

#[tokio::test]
async fn an_old_form_disturbance_sends_notifications_in_the_2018_format() {
    let old = Disturbance {
        times: 2,
        ..Disturbance::next(DisturbanceKind::OldForm)
    };
    let (cloud, receiver, tokens, id) = disturbed(old).await;

    cloud.send_text(&tokens, &id, "a").await;
    cloud.send(&tokens, &close(&id)).await;
    cloud.settled().await;

    let got = receiver.got();
    assert_eq!(got[1].change().get("conversationId"), None);
    assert_eq!(got[1].change()["dialogId"], id);
    let result = &got[2].change()["result"];
    let details = result["conversationDetails"].as_object().unwrap();
    assert_eq!(
        (&result["convId"], &details["state"]),
        (&json!(id), &json!("CLOSE"))
    );
    for name in ["dialogs", "stage", "skillId"] {
        assert!(!details.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn a_batch_disturbance_sends_several_changes_in_one_request() {
    let batch = Disturbance {
        times: 3,
        ..Disturbance::next(DisturbanceKind::Batch)
    };

    let (_, got) = send_under(batch, &["a", "b", "c", "d"]).await;

    assert_eq!(texts(&got), ["a+b+c", "d"]);
}

#[tokio::test]
async fn a_disturbance_can_be_limited_to_one_kind_of_notification() {
    let only_texts = Disturbance {
        only: Some(Kind::Content),
        ..Disturbance::next(DisturbanceKind::Drop)
    };
    let (cloud, receiver, tokens, id) = disturbed(only_texts).await;
    let typing = json!({"type": "ChatStateEvent", "chatState": "COMPOSING"});

    cloud.send(&tokens, &publish(&id, &typing)).await;
    cloud.send_text(&tokens, &id, "a").await;
    cloud.send_text(&tokens, &id, "b").await;
    cloud.settled().await;

    let kinds: Vec<_> = cloud
        .sandbox
        .notifications()
        .iter()
        .map(|n| n.kind)
        .collect();
    assert_eq!(kinds, [Kind::Conversation, Kind::ChatState, Kind::Content]);
    assert_eq!(texts(&receiver.got()), ["b"]);
}

#[tokio::test]
async fn a_disturbance_can_be_limited_to_messages_of_one_role() {
    let only_the_agents = Disturbance {
        by: Some(Role::AssignedAgent),
        ..Disturbance::next(DisturbanceKind::Drop)
    };
    let (cloud, receiver, tokens, id) = disturbed(only_the_agents).await;

    cloud.send_text(&tokens, &id, "a").await;
    cloud.sandbox.act(&id, Action::text("b")).unwrap();
    cloud.send_text(&tokens, &id, "c").await;
    cloud.settled().await;

    assert_eq!(texts(&receiver.got()), ["a", "c"]);
}

#[tokio::test]
async fn a_disturbance_is_not_used_up_without_a_subscriber() {
    let cloud = Cloud::new();
    cloud
        .sandbox
        .disturb(Disturbance::next(DisturbanceKind::Drop));
    let (tokens, id) = cloud.opened("u-1").await;
    let receiver = Receiver::start().await;
    cloud.sandbox.subscribe(receiver.webhook(Retry::default()));

    cloud.send_text(&tokens, &id, "a").await;
    cloud.send_text(&tokens, &id, "b").await;
    cloud.settled().await;

    assert_eq!(texts(&receiver.got()), ["b"]);
}

#[tokio::test]
async fn notifications_include_conversations_of_other_channels() {
    let (cloud, receiver) = Cloud::with_receiver(Retry::default()).await;

    let id = cloud.sandbox.notify_foreign(ACCOUNT).unwrap();
    let nowhere = cloud.sandbox.notify_foreign("le2");
    cloud.settled().await;

    let got = receiver.got();
    assert_eq!(got.len(), 2);
    assert_eq!(got[0].change()["result"]["convId"], id);
    let message = got[1].change();
    assert_eq!(message["conversationId"], id);
    assert_eq!(message["originatorMetadata"]["role"], "ASSIGNED_AGENT");
    assert_eq!(nowhere, None);
    assert!(cloud.sandbox.conversations().is_empty());
}

#[tokio::test]
async fn an_altering_disturbance_changes_the_notification_but_not_the_conversation() {
    for (kind, text, expected) in [
        (DisturbanceKind::Mask, "card 4111", "card ****"),
        (DisturbanceKind::Trim, " late\n", "late"),
        (DisturbanceKind::Escape, "<it's>", "&lt;it&#39;s&gt;"),
        (DisturbanceKind::LineBreaks, "a\nb", "a\r\nb"),
    ] {
        let (cloud, got) = send_under(Disturbance::next(kind), &[text, text]).await;

        assert_eq!(texts(&got), [expected, text]);
        let conversation = &cloud.sandbox.conversations()[0];
        assert_eq!(conversation.dialogs[0].events[0].event["message"], text);
    }
}

#[tokio::test]
async fn slow_clock_and_old_disturbances_backdate_a_notification() {
    let (_, got) = send_under(Disturbance::next(DisturbanceKind::SlowClock), &["a", "b"]).await;

    let sent_at = |got: &ReceivedRequest| {
        let body: Value = serde_json::from_slice(&got.raw).unwrap();
        body["body"]["changes"][0]["serverTimestamp"]
            .as_i64()
            .unwrap()
    };
    let behind = sent_at(&got[1]) - sent_at(&got[0]);
    assert_eq!(behind, 30_000);
    let (_, got) = send_under(Disturbance::next(DisturbanceKind::Old), &["a", "b"]).await;
    let behind = sent_at(&got[1]) - sent_at(&got[0]);
    assert_eq!(behind, 5 * 86_400_000);
}

#[tokio::test]
async fn any_body_can_be_sent_as_a_signed_notification() {
    let (cloud, receiver) = Cloud::with_receiver(Retry::default()).await;

    assert!(cloud.sandbox.notify_raw(ACCOUNT, b"no \xff JSON".to_vec()));
    assert!(!cloud.sandbox.notify_raw("le2", "nobody"));
    cloud.settled().await;

    let got = receiver.got();
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].raw, &b"no \xff JSON"[..]);
    assert!(got[0].header("x-liveperson-signature").starts_with("sha1="));
    let delivery = &cloud.sandbox.notifications()[0];
    assert_eq!(
        (delivery.kind, &delivery.conversation_id),
        (Kind::Raw, &None)
    );
}

#[tokio::test]
async fn a_disturbance_can_change_the_form_of_the_body() {
    let (_, got) = send_under(Disturbance::next(DisturbanceKind::Empty), &["a"]).await;
    assert_eq!((got.len(), got[0].raw.len()), (2, 0));
    assert_eq!(texts(&got[1..]), ["a"]);

    let (_, got) = send_under(Disturbance::next(DisturbanceKind::ByteOrderMark), &["a"]).await;
    let json = got[0].raw.strip_prefix(b"\xef\xbb\xbf").unwrap();
    let body: Value = serde_json::from_slice(json).unwrap();
    assert_eq!(body["body"]["changes"][0]["event"]["message"], "a");

    let (_, got) = send_under(Disturbance::next(DisturbanceKind::Untyped), &["a"]).await;
    let names: Vec<_> = got[0].body.as_object().unwrap().keys().collect();
    assert_eq!(names, ["body"]);
    assert_eq!(texts(&got), ["a"]);
}

#[tokio::test]
async fn a_disturbance_can_alter_the_members_of_a_change() {
    let private = agent::Text {
        private: true,
        ..agent::Text::new("for agents")
    };
    let read = Action::Receipt {
        status: AcceptStatus::Read,
        sequences: vec![0],
    };
    let (cloud, receiver, tokens, id) = disturbed(Disturbance {
        only: Some(Kind::AcceptStatus),
        ..Disturbance::next(DisturbanceKind::NumbersAsText)
    })
    .await;
    cloud.sandbox.disturb(Disturbance {
        by: Some(Role::AssignedAgent),
        only: Some(Kind::Content),
        ..Disturbance::next(DisturbanceKind::AudienceInEvent)
    });
    cloud.send_text(&tokens, &id, "a").await;
    cloud.sandbox.act(&id, Action::Text(private)).unwrap();
    cloud.sandbox.act(&id, read).unwrap();
    cloud.settled().await;

    let got = receiver.got();
    let changes: Vec<_> = got.iter().map(ReceivedRequest::change).collect();
    let private = changes
        .iter()
        .find(|it| it["event"]["message"] == "for agents");
    let private = private.unwrap();
    assert_eq!(private["event"]["audience"], "AGENTS_AND_MANAGERS");
    assert_eq!(private.get("messageAudience"), None);
    let numbers = changes
        .iter()
        .find_map(|it| it["event"].get("sequenceList"));
    assert_eq!(numbers, Some(&json!(["0"])));
}

#[tokio::test]
async fn a_disturbance_can_report_two_states_with_the_same_time() {
    let (cloud, receiver, _, id) = disturbed(Disturbance {
        only: Some(Kind::Conversation),
        ..Disturbance::next(DisturbanceKind::TwoStates)
    })
    .await;

    cloud.sandbox.act(&id, Action::Join {}).unwrap();
    cloud.settled().await;

    let got = receiver.got().split_off(1);
    let states: Vec<_> = got
        .iter()
        .map(|got| &got.change()["result"]["conversationDetails"])
        .collect();
    let time = |state: &Value| state["metaDataLastUpdateTs"].clone();
    let people = |state: &Value| state["participants"].as_array().unwrap().len();
    assert_eq!(states.len(), 2);
    assert_eq!(time(states[0]), time(states[1]));
    assert_eq!((people(states[0]), people(states[1])), (1, 2));
}
