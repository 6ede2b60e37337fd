//! The choice of the agent's script over HTTP.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::Script;

/// The name of the built-in script.
pub(super) const BUILT_IN: &str = "built-in";

/// The name that turns the script off.
pub(super) const NO_SCRIPT: &str = "none";

/// The longest pause between two steps, in milliseconds.
const MAX_PACE_MS: u64 = 60_000;

/// The chosen script: `{"script": "built-in"}`, `{"script": "none"}`, or
/// `{"script": [{"when": "hello", "then": [{"type": "text", "text": "Hi"}]}]}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScriptChoice {
    script: Value,
    #[serde(default)]
    pace_ms: Option<u64>,
}

impl ScriptChoice {
    /// Returns the script, or `None` for no script. The error describes the mistake. A test's own
    /// script has no pauses by default, since no person watches it.
    pub(super) fn read(self) -> Result<Option<Script>, String> {
        if let Some(pace) = self.pace_ms.filter(|pace| *pace > MAX_PACE_MS) {
            return Err(format!("pace_ms: {pace}, expected at most {MAX_PACE_MS}"));
        }
        let pace = self.pace_ms.map(Duration::from_millis);
        match self.script {
            Value::String(name) if name == NO_SCRIPT => Ok(None),
            Value::String(name) if name == BUILT_IN => {
                Ok(Some(pace.map_or_else(Script::default, Script::at_pace)))
            }
            rules @ Value::Array(_) => Script::read(rules, pace.unwrap_or_default()).map(Some),
            _ => Err(format!(
                "script: expected \"{BUILT_IN}\", \"{NO_SCRIPT}\" or a list of {{\"when\", \"then\"}}"
            )),
        }
    }
}
