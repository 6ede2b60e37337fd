//! The notifications that the service rejected, as recorded in the database.

use anyhow::bail;
use chrono::{DateTime, TimeDelta, Utc};

use super::report::Report;
use crate::config::Config;
use crate::types::ids::AccountId;
use crate::types::rejection::Rejected;
use crate::types::rejection::Rejection;

/// 1 h: the cause of an older refusal may be fixed by now. If it is not, a newer refusal exists,
/// since the Cloud retries its notifications more often than that.
const RECENT: TimeDelta = TimeDelta::hours(1);

/// Prints a line for each account about recent refusals, and a line for every other rejection.
pub(super) fn check(
    config: &Config,
    rejections: anyhow::Result<Vec<Rejected>>,
    now: DateTime<Utc>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let rejections = match rejections {
        Ok(rejections) => rejections,
        Err(error) => {
            let hint = "check that the database answers";
            return report.check("notifications", Err::<&str, _>(error), hint);
        }
    };
    for account in &config.accounts {
        let id = &account.account_id;
        let name = format!("account {id}: notifications");
        let of_account = |rejected: &&Rejected| rejected.account_id.as_ref() == Some(id);
        let (refused, older_or_unused): (Vec<_>, Vec<_>) = rejections
            .iter()
            .filter(of_account)
            .partition(|it| it.reason.is_refusal() && now - it.last_at < RECENT);
        report.check(&name, refusals(&refused, now), hint(&refused, id).as_str())?;
        for rejected in older_or_unused {
            report.note(&name, describe(rejected, now))?;
        }
    }
    for rejected in rejections.iter().filter(|it| it.account_id.is_none()) {
        report.note("notifications", describe(rejected, now))?;
    }
    Ok(())
}

fn refusals(refused: &[&Rejected], now: DateTime<Utc>) -> anyhow::Result<&'static str> {
    if refused.is_empty() {
        return Ok("none refused in the last hour");
    }
    let refused = refused.iter().map(|rejected| describe(rejected, now));
    bail!(refused.collect::<Vec<_>>().join("; "))
}

fn describe(rejected: &Rejected, now: DateTime<Utc>) -> String {
    let Rejected { reason, count, .. } = rejected;
    let seconds = (now - rejected.last_at).num_seconds().max(0);
    let outcome = if reason.is_refusal() {
        "refused"
    } else {
        "signed but not used"
    };
    format!("{count} {outcome}, the latest {seconds} s ago: {reason}")
}

/// Returns the advice for the latest refusal.
fn hint(refused: &[&Rejected], id: &AccountId) -> String {
    match refused.first().map(|rejected| rejected.reason) {
        Some(Rejection::SignatureWrong) => {
            "compare client_secret with the app installation's, and check that no proxy changes bodies"
                .to_owned()
        }
        Some(Rejection::TooLarge) => "find out what sends such bodies".to_owned(),
        Some(_) => format!(
            "compare the endpoint (/webhooks/{id}) and client_id with the app installation's, and check that no proxy drops headers"
        ),
        None => String::new(),
    }
}
