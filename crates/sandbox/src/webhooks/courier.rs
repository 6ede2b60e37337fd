//! Couriers, the tasks that deliver notifications. Each serves one subscription while there is
//! something to deliver.
//!
//! The sandbox's clock says when an attempt is due. A clock that a test moves by hand cannot wake a
//! task, so a courier with something to wait for polls it.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::queue::OutgoingNotification;
use super::{Webhook, Webhooks, signature};
use crate::Sandbox;
use crate::wire::{ExchangeRequest, Kind, Sample, SharedSample, Wire};

/// The time limit of an attempt: 5 s. Source: vendor's Webhooks documentation, "Notification
/// protocol".
const LIMIT: Duration = Duration::from_secs(5);

/// The interval at which a courier polls the clock: 10 ms. A test waits no longer than that for an
/// attempt that it made due.
const TICK: Duration = Duration::from_millis(10);

/// The HTTP client of the sandbox, which all couriers share.
#[derive(Debug, Clone)]
pub(crate) struct Client(reqwest::Client);

impl Client {
    #[expect(
        clippy::disallowed_methods,
        reason = "the Cloud's own requests must not pass through the bridge's client, as if the bridge had sent them"
    )]
    pub(crate) fn new() -> Result<Self, reqwest::Error> {
        reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .timeout(LIMIT)
            .build()
            .map(Self)
    }

    /// POSTs a request without a body to the bridge's API, with an API key. Returns the status of
    /// the answer.
    pub(crate) async fn post_with_key(
        &self,
        url: &str,
        key: &SecretString,
    ) -> Result<StatusCode, reqwest::Error> {
        let request = self.0.post(url).bearer_auth(key.expose_secret());
        Ok(request.send().await?.status())
    }

    /// POSTs a notification and shows it on the wire. Returns the status of the answer.
    async fn post(
        &self,
        webhook: &Webhook,
        notification: &OutgoingNotification,
        wire: &Wire,
    ) -> Result<u16, reqwest::Error> {
        let mut secret = webhook.client_secret.expose_secret().to_owned();
        if notification.forged {
            secret.push_str(", but not this one");
        }
        let signature = signature::sign(webhook.algorithm, &secret, &notification.body);
        let request = self
            .0
            .post(webhook.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("x-liveperson-account-id", &webhook.account_id)
            .header("x-liveperson-client-id", &webhook.client_id)
            .header("x-liveperson-signature", signature)
            .body(notification.body.clone())
            .build()?;
        let exchange_request = ExchangeRequest {
            kind: Kind::Notification,
            operation: None,
            method: request.method().to_string(),
            url: webhook.url.to_string(),
            headers: request.headers().clone(),
            body: SharedSample::new(Sample::of(&notification.body).into()),
        };
        let exchange = wire.begin(exchange_request, notification.disturbed);
        let mut answer = self.0.execute(request).await?;
        let mut body = Sample::default();
        while body.is_complete()
            && let Ok(Some(chunk)) = answer.chunk().await
        {
            body.add(&chunk);
        }
        let status = answer.status();
        exchange.record_complete_answer(status, answer.headers().clone(), body);
        Ok(status.as_u16())
    }
}

/// Starts a courier for each subscription that has something to deliver and no courier yet.
///
/// A shutdown need not wait for couriers: no caller depends on them, and they end with the runtime.
pub(crate) fn start_missing_couriers(sandbox: &Sandbox, hooks: &mut Webhooks) {
    let Ok(runtime) = Handle::try_current() else {
        return;
    };
    for (index, subscription) in hooks.subscriptions.iter_mut().enumerate() {
        if !subscription.has_courier && subscription.queue.has_work() {
            subscription.has_courier = true;
            runtime.spawn(serve(sandbox.clone(), index));
        }
    }
}

/// Delivers until nothing is left.
async fn serve(sandbox: Sandbox, index: usize) {
    let mut attempts = JoinSet::new();
    loop {
        let now = sandbox.0.clock.now();
        let Some(round) = sandbox.state().hooks.next(index, now) else {
            return;
        };
        for notification in round.notifications {
            let (sandbox, webhook) = (sandbox.clone(), round.webhook.clone());
            attempts.spawn(async move {
                let (client, wire) = (&sandbox.0.client, &sandbox.0.wire);
                let answer = client.post(&webhook, &notification, wire).await;
                (notification, answer)
            });
        }
        tokio::select! {
            Some(Ok((notification, answer))) = attempts.join_next() => {
                if let Err(error) = &answer {
                    tracing::debug!(error = error as &dyn std::error::Error, "a notification got no answer");
                }
                let now = sandbox.0.clock.now();
                sandbox.state().hooks.settle(index, &notification, answer.ok(), now);
            }
            () = round.wakeup.notified() => {}
            () = sleep(TICK) => {}
        }
    }
}
