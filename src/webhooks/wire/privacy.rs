//! Marks of messages that only agents and managers may see, wherever the Cloud puts them.
//!
//! Notifications have `messageAudience` in the change. Source: vendor's Webhooks documentation,
//! page "Events". The vendor's own agent workspace also reads `audience` of the event, depending on
//! the version of the platform. So either name counts in any object around the content. Unknown
//! values count as private, since a missing text harms less than a leaked one.

use serde_json::Value;

use crate::webhooks::members::Members;

/// The value that means everyone.
const ALL: &str = "ALL";

/// The value that means agents and managers only.
pub(super) const AGENTS_AND_MANAGERS: &str = "AGENTS_AND_MANAGERS";

/// The name of the mark in a change.
pub(super) const MESSAGE_AUDIENCE: &str = "messageAudience";

/// Members with content, or metadata of a brand. An audience within these is no mark of the Cloud.
const CONTENT: [&str; 4] = ["message", "content", "quickReplies", "metadata"];

/// The changes of a notification, each of which is checked separately.
const CHANGES: &str = "changes";

/// The metadata type of a summary, which is written for the next agent. Source: vendor's agent
/// workspace.
const SUMMARY: &str = "ConversationSummary";

/// True if an object, or one within it, is marked as not for everyone.
pub(super) fn is_marked(object: Members<'_>) -> bool {
    object.entries().any(|(name, value)| {
        let is_audience =
            name.eq_ignore_ascii_case(MESSAGE_AUDIENCE) || name.eq_ignore_ascii_case("audience");
        if is_audience {
            let is_all = value
                .as_str()
                .is_some_and(|audience| audience.eq_ignore_ascii_case(ALL));
            return !is_all;
        }
        let is_searched = !CONTENT.contains(&name) && name != CHANGES;
        is_searched && has_mark(value)
    })
}

fn has_mark(value: &Value) -> bool {
    match value {
        Value::Object(members) => is_marked(members.into()),
        Value::Array(items) => items.iter().any(has_mark),
        _ => false,
    }
}

/// True if the metadata of an object marks it as a summary for agents.
pub(super) fn is_summary(object: Members<'_>) -> bool {
    let kinds = object.objects("metadata");
    kinds
        .filter_map(|metadata| metadata.enum_value("type"))
        .any(|kind| kind.eq_ignore_ascii_case(SUMMARY))
}
