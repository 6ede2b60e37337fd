//! Notifications that are not accepted, with their retries.

use super::*;

#[tokio::test]
async fn only_status_200_and_201_acknowledge_a_notification() {
    let (cloud, receiver) = Cloud::with_receiver(Retry::ByNumber(1)).await;
    let (tokens, id) = cloud.opened("u-1").await;

    let failures = [202, 204, 302, 401, 404, 500];
    receiver.answer([ReceiverAnswer::Status(201)]);
    receiver.answer(failures.map(ReceiverAnswer::Status));
    for number in 0..7 {
        cloud.send_text(&tokens, &id, &number.to_string()).await;
    }
    eventually("all tried", || {
        (cloud.sandbox.notifications().len() == 8).then_some(())
    })
    .await;

    assert_eq!(cloud.sandbox.pending_notifications(), failures.len());
    let statuses = [200, 201, 202, 204, 302, 401, 404, 500].map(Some);
    assert_eq!(cloud.statuses(), statuses);
    cloud.advance(30);
    cloud.settled().await;
    assert_eq!(receiver.got().len(), 8 + failures.len());
}

#[tokio::test]
async fn retry_by_number_repeats_the_same_bytes_and_lets_others_pass() {
    let (cloud, receiver) = Cloud::with_receiver(Retry::ByNumber(2)).await;
    let (tokens, id) = cloud.opened("u-1").await;
    receiver.answer([503].map(ReceiverAnswer::Status));

    cloud.send_text(&tokens, &id, "first").await;
    cloud.send_text(&tokens, &id, "second").await;
    receiver.wait_for(3).await;
    receiver.answer([503].map(ReceiverAnswer::Status));
    cloud.advance(30);
    receiver.wait_for(4).await;
    eventually("settled", || {
        (cloud.sandbox.notifications().len() == 4).then_some(())
    })
    .await;
    cloud.advance(30);
    cloud.settled().await;

    let got = receiver.got();
    assert_eq!(texts(&got), ["first", "second", "first", "first"]);
    assert!(got[1].raw == got[3].raw && got[3].raw == got[4].raw);
    let attempts: Vec<_> = cloud
        .sandbox
        .notifications()
        .iter()
        .map(|n| n.attempt)
        .collect();
    assert_eq!(attempts, [1, 1, 1, 2, 3]);
}

#[tokio::test]
async fn retry_by_time_holds_back_all_later_notifications_of_the_app() {
    let (cloud, receiver) = Cloud::with_receiver(Retry::TimeToLive(86_400)).await;
    let (alice, first) = cloud.opened("u-1").await;
    let (bob, second) = cloud.opened("u-2").await;
    receiver.answer([503, 503].map(ReceiverAnswer::Status));

    cloud.send_text(&alice, &first, "a1").await;
    eventually("it failed", || {
        (cloud.sandbox.notifications().len() == 3).then_some(())
    })
    .await;
    cloud.send_text(&bob, &second, "b1").await;
    cloud.send_text(&alice, &first, "a2").await;
    cloud.advance(2);
    eventually("it failed again", || {
        (cloud.sandbox.notifications().len() == 4).then_some(())
    })
    .await;
    cloud.advance(4);
    cloud.settled().await;

    let texts = texts(&receiver.got());
    assert_eq!(texts[..3], ["a1", "a1", "a1"]);
    let (mut remaining, expected) = (texts[3..].to_vec(), ["a2", "b1"]);
    remaining.sort();
    assert_eq!(remaining, expected);
}

#[tokio::test]
async fn a_retry_can_be_requested_without_advancing_the_clock() {
    let (cloud, receiver) = Cloud::with_receiver(Retry::TimeToLive(86_400)).await;
    receiver.answer([404].map(ReceiverAnswer::Status));
    let tokens = cloud.tokens("u-1").await;
    cloud.open(&tokens).await;
    eventually("it failed", || {
        (cloud.statuses() == [Some(404)]).then_some(())
    })
    .await;

    cloud.sandbox.retry_now();
    cloud.settled().await;

    assert_eq!(cloud.statuses(), [Some(404), Some(200)]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_within_5_s_is_a_failure() {
    let (cloud, receiver) = Cloud::with_receiver(Retry::default()).await;
    receiver.answer([ReceiverAnswer::Stall]);
    let before = tokio::time::Instant::now();

    let tokens = cloud.tokens("u-1").await;
    cloud.open(&tokens).await;
    cloud.settled().await;

    assert_eq!(cloud.statuses(), [None]);
    let waited = before.elapsed().as_millis();
    assert!((5000..5100).contains(&waited), "{waited} ms");
}

#[tokio::test]
async fn a_notification_to_an_unreachable_receiver_fails() {
    let cloud = Cloud::new();
    let receiver = Receiver::start().await;
    cloud.sandbox.subscribe(Webhook {
        url: "http://127.0.0.1:1/webhooks".parse().unwrap(),
        ..receiver.webhook(Retry::ByNumber(1))
    });
    let tokens = cloud.tokens("u-1").await;
    cloud.open(&tokens).await;
    eventually("it failed", || (cloud.statuses() == [None]).then_some(())).await;

    cloud
        .sandbox
        .subscribe(receiver.webhook(Retry::ByNumber(1)));
    cloud.sandbox.retry_now();
    cloud.settled().await;

    assert_eq!(receiver.got().len(), 1, "the new address of the same app");
}

#[tokio::test]
async fn a_reset_drops_queued_notifications_and_keeps_the_subscription() {
    let (cloud, receiver) = Cloud::with_receiver(Retry::TimeToLive(86_400)).await;
    receiver.answer([503].map(ReceiverAnswer::Status));
    let tokens = cloud.tokens("u-1").await;
    cloud.open(&tokens).await;
    eventually("it failed", || {
        (cloud.statuses() == [Some(503)]).then_some(())
    })
    .await;
    cloud
        .sandbox
        .disturb(Disturbance::next(DisturbanceKind::Drop));

    cloud.sandbox.reset();
    assert!(cloud.sandbox.notifications().is_empty());
    assert_eq!(cloud.sandbox.pending_notifications(), 0);
    let id = cloud.open(&tokens).await;
    cloud.settled().await;

    let got = receiver.got();
    assert_eq!(got.len(), 2);
    assert_eq!(got[1].change()["result"]["convId"], id);
}
