//! Events of a channel, as the service writes them down, and a reader of a stream of them.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, Utc};
use liveperson_bridge::clock::Clock as _;
use liveperson_bridge::store::{NewEvent, Store, UserRef};
use liveperson_bridge::types::event::data::{Message, Role, Sender};
use liveperson_bridge::types::event::{Data, Draft, EventId, EventType};
use liveperson_bridge::types::ids::UserKey;
use reqwest::{Method, Response};
use serde_json::Value;
use tokio::time::timeout;
use uuid::Uuid;

use super::app::TestApp;
use super::channel::Channel;
use super::cloud::ACCOUNT;
use super::patience::PATIENCE;

/// The row of a user of a channel's namespace; made when absent.
pub(crate) async fn user(store: &Store, namespace: &str, user_id: &str) -> UserRef {
    let key = UserKey {
        account_id: ACCOUNT.parse().unwrap(),
        namespace: namespace.parse().unwrap(),
        user_id: user_id.parse().unwrap(),
    };
    store.ensure_user(&key, DateTime::UNIX_EPOCH).await.unwrap()
}

/// An agent's message to a user of a channel, as an event that nobody waits for.
pub(crate) fn message(channel: &str, user: UserRef, user_id: &str, text: &str) -> NewEvent {
    let id = EventId::new(Uuid::new_v4());
    let message = Message {
        sequence: Some(0),
        dialog_id: Some("c1".to_owned()),
        sender: Sender {
            id: Some("agent-1".to_owned()),
            role: Role::Agent,
        },
        text: text.to_owned(),
        file: None,
        rich: None,
        choices: Vec::new(),
        metadata: None,
    };
    let draft = Draft {
        kind: EventType::MessageCreated,
        occurred_at: DateTime::<Utc>::UNIX_EPOCH,
        data: Data::Message(Box::new(message)),
    };
    let conversation = Some("c1".parse().unwrap());
    let channel_id: liveperson_bridge::types::ids::ChannelId = channel.parse().unwrap();
    let event = draft.addressed(
        id,
        channel_id.clone(),
        user_id.parse().unwrap(),
        conversation,
    );
    NewEvent {
        id,
        channel_id,
        user: Some(user),
        kind: EventType::MessageCreated,
        body: event.to_json(),
        parent: None,
        deliver_until: None,
    }
}

/// Writes down that an agent sent these texts to `ada` of a channel that has its own namespace; returns the events.
pub(crate) async fn tell(app: &TestApp, channel: &str, texts: &[&str]) -> Vec<NewEvent> {
    let user = user(app.store(), channel, "ada").await;
    let events: Vec<_> = texts
        .iter()
        .map(|text| message(channel, user, "ada", text))
        .collect();
    let now = app.cloud.clock.now();
    app.store().append_events(&events, now).await.unwrap();
    events
}

/// The texts of events.
pub(crate) fn texts(events: &Value) -> Vec<&str> {
    let events = events.as_array().unwrap().iter();
    events
        .map(|event| event["data"]["text"].as_str().unwrap())
        .collect()
}

/// A stream of server-sent events.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) response: Response,
    text: String,
    blocks: VecDeque<Block>,
}

/// What stands between two empty lines of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Block {
    Comment,
    Event {
        id: String,
        kind: String,
        data: String,
    },
}

impl Stream {
    /// Begins to read a channel's events; `seen` is the `Last-Event-ID`.
    pub(crate) async fn open(channel: &Channel, query: &str, seen: Option<&str>) -> Self {
        let path = format!("/v1/events{query}");
        let request = channel.request(Method::GET, &path);
        let mut request = request.header("accept", "text/event-stream");
        if let Some(seen) = seen {
            request = request.header("last-event-id", seen);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        Self {
            response,
            text: String::new(),
            blocks: VecDeque::new(),
        }
    }

    /// What comes next; none where the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<Block> {
        loop {
            if let Some(block) = self.blocks.pop_front() {
                return Some(block);
            }
            let chunk = timeout(PATIENCE, self.response.chunk());
            let chunk = chunk.await.expect("the stream is silent").unwrap()?;
            self.text.push_str(str::from_utf8(&chunk).unwrap());
            while let Some(end) = self.text.find("\n\n") {
                let block = self.text.drain(..end + 2);
                self.blocks.push_back(Block::read(block.as_str()));
            }
        }
    }

    /// The next event, whatever comments come before it: its id and data.
    pub(crate) async fn next_event(&mut self) -> (String, String) {
        loop {
            match self.next().await.expect("the stream has ended") {
                Block::Comment => {}
                Block::Event { id, data, .. } => return (id, data),
            }
        }
    }

    /// How long it takes until the next event is there.
    pub(crate) async fn time_to_next(&mut self) -> Duration {
        let started = std::time::Instant::now();
        self.next_event().await;
        started.elapsed()
    }
}

impl Block {
    fn read(text: &str) -> Self {
        if text.starts_with(':') {
            return Self::Comment;
        }
        let mut fields = text
            .trim_end()
            .lines()
            .map(|line| line.split_once(": ").unwrap());
        let mut field = |name| {
            let (found, value) = fields.next().unwrap();
            assert_eq!(found, name, "{text}");
            value.to_owned()
        };
        Self::Event {
            id: field("id"),
            kind: field("event"),
            data: field("data"),
        }
    }
}
