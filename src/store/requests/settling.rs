//! What becomes of a try: written down together with the event that tells of it.

use chrono::{DateTime, Utc};

use super::lane::hold;
use super::{Flight, echoes, sequences_text, step};
use crate::store::log::append;
use crate::store::tx::on;
use crate::store::{Error, Lease, NewEvent, Store, UserRef};
use crate::types::event::data::Failure;
use crate::types::file::{FileId, FileType};
use crate::types::ids::ConversationId;
use crate::types::message::{MessageId, Sequence};

/// What became of a try.
#[derive(Debug, Clone, Copy)]
pub enum Conclusion<'a> {
    /// The Cloud has not taken it; it is to be tried again.
    Postponed {
        /// Why, in a word of the table of problems.
        why: &'a str,
    },
    /// The Cloud may have taken it.
    Unknown {
        /// Why that is not known.
        why: &'a str,
    },
    /// The Cloud has taken a part of it, of which there are more.
    Advanced,
    /// The Cloud has it.
    Sent,
    /// It will not reach the Cloud.
    Failed(&'a Failure),
}

/// What is known of a request once it was tried.
#[derive(Debug, Clone, Copy)]
pub struct Settled<'a> {
    /// The user.
    pub user: UserRef,
    /// The request.
    pub id: MessageId,
    /// What became of it.
    pub settlement: Conclusion<'a>,
    /// The conversation that it went to.
    pub conversation_id: Option<&'a ConversationId>,
    /// The Cloud's numbers of what was sent of it, so far.
    pub sequences: &'a [Sequence],
    /// Where the last of these was given.
    pub flight: Option<&'a Flight>,
    /// The file that was sent.
    pub file: Option<(FileId, &'a FileType)>,
    /// What the channel is told.
    pub event: Option<&'a NewEvent>,
}

impl Store {
    /// Writes down what became of a try, with its event; says whether the lane was still ours.
    ///
    /// # Errors
    ///
    /// When the database does not answer; nothing is written then.
    pub async fn settle_request(
        &self,
        lease: &Lease,
        settled: &Settled<'_>,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let Settled {
            user,
            id,
            settlement,
            ..
        } = *settled;
        let mut tx = self.begin().await?;
        if !hold(&mut tx, user, lease).await? {
            return Ok(false);
        }
        let (state, told) = match settlement {
            Conclusion::Postponed { why } => ("waiting", Some(("postponed", Some(why)))),
            Conclusion::Unknown { why } => ("unknown", Some(("unknown", Some(why)))),
            Conclusion::Advanced => ("waiting", None),
            Conclusion::Sent => ("sent", Some(("sent", None))),
            Conclusion::Failed(failure) => ("failed", Some(("failed", Some(&failure.code[..])))),
        };
        let is_over = matches!(state, "sent" | "failed");
        let failure = match settlement {
            Conclusion::Failed(failure) => serde_json::to_string(failure).ok(),
            _ => None,
        };
        let rows = on!(tx, |db| {
            sqlx::query(
                "UPDATE requests SET state = $2, sequences = $3, conversation_id = COALESCE($4, conversation_id),
                     failure = $5, settled_at = $6, file_id = $7, file_type = $8,
                     -- what was asked for has served once it is over
                     body = CASE WHEN $6 IS NULL THEN body ELSE '' END,
                     content = CASE WHEN $6 IS NULL THEN content END,
                     content_size = CASE WHEN $6 IS NULL THEN content_size ELSE 0 END,
                     attempts = attempts + $9
                 WHERE id = $1 AND settled_at IS NULL",
            )
            .bind(id.to_string())
            .bind(state)
            .bind(sequences_text(settled.sequences))
            .bind(settled.conversation_id.map(ConversationId::as_str))
            .bind(failure)
            .bind(is_over.then(|| now.timestamp_millis()))
            .bind(settled.file.map(|(id, _)| id.to_string()))
            .bind(settled.file.map(|(_, kind)| kind.as_str().to_owned()))
            // A try that did not come as far as the Cloud has not been counted yet.
            .bind(i64::from(
                matches!(settlement, Conclusion::Postponed { .. }) && settled.flight.is_none(),
            ))
            .execute(db)
            .await?
            .rows_affected()
        });
        if rows == 0 {
            return Ok(false);
        }
        if is_over {
            on!(tx, |db| {
                sqlx::query("UPDATE users SET waiting = waiting - 1 WHERE id = $1")
                    .bind(user.0)
                    .execute(db)
                    .await?
                    .rows_affected()
            });
        }
        if matches!(settlement, Conclusion::Sent | Conclusion::Advanced)
            && let (Some(flight), Some(sequence)) = (settled.flight, settled.sequences.last())
        {
            echoes::attribute(&mut tx, user, &flight.dialog_id, *sequence, now).await?;
        }
        if let Some((what, why)) = told {
            step(&mut tx, id, now, what, why).await?;
        }
        if let Some(event) = settled.event {
            append(&mut tx, std::slice::from_ref(event), now).await?;
        }
        tx.commit().await?;
        Ok(true)
    }
}
