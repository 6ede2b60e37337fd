//! Hosts of the Cloud, and the URLs of an account's endpoints, built once for each host.

use url::Url;

use super::Account;
use super::service::Service;
use crate::http::{self, Uri};

/// An endpoint of a service, with a URL of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// All requests within a conversation.
    Send,
    /// The request that opens a conversation.
    Conversation,
    /// The request for an `AppJWT`.
    AppToken,
    /// The request for a `ConsumerJWS`.
    Consumer,
    /// The call that finds the conversation of a consumer.
    Engagement,
}

impl Endpoint {
    /// Returns the service that the endpoint belongs to.
    pub(super) fn service(self) -> Service {
        match self {
            Self::Send | Self::Conversation => Service::Messaging,
            Self::AppToken => Service::Sentinel,
            Self::Consumer => Service::Idp,
            Self::Engagement => Service::Monitoring,
        }
    }

    fn below(self, base: &Url, account: &Account) -> Result<Uri, http::Error> {
        let Account { id, client_id, .. } = account;
        let conversation = "messaging/consumer/conversation";
        let (path, query) = match self {
            Self::Send => (format!("/api/account/{id}/{conversation}/send"), "v=3"),
            Self::Conversation => (format!("/api/account/{id}/{conversation}"), "v=3"),
            Self::AppToken => (format!("/sentinel/api/account/{id}/app/token"), "v=1.0"),
            Self::Consumer => (format!("/api/account/{id}/consumer"), "v=1.0"),
            Self::Engagement => (
                format!("/api/account/{id}/app/{client_id}/engagement"),
                // Called on behalf of the consumer, who is not at this machine.
                "v=1.0&obh=true",
            ),
        };
        http::uri(&below(base, &path, query))
    }
}

/// A host: the base of its URLs, and the URL of each endpoint.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) base: Url,
    send: Uri,
    conversation: Uri,
    app_token: Uri,
    consumer: Uri,
    engagement: Uri,
}

impl Host {
    /// Creates the host with this base for the account; an error if HTTP cannot express one of its
    /// URLs.
    pub(super) fn new(base: Url, account: &Account) -> Result<Self, http::Error> {
        Ok(Self {
            send: Endpoint::Send.below(&base, account)?,
            conversation: Endpoint::Conversation.below(&base, account)?,
            app_token: Endpoint::AppToken.below(&base, account)?,
            consumer: Endpoint::Consumer.below(&base, account)?,
            engagement: Endpoint::Engagement.below(&base, account)?,
            base,
        })
    }

    /// Returns the URL of an endpoint on this host.
    pub(super) fn uri(&self, endpoint: Endpoint) -> &Uri {
        match endpoint {
            Endpoint::Send => &self.send,
            Endpoint::Conversation => &self.conversation,
            Endpoint::AppToken => &self.app_token,
            Endpoint::Consumer => &self.consumer,
            Endpoint::Engagement => &self.engagement,
        }
    }
}

/// Returns the URL of a path below a base, which may have a path of its own.
pub(super) fn below(base: &Url, path: &str, query: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url.set_query(Some(query));
    url
}
