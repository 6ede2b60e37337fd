//! What a test can do with webhooks, in Rust and over HTTP.

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
use crate::announcements::Announcements;
use crate::conversations::{Consumer, Conversation, Opening, Publishing};
use crate::idp;
use crate::notification::{Content, Kind, Notification, Writing};
use crate::order::{Order, expect_nothing_else, read_after};
use crate::participant::{Audience, Participant, Role};
use crate::recording::read_form;
use crate::refusal::Refusal;

impl Sandbox {
    /// Tells someone from now on what happens in an account; another webhook of the same app installation is replaced.
    pub fn subscribe(&self, webhook: Webhook) {
        self.state().hooks.subscribe(webhook);
    }

    /// Has the next notifications delivered otherwise than usual, after those disturbances that were ordered before.
    pub fn disturb(&self, disturbance: Disturbance) {
        self.state().hooks.troubles.push(disturbance);
    }

    /// The disturbances that are still to strike, each with the times that are left of it.
    #[must_use]
    pub fn disturbances(&self) -> Vec<Disturbance> {
        self.state().hooks.troubles.list()
    }

    /// Takes back the disturbances that have not struck yet; what was gathered for one request is let go.
    pub fn withdraw_disturbances(&self) {
        self.state().hooks.withdraw_troubles();
    }

    /// Lets go of the notifications that are held back.
    pub fn release_notifications(&self) {
        self.state().hooks.release();
    }

    /// Tries again at once what waits for another try.
    pub fn retry_now(&self) {
        self.state().hooks.retry_now();
    }

    /// The latest 10,000 attempts to deliver a notification, fewer where their bodies exceed 64 MiB, in the order in which
    /// they ended.
    #[must_use]
    pub fn notifications(&self) -> Vec<Delivery> {
        self.notifications_after(0)
    }

    /// Those of them that ended after the one of this number.
    #[must_use]
    pub fn notifications_after(&self, id: u64) -> Vec<Delivery> {
        self.state().hooks.deliveries.list_after(id)
    }

    /// How many notifications are on the way, wait for another try or are held back.
    #[must_use]
    pub fn pending_notifications(&self) -> usize {
        self.state().hooks.pending()
    }

    /// Tells of a conversation that another channel opened, in which an agent says something; its id.
    ///
    /// None where nobody subscribed to the account.
    #[must_use]
    pub fn foreign(&self, account: &str) -> Option<String> {
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
            let publishing = Publishing {
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
            dialog.publish(publishing, now);
        }
        let mut state = self.state();
        let mut announcements = Announcements::default();
        let notifications = announcements.news(&conversation, now).notifications();
        let told = notifications
            .iter()
            .map(|notification| state.hooks.push(notification, now))
            .sum::<usize>();
        (told > 0).then_some(id)
    }

    /// Sends a body as it is, rightly signed; returns whether anybody subscribed to the account.
    pub fn notify_raw(&self, account: &str, body: impl Into<Bytes>) -> bool {
        let notification = Notification {
            account: account.to_owned(),
            conversation: None,
            kind: Kind::Raw,
            by: None,
            struck: false,
            content: Content::Raw(body.into()),
            writing: Writing::Usual,
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

/// The attempts that ended after that of which `?after=17` tells; all, without.
async fn notifications(
    State(sandbox): State<Sandbox>,
    RawQuery(query): RawQuery,
) -> Result<Json<Vec<Delivery>>, Refusal> {
    let mut filter = read_form(query.as_deref().unwrap_or_default());
    let after = read_after(&mut filter)?;
    expect_nothing_else(&filter, "after")?;
    Ok(Json(sandbox.notifications_after(after)))
}

async fn subscribe(State(sandbox): State<Sandbox>, Order(webhook): Order<Webhook>) -> StatusCode {
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
    Order(disturbance): Order<Disturbance>,
) -> StatusCode {
    sandbox.disturb(disturbance);
    StatusCode::NO_CONTENT
}

async fn foreign(State(sandbox): State<Sandbox>, Path(account): Path<String>) -> Response {
    match sandbox.foreign(&account) {
        Some(id) => Json(json!({"conversation_id": id})).into_response(),
        None => nobody(&account),
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
        nobody(&account)
    }
}

fn nobody(account: &str) -> Response {
    let complaint = format!("nobody subscribed to account `{account}`");
    Refusal::plain(StatusCode::NOT_FOUND, complaint).into_response()
}
