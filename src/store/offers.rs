//! Offers: the choices in the latest message that a user got in a conversation, which the user's
//! next text may name.
//!
//! An offer is written with the event of its message, and withdrawn with the event of the next
//! message. Two replicas that process two messages of one dialog at the same moment may both find
//! no offer. The offer of the first message then outlives the second one.

use std::collections::BTreeMap;

use serde_json::json;

use super::engine::tx::{Tx, on};
use super::rows::batch;
use super::{Error, Store, UserRef, run};
use crate::types::ids::ConversationId;
use crate::types::offer::Offer;

/// The effect of a change on the offer of its conversation.
#[derive(Debug, Clone, Default)]
pub enum OfferChange {
    /// The offer stays.
    #[default]
    None,
    /// There is no offer any more.
    Withdrawn,
    /// There is a new offer.
    Made(Box<Offer>),
}

/// New offers by conversation, each with its user. `None` withdraws an offer.
pub(super) type NewOffers = BTreeMap<String, (UserRef, Option<Box<Offer>>)>;

impl Store {
    /// Reads the offer of an open conversation.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn offer(&self, conversation: &ConversationId) -> Result<Option<Offer>, Error> {
        let row: Option<(Option<String>,)> = run!(self, readers, |db| {
            sqlx::query_as("SELECT offer FROM conversations WHERE id = $1 AND closed_at IS NULL")
                .bind(conversation.as_str())
                .fetch_optional(db)
                .await?
        });
        let stored = row.and_then(|(offer,)| offer);
        // An offer that another version has written in another form counts as none, so that the
        // user's text is sent all the same.
        Ok(stored.and_then(|offer| serde_json::from_str(&offer).ok()))
    }
}

/// Stores the offers of open conversations. The caller has locked the users' rows.
pub(super) async fn store_offers(tx: &mut Tx, offers: &NewOffers) -> Result<(), Error> {
    if offers.is_empty() {
        return Ok(());
    }
    let rows = offers.iter().map(|(conversation, (_, offer))| {
        json!({
            "conversation": conversation,
            "offer": offer.as_deref().map(Offer::to_json),
        })
    });
    let rows = batch(rows);
    on!(tx, |db| {
        sqlx::query(
            "UPDATE conversations SET offer = k.value ->> 'offer'
             FROM json_each($1) AS k
             WHERE conversations.id = k.value ->> 'conversation' AND conversations.closed_at IS NULL",
        )
        .bind(rows)
        .execute(db)
        .await?
        .rows_affected()
    });
    Ok(())
}
