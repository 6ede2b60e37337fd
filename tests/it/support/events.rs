//! Events of a channel, as the service stores them, and a reader of an event stream.

use std::time::Duration;

use chrono::{DateTime, Utc};
use liveperson_bridge::clock::Clock as _;
use liveperson_bridge::store::{NewEvent, Store, UserRef};
use liveperson_bridge::types::event::data::{Message, Role, Sender};
use liveperson_bridge::types::event::{Data, EventId, EventType, UnaddressedEvent};
use liveperson_bridge::types::ids::UserKey;
use reqwest::{Method, Response};
use serde_json::Value;
use tokio::time::timeout;
use uuid::Uuid;

use super::app::TestApp;
use super::changes::append;
use super::channel::Channel;
use super::cloud::ACCOUNT;
use super::patience::PATIENCE;

/// Returns a user of a channel's namespace, and creates the user if absent.
pub(crate) async fn user(store: &Store, namespace: &str, user_id: &str) -> UserRef {
    let key = UserKey {
        account_id: ACCOUNT.parse().unwrap(),
        namespace: namespace.parse().unwrap(),
        user_id: user_id.parse().unwrap(),
    };
    store.ensure_user(&key, DateTime::UNIX_EPOCH).await.unwrap()
}

/// Returns the event of an agent's message to a user, without a delivery to a callback.
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
    let draft = UnaddressedEvent {
        kind: EventType::MessageCreated,
        occurred_at: DateTime::<Utc>::UNIX_EPOCH,
        data: Data::Message(Box::new(message)),
    };
    let conversation = Some("c1".parse().unwrap());
    let channel_id: liveperson_bridge::types::ids::ChannelId = channel.parse().unwrap();
    let event = draft.into_event(
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

/// Appends the events of an agent's texts to `ada`, and returns them. The channel has a namespace
/// of its own.
pub(crate) async fn append_texts(app: &TestApp, channel: &str, texts: &[&str]) -> Vec<NewEvent> {
    let user = user(app.store(), channel, "ada").await;
    let events: Vec<_> = texts
        .iter()
        .map(|text| message(channel, user, "ada", text))
        .collect();
    let now = app.cloud.clock.now();
    append(app.store(), &events, now).await;
    events
}

/// Returns the texts of events.
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
    fields: Fields,
}

/// A unit of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Block {
    Comment,
    Event {
        id: String,
        kind: String,
        data: String,
    },
}

/// The fields of an incomplete event.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    retry: Option<u64>,
    kind: Option<String>,
    data: Option<String>,
    id: Option<String>,
}

impl Stream {
    /// Opens a stream of a channel's events.
    pub(crate) async fn open(channel: &Channel, query: &str, last_event_id: Option<&str>) -> Self {
        let path = format!("/v1/events{query}");
        let request = channel.request(Method::GET, &path);
        let mut request = request.header("accept", "text/event-stream");
        if let Some(last_event_id) = last_event_id {
            request = request.header("last-event-id", last_event_id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let mut stream = Self {
            response,
            text: String::new(),
            fields: Fields::default(),
        };
        // Every stream begins with a comment, even without events.
        assert_eq!(stream.next().await, Some(Block::Comment));
        stream
    }

    /// Returns the next unit; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Block> {
        loop {
            while let Some(end) = self.text.find('\n') {
                let line: String = self.text.drain(..=end).collect();
                if let Some(block) = self.fields.read(line.trim_end()) {
                    return Some(block);
                }
            }
            let chunk = timeout(PATIENCE, self.response.chunk());
            let chunk = chunk.await.expect("the stream is silent").unwrap()?;
            self.text.push_str(str::from_utf8(&chunk).unwrap());
        }
    }

    /// Returns the id and data of the next event, after any comments.
    pub(crate) async fn next_event(&mut self) -> (String, String) {
        loop {
            match self.next().await.expect("the stream has ended") {
                Block::Comment => {}
                Block::Event { id, data, .. } => return (id, data),
            }
        }
    }

    /// Returns the reconnection time in milliseconds, if the stream has sent one.
    pub(crate) fn retry(&self) -> Option<u64> {
        self.fields.retry
    }

    /// Returns the time until the next event arrives.
    pub(crate) async fn time_to_next(&mut self) -> Duration {
        let started = std::time::Instant::now();
        self.next_event().await;
        started.elapsed()
    }
}

impl Fields {
    /// Reads a line of a stream, and returns the unit that it completes, if any.
    pub(crate) fn read(&mut self, line: &str) -> Option<Block> {
        if line.is_empty() {
            // Some readers treat any empty line as the end of an event.
            let (kind, data) = (self.kind.take(), self.data.take());
            return Some(Block::Event {
                kind: kind.expect("an empty line that ends no event"),
                data: data.expect("an event without data"),
                id: self.id.take().expect("an event without an id"),
            });
        }
        let (field, value) = line.split_once(':').unwrap();
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        // Some readers consider an event received as soon as they have its id.
        assert_eq!(self.id, None, "the id comes last, not before {line}");
        match field {
            "" => return Some(Block::Comment),
            "retry" => self.retry = Some(value.parse().unwrap()),
            "event" => self.kind = Some(value),
            "data" => self.data = Some(value),
            "id" => self.id = Some(value),
            _ => panic!("an unknown field: {line}"),
        }
        None
    }
}
