//! The checks of an account at the Cloud. Checks that depend on a failed one are skipped, and one
//! line names them.

use anyhow::{Context as _, bail};
use chrono::TimeDelta;

use super::facts::Fact;
use super::report::{Report, within};
use super::{Options, direction};
use crate::clock::Clock;
use crate::cloud::{self, Consumer, ConsumerToken, Service};
use crate::config::Account;
use crate::types::ids::AccountId;
use crate::types::trace::Trace;

/// The external id of the consumer whose token is requested. Nothing is opened or sent for it.
const CONSUMER: &str = "liveperson-bridge:doctor";

/// The advice for an operator if files are refused. Source: vendor's Send API examples, section on
/// file sharing.
pub(super) const FILE_SHARING: &str = "file sharing is refused; ask LivePerson to set the site property messaging.file.sharing.enabled to true";

/// 2 minutes: receivers of signed callbacks tolerate 5 minutes, and their own clocks may be off as
/// well. Source: Standard Webhooks, on timestamps.
const MAX_CLOCK_SKEW: TimeDelta = TimeDelta::minutes(2);

const HINT_NO_ANSWER: &str = "check domain_api, and that this machine can reach it, if necessary through a proxy (HTTPS_PROXY)";

const HINT_UNKNOWN_DOMAIN: &str =
    "the domain API does not know the account or the service; check account_id and domain_api";

const HINT_BAD_ANSWER: &str =
    "check domain_api, and the proxies between this machine and the Cloud";

const HINT_CREDENTIALS: &str =
    "check that client_id and client_secret are those of the app installation";

const HINT_GATEWAY: &str = "check the IP restriction of the app installation, and the proxies between this machine and the Cloud";

const HINT_NO_TOKEN: &str =
    "check that this machine can reach the Cloud, if necessary through a proxy (HTTPS_PROXY)";

/// The context in which accounts are checked.
pub(super) struct AccountContext<'a> {
    pub(super) cloud: &'a cloud::Client,
    pub(super) clock: &'a dyn Clock,
    pub(super) trace: &'a Trace,
    /// The advice about a wrong clock; `None` if the service's clock is not known.
    pub(super) clock_hint: Option<&'static str>,
}

/// The title of a check that failed.
type Failed = String;

/// The outcomes of the lookups of an account's domains.
#[derive(Default)]
struct Domains {
    found: Vec<Service>,
    failed: Vec<Service>,
    /// True if the domain API did not answer.
    is_silent: bool,
}

/// A group of services whose lookups failed with the same error.
struct LookupFailure {
    error: String,
    hint: &'static str,
    services: Vec<&'static str>,
}

/// The checks that are skipped, and the failed checks on which they depend.
#[derive(Default)]
struct Skipped {
    checks: Vec<&'static str>,
    failed: Vec<Failed>,
}

/// Checks an account. Returns true if a conversation can be opened in it.
pub(super) async fn check(
    context: &AccountContext<'_>,
    account: &Account,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<bool> {
    let id = &account.account_id;
    let domains = check_domains(context, id, report).await?;
    let mut skipped = Skipped::default();
    if let Some(failed) = domains.stopped_at() {
        skipped.add("domain of the other services", title_of(failed.name()));
    }
    match (context.clock_hint, domains.failed.last()) {
        (Some(_), Some(failed)) if domains.is_silent => {
            skipped.add("clock", title_of(failed.name()));
        }
        (Some(hint), _) => {
            let skew = within(clock_skew(context, id, hint)).await;
            report.of_account(id, Fact::checked("clock", skew, ""))?;
        }
        (None, _) => {}
    }
    let app_token = match domains.require(Service::Sentinel) {
        Ok(()) => check_app_token(context, id, report).await?,
        Err(failed) => Err(skipped.add("AppJWT", failed)),
    };
    let consumer = match app_token.and_then(|()| domains.require(Service::Idp)) {
        Ok(()) => check_consumer_token(context, id, report).await?,
        Err(failed) => Err(skipped.add("ConsumerJWS", failed)),
    };
    let consumer = consumer.and_then(|token| domains.require(Service::Messaging).map(|()| token));
    match &consumer {
        Ok(ConsumerToken { token, .. }) if options.consumer => {
            let consumer = Consumer { account: id, token };
            let outcome = Box::pin(context.cloud.check_file_sharing(consumer, context.trace));
            let outcome = within(async { file_sharing(outcome.await) }).await;
            report.of_account(id, Fact::checked("file_sharing", outcome, ""))?;
        }
        Ok(_) => {}
        Err(failed) => {
            if options.consumer {
                skipped.add("file sharing", failed.clone());
            }
            if options.conversation.is_wanted_in(account) {
                skipped.add("conversation", failed.clone());
            }
        }
    }
    if !skipped.checks.is_empty() {
        let failed = skipped.failed.join(" and ");
        report.of_account(id, Fact::not_checked(&skipped.checks, &failed))?;
    }
    Ok(consumer.is_ok())
}

/// Looks up the domains of the account's services, until a lookup fails in a way that the others
/// would fail too. Services whose lookups failed with the same error share a line.
async fn check_domains(
    context: &AccountContext<'_>,
    id: &AccountId,
    report: &mut Report,
) -> anyhow::Result<Domains> {
    let mut domains = Domains::default();
    let mut failures: Vec<LookupFailure> = Vec::new();
    for service in Service::ALL {
        let name = service.name();
        let domain = within(context.cloud.find_domain(id, service, context.trace)).await;
        let error = match domain {
            Ok(domain) => {
                let fact = Fact::ok("domain", domain).titled(title_of(name));
                report.of_account(id, fact.with("service", name))?;
                domains.found.push(service);
                continue;
            }
            Err(error) => root(error),
        };
        domains.failed.push(service);
        let text = format!("{error:#}");
        let cause = error.downcast_ref::<cloud::Error>();
        let (hint, is_general) = match cause {
            Some(cloud::Error::Blocked { status: 404 }) => (HINT_UNKNOWN_DOMAIN, false),
            Some(cloud::Error::WithoutTls { .. }) => ("", false),
            Some(cloud::Error::Unreachable(_) | cloud::Error::NoAnswer(_)) | None => {
                domains.is_silent = true;
                (HINT_NO_ANSWER, true)
            }
            Some(_) => (HINT_BAD_ANSWER, true),
        };
        match failures.iter_mut().find(|failure| failure.error == text) {
            Some(failure) => failure.services.push(name),
            None => failures.push(LookupFailure {
                error: text,
                hint,
                services: vec![name],
            }),
        }
        if is_general {
            break;
        }
    }
    for failure in failures {
        let services = failure.services.join(", ");
        let fact = Fact::failed("domain", failure.error, failure.hint);
        let fact = fact.titled(title_of(&services)).with("service", services);
        report.of_account(id, fact)?;
    }
    Ok(domains)
}

async fn check_app_token(
    context: &AccountContext<'_>,
    id: &AccountId,
    report: &mut Report,
) -> anyhow::Result<Result<(), Failed>> {
    const TITLE: &str = "AppJWT";
    let issued = within(context.cloud.check_credentials(id, context.trace)).await;
    let issued = issued.map_err(root);
    let fact = token_fact("app_token_made", issued.as_ref().err());
    report.of_account(id, fact.titled(TITLE))?;
    Ok(issued.map_err(|_| TITLE.to_owned()))
}

async fn check_consumer_token(
    context: &AccountContext<'_>,
    id: &AccountId,
    report: &mut Report,
) -> anyhow::Result<Result<ConsumerToken, Failed>> {
    const TITLE: &str = "ConsumerJWS";
    let issued = within(context.cloud.consumer_token(id, CONSUMER, context.trace)).await;
    let issued = issued.map_err(root);
    let fact = token_fact("consumer_token_made", issued.as_ref().err());
    report.of_account(id, fact.titled(TITLE))?;
    Ok(issued.map_err(|_| TITLE.to_owned()))
}

/// Creates the fact about a token that was issued, or could not be because of this error.
fn token_fact(key: &'static str, error: Option<&anyhow::Error>) -> Fact {
    let Some(error) = error else {
        return Fact::ok(key, "issued");
    };
    let hint = match error.downcast_ref::<cloud::Error>() {
        Some(
            cloud::Error::CredentialsRefused { .. }
            | cloud::Error::AppTokenRefused
            | cloud::Error::Unauthorized { .. }
            | cloud::Error::Refused { .. },
        ) => HINT_CREDENTIALS,
        Some(cloud::Error::Blocked { .. }) => HINT_GATEWAY,
        _ => HINT_NO_TOKEN,
    };
    Fact::failed(key, format!("{error:#}"), hint)
}

/// Compares the service's clock with the Cloud's; `hint` is the advice if it is wrong.
async fn clock_skew(
    context: &AccountContext<'_>,
    id: &AccountId,
    hint: &str,
) -> anyhow::Result<String> {
    let before = context.clock.now();
    let Some(date) = context.cloud.date(id, context.trace).await? else {
        return Ok("the Cloud sends no time".to_owned());
    };
    let after = context.clock.now();
    // The header has whole seconds, and was written at some time between the two.
    let skew = if date < before - TimeDelta::seconds(1) {
        before - date
    } else if date > after {
        after - date
    } else {
        TimeDelta::zero()
    };
    if skew.abs() > MAX_CLOCK_SKEW {
        let direction = direction(skew);
        bail!(
            "{} s {direction} the Cloud's; {hint}",
            skew.abs().num_seconds()
        );
    }
    Ok(format!(
        "within {} s of the Cloud's",
        skew.abs().num_seconds() + 1
    ))
}

/// Interprets the Cloud's answer about file sharing.
fn file_sharing(outcome: Result<(), cloud::Error>) -> anyhow::Result<&'static str> {
    match outcome {
        Ok(()) => Ok("the Cloud returns an upload URL"),
        Err(cloud::Error::ConversationClosed) => Ok(
            "not refused, but the Cloud decides only in an open conversation; send a file as a test user to be sure",
        ),
        Err(error @ cloud::Error::Refused { .. }) => Err(error).context(FILE_SHARING),
        Err(error) => Err(error.into()),
    }
}

/// Returns the cause of a call that was not made, or else the error itself.
fn root(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<cloud::Error>() {
        Some(cloud::Error::NotAttempted(cause)) => cloud::Error::clone(cause).into(),
        _ => error,
    }
}

/// Returns the title of the line about the domains of services.
fn title_of(services: &str) -> String {
    format!("domain of {services}")
}

impl Domains {
    /// Returns the service at whose lookup the lookups stopped; `None` if all were made.
    fn stopped_at(&self) -> Option<Service> {
        let looked_up = self.found.len() + self.failed.len();
        let failed = self.failed.last().copied();
        failed.filter(|_| looked_up < Service::ALL.len())
    }

    /// Fails if the domain of a service is not known.
    fn require(&self, service: Service) -> Result<(), Failed> {
        if self.found.contains(&service) {
            return Ok(());
        }
        let is_own = self.failed.contains(&service);
        let failed = if is_own { None } else { self.stopped_at() };
        Err(title_of(failed.unwrap_or(service).name()))
    }
}

impl Skipped {
    /// Adds a check that depends on a failed one. Returns the title of the failed one.
    fn add(&mut self, check: &'static str, failed: Failed) -> Failed {
        self.checks.push(check);
        if !self.failed.contains(&failed) {
            self.failed.push(failed.clone());
        }
        failed
    }
}
