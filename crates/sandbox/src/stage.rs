//! The surroundings of the simulated Cloud: the bridge that its page calls, and the additions of
//! `demo`.

mod api;
pub(super) mod channel;

use secrecy::SecretString;
use url::Url;

use super::webhooks::read_endpoint;

/// The surroundings of a sandbox; empty by default.
#[derive(Debug, Clone, Default)]
pub struct Stage {
    /// The bridge that the page calls from the browser.
    pub bridge: Option<Bridge>,
    /// The channel that `demo` adds; without it there is nothing under `/_demo/`.
    pub demo: Option<Demo>,
}

/// A bridge, at the address that a browser uses.
#[derive(Debug, Clone)]
pub struct Bridge {
    /// The URL of its API.
    pub url: Url,
}

/// The channel of the demo. The sandbox plays its callback and issues its tokens.
#[derive(Debug, Clone)]
pub struct Demo {
    /// The channel id, also the `iss` of its tokens.
    pub channel: String,
    /// The key that signs its tokens (HS256).
    pub token_key: SecretString,
    /// Its API key, with which it has its callbacks resumed.
    pub api_key: SecretString,
}

/// Reads the URL of a bridge.
///
/// # Errors
///
/// When it is not an http or https URL, or holds more than an address and a path; the text says so.
pub fn read_bridge(text: &str) -> Result<Url, String> {
    let url = read_endpoint(text)?;
    let bare = url.query().is_none() && url.fragment().is_none();
    if bare && url.username().is_empty() && url.password().is_none() {
        Ok(url)
    } else {
        Err("expected a URL without user, query or fragment".to_owned())
    }
}

impl Bridge {
    /// Returns the URL to which paths of the API are appended, without a slash at its end.
    pub(super) fn base(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }
}
