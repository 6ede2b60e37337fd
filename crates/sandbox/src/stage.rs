//! What stands around the simulated Cloud: the bridge that its page speaks to, and what `demo` adds to both.

pub(super) mod channel;
mod facade;

use secrecy::SecretString;
use url::Url;

use super::hooks::read_endpoint;

/// The surroundings of a sandbox; none unless given.
#[derive(Debug, Clone, Default)]
pub struct Stage {
    /// The bridge that the page calls from the browser.
    pub bridge: Option<Bridge>,
    /// What `demo` adds; without it there is nothing under `/_demo/`.
    pub demo: Option<Demo>,
}

/// A bridge as a browser reaches it.
#[derive(Debug, Clone)]
pub struct Bridge {
    /// Where its facade is.
    pub url: Url,
}

/// The channel of the demo, whose callback and whose maker of tokens the sandbox plays.
#[derive(Debug, Clone)]
pub struct Demo {
    /// The channel's id, the `iss` of its tokens.
    pub channel: String,
    /// What its tokens are signed with (HS256).
    pub token_key: SecretString,
}

/// Reads where a bridge is.
///
/// # Errors
///
/// When it is no http or https URL, or holds more than an address and a path; the text says so.
pub fn read_bridge(text: &str) -> Result<Url, String> {
    let url = read_endpoint(text)?;
    let bare = url.query().is_none() && url.fragment().is_none();
    if bare && url.username().is_empty() && url.password().is_none() {
        Ok(url)
    } else {
        Err("expected neither a user, nor a query, nor a fragment in it".to_owned())
    }
}

impl Bridge {
    /// The URL that paths of the facade are added to, without a slash at its end.
    pub(super) fn base(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }
}
