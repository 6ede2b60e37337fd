//! The control of webhooks for tests, in Rust and over HTTP.

use std::collections::BTreeSet;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::json;

use super::{Delivery, Disturbance, Webhook};
use crate::Sandbox;
use crate::control_request::{JsonBody, read_after, refuse_unknown_parameters};
use crate::conversations::{Consumer, Conversation, NewEvent, Opening};
use crate::idp;
use crate::notification::{BodyForm, Content, Kind, Notification};
use crate::participant::{Audience, Participant, Role};
use crate::recording::read_form;
use crate::refusal::Refusal;
use crate::reported_states::ReportedStates;

impl Sandbox {
    /// Subscribes a webhook to an account's notifications. It replaces the webhook of the same app
    /// installation.
    pub fn subscribe(&self, webhook: Webhook) {
        self.state().hooks.subscribe(webhook);
    }

    /// Injects a disturbance. It affects the next notifications, once the earlier disturbances that
    /// match them are used up.
    pub fn disturb(&self, disturbance: Disturbance) {
        self.state().hooks.disturbances.push(disturbance);
    }

    /// Lists the pending disturbances, each with its remaining count.
    #[must_use]
    pub fn disturbances(&self) -> Vec<Disturbance> {
        self.state().hooks.disturbances.list()
    }

    /// Withdraws the pending disturbances. Notifications that were gathered for one request are
    /// released.
    pub fn withdraw_disturbances(&self) {
        self.state().hooks.clear_disturbances();
    }

    /// Releases the notifications that are held back.
    pub fn release_notifications(&self) {
        self.state().hooks.release();
    }

    /// Makes all notifications that wait for another attempt due now.
    pub fn retry_now(&self) {
        self.state().hooks.retry_now();
    }

    /// Returns the latest 10,000 attempts to deliver a notification, in the order in which they
    /// ended. Fewer are kept if their bodies exceed 64 MiB.
    #[must_use]
    pub fn notifications(&self) -> Vec<Delivery> {
        self.notifications_after(0)
    }

    /// Returns those attempts that ended after the one with this number.
    #[must_use]
    pub fn notifications_after(&self, id: u64) -> Vec<Delivery> {
        self.state().hooks.deliveries.list_after(id)
    }

    /// Returns the number of notifications that are in flight, wait for another attempt, or are
    /// held back.
    #[must_use]
    pub fn pending_notifications(&self) -> usize {
        self.state().hooks.pending()
    }

    /// Sends the notifications of a conversation that another channel opened, with a text of an
    /// agent. Returns the conversation id.
    ///
    /// `None` if the account has no subscriber.
    #[must_use]
    pub fn notify_foreign(&self, account: &str) -> Option<String> {
        let clock = &self.0.clock;
        let now = clock.now();
        let id = clock.uuid().to_string();
        let ext_consumer_id = format!("elsewhere-{id}");
        let opening = Opening {
            consumer: Consumer {
                account: account.to_owned(),
                lp_consumer_id: idp::lp_consumer_id(account, &ext_consumer_id),
                ext_consumer_id,
            },
            profile: json!({}),
            request: json!({"brandId": account}),
            client_properties: None,
            features: BTreeSet::new(),
        };
        let mut conversation = Conversation::new(id.clone(), opening, now);
        let agent = Participant::of_brand(account, Role::AssignedAgent, &conversation.skill_id);
        conversation.participants.push(agent.clone());
        for dialog in &mut conversation.dialogs {
            let new_event = NewEvent {
                originator: agent.clone(),
                audience: Audience::All,
                event: json!({
                    "type": "ContentEvent",
                    "contentType": "text/plain",
                    "message": "This is for somebody else",
                }),
                metadata: None,
                request_id: None,
            };
            dialog.publish(new_event, now);
        }
        let mut state = self.state();
        let mut reported_states = ReportedStates::default();
        let unreported = reported_states.take_unreported(&conversation, now);
        let notifications = unreported.notifications();
        let queued = notifications
            .iter()
            .map(|notification| state.hooks.push(notification, now))
            .sum::<usize>();
        (queued > 0).then_some(id)
    }

    /// Sends a body unchanged, with a valid signature. Returns true if the account has a
    /// subscriber.
    pub fn notify_raw(&self, account: &str, body: impl Into<Bytes>) -> bool {
        let notification = Notification {
            account: account.to_owned(),
            conversation: None,
            kind: Kind::Raw,
            by: None,
            disturbed: false,
            content: Content::Raw(body.into()),
            body_form: BodyForm::Usual,
        };
        let now = self.0.clock.now();
        self.state().hooks.push(&notification, now) > 0
    }
}

pub(crate) fn router() -> Router<Sandbox> {
    Router::new()
        .route("/webhooks", put(subscribe))
        .route(
            "/webhooks/disturbances",
            get(disturbances).post(disturb).delete(withdraw),
        )
        .route(
            "/webhooks/release",
            post(async |State(sandbox): State<Sandbox>| {
                sandbox.release_notifications();
                StatusCode::NO_CONTENT
            }),
        )
        .route(
            "/webhooks/retry",
            post(async |State(sandbox): State<Sandbox>| {
                sandbox.retry_now();
                StatusCode::NO_CONTENT
            }),
        )
        .route("/notifications", get(notifications))
        .route("/notifications/{account}/foreign", post(foreign))
        .route("/notifications/{account}/raw", post(notify_raw))
}

/// Lists the attempts; with `?after=17`, only those that ended after number 17.
async fn notifications(
    State(sandbox): State<Sandbox>,
    RawQuery(query): RawQuery,
) -> Result<Json<Vec<Delivery>>, Refusal> {
    let mut filter = read_form(query.as_deref().unwrap_or_default());
    let after = read_after(&mut filter)?;
    refuse_unknown_parameters(&filter, "after")?;
    Ok(Json(sandbox.notifications_after(after)))
}

async fn subscribe(
    State(sandbox): State<Sandbox>,
    JsonBody(webhook): JsonBody<Webhook>,
) -> StatusCode {
    sandbox.subscribe(webhook);
    StatusCode::NO_CONTENT
}

async fn disturbances(State(sandbox): State<Sandbox>) -> Json<Vec<Disturbance>> {
    Json(sandbox.disturbances())
}

async fn withdraw(State(sandbox): State<Sandbox>) -> StatusCode {
    sandbox.withdraw_disturbances();
    StatusCode::NO_CONTENT
}

async fn disturb(
    State(sandbox): State<Sandbox>,
    JsonBody(disturbance): JsonBody<Disturbance>,
) -> StatusCode {
    sandbox.disturb(disturbance);
    StatusCode::NO_CONTENT
}

async fn foreign(State(sandbox): State<Sandbox>, Path(account): Path<String>) -> Response {
    match sandbox.notify_foreign(&account) {
        Some(id) => Json(json!({"conversation_id": id})).into_response(),
        None => no_subscriber(&account),
    }
}

async fn notify_raw(
    State(sandbox): State<Sandbox>,
    Path(account): Path<String>,
    body: Bytes,
) -> Response {
    if sandbox.notify_raw(&account, body) {
        StatusCode::NO_CONTENT.into_response()
    } else {
        no_subscriber(&account)
    }
}

fn no_subscriber(account: &str) -> Response {
    let complaint = format!("account `{account}` has no webhook subscription");
    Refusal::plain(StatusCode::NOT_FOUND, complaint).into_response()
}
