//! The checks of channels' callback URLs.

use super::facts::Verdict;
use super::report::{Report, within};
use crate::config::Config;
use crate::delivery;
use crate::types::trace::Trace;

const HINT: &str = "check that the URL is right, its server runs and its certificate is valid, and that allow_private_callbacks lists its network if the address is private";

/// Sends a `HEAD` request to each callback URL, and prints a line about the answer.
pub(super) async fn check(
    config: &Config,
    trace: &Trace,
    report: &mut Report,
) -> anyhow::Result<()> {
    for channel in &config.channels {
        let Some(callback) = &channel.callback else {
            continue;
        };
        let name = format!("channel {}: callback URL", channel.id);
        let answer = delivery::check(&callback.url, &config.allow_private_callbacks, trace);
        match within(answer).await {
            Ok(status) => {
                let (verdict, advice) = judge(status.as_u16());
                let found = format!("answers HEAD with {}{advice}", status.as_u16());
                report.state(verdict, &name, found)?;
            }
            Err(error) => report.check(&name, Err::<&str, _>(error), HINT)?,
        }
    }
    Ok(())
}

/// Returns the verdict on the status of an answer to `HEAD`, and advice after a warning. A server
/// for callbacks need not support `HEAD`, so no status proves that it refuses a `POST`.
fn judge(status: u16) -> (Verdict, &'static str) {
    match status {
        300..=399 => (
            Verdict::Warning,
            "; callbacks follow no redirects, so configure the URL to which this one leads",
        ),
        401 | 403 => (
            Verdict::Warning,
            "; this is fine if the server only misses the signature, but callbacks carry no other credentials than those in the URL",
        ),
        404 | 410 => (
            Verdict::Warning,
            "; check the path of the URL, unless the server answers so to HEAD only",
        ),
        500 | 502.. => (
            Verdict::Warning,
            "; the server, or a proxy in front of it, reports an error of its own",
        ),
        // Among them 405 and 501, which are usual if only `POST` is supported.
        _ => (Verdict::Ok, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_statuses_that_a_post_may_share_are_warnings() {
        for status in [200, 204, 400, 405, 415, 422, 429, 501] {
            assert_eq!(judge(status), (Verdict::Ok, ""), "{status}");
        }
        for status in [301, 308, 401, 403, 404, 410, 500, 502, 503] {
            let (verdict, advice) = judge(status);
            assert_eq!(verdict, Verdict::Warning, "{status}");
            assert!(advice.starts_with("; "), "{status}");
        }
    }
}
