//! The checks of the two tokens: that the Cloud issues them, and the claims in them.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Walk;
use crate::cli::doctor::facts::Fact;
use crate::cloud::ConsumerToken;

const HINT_CREDENTIALS: &str = "check that client_id and client_secret are those of the app installation, and that it is enabled";

/// The documented scope of an `AppJWT`. Source: vendor's Send API, "Authorization and
/// Authentication".
const SCOPE: &str = "msg.consumer";

/// An hour, by the same source.
const LIFETIME_S: i64 = 3600;

impl Walk<'_> {
    /// Checks the account's `AppJWT`. Returns true if there is one.
    pub(super) async fn check_app_token(&mut self) -> anyhow::Result<bool> {
        let account = &self.account.account_id;
        let (cloud, trace) = (self.run.cloud, self.run.trace);
        let call = self.call(cloud.app_token_claims(account, trace)).await?;
        let claims = match &call.outcome {
            Ok(claims) => claims,
            Err(failure) => {
                let found = self.failure(failure, &call);
                let fact = Fact::failed("app_token", found, HINT_CREDENTIALS);
                let fact = self.described(fact, &call).titled("AppJWT claims");
                self.report_fact(fact)?;
                return Ok(false);
            }
        };
        let time = |name: &str| claims.get(name).and_then(Value::as_i64);
        let lifetime = time("exp").zip(time("iat")).map(|(exp, iat)| exp - iat);
        let is_for_account = contains(claims, "aud", account.as_str());
        let is_for_client = contains(claims, "azp", &self.account.client_id);
        let has_scope = contains(claims, "scope", SCOPE);
        let validity = lifetime.map_or_else(
            || "its lifetime is unknown".to_owned(),
            |seconds| format!("it is valid for {seconds} s"),
        );
        let mut deviations = Vec::new();
        for (is_expected, deviation) in [
            (is_for_account, "aud is not the account"),
            (is_for_client, "azp is not the client id"),
            (has_scope, "scope is not msg.consumer"),
            (
                lifetime == Some(LIFETIME_S),
                "the documented lifetime is an hour",
            ),
        ] {
            if !is_expected {
                deviations.push(deviation);
            }
        }
        let fact = if deviations.is_empty() {
            Fact::ok(
                "app_token",
                format!("for this account and app installation; {validity}"),
            )
        } else {
            let deviations = deviations.join(", ");
            Fact::note("app_token", format!("{validity}; {deviations}"))
        };
        let fact = fact
            .titled("AppJWT claims")
            .with("claims", names(claims))
            .with("lifetime_s", lifetime)
            .with("aud_is_account", is_for_account)
            .with("azp_is_client_id", is_for_client)
            .with("scope_is_msg_consumer", has_scope);
        self.report_fact(fact)?;
        Ok(true)
    }

    /// Requests a consumer's token twice.
    pub(super) async fn check_consumer_token(
        &mut self,
        external_id: &str,
    ) -> anyhow::Result<Option<ConsumerToken>> {
        let account = &self.account.account_id;
        let (cloud, trace) = (self.run.cloud, self.run.trace);
        let first = self.call(cloud.consumer_token(account, external_id, trace));
        let first = first.await?;
        let token = match &first.outcome {
            Ok(token) => token.clone(),
            Err(failure) => {
                let found = self.failure(failure, &first);
                let fact = Fact::failed("consumer_token", found, HINT_CREDENTIALS);
                let fact = self.described(fact, &first).titled("ConsumerJWS claims");
                self.report_fact(fact)?;
                return Ok(None);
            }
        };
        self.masks.add(&token.consumer_id);
        let claims = token.token.claims();
        let expires = claims.contains_key("exp");
        let fact = if expires {
            Fact::note(
                "consumer_token",
                "it names a consumer and expires, although no expiry is documented; the bridge uses it until it is refused",
            )
        } else {
            Fact::ok("consumer_token", "it names a consumer and never expires")
        };
        let fact = self
            .described(fact, &first)
            .titled("ConsumerJWS claims")
            .with("claims", names(&claims))
            .with("expires", expires);
        self.report_fact(fact)?;

        let second = self.call(cloud.consumer_token(account, external_id, trace));
        let second = second.await?;
        let fact = match &second.outcome {
            Ok(again) => {
                let is_same_token = again.token.expose() == token.token.expose();
                let is_same_consumer = again.consumer_id == token.consumer_id;
                let fact = match (is_same_consumer, is_same_token) {
                    (true, true) => Fact::ok("consumer_token_again", "the same token"),
                    (true, false) => Fact::note(
                        "consumer_token_again",
                        "another token for the same consumer, which is fine",
                    ),
                    (false, _) => Fact::failed(
                        "consumer_token_again",
                        "another consumer id for the same external id",
                        "the bridge distinguishes users by it; run doctor again with --report FILE and send the file to the project",
                    ),
                };
                fact.with("same_token", is_same_token)
                    .with("same_consumer_id", is_same_consumer)
            }
            Err(failure) => {
                let found = self.failure(failure, &second);
                Fact::failed("consumer_token_again", found, HINT_CREDENTIALS)
            }
        };
        let fact = self.described(fact, &second);
        self.report_fact(fact.titled("ConsumerJWS, requested again"))?;
        Ok(Some(token))
    }
}

/// True if a claim is this text, or a list that contains it.
fn contains(claims: &Map<String, Value>, name: &str, text: &str) -> bool {
    match claims.get(name) {
        Some(Value::String(claim)) => claim == text,
        Some(Value::Array(claims)) => claims.iter().any(|claim| claim == text),
        _ => false,
    }
}

/// Returns the names of the claims.
fn names(claims: &Map<String, Value>) -> BTreeSet<&str> {
    claims.keys().map(String::as_str).collect()
}
