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
use super::observer::Observer;
use super::retry::{RetryPolicy, with_retries};
use super::service::Service;
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
    domain_api: Arc<DomainApi>,
    messaging: Cache<Host>,
    sentinel: Cache<Host>,
    idp: Cache<Host>,
    monitoring: Cache<Host>,
    storage: Cache<Host>,
}

/// The domain API, called for one account.
pub(super) struct DomainApi {
    pub(super) http: http::Client,
    pub(super) clock: SharedClock,
    pub(super) observer: Arc<Observer>,
    pub(super) limits: Limits,
    pub(super) account: Arc<Account>,
    pub(super) breakers: Breakers,
}

impl Domains {
    pub(super) fn new(domain_api: DomainApi) -> Self {
        Self {
            domain_api: Arc::new(domain_api),
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
        let look_up = |retry| DomainApi::look_up(&self.domain_api, service, retry, trace);
        let clock = self.domain_api.clock.as_ref();
        self.cache(service).get(clock, look_up).await
    }

    /// Looks the service up again, since the host `stale` refuses connections.
    pub(super) async fn look_up_again(
        &self,
        service: Service,
        stale: &Arc<Cached<Host>>,
        trace: &Trace,
    ) {
        let look_up = |retry| DomainApi::look_up(&self.domain_api, service, retry, trace);
        let clock = self.domain_api.clock.as_ref();
        if let Err(error) = self.cache(service).replace(clock, stale, look_up).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                service = service.name(),
                "a service refuses connections, and its domain could not be looked up again"
            );
        }
    }

    /// Returns the hosts that are known so far.
    pub(super) fn known_hosts(&self) -> Vec<KnownHost> {
        let hosts = Service::ALL.into_iter().filter_map(|service| {
            let host = self.cache(service).peek()?;
            Some(KnownHost {
                service: service.name(),
                host: host.value.base.authority().to_owned(),
                looked_up_at: DateTime::from_timestamp_millis(host.obtained_at)?,
            })
        });
        hosts.collect()
    }

    /// Returns the breakers of the domain API.
    pub(super) fn breakers(&self) -> &Breakers {
        &self.domain_api.breakers
    }

    /// Returns the current time of the domain API's clock; `None` if its answer has no date.
    pub(super) async fn date(&self, trace: &Trace) -> Result<Option<DateTime<Utc>>, Error> {
        self.domain_api.date(trace).await
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
        let limit = self.limits.lookup;
        self.http.send("cloud.domain", trace, limit, request).await
    }

    fn look_up(
        this: &Arc<Self>,
        service: Service,
        retry: RetryPolicy,
        trace: &Trace,
    ) -> cache::Request<Host> {
        let (this, trace) = (Arc::clone(this), trace.clone());
        Box::pin(async move {
            let pause = this.limits.pause;
            with_retries(retry, pause, || this.request_host(service, &trace)).await
        })
    }

    /// Returns the current time of the domain API's clock; `None` if its answer has no date.
    async fn date(&self, trace: &Trace) -> Result<Option<DateTime<Utc>>, Error> {
        let answer = self.get(Service::Messaging, trace).await?;
        let date = answer.headers.get(DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        Ok(date.map(|date| date.to_utc()))
    }

    async fn request_host(&self, service: Service, trace: &Trace) -> Result<Cached<Host>, Error> {
        let requested_at = self.clock.now_ms();
        let value = self.observer.measure("cloud.domain", async || {
            let permit = self.breakers.acquire(self.account.domain_api.authority())?;
            let answer = self.get(service, trace).await.map_err(Error::from);
            let host =
                answer.and_then(|answer| read(&answer, service, &self.account, self.clock.now()));
            permit.settle(host.as_ref().err());
            host
        });
        Ok(Cached {
            value: value.await?,
            obtained_at: requested_at,
            renew_at: requested_at + LIFETIME_MS,
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
    let is_allowed = account.allow_http_hosts.iter().any(|name| name == host);
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
    fn lookup(domain_api: &str, base: &str) -> Result<String, Error> {
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
            let error = lookup(https, base).unwrap_err();

            assert!(matches!(error, Error::WithoutTls { .. }), "{error:?}");
            assert!(error.is_transient() && !error.outcome_unknown());
            let message = error.to_string();
            for word in ["asyncMessagingEnt", "evil.example", "allow_http_hosts"] {
                assert!(message.contains(word), "{word} in {message}");
            }
        }
        for (base, url) in [
            ("msg.example", "https://msg.example/"),
            ("https://msg.example", "https://msg.example/"),
            ("http://msg.internal:8080/x", "http://msg.internal:8080/x"),
            ("http://MSG.internal", "http://msg.internal/"),
            ("http://[::1]:9400", "http://[::1]:9400/"),
        ] {
            assert_eq!(lookup(https, base).unwrap(), url);
        }
        // The simulated Cloud.
        let sandbox = "http://127.0.0.1:9400";
        assert_eq!(lookup(sandbox, sandbox).unwrap(), "http://127.0.0.1:9400/");
    }
}
