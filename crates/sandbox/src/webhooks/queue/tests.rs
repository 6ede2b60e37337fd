//! The queue, tested with a clock that the test sets.

use serde_json::json;

use super::*;
use crate::notification::BodyForm;

/// A queue with its clock.
struct TestQueue {
    queue: Queue,
    now: DateTime<Utc>,
}

fn about(conversation: &str, number: usize) -> Notification {
    Notification {
        account: "le1".to_owned(),
        conversation: Some(conversation.to_owned()),
        kind: Kind::Content,
        by: None,
        disturbed: false,
        content: Content::Changes(vec![json!(format!("{conversation}{number}"))]),
        body_form: BodyForm::Usual,
    }
}

impl TestQueue {
    fn new(retry: Retry) -> Self {
        Self {
            queue: Queue::new(retry),
            now: DateTime::from_timestamp_millis(1_800_000_000_000).unwrap(),
        }
    }

    /// Creates a queue with these notifications, such as `a1`, the first of conversation `a`.
    fn with(retry: Retry, names: &[&str]) -> Self {
        let mut test = Self::new(retry);
        test.push(names);
        test
    }

    fn push(&mut self, names: &[&str]) {
        for name in names {
            let (conversation, number) = name.split_at(1);
            let notification = about(conversation, number.parse().unwrap());
            self.queue.push(notification, self.now);
        }
    }

    fn advance(&mut self, seconds: i64) {
        self.now += TimeDelta::seconds(seconds);
    }

    /// Sends the notifications that are due now.
    fn send(&mut self) -> Vec<OutgoingNotification> {
        match self.queue.next(self.now) {
            Next::Send(sent) => sent,
            Next::Wait | Next::Idle => Vec::new(),
        }
    }

    fn settle(&mut self, sent: &[OutgoingNotification], accepted: bool) {
        for notification in sent {
            self.queue.settle(notification.id, accepted, self.now);
        }
    }

    /// Sends and settles in rounds until nothing is left. Returns the names of each round.
    fn drain(&mut self) -> Vec<Vec<String>> {
        let mut rounds = Vec::new();
        loop {
            let sent = self.send();
            if sent.is_empty() {
                return rounds;
            }
            rounds.push(names(&sent));
            self.settle(&sent, true);
        }
    }

    fn is_idle(&mut self) -> bool {
        matches!(self.queue.next(self.now), Next::Idle)
    }
}

fn names(sent: &[OutgoingNotification]) -> Vec<String> {
    sent.iter().map(name).collect()
}

fn name(notification: &OutgoingNotification) -> String {
    let body: serde_json::Value = serde_json::from_slice(&notification.body).unwrap();
    let changes = body["body"]["changes"].as_array().unwrap();
    let names: Vec<_> = changes.iter().map(|c| c.as_str().unwrap()).collect();
    names.join("+")
}

#[test]
fn notifications_are_sequential_per_conversation_and_parallel_across_conversations() {
    let mut test = TestQueue::with(Retry::ByNumber(0), &["a1", "a2", "b1", "a3", "b2"]);

    let rounds = test.drain();

    assert_eq!(rounds, [vec!["a1", "b1"], vec!["a2", "b2"], vec!["a3"]]);
    assert!(test.is_idle());
}

#[test]
fn at_most_32_notifications_are_in_flight() {
    let mut test = TestQueue::new(Retry::ByNumber(0));
    for number in 0..40 {
        let conversation = format!("c{number}-");
        test.queue.push(about(&conversation, 1), test.now);
    }

    let first = test.send();
    test.settle(&first[..3], true);
    let second = test.send();

    assert_eq!((first.len(), second.len()), (32, 3));
}

#[test]
fn retry_by_number_tries_every_30_s_and_then_gives_up() {
    let mut test = TestQueue::with(Retry::ByNumber(2), &["a1"]);
    for attempt in 1..=3 {
        let sent = test.send();
        assert_eq!(sent[0].attempt, attempt);
        test.settle(&sent, false);
        if attempt < 3 {
            test.advance(29);
            assert!(test.send().is_empty() && !test.is_idle());
            test.advance(1);
        }
    }

    assert!(test.is_idle());
    assert_eq!(test.queue.len(), 0);
}

#[test]
fn without_retries_a_failed_notification_is_lost() {
    let mut test = TestQueue::with(Retry::default(), &["a1", "a2"]);

    let sent = test.send();
    test.settle(&sent, false);

    assert_eq!(test.drain(), [["a2"]]);
}

#[test]
fn under_retry_by_number_later_notifications_overtake_a_failed_one() {
    let mut test = TestQueue::with(Retry::ByNumber(1), &["a1", "a2"]);

    let sent = test.send();
    test.settle(&sent, false);
    let meanwhile = test.drain();
    test.advance(30);

    assert_eq!(meanwhile, [["a2"]]);
    assert_eq!(test.drain(), [["a1"]]);
}

#[test]
fn retry_by_time_backs_off_the_whole_queue_and_keeps_the_order() {
    let mut test = TestQueue::with(Retry::TimeToLive(86_400), &["a1", "a2", "b1"]);
    let sent = test.send();
    test.settle(&sent, false);
    test.push(&["c1"]);

    for gap in [2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        test.advance(gap - 1);
        assert!(test.send().is_empty(), "before {gap} s");
        test.advance(1);
        let probe = test.send();
        assert_eq!(names(&probe), ["a1"], "after {gap} s");
        assert!(test.send().is_empty(), "one at a time");
        test.settle(&probe, false);
    }
    test.advance(300);

    let rounds = test.drain();

    assert_eq!(rounds, [vec!["a1"], vec!["a2", "b1", "c1"]]);
}

#[test]
fn simultaneous_failures_count_as_one_outage() {
    let mut test = TestQueue::with(Retry::TimeToLive(60), &["a1", "b1", "c1"]);

    let sent = test.send();
    test.settle(&sent, false);
    test.advance(2);

    assert_eq!(names(&test.send()), ["a1"]);
}

#[test]
fn a_notification_is_given_up_after_its_time_to_live() {
    let mut test = TestQueue::with(Retry::TimeToLive(10), &["a1"]);
    let sent = test.send();
    test.settle(&sent, false);
    test.advance(5);
    test.push(&["a2"]);
    test.advance(5);

    let probe = test.send();

    assert_eq!(names(&probe), ["a2"]);
    assert_eq!(test.queue.len(), 1);
}

#[test]
fn retry_now_sends_failed_notifications_immediately() {
    for retry in [Retry::ByNumber(1), Retry::TimeToLive(60)] {
        let mut test = TestQueue::with(retry, &["a1"]);
        let sent = test.send();
        test.settle(&sent, false);
        assert!(test.send().is_empty());

        test.queue.retry_now();

        assert_eq!(test.drain(), [["a1"]], "{retry:?}");
    }
}

#[test]
fn a_reordered_notification_is_sent_after_the_next_of_its_conversation() {
    let mut test = TestQueue::new(Retry::ByNumber(0));
    test.queue
        .push_held(about("a", 1), HeldUntil::Follower, test.now);
    test.queue
        .push_held(about("a", 2), HeldUntil::Follower, test.now);
    assert!(test.is_idle(), "nothing follows yet");
    test.push(&["b1"]);
    assert_eq!(
        test.drain(),
        [["b1"]],
        "another conversation's does not follow"
    );
    test.push(&["a3"]);

    let rounds = test.drain();

    assert_eq!(rounds, [["a3"], ["a2"], ["a1"]]);
}

#[test]
fn a_held_notification_waits_until_it_is_released() {
    let mut test = TestQueue::new(Retry::TimeToLive(2));
    test.queue
        .push_held(about("a", 1), HeldUntil::Release, test.now);
    test.push(&["a2"]);
    assert_eq!(test.drain(), [["a2"]]);
    test.advance(60);
    assert!(test.is_idle());
    assert_eq!(test.queue.len(), 1, "it does not expire");

    test.queue.release();
    test.queue.retry = Retry::ByNumber(0);

    assert_eq!(test.drain(), [["a1"]]);
}

#[test]
fn batched_notifications_are_sent_as_one_request_per_type() {
    let mut test = TestQueue::new(Retry::ByNumber(0));
    let conversation_change = Notification {
        kind: Kind::Conversation,
        ..about("b", 1)
    };
    test.queue.gather(about("a", 1), test.now);
    test.queue.gather(conversation_change, test.now);
    test.queue.gather(about("a", 2), test.now);
    assert!(test.is_idle());

    test.queue.close_batches();

    assert_eq!(test.drain(), [["a1+a2", "b1"]]);
}

#[test]
fn only_the_first_attempt_has_a_wrong_signature() {
    let mut test = TestQueue::new(Retry::ByNumber(1));
    test.queue.push_forged(about("a", 1), test.now);

    let first = test.send();
    test.settle(&first, false);
    test.advance(30);
    let second = test.send();

    assert_eq!((first[0].forged, second[0].forged), (true, false));
}

#[test]
fn the_outcome_of_a_cleared_notification_is_ignored() {
    let mut test = TestQueue::with(Retry::TimeToLive(60), &["a1"]);
    let sent = test.send();

    test.queue.clear();
    test.settle(&sent, false);
    test.push(&["a2"]);

    assert_eq!(test.drain(), [["a2"]]);
}
