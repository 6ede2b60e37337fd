//! Webhooks: contents, signatures, order, retries, and the disturbances that a test can inject.

mod contents;
mod control;
mod disturbances;
mod retries;

use super::receiver::{CLIENT, ReceivedRequest, Receiver, ReceiverAnswer, SECRET, eventually};
use super::*;
use crate::agent::Action;
use crate::webhooks::{Algorithm, Disturbance, DisturbanceKind, Retry, Webhook};
use crate::{Kind, Role};

/// Returns the received texts. Those of one request are joined.
pub(super) fn texts(got: &[ReceivedRequest]) -> Vec<String> {
    let messages = |got: &ReceivedRequest| {
        let changes = got.body["body"]["changes"].as_array().unwrap().clone();
        let texts: Vec<_> = changes
            .iter()
            .filter_map(|change| change["event"]["message"].as_str().map(str::to_owned))
            .collect();
        texts.join("+")
    };
    got.iter().map(messages).filter(|m| !m.is_empty()).collect()
}

impl Cloud {
    /// Opens a conversation, waits until its notifications are delivered, and returns its id.
    async fn opened(&self, ext_consumer_id: &str) -> (Tokens, String) {
        let tokens = self.tokens(ext_consumer_id).await;
        let id = self.open(&tokens).await;
        self.settled().await;
        (tokens, id)
    }

    async fn send_text(&self, tokens: &Tokens, id: &str, message: &str) {
        let sent = self.send(tokens, &text(id, message)).await;
        assert_eq!(sent.status, StatusCode::OK, "{}", sent.body);
    }

    /// Returns the status of each attempt.
    fn statuses(&self) -> Vec<Option<u16>> {
        let notifications = self.sandbox.notifications();
        notifications.iter().map(|n| n.status).collect()
    }
}
