//! Which script the agent answers by, as it is chosen over HTTP.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::Script;

/// The agent's own words.
pub(super) const BUILT_IN: &str = "built-in";

/// Nobody answers by script.
pub(super) const NO_SCRIPT: &str = "none";

/// Milliseconds: the longest time between two steps.
const SLOWEST: u64 = 60_000;

/// A choice: `{"script": "built-in"}`, `{"script": "none"}`, or `{"script": [{"when": "hello", "then": [{"type": "text",
/// "text": "Hi"}]}]}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Casting {
    script: Value,
    #[serde(default)]
    pace_ms: Option<u64>,
}

impl Casting {
    /// The script, if there is to be one; the error says what is wrong with it. A script that a test wrote is played
    /// without pauses, unless said otherwise: nobody watches.
    pub(super) fn read(self) -> Result<Option<Script>, String> {
        if let Some(pace) = self.pace_ms.filter(|pace| *pace > SLOWEST) {
            return Err(format!("pace_ms: {pace}, expected at most {SLOWEST}"));
        }
        let pace = self.pace_ms.map(Duration::from_millis);
        match self.script {
            Value::String(name) if name == NO_SCRIPT => Ok(None),
            Value::String(name) if name == BUILT_IN => {
                Ok(Some(pace.map_or_else(Script::default, Script::at_pace)))
            }
            lines @ Value::Array(_) => Script::read(lines, pace.unwrap_or_default()).map(Some),
            _ => Err(format!(
                "script: expected \"{BUILT_IN}\", \"{NO_SCRIPT}\" or a list of {{\"when\", \"then\"}}"
            )),
        }
    }
}
