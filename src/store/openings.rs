//! Openings with an unknown outcome. While a user has one, a new conversation of that user may come
//! from it.
//!
//! An opening is recorded before the request to the Cloud, and deleted when its outcome is known.
//! If the outcome never becomes known, the record stays, to distinguish the resulting conversation
//! from one that an agent opens. Only the holder of the user's lane writes it. A transaction that
//! adopts a conversation locks the user's row ([`super::changes`]).

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;

use super::user_state::parse_open_conversation;
use super::users::StoredProfile;
use super::{Error, OpenConversation, Store, UserRef, run};
use crate::types::conversation::Features;
use crate::types::ids::ChannelId;
use crate::types::profile::Profile;

/// 1 h: an opening without a conversation counts as failed this long after its latest attempt. A
/// user who still waits for a conversation causes new attempts far more often.
const OUTCOME_WINDOW: TimeDelta = TimeDelta::hours(1);

/// 5 minutes: the largest expected difference between our clock and the Cloud's, for the start time
/// of a conversation.
const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(5);

/// An opening whose outcome is unknown, or was unknown when it was recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PendingOpening {
    /// The channel that requested it.
    pub channel_id: ChannelId,
    /// The features of the request.
    pub features: Features,
    /// The profile to store once the opening succeeds; `None` keeps the stored one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// The start of the first attempt with an unknown outcome.
    pub since: DateTime<Utc>,
    /// The start of the latest attempt.
    pub attempted_at: DateTime<Utc>,
}

impl PendingOpening {
    /// True if the outcome still matters.
    #[must_use]
    pub fn outcome_matters(&self, now: DateTime<Utc>) -> bool {
        now - self.attempted_at < OUTCOME_WINDOW
    }

    /// True if a conversation that began at this time, by the Cloud's clock, may result from this
    /// opening.
    pub(super) fn may_have_created(&self, began_at: Option<DateTime<Utc>>) -> bool {
        began_at
            .is_none_or(|at| at >= self.since - CLOCK_SKEW && at <= self.attempted_at + CLOCK_SKEW)
    }
}

impl Store {
    /// Reads a user's profile, and the latest opening if its outcome is unknown.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn profile_and_opening(
        &self,
        user: UserRef,
    ) -> Result<(Profile, Option<PendingOpening>), Error> {
        let row: Option<(Json<StoredProfile>, Option<String>)> = run!(self, readers, |db| {
            sqlx::query_as("SELECT profile, opening FROM users WHERE id = $1")
                .bind(user.0)
                .fetch_optional(db)
                .await?
        });
        let (profile, opening) = row.ok_or(Error::Contended)?;
        Ok((profile.0.0, opening.as_deref().and_then(pending)))
    }

    /// Records an opening just before the request for it. No other replica adopts a conversation of
    /// the user before `until`. Returns the conversation that is open by now.
    ///
    /// # Errors
    ///
    /// When the database does not answer, or if the user was erased.
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
        open.as_deref().map(parse_open_conversation).transpose()
    }

    /// Deletes an opening that has failed, unless another one was recorded since. `earlier`, an
    /// opening whose outcome is still unknown, takes its place.
    ///
    /// # Errors
    ///
    /// When the database does not answer. Other replicas then wait until the time that was given to
    /// [`begin_opening`](Self::begin_opening).
    pub async fn end_opening(
        &self,
        user: UserRef,
        opening: &PendingOpening,
        earlier: Option<&PendingOpening>,
    ) -> Result<(), Error> {
        run!(self, writer, |db| {
            sqlx::query(
                "UPDATE users SET opening = $3, opening_until = NULL WHERE id = $1 AND opening = $2",
            )
            .bind(user.0)
            .bind(text(opening))
            .bind(earlier.map(text))
            .execute(db)
            .await?
            .rows_affected()
        });
        Ok(())
    }
}

/// Serializes an opening for its column. Equal openings give equal texts.
fn text(opening: &PendingOpening) -> String {
    serde_json::json!(opening).to_string()
}

/// Parses a recorded opening; `None` if this version cannot read it.
pub(super) fn pending(text: &str) -> Option<PendingOpening> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn opening(since: i64, attempted_at: i64) -> PendingOpening {
        PendingOpening {
            channel_id: "sms".parse().unwrap(),
            features: Features::default(),
            profile: None,
            since: at(since),
            attempted_at: at(attempted_at),
        }
    }

    #[test]
    fn a_conversation_matches_any_attempt_within_minutes_of_clock_skew() {
        let opening = opening(1000, 2000);

        for (began_at, expected) in [
            (699, false),
            (700, true),
            (1500, true),
            (2300, true),
            (2301, false),
        ] {
            assert_eq!(
                opening.may_have_created(Some(at(began_at))),
                expected,
                "{began_at}"
            );
        }
        assert!(opening.may_have_created(None));
    }

    #[test]
    fn an_opening_without_a_conversation_for_an_hour_has_failed() {
        assert!(opening(0, 100).outcome_matters(at(100 + 3599)));
        assert!(!opening(0, 100).outcome_matters(at(100 + 3600)));
    }

    #[test]
    fn a_recorded_opening_is_read_back_unchanged() {
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
