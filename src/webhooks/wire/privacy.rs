//! Marks of what agents and managers alone may see, wherever the Cloud puts them.
//!
//! Notifications have `messageAudience` in the change. Source: vendor's Webhooks documentation, page "Events". The vendor's own
//! agent workspace reads `audience` of the event as well, depending on the version of the platform. So either name counts in any
//! object around what was said. Unknown values are private, since a text that is missing harms less than one that leaks.

use serde_json::Value;

use crate::webhooks::members::Members;

/// The value that means everybody.
const ALL: &str = "ALL";

/// A value that means agents and managers alone.
pub(super) const AGENTS_AND_MANAGERS: &str = "AGENTS_AND_MANAGERS";

/// The name of the mark in a change.
pub(super) const MESSAGE_AUDIENCE: &str = "messageAudience";

/// Members that hold what was said, or what a brand ties to it. A word in these is no mark of the Cloud's.
const CONTENT: [&str; 4] = ["message", "content", "quickReplies", "metadata"];

/// The changes of a notification, of which each is looked at for itself.
const CHANGES: &str = "changes";

/// The type of the metadata of a summary, which is written for the next agent. Source: vendor's agent workspace.
const SUMMARY: &str = "ConversationSummary";

/// True if an object, or one in it, says that it is not for everybody.
pub(super) fn is_marked(object: Members<'_>) -> bool {
    object.entries().any(|(name, value)| {
        let is_audience =
            name.eq_ignore_ascii_case(MESSAGE_AUDIENCE) || name.eq_ignore_ascii_case("audience");
        if is_audience {
            let is_all = value
                .as_str()
                .is_some_and(|word| word.eq_ignore_ascii_case(ALL));
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

/// True if what the Cloud ties to an object says that it is a summary for agents.
pub(super) fn is_summary(object: Members<'_>) -> bool {
    let kinds = object.objects("metadata");
    kinds
        .filter_map(|metadata| metadata.word("type"))
        .any(|kind| kind.eq_ignore_ascii_case(SUMMARY))
}
