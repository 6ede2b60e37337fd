//! A host of the Cloud, and the URLs of what an account asks there, made once for each host.

use url::Url;

use super::Account;
use super::service::Service;
use crate::http::{self, Uri};

/// What is asked of a service, at a URL of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// Everything within a conversation.
    Send,
    /// Opening a conversation.
    Conversation,
    /// An `AppJWT`.
    AppToken,
    /// A `ConsumerJWS`.
    Consumer,
    /// Which conversation a consumer is in.
    Engagement,
}

impl Endpoint {
    /// Whose it is.
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
                // On behalf of the consumer, who is not where this machine is.
                "v=1.0&obh=true",
            ),
        };
        http::uri(&below(base, &path, query))
    }
}

/// A host, or rather the base of the URLs there.
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
    /// The host with this base, as the account sees it; an error where HTTP has no such URLs.
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

    /// The URL of an endpoint, were it on this host.
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

/// The URL of a path below a base, which may have a path of its own.
pub(super) fn below(base: &Url, path: &str, query: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url.set_query(Some(query));
    url
}
