//! The origins of events and queued requests: for operators who have nothing but an id.

use super::{Error, Store, run};
use crate::types::event::EventId;
use crate::types::ids::UserId;
use crate::types::message::MessageId;
use crate::types::ownership::Owner;

/// The channel id, the user's id and the `traceparent`.
type Row = (String, Option<String>, Option<String>);

impl Store {
    /// Finds the channel, user and trace of an event.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn owner_of_event(&self, id: EventId) -> Result<Option<Owner>, Error> {
        let row: Option<Row> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT e.channel_id, u.user_id, e.traceparent
                 FROM events e LEFT JOIN users u ON u.id = e.user_ref WHERE e.id = $1",
            )
            .bind(id.to_string())
            .fetch_optional(db)
            .await?
        });
        row.map(Owner::try_from).transpose()
    }

    /// Finds the channel, user and trace of a queued request.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn owner_of_request(&self, id: MessageId) -> Result<Option<Owner>, Error> {
        let row: Option<Row> = run!(self, readers, |db| {
            sqlx::query_as(
                "SELECT r.channel_id, u.user_id, r.traceparent
                 FROM requests r JOIN users u ON u.id = r.user_ref WHERE r.id = $1",
            )
            .bind(id.to_string())
            .fetch_optional(db)
            .await?
        });
        row.map(Owner::try_from).transpose()
    }
}

impl TryFrom<Row> for Owner {
    type Error = Error;

    fn try_from((channel_id, user_id, traceparent): Row) -> Result<Self, Error> {
        let unreadable = |what| move |_| Error::Unreadable { what };
        Ok(Self {
            channel_id: channel_id.parse().map_err(unreadable("channel id"))?,
            user_id: user_id
                .map(UserId::try_from)
                .transpose()
                .map_err(unreadable("user's id"))?,
            traceparent,
        })
    }
}
