//! The opening of a conversation, and of a second one beside it, which the Cloud should refuse.

use super::{CallResult, Failure, HINT_SEE_ANSWER, Opened, Walk};
use crate::cli::doctor::facts::Fact;
use crate::cli::doctor::openings::State;
use crate::cloud::{self, Consumer, ConsumerToken, Opening};
use crate::types::conversation::{Features, Routing};
use crate::types::ids::ConversationId;

/// The prefix of the consumers' external ids, for people who find such a consumer in the Cloud.
const EXTERNAL_ID: &str = "liveperson-bridge:doctor";

const HINT_OPENING: &str = "see the Cloud's answer: the app installation may lack the scope msg.consumer, or the account may require a campaign or skill (--campaign-id and --engagement-id, or --skill-id)";

const HINT_ROUTED: &str = "check that the campaign's engagement, or the skill, belongs to this account, is for messaging and is live";

impl Walk<'_> {
    /// Opens a conversation for a new consumer. Returns `None` if it could not be opened.
    pub(super) async fn open_by(
        &mut self,
        routing: Option<&Routing>,
    ) -> anyhow::Result<Option<Opened>> {
        let external_id = format!("{EXTERNAL_ID}:{}", self.run.clock.uuid());
        self.masks.add(&external_id);
        let token = if routing.is_none() {
            if !self.check_app_token().await? {
                return Ok(None);
            }
            self.check_consumer_token(&external_id).await?
        } else {
            self.routed_token(&external_id).await?
        };
        let Some(token) = token else {
            return Ok(None);
        };
        let begun = self.now();
        let call = self.open(&external_id, &token, routing, true).await?;
        let (key, hint) = match routing {
            None => ("opening", HINT_OPENING),
            Some(_) => ("routed_opening", HINT_ROUTED),
        };
        let id = self.report_call(key, call, hint, |_| "accepted".to_owned())?;
        Ok(id.map(|id| Opened {
            external_id,
            token,
            id,
            begun,
        }))
    }

    /// Requests the token of another consumer. Only a failure is reported.
    async fn routed_token(&mut self, external_id: &str) -> anyhow::Result<Option<ConsumerToken>> {
        let account = &self.account.account_id;
        let (cloud, trace) = (self.run.cloud, self.run.trace);
        let call = self.call(cloud.consumer_token(account, external_id, trace));
        let call = call.await?;
        match call.outcome {
            Ok(token) => {
                self.masks.add(&token.consumer_id);
                Ok(Some(token))
            }
            Err(_) => self.report_call("routed_opening", call, HINT_SEE_ANSWER, |_| String::new()),
        }
    }

    /// Requests a second conversation for the same consumer.
    pub(super) async fn open_again(&mut self, opened: &Opened) -> anyhow::Result<()> {
        const KEY: &str = "second_opening";
        let call = self
            .open(&opened.external_id, &opened.token, None, false)
            .await?;
        let is_open = |error: &cloud::Error| matches!(error, cloud::Error::AlreadyOpen);
        self.report_expected_refusal(KEY, &call, is_open, |id, _| {
            if *id == opened.id {
                let found = "the Cloud answers with the open conversation, which is fine";
                return Fact::note(KEY, found);
            }
            Fact::failed(
                KEY,
                "the Cloud opened a second conversation although the first is open",
                "the bridge relies on a refusal; run doctor again with --report FILE and send the file to the project",
            )
        })
    }

    /// Opens a conversation. The opening is recorded before the call and after it.
    async fn open(
        &mut self,
        external_id: &str,
        token: &ConsumerToken,
        routing: Option<&Routing>,
        is_first: bool,
    ) -> anyhow::Result<CallResult<ConversationId>> {
        let account = &self.account.account_id;
        let features = Features::default();
        let consumer = Consumer {
            account,
            token: &token.token,
        };
        let opening = Opening {
            profile: None,
            routing,
            context: None,
            urgency: None,
            features: &features,
        };
        let number = self.openings.begin(account, external_id, token);
        let (cloud, trace) = (self.run.cloud, self.run.trace);
        let call = self.call(cloud.open(&consumer, &opening, trace)).await;
        let state = match call.as_ref().map(|call| &call.outcome) {
            Ok(Ok(id)) => State::Open(id.clone()),
            // A new consumer has no open conversation, unless an attempt of this call opened one.
            Ok(Err(Failure::Cloud(cloud::Error::AlreadyOpen))) if is_first => State::Unknown,
            Ok(Err(Failure::Cloud(error))) if !error.outcome_unknown() => State::Refused,
            Ok(Err(_)) => State::Unknown,
            // The call was not made.
            Err(_) => State::Refused,
        };
        self.openings.settle(number, state);
        if let Ok(call) = &call
            && let Ok(id) = &call.outcome
        {
            self.masks.add(id.as_str());
        }
        call
    }
}
