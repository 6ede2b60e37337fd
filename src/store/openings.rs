//! Openings whose outcome is not known: while there is one, a conversation that appears may be the user's own.
//!
//! It is noted before the Cloud is asked, and forgotten with its outcome. One that is never learnt stays noted, so that the
//! conversation is told from one that an agent opens. Only who holds the user's lane writes it, and who takes a conversation
//! over holds the user's row ([`super::changes`]).

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;

use super::standings::noted;
use super::users::KeptProfile;
use super::{Error, OpenConversation, Store, UserRef, run};
use crate::types::conversation::Features;
use crate::types::ids::ChannelId;
use crate::types::profile::Profile;

/// 1 h: an opening that has not shown by then has come to nothing. Those who wait for one ask again far more often.
const OPEN_QUESTION: TimeDelta = TimeDelta::hours(1);

/// 5 minutes: how far the Cloud's clock may be from ours where it says when a conversation began.
const CLOCKS: TimeDelta = TimeDelta::minutes(5);

/// An opening whose outcome is not known, or was not when it was noted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PendingOpening {
    /// The channel that asked for it.
    pub channel_id: ChannelId,
    /// The features that it names.
    pub features: Features,
    /// What is known of the user once it has succeeded; left out, what is known stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// When the first try began of those whose outcome is not known.
    pub since: DateTime<Utc>,
    /// When the latest try began.
    pub tried_at: DateTime<Utc>,
}

impl PendingOpening {
    /// Whether its outcome still matters.
    #[must_use]
    pub fn is_open_question(&self, now: DateTime<Utc>) -> bool {
        now - self.tried_at < OPEN_QUESTION
    }

    /// Whether a conversation that began at a moment, by the Cloud's clock, can have come of it.
    pub(super) fn may_have_begun(&self, began_at: Option<DateTime<Utc>>) -> bool {
        began_at.is_none_or(|at| at >= self.since - CLOCKS && at <= self.tried_at + CLOCKS)
    }
}

impl Store {
    /// What agents are told about a user, and the latest opening whose outcome was never learnt.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn before_opening(
        &self,
        user: UserRef,
    ) -> Result<(Profile, Option<PendingOpening>), Error> {
        let row: Option<(Json<KeptProfile>, Option<String>)> = run!(self, readers, |db| {
            sqlx::query_as("SELECT profile, opening FROM users WHERE id = $1")
                .bind(user.0)
                .fetch_optional(db)
                .await?
        });
        let (profile, opening) = row.ok_or(Error::Contended)?;
        Ok((profile.0.0, opening.as_deref().and_then(pending)))
    }

    /// Notes an opening that is about to be asked for, which holds up those who would take a conversation over until a moment;
    /// returns the conversation that is open by now.
    ///
    /// # Errors
    ///
    /// When the database does not answer, or the user was erased.
    pub async fn begin_opening(
        &self,
        user: UserRef,
        opening: &PendingOpening,
        until: DateTime<Utc>,
    ) -> Result<Option<OpenConversation>, Error> {
        let row: Option<(Option<String>,)> = run!(self, writer, |db| {
            sqlx::query_as(
                "UPDATE users SET opening = $2, opening_until = $3 WHERE id = $1 RETURNING open_conversation",
            )
            .bind(user.0)
            .bind(text(opening))
            .bind(until.timestamp_millis())
            .fetch_optional(db)
            .await?
        });
        let (open,) = row.ok_or(Error::Contended)?;
        open.as_deref().map(noted).transpose()
    }

    /// Forgets an opening that has come to nothing, unless another was noted since; what is left is one before it, of which the
    /// outcome is still not known.
    ///
    /// # Errors
    ///
    /// When the database does not answer; others are held up for as long as it said.
    pub async fn end_opening(
        &self,
        user: UserRef,
        opening: &PendingOpening,
        left: Option<&PendingOpening>,
    ) -> Result<(), Error> {
        run!(self, writer, |db| {
            sqlx::query(
                "UPDATE users SET opening = $3, opening_until = NULL WHERE id = $1 AND opening = $2",
            )
            .bind(user.0)
            .bind(text(opening))
            .bind(left.map(text))
            .execute(db)
            .await?
            .rows_affected()
        });
        Ok(())
    }
}

/// An opening as it is noted; the same text for the same one.
fn text(opening: &PendingOpening) -> String {
    serde_json::json!(opening).to_string()
}

/// The opening that is noted; none where this version cannot read it.
pub(super) fn pending(text: &str) -> Option<PendingOpening> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn opening(since: i64, tried_at: i64) -> PendingOpening {
        PendingOpening {
            channel_id: "sms".parse().unwrap(),
            features: Features::default(),
            profile: None,
            since: at(since),
            tried_at: at(tried_at),
        }
    }

    #[test]
    fn a_conversation_may_be_of_any_try_and_of_a_clock_that_is_minutes_off() {
        let opening = opening(1000, 2000);

        for (began_at, may_be) in [
            (699, false),
            (700, true),
            (1500, true),
            (2300, true),
            (2301, false),
        ] {
            assert_eq!(
                opening.may_have_begun(Some(at(began_at))),
                may_be,
                "{began_at}"
            );
        }
        assert!(opening.may_have_begun(None));
    }

    #[test]
    fn an_opening_of_which_nothing_was_seen_for_an_hour_has_come_to_nothing() {
        assert!(opening(0, 100).is_open_question(at(100 + 3599)));
        assert!(!opening(0, 100).is_open_question(at(100 + 3600)));
    }

    #[test]
    fn an_opening_is_read_as_it_was_noted() {
        let profile = serde_json::from_value(serde_json::json!({"first_name": "Ada"})).unwrap();
        let opening = PendingOpening {
            features: Features::try_from(vec!["AUTO_MESSAGES".to_owned()]).unwrap(),
            profile: Some(profile),
            ..opening(1, 2)
        };

        assert_eq!(pending(&text(&opening)), Some(opening));
        assert_eq!(pending("{}"), None);
    }
}
