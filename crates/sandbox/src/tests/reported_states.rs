//! The changes of a conversation that are not reported yet.

use chrono::{TimeDelta, Utc};

use super::*;
use crate::conversations::{Consumer, NewEvent, Opening, Stage};
use crate::notification::Content;
use crate::participant::{Audience, Participant, Role};
use crate::reported_states::ReportedStates;

const START: i64 = 1_800_000_000_000;

/// A conversation, and the record of its reported state.
struct Reporter {
    conversation: Conversation,
    reported_states: ReportedStates,
    now: DateTime<Utc>,
}

fn opened(id: &str, now: DateTime<Utc>) -> Conversation {
    let consumer = Consumer {
        account: ACCOUNT.to_owned(),
        ext_consumer_id: "u-1".to_owned(),
        lp_consumer_id: "c0ffee".to_owned(),
    };
    let opening = Opening {
        consumer,
        profile: json!({}),
        request: json!({}),
        client_properties: None,
        features: std::collections::BTreeSet::new(),
    };
    Conversation::new(id.to_owned(), opening, now)
}

impl Reporter {
    fn new() -> Self {
        let now = DateTime::from_timestamp_millis(START).unwrap();
        Self {
            conversation: opened("CONV", now),
            reported_states: ReportedStates::default(),
            now,
        }
    }

    /// Opens the survey's dialog as the Cloud does, beside the main one.
    fn open_survey(&mut self) {
        let survey = opened("SURVEY", self.now).dialogs.remove(0);
        let main = &mut self.conversation.dialogs[0];
        main.state = Stage::Close;
        main.closed_by = Some("CONSUMER".to_owned());
        self.conversation.state = Stage::Close;
        self.conversation.dialogs.push(survey);
    }

    fn publish_question(&mut self, question: &str) {
        let bot = Participant::of_brand(ACCOUNT, Role::Agent, "");
        let new_event = NewEvent {
            originator: bot,
            audience: Audience::All,
            event: json!({"type": "ContentEvent", "message": question}),
            metadata: None,
            request_id: None,
        };
        let dialog = self.conversation.dialogs.last_mut().unwrap();
        dialog.publish(new_event, self.now);
    }

    /// Reports the new changes, and returns them. Each is the only one of its notification.
    fn report(&mut self) -> Vec<Value> {
        let unreported = self
            .reported_states
            .take_unreported(&self.conversation, self.now);
        let notifications = unreported.notifications();
        let change = |content: &Content| match content {
            Content::Changes(changes) => changes[0].clone(),
            Content::Raw(raw) => panic!("{raw:?}"),
        };
        notifications.iter().map(|n| change(&n.content)).collect()
    }

    fn advance(&mut self, seconds: i64) {
        self.now += TimeDelta::seconds(seconds);
    }
}

#[test]
fn no_change_is_reported_twice() {
    let mut reporter = Reporter::new();
    assert_eq!(reporter.report().len(), 1);

    reporter.publish_question("a");
    let first = reporter.report();
    reporter.advance(60);
    let second = reporter.report();

    assert_eq!(first.len(), 1);
    assert_eq!(second, Vec::<Value>::new());
}

#[test]
fn a_survey_is_reported_as_a_separate_dialog() {
    let mut reporter = Reporter::new();
    reporter.report();
    reporter.advance(60);

    reporter.open_survey();
    reporter.publish_question("Were you served?");
    let changes = reporter.report();

    let details = &changes[0]["result"]["conversationDetails"];
    assert_eq!([&details["state"], &details["stage"]], ["CLOSE", "OPEN"]);
    assert!(details.get("closeReason").is_none() && details.get("endTs").is_none());
    let bot = Participant::of_brand(ACCOUNT, Role::Agent, "").id;
    let consumer = json!({"id": "c0ffee", "role": "CONSUMER", "state": "ACTIVE"});
    let later = START + 60_000;
    let expected = json!([
        {
            "dialogId": "CONV", "dialogType": "MAIN", "channelType": "MESSAGING", "state": "CLOSE",
            "participantsDetails": [consumer], "closedBy": "CONSUMER",
            "creationTs": START, "endTs": later, "metaDataLastUpdateTs": later,
        },
        {
            "dialogId": "SURVEY", "dialogType": "POST_SURVEY", "channelType": "MESSAGING", "state": "OPEN",
            "participantsDetails": [consumer, {"id": bot, "role": "AGENT", "state": "ACTIVE"}],
            "creationTs": later, "metaDataLastUpdateTs": later,
        },
    ]);
    assert_eq!(details["dialogs"], expected);
    let question = &changes[1];
    assert_eq!(
        (&question["dialogId"], &question["sequence"]),
        (&json!("SURVEY"), &json!(0))
    );
}

#[test]
fn the_end_of_a_conversation_is_reported_after_earlier_messages() {
    let mut reporter = Reporter::new();
    reporter.report();

    reporter.publish_question("Goodbye");
    reporter.conversation.close("AGENT");
    let changes = reporter.report();

    assert_eq!(changes[0]["event"]["message"], "Goodbye");
    assert_eq!(
        changes[1]["result"]["conversationDetails"]["stage"],
        "CLOSE"
    );
}

#[test]
fn an_unchanged_dialog_keeps_its_update_time() {
    let mut reporter = Reporter::new();
    reporter.report();
    reporter.advance(1);
    reporter.open_survey();
    reporter.report();
    reporter.advance(1);

    reporter.publish_question("Were you served?");
    let changes = reporter.report();

    let dialogs = &changes[0]["result"]["conversationDetails"]["dialogs"];
    let updated = |index: usize| dialogs[index]["metaDataLastUpdateTs"].as_i64();
    assert_eq!(updated(0), Some(START + 1000));
    assert_eq!(updated(1), Some(START + 2000));
}
