//! What stands around the simulated Cloud: the bridge that its page speaks to, and what `demo` adds to both.

use secrecy::SecretString;
use url::Url;

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

impl Bridge {
    /// The URL that paths of the facade are added to, without a slash at its end.
    pub(super) fn base(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }
}
