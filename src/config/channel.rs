//! Channels: the systems that call the bridge and receive events.

use std::fmt;
use std::num::NonZeroU32;

use chrono::TimeDelta;
use secrecy::{ExposeSecret as _, SecretSlice};
use url::Url;

use super::account::Account;
use super::form;
use super::section::{AlreadyReported, Section};
use crate::crypto::{ApiKeyHash, JwtKey};
use crate::types::conversation::{Context, Features, Opening, Routing};
use crate::types::event::EventType;
use crate::types::ids::{AccountId, ChannelId, Namespace};

/// 72 h: long enough for a weekend in which a broken callback is not repaired.
const MAX_AGE: TimeDelta = TimeDelta::hours(72);

/// 1,000,000 requests: an outage of a day at ten requests per second. They take about two gigabytes
/// in the database.
const MAX_QUEUED: &str = "1000000";

/// 1000 requests: far more than a person writes in a day.
const MAX_QUEUED_PER_USER: &str = "1000";

/// A system that calls the bridge, such as an SMS gateway or an app of the brand.
#[derive(Debug, Clone)]
pub struct Channel {
    /// The channel's id. No other channel has the same.
    pub id: ChannelId,
    /// The account with which its users talk, one of the configured accounts.
    pub account_id: AccountId,
    /// The prefix of its users' ids at the Cloud: the channel's id if left out. Channels with the
    /// same namespace share their users.
    pub namespace: Namespace,
    /// The API keys of the channel. There is at least one, unless the channel has tokens. No two
    /// channels share a key.
    pub api_keys: Vec<ApiKeyHash>,
    /// The keys that verify its tokens (JWTs). There are several while one is being replaced.
    pub jwt_keys: Vec<JwtKey>,
    /// The origins of the pages that may call the bridge with a token of one user.
    pub cors_origins: Vec<String>,
    /// The callback for its events; `None` if the channel fetches them.
    pub callback: Option<Callback>,
    /// The time for which the delivery of an event is attempted: 72 hours if left out, or the
    /// retention if that is shorter.
    pub max_age: TimeDelta,
    /// The types of event that the channel receives: all but `message.echoed` if left out.
    pub events: Vec<EventType>,
    /// The time for which the links to files in its events work without a key, 1 minute to 30 days;
    /// `None` for links that need its key.
    pub signed_file_links: Option<TimeDelta>,
    /// True if a user's text may name one of the choices that the user is offered, unless the
    /// request says otherwise: false if left out.
    pub match_choices: bool,
    /// The options for opening a conversation, for those that a request leaves out.
    pub defaults: Opening,
    /// The limits on its requests.
    pub limits: Limits,
}

/// The destination of a channel's events, and the secrets that prove that the bridge sent them.
#[derive(Clone)]
pub struct Callback {
    /// The URL that receives each event in a `POST`.
    pub url: Url,
    /// The secrets that sign each event, as bytes: one, or two while one is being replaced.
    pub secrets: Vec<SecretSlice<u8>>,
}

impl fmt::Debug for Callback {
    /// Shows only the host, since the rest of a URL may contain a password or a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback")
            .field("host", &self.url.host_str())
            .finish_non_exhaustive()
    }
}

/// The limits on a channel's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests per second of the whole channel; `None` for no limit.
    pub requests_per_second: Option<NonZeroU32>,
    /// Requests per second about the same user; `None` for no limit.
    pub per_user_requests_per_second: Option<NonZeroU32>,
    /// The maximum number of queued requests: 1,000,000 if left out.
    pub queued: NonZeroU32,
    /// The maximum number of queued requests of one user: 1000 if left out.
    pub queued_per_user: NonZeroU32,
}

impl Channel {
    /// Reads a channel. `accounts` and `retention` are `None` if they have problems of their own.
    pub(super) fn read(
        section: &mut Section<'_>,
        earlier: &[Self],
        accounts: Option<&[Account]>,
        retention: Option<TimeDelta>,
    ) -> Result<Self, AlreadyReported> {
        let id = read_id(section, earlier);
        let account_id = read_account_id(section, accounts);
        let namespace = section.optional("namespace", &form::id());
        let jwt_keys = section.section("jwt", read_jwt_keys);
        let has_tokens = jwt_keys.as_ref().is_ok_and(|keys| !keys.is_empty());
        let api_keys = read_api_keys(section, earlier, has_tokens);
        let cors_origins = read_cors_origins(section, jwt_keys.is_err() || has_tokens);
        let callback = read_callback(section);
        let max_age = read_max_age(section, retention);
        let events = section.list("events", &form::EVENT_TYPE);
        let signed_file_links = section.optional("signed_file_links", &form::LIFETIME);
        let match_choices = section.or_default("match_choices", &form::SWITCH, "false");
        let defaults = section.section("defaults", read_defaults);
        let limits = section.section("limits", read_limits);

        let id = id?;
        let namespace = match namespace? {
            Some(namespace) => namespace,
            None => id.to_string().parse().map_err(|_| {
                section.refuse(
                    "namespace",
                    "a namespace, since the id cannot be used as one",
                )
            })?,
        };
        Ok(Self {
            id,
            account_id: account_id?,
            namespace,
            api_keys: api_keys?,
            jwt_keys: jwt_keys?,
            cors_origins: cors_origins?,
            callback: callback?,
            max_age: max_age?,
            events: events?.unwrap_or_else(default_events),
            signed_file_links: signed_file_links?,
            match_choices: match_choices?,
            defaults: defaults?,
            limits: limits?,
        })
    }
}

fn read_id(section: &mut Section<'_>, earlier: &[Channel]) -> Result<ChannelId, AlreadyReported> {
    let id = section.required("id", &form::id())?;
    if earlier.iter().any(|other| other.id == id) {
        return Err(section.refuse("id", "an id that no other channel has"));
    }
    Ok(id)
}

fn read_account_id(
    section: &mut Section<'_>,
    accounts: Option<&[Account]>,
) -> Result<AccountId, AlreadyReported> {
    let id = section.required("account_id", &form::id())?;
    if accounts.is_some_and(|accounts| accounts.iter().all(|account| account.account_id != id)) {
        return Err(section.refuse("account_id", "the account_id of one of the accounts"));
    }
    Ok(id)
}

fn read_api_keys(
    section: &mut Section<'_>,
    earlier: &[Channel],
    has_tokens: bool,
) -> Result<Vec<ApiKeyHash>, AlreadyReported> {
    let keys = section
        .list("api_keys", &form::API_KEY)?
        .unwrap_or_default();
    if keys.is_empty() && !has_tokens {
        return Err(section.refuse("api_keys", "at least one API key"));
    }
    let mut used = earlier.iter().flat_map(|other| &other.api_keys);
    if used.any(|other| keys.iter().any(|key| key.matches(other))) {
        return Err(section.refuse("api_keys", "keys that no other channel uses"));
    }
    Ok(keys)
}

fn read_jwt_keys(section: &mut Section<'_>) -> Result<Vec<JwtKey>, AlreadyReported> {
    let algorithm = section.optional("algorithm", &form::JWT_ALGORITHM);
    let keys = section.list_or_single("key", &form::JWT_KEY)?;
    let Some(algorithm) = algorithm? else {
        return match keys {
            None => Ok(vec![]),
            Some(_) => Err(section.refuse("algorithm", form::JWT_ALGORITHM.expected)),
        };
    };
    let keys = keys.unwrap_or_default();
    let read: Option<Vec<_>> = keys
        .iter()
        .map(|key| JwtKey::read(algorithm, key.expose_secret()))
        .collect();
    read.filter(|keys| !keys.is_empty())
        .ok_or_else(|| section.refuse("key", algorithm.expected_key()))
}

fn read_cors_origins(
    section: &mut Section<'_>,
    has_tokens: bool,
) -> Result<Vec<String>, AlreadyReported> {
    let origins = section.list("cors_origins", &form::ORIGIN)?;
    let origins = origins.unwrap_or_default();
    if !origins.is_empty() && !has_tokens {
        let expected = "none unless jwt is set, since a page must not hold an API key";
        return Err(section.refuse("cors_origins", expected));
    }
    Ok(origins)
}

/// Reads the callback. Secrets without a URL are allowed, so that a callback can be turned off for
/// a while.
fn read_callback(section: &mut Section<'_>) -> Result<Option<Callback>, AlreadyReported> {
    let url = section.optional("callback_url", &form::HTTP_URL);
    let secrets = section
        .list_or_single("callback_secret", &form::CALLBACK_SECRET)?
        .unwrap_or_default();
    if secrets.len() > 2 {
        return Err(section.refuse("callback_secret", "at most two secrets"));
    }
    let Some(url) = url? else {
        return Ok(None);
    };
    if secrets.is_empty() {
        let expected = "whsec_ and the base64 of 24 to 64 bytes, since callback_url is set";
        return Err(section.refuse("callback_secret", expected));
    }
    Ok(Some(Callback { url, secrets }))
}

fn read_max_age(
    section: &mut Section<'_>,
    retention: Option<TimeDelta>,
) -> Result<TimeDelta, AlreadyReported> {
    let retention = retention.unwrap_or(TimeDelta::MAX);
    match section.optional("max_age", &form::LIFETIME)? {
        None => Ok(MAX_AGE.min(retention)),
        Some(max_age) if max_age <= retention => Ok(max_age),
        Some(_) => Err(section.refuse(
            "max_age",
            "at most retention, the time for which events are stored",
        )),
    }
}

fn default_events() -> Vec<EventType> {
    let all = EventType::ALL.into_iter();
    all.filter(|event| *event != EventType::MessageEchoed)
        .collect()
}

fn read_defaults(section: &mut Section<'_>) -> Result<Opening, AlreadyReported> {
    let routing = read_routing(section);
    let language = section.optional("language", &form::LANGUAGE);
    let urgency = section.optional("urgency", &form::URGENCY);
    let features = section
        .list("features", &form::FEATURE)?
        .unwrap_or_default();
    let features =
        Features::try_from(features).map_err(|error| section.refuse("features", error.expected));
    Ok(Opening {
        profile: None,
        routing: routing?,
        context: language?.map(|language| Context {
            language: Some(language),
            ..Context::default()
        }),
        urgency: urgency?,
        features: features?,
    })
}

fn read_routing(section: &mut Section<'_>) -> Result<Option<Routing>, AlreadyReported> {
    const EXPECTED: &str = "either campaign_id and engagement_id, or skill_id alone";
    let campaign_id = section.optional("campaign_id", &form::ROUTE_ID);
    let engagement_id = section.optional("engagement_id", &form::ROUTE_ID);
    let skill_id = section.optional("skill_id", &form::ROUTE_ID);
    match (campaign_id?, engagement_id?, skill_id?) {
        (None, None, None) => Ok(None),
        (None, None, Some(skill_id)) => Ok(Some(Routing::Skill { skill_id })),
        (Some(campaign_id), Some(engagement_id), None) => Ok(Some(Routing::Campaign {
            campaign_id,
            engagement_id,
        })),
        (_, _, Some(_)) => Err(section.refuse("skill_id", EXPECTED)),
        (Some(_), None, None) => Err(section.refuse("engagement_id", EXPECTED)),
        (None, Some(_), None) => Err(section.refuse("campaign_id", EXPECTED)),
    }
}

fn read_limits(section: &mut Section<'_>) -> Result<Limits, AlreadyReported> {
    let requests_per_second = section.optional("requests_per_second", &form::REQUEST_LIMIT);
    let per_user = section.optional("per_user_requests_per_second", &form::REQUEST_LIMIT);
    let queued = section.or_default("queued_requests", &form::REQUEST_LIMIT, MAX_QUEUED);
    let queued_per_user = section.or_default(
        "per_user_queued_requests",
        &form::REQUEST_LIMIT,
        MAX_QUEUED_PER_USER,
    );
    Ok(Limits {
        requests_per_second: requests_per_second?,
        per_user_requests_per_second: per_user?,
        queued: queued?,
        queued_per_user: queued_per_user?,
    })
}
