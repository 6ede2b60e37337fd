//! The Monitoring API's `engagement` call.

use serde::{Deserialize, Serialize};

/// The consumer whose engagements are requested.
#[derive(Serialize)]
pub(in crate::cloud) struct Engagement<'a> {
    identities: [Identity<'a>; 1],
}

#[derive(Serialize)]
struct Identity<'a> {
    iss: &'static str,
    acr: &'static str,
    sub: &'a str,
}

impl<'a> Engagement<'a> {
    pub(in crate::cloud) fn of(external_id: &'a str) -> Self {
        Self {
            identities: [Identity {
                // Optional. It is the issuer in the vendor's own examples; consumers of a connector
                // have no other.
                iss: "LivePerson",
                // The only level that the vendor supports.
                acr: "loa1",
                sub: external_id,
            }],
        }
    }
}

/// The answer; without details if there is no engagement.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cloud) struct Engagements {
    engagement_details: Option<Vec<Details>>,
}

/// An available engagement, or the conversation that the consumer is in.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    status: Option<String>,
    conversation_id: Option<String>,
}

impl Details {
    fn is_conversation(&self) -> bool {
        let status = self.status.as_deref();
        status.is_some_and(|status| status.eq_ignore_ascii_case("conversation"))
    }
}

impl Engagements {
    /// Returns the conversation that the consumer is in.
    pub(in crate::cloud) fn conversation(&self) -> Option<&str> {
        self.engagement_details
            .iter()
            .flatten()
            .filter(|details| details.is_conversation())
            .find_map(|details| details.conversation_id.as_deref())
    }
}
