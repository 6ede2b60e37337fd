//! The hosts of an account's services: looked up at the domain API, cached, and looked up again if
//! one has moved.
//!
//! A known host stays in use until a newer one is known, even while the domain API is unavailable.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio_util::bytes::Bytes;
use url::Url;

use super::answer;
use super::breaker::Breakers;
use super::cache::{self, Cache, Cached};

use super::host::{Host, below};
use super::retry::{RetryPolicy, repeated};
use super::service::Service;
use super::watch::Watch;
use super::wire::tokens::BaseUris;
use super::{Account, Error, Limits};
use crate::clock::SharedClock;
use crate::http::header::DATE;
use crate::http::{self, Answer, Method};
use crate::types::status::KnownHost;
use crate::types::trace::Trace;

/// 5 minutes: the time after which a host is looked up again. The vendor publishes no lifetime, and
/// says that hosts may change.
const LIFETIME_MS: i64 = 5 * 60 * 1000;

/// The hosts of one account.
pub(super) struct Domains {
    directory: Arc<DomainApi>,
    messaging: Cache<Host>,
    sentinel: Cache<Host>,
    idp: Cache<Host>,
    monitoring: Cache<Host>,
    storage: Cache<Host>,
}

/// The domain API, as one account sees it.
pub(super) struct DomainApi {
    pub(super) http: http::Client,
    pub(super) clock: SharedClock,
    pub(super) watch: Arc<Watch>,
    pub(super) limits: Limits,
    pub(super) account: Arc<Account>,
    pub(super) breakers: Breakers,
}

impl Domains {
    pub(super) fn new(directory: DomainApi) -> Self {
        Self {
            directory: Arc::new(directory),
            messaging: Cache::default(),
            sentinel: Cache::default(),
            idp: Cache::default(),
            monitoring: Cache::default(),
            storage: Cache::default(),
        }
    }

    /// Returns the host of the service.
    pub(super) async fn find(
        &self,
        service: Service,
        trace: &Trace,
    ) -> Result<Arc<Cached<Host>>, Error> {
        let look_up = |repeat| DomainApi::look_up(&self.directory, service, repeat, trace);
        let clock = self.directory.clock.as_ref();
        self.cache(service).get(clock, look_up).await
    }

    /// Looks the service up again, since the host `gone` refuses connections.
    pub(super) async fn look_up_again(
        &self,
        service: Service,
        gone: &Arc<Cached<Host>>,
        trace: &Trace,
    ) {
        let look_up = |repeat| DomainApi::look_up(&self.directory, service, repeat, trace);
        let clock = self.directory.clock.as_ref();
        if let Err(error) = self.cache(service).replace(clock, gone, look_up).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                service = service.name(),
                "a service refuses connections, and its domain could not be looked up again"
            );
        }
    }

    /// Returns the hosts that are known so far.
    pub(super) fn known(&self) -> Vec<KnownHost> {
        let known = Service::ALL.into_iter().filter_map(|service| {
            let host = self.cache(service).at_hand()?;
            Some(KnownHost {
                service: service.name(),
                host: host.value.base.authority().to_owned(),
                looked_up_at: DateTime::from_timestamp_millis(host.obtained_at)?,
            })
        });
        known.collect()
    }

    /// Returns the breaker of the domain API.
    pub(super) fn breakers(&self) -> &Breakers {
        &self.directory.breakers
    }

    /// Returns the current time of the domain API's clock; `None` if its answer has no date.
    pub(super) async fn date(&self, trace: &Trace) -> Result<Option<DateTime<Utc>>, Error> {
        self.directory.date(trace).await
    }

    fn cache(&self, service: Service) -> &Cache<Host> {
        match service {
            Service::Messaging => &self.messaging,
            Service::Sentinel => &self.sentinel,
            Service::Idp => &self.idp,
            Service::Monitoring => &self.monitoring,
            Service::Storage => &self.storage,
        }
    }
}

impl DomainApi {
    /// Calls the domain API for a service.
    async fn get(&self, service: Service, trace: &Trace) -> Result<Answer, http::Error> {
        let path = format!(
            "/api/account/{}/service/{}/baseURI.json",
            self.account.id,
            service.name()
        );
        let url = below(&self.account.domain_api, &path, "version=1.0");
        let request = http::request_to(Method::GET, &url, Bytes::new())?;
        let limit = self.limits.look_up;
        self.http.send("cloud.domain", trace, limit, request).await
    }

    fn look_up(
        this: &Arc<Self>,
        service: Service,
        repeat: RetryPolicy,
        trace: &Trace,
    ) -> cache::Request<Host> {
        let (this, trace) = (Arc::clone(this), trace.clone());
        Box::pin(async move {
            let pause = this.limits.pause;
            repeated(repeat, pause, || this.ask(service, &trace)).await
        })
    }

    /// Returns the current time of the domain API's clock; `None` if its answer has no date.
    async fn date(&self, trace: &Trace) -> Result<Option<DateTime<Utc>>, Error> {
        let answer = self.get(Service::Messaging, trace).await?;
        let date = answer.headers.get(DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        Ok(date.map(|date| date.to_utc()))
    }

    async fn ask(&self, service: Service, trace: &Trace) -> Result<Cached<Host>, Error> {
        let asked_at = self.clock.now_ms();
        let value = self.watch.measured("cloud.domain", async || {
            let pass = self.breakers.enter(self.account.domain_api.authority())?;
            let answer = self.get(service, trace).await.map_err(Error::from);
            let found =
                answer.and_then(|answer| read(&answer, service, &self.account, self.clock.now()));
            pass.settle(found.as_ref().err());
            found
        });
        Ok(Cached {
            value: value.await?,
            obtained_at: asked_at,
            renew_at: asked_at + LIFETIME_MS,
            expires_at: i64::MAX,
        })
    }
}

/// Reads either form of the answer: one entry, or the list of all of them.
fn read(
    answer: &Answer,
    service: Service,
    account: &Account,
    now: DateTime<Utc>,
) -> Result<Host, Error> {
    let uris: BaseUris = answer::decode(answer, now).map_err(Error::into_outage)?;
    let base = uris.find(service.name()).and_then(parse);
    let base = base.ok_or_else(|| answer::undecodable(answer))?;
    if let Some(host) = host_without_tls(&base, account) {
        return Err(Error::WithoutTls {
            service: service.name(),
            host,
        });
    }
    Host::new(base, account).map_err(|_| answer::undecodable(answer))
}

/// Returns the host of a base URL that uses `http` although the account uses TLS, unless the
/// configuration allows that host. Secrets and messages would reach such a host in clear text.
fn host_without_tls(base: &Url, account: &Account) -> Option<String> {
    let is_downgrade = account.domain_api.scheme() == "https" && base.scheme() != "https";
    let host = base.host_str().filter(|_| is_downgrade)?;
    let is_allowed = account.allow_http_hosts.iter().any(|known| known == host);
    (!is_allowed).then(|| host.to_owned())
}

/// Parses a base URL or a bare host. A bare host is reached over TLS.
fn parse(base: &str) -> Option<Url> {
    let url = if base.contains("://") {
        Url::parse(base)
    } else {
        Url::parse(&format!("https://{base}"))
    };
    url.ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::http::StatusCode;
    use crate::http::header::HeaderMap;

    /// Returns the result of a lookup if the domain API at this URL names this base.
    fn found(domain_api: &str, base: &str) -> Result<String, Error> {
        let account = Account {
            id: "12345678".parse().unwrap(),
            client_id: "app".to_owned(),
            client_secret: "secret".into(),
            domain_api: domain_api.parse().unwrap(),
            allow_http_hosts: vec!["msg.internal".to_owned(), "[::1]".to_owned()],
        };
        let body = json!({"service": "asyncMessagingEnt", "baseURI": base}).to_string();
        let answer = Answer {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: body.into(),
        };
        let host = read(&answer, Service::Messaging, &account, DateTime::UNIX_EPOCH);
        host.map(|host| host.base.to_string())
    }

    #[test]
    fn a_host_that_was_looked_up_over_tls_must_use_tls() {
        let https = "https://api.liveperson.net";

        for base in ["http://evil.example", "HTTP://evil.example:80/a"] {
            let error = found(https, base).unwrap_err();

            assert!(matches!(error, Error::WithoutTls { .. }), "{error:?}");
            assert!(error.is_transient() && !error.outcome_unknown());
            let told = error.to_string();
            for word in ["asyncMessagingEnt", "evil.example", "allow_http_hosts"] {
                assert!(told.contains(word), "{word} in {told}");
            }
        }
        for (base, url) in [
            ("msg.example", "https://msg.example/"),
            ("https://msg.example", "https://msg.example/"),
            ("http://msg.internal:8080/x", "http://msg.internal:8080/x"),
            ("http://MSG.internal", "http://msg.internal/"),
            ("http://[::1]:9400", "http://[::1]:9400/"),
        ] {
            assert_eq!(found(https, base).unwrap(), url);
        }
        // The simulated Cloud.
        let sandbox = "http://127.0.0.1:9400";
        assert_eq!(found(sandbox, sandbox).unwrap(), "http://127.0.0.1:9400/");
    }
}
