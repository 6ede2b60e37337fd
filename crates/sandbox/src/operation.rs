//! The simulated endpoints of the Cloud, with their methods and paths.

use axum::http::Method;
use serde::de::IntoDeserializer;
use serde::de::value::Error as Unread;
use serde::{Deserialize, Serialize};

/// An endpoint of the Cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Domain API: one service.
    DomainLookup,
    /// Domain API: all services of an account.
    DomainList,
    /// Sentinel: an AppJWT.
    AppToken,
    /// IDP: a ConsumerJWS.
    ConsumerToken,
    /// Send API: CONVERSATION, which opens a conversation.
    Conversation,
    /// Send API: SEND, everything that happens in a conversation.
    Send,
    /// Monitoring API: engagements and an open conversation of a visitor.
    Engagement,
    /// File storage: PUT of a file's bytes.
    Upload,
    /// File storage: GET of a file's bytes.
    Download,
}

impl Operation {
    /// All operations.
    pub(super) const ALL: [Self; 9] = [
        Self::DomainLookup,
        Self::DomainList,
        Self::AppToken,
        Self::ConsumerToken,
        Self::Conversation,
        Self::Send,
        Self::Engagement,
        Self::Upload,
        Self::Download,
    ];

    /// Reads the name of an operation, such as `send`. The error lists all names.
    pub(super) fn read(name: &str) -> Result<Self, Unread> {
        Self::deserialize(IntoDeserializer::<Unread>::into_deserializer(name))
    }

    /// Returns the operations at a path, which differ in their methods.
    pub(super) fn at(path: &str) -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .filter(move |operation| operation.path() == path)
    }

    pub(super) fn method(self) -> Method {
        match self {
            Self::DomainLookup | Self::DomainList | Self::Download => Method::GET,
            Self::AppToken
            | Self::ConsumerToken
            | Self::Conversation
            | Self::Send
            | Self::Engagement => Method::POST,
            Self::Upload => Method::PUT,
        }
    }

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::DomainLookup => "/api/account/{account}/service/{service}/baseURI.json",
            Self::DomainList => "/api/account/{account}/service/baseURI.json",
            Self::AppToken => "/sentinel/api/account/{account}/app/token",
            Self::ConsumerToken => "/api/account/{account}/consumer",
            Self::Conversation => "/api/account/{account}/messaging/consumer/conversation",
            Self::Send => "/api/account/{account}/messaging/consumer/conversation/send",
            Self::Engagement => "/api/account/{account}/app/{app}/engagement",
            Self::Upload | Self::Download => "/v1/AUTH_async-images/{account}/{name}",
        }
    }
}

/// The parameters in the path of a request.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PathParameters {
    pub(super) account: String,
    pub(super) service: String,
    pub(super) app: String,
}
