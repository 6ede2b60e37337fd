//! The sandbox's clock, advanced over HTTP.

use super::receiver::{ReceiverAnswer, eventually};
use super::*;
use crate::webhooks::Retry;
use crate::{Answer as FaultAnswer, Delay, Fault, Operation};

impl Cloud {
    async fn advance_over_http(&self, seconds: u32) -> Answer {
        let body = json!({"advance": seconds}).to_string();
        self.call("POST", "/_sandbox/clock", &[JSON], body).await
    }
}

#[tokio::test]
async fn the_clock_can_be_read_and_advanced_over_http() {
    let cloud = Cloud::new();

    let before = cloud.call("GET", "/_sandbox/clock", &[], "").await;
    let moved = cloud.advance_over_http(90).await;
    cloud.advance(5);
    let after = cloud.call("GET", "/_sandbox/clock", &[], "").await;

    before.assert(200, json!({"now": "2027-01-15T08:00:00Z", "ahead": 0}));
    moved.assert(200, json!({"now": "2027-01-15T08:01:30Z", "ahead": 90}));
    after.assert(200, json!({"now": "2027-01-15T08:01:35Z", "ahead": 90}));
}

#[tokio::test]
async fn tokens_expire_when_the_clock_is_moved() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    let id = cloud.open(&tokens).await;

    cloud.advance_over_http(3601).await;

    let refused = cloud.send(&tokens, &text(&id, "x")).await;
    assert_eq!(refused.body["body"]["errorCode"], 40102, "{}", refused.body);
}

#[tokio::test]
async fn a_pending_retry_becomes_due_when_the_clock_is_advanced() {
    let (cloud, receiver) = Cloud::with_receiver(Retry::ByNumber(1)).await;
    receiver.answer([ReceiverAnswer::Status(503)]);
    assert!(cloud.sandbox.notify_foreign(ACCOUNT).is_some());
    eventually("tried", || {
        (cloud.sandbox.notifications().len() == 2).then_some(())
    })
    .await;

    cloud.advance_over_http(30).await;

    cloud.settled().await;
    assert_eq!(receiver.got().len(), 3);
}

#[tokio::test]
async fn a_delayed_answer_follows_the_sandbox_clock() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    let id = cloud.open(&tokens).await;
    let delayed = FaultAnswer::Delay(Delay { seconds: 8 });
    cloud
        .sandbox
        .inject(Fault::new(Operation::Send, delayed.clone()));
    cloud.sandbox.inject(Fault {
        after_applying: true,
        ..Fault::new(Operation::Send, delayed)
    });
    let events = || cloud.conversation(&id).dialogs[0].events.len();

    for (label, events_meanwhile) in [("first", 0), ("second", 2)] {
        let request = text(&id, label);
        let sending = cloud.send(&tokens, &request);
        let advancing = async {
            eventually("the request arrives", || {
                let requests = cloud.sandbox.requests();
                requests.last().unwrap().body.contains(label).then_some(())
            })
            .await;
            tokio::task::yield_now().await;
            let meanwhile = events();
            cloud.advance_over_http(8).await;
            meanwhile
        };
        let (answer, meanwhile) = tokio::join!(sending, advancing);

        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(meanwhile, events_meanwhile, "{label}");
    }
    assert_eq!(events(), 2);
}

#[tokio::test]
async fn a_clock_cannot_go_back_or_beyond_a_hundred_years() {
    let cloud = Cloud::new();

    let back = cloud
        .call("POST", "/_sandbox/clock", &[JSON], r#"{"advance": -1}"#)
        .await;
    let at_limit = cloud.advance_over_http(3_155_760_000).await;
    let beyond_limit = cloud.advance_over_http(1).await;

    back.assert_complaint(422, "advance: invalid value: integer `-1`");
    assert_eq!(at_limit.status, StatusCode::OK);
    beyond_limit.assert_complaint(
        422,
        "advance: the clock would be more than 3155760000 s ahead",
    );
    let tokens = cloud.tokens("u-1").await;
    cloud.open(&tokens).await;
}
