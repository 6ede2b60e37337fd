//! The load: wrk, with a small script of requests.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::cloud::{self, ACCOUNT, SEND};
use crate::figures::Figures;
use crate::machine::{Machine, Measured, Meter, output_of};
use crate::notifications;

/// The requests of a load.
pub(crate) enum Call {
    /// The requests that the service sends to the Cloud for a message, sent to the Cloud directly.
    Cloud,
    /// Messages of this number of users in turn.
    Message(u32),
    /// The same, each with an idempotency key of its own.
    Keyed(u32),
    /// The same, each to be queued.
    Queued(u32),
    /// Notifications, each a different one.
    Webhook,
}

/// The load on a server.
pub(crate) struct Load {
    core: String,
    duration: Duration,
}

impl Load {
    pub(crate) fn new(machine: &Machine, duration: Duration) -> Self {
        Self {
            core: machine.load_cores.clone(),
            duration,
        }
    }

    /// Keeps connections to an address busy, and measures these processes meanwhile.
    pub(crate) fn run(
        &self,
        address: &str,
        connections: u32,
        call: &Call,
        processes: &[Measured],
    ) -> Figures {
        self.run_for(self.duration, address, connections, call, processes)
    }

    /// Does the same for this duration.
    pub(crate) fn run_for(
        &self,
        duration: Duration,
        address: &str,
        connections: u32,
        call: &Call,
        processes: &[Measured],
    ) -> Figures {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("load.lua");
        fs::write(&script, call.script(folder.path(), duration)).unwrap();
        let meter = Meter::start(processes);
        let output = output_of(
            Machine::command_on(&self.core, "wrk")
                .args(["-t1", "--timeout", "30s"])
                .arg(format!("-c{connections}"))
                .arg(format!("-d{}s", duration.as_secs()))
                .arg("-s")
                .arg(&script)
                .arg(format!("http://{address}")),
        );
        let result = output
            .lines()
            .find_map(|line| line.strip_prefix("RESULT "))
            .unwrap_or_else(|| panic!("wrk printed: {output}"));
        let numbers: Vec<f64> = result.split(' ').map(|it| it.parse().unwrap()).collect();
        let [requests, micros, p50, p99, failed] = numbers[..] else {
            panic!("wrk printed: {output}");
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of wrk's"
        )]
        Figures {
            per_second: requests / (micros / 1e6),
            p50: Duration::from_secs_f64(p50 / 1e6),
            p99: Duration::from_secs_f64(p99 / 1e6),
            p999: None,
            failed: failed as u64,
            cpu: meter.share(requests),
            spread: None,
            backlog: None,
        }
    }
}

/// The script's end, which prints wrk's counts on a line of their own.
const DONE_FUNCTION: &str = r#"
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.timeout + errors.status))
end
"#;

impl Call {
    fn script(&self, folder: &Path, duration: Duration) -> String {
        let request = match self {
            Self::Cloud => format!(
                r#"
local headers = {{ ["Content-Type"] = "application/json", ["Authorization"] = "{app}", ["X-LP-On-Behalf"] = "{consumer}",
  ["X-Request-Id"] = "req_01a203075c13758293b1bc46e1b9b703",
  ["traceparent"] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" }}
local body = '{{"kind":"req","id":"01a203075c13758293b1bc46e1b9b703","type":"ms.PublishEvent","body":{{"dialogId":"c-000000001",' ..
  '"conversationId":"c-000000001","event":{{"type":"ContentEvent","contentType":"text/plain","message":"{TEXT}"}}}}}}'
local cached
function request()
  cached = cached or wrk.format("POST", "{SEND}", headers, body)
  return cached
end"#,
                app = cloud::app_token(),
                consumer = cloud::consumer_token(),
            ),
            Self::Message(users) => messages(*users, ""),
            Self::Keyed(users) => {
                messages(*users, r#"headers["Idempotency-Key"] = prefix .. number"#)
            }
            Self::Queued(users) => messages(*users, r#"headers["Prefer"] = "respond-async""#),
            Self::Webhook => format!(
                r#"
local file = io.open("{file}", "r")
local headers = {{ ["Content-Type"] = "application/json", ["X-LivePerson-Account-Id"] = "{ACCOUNT}",
  ["X-LivePerson-Client-Id"] = "bench" }}
function request()
  headers["X-LivePerson-Signature"] = file:read("*l")
  return wrk.format("POST", "/webhooks/{ACCOUNT}", headers, file:read("*l"))
end"#,
                file = notifications::write(folder, duration).display(),
            ),
        };
        request + DONE_FUNCTION
    }
}

/// The number of users who write. If there are more users, these are spread evenly among them.
const ACTIVE: u32 = 20_000;

/// The text that users write.
pub(crate) const TEXT: &str = "Where is my parcel? It was due on Tuesday.";

fn messages(users: u32, header: &str) -> String {
    let prefix: u64 = rand::random();
    format!(
        r#"
local headers = {{ ["Content-Type"] = "application/json", ["Authorization"] = "Bearer bench-key" }}
local number, prefix = {start}, "{prefix:x}-"
function request()
  number = number + 1
  {header}
  -- A step without a common divisor goes through all of them, and not in the order of their rows.
  local user = (number * 7919) % {active} * {step} + 1
  return wrk.format("POST", "/v1/users/user-" .. user .. "/messages", headers, '{{"text":"{TEXT}"}}')
end"#,
        start = prefix % 1_000_000,
        active = users.min(ACTIVE),
        step = users / users.min(ACTIVE),
    )
}
