//! Write-ahead records of openings. They are stored before the request to the Cloud, and removed
//! with its outcome. So the Cloud's notifications of the conversation are not taken for an opening
//! by an agent.

use chrono::TimeDelta;

use crate::bridge::{Bridge, Caller, Error};
use crate::cloud;
use crate::store::{PendingOpening, UserRef};
use crate::types::conversation::{OpenedBy, Opening};
use crate::types::ids::ConversationId;
use crate::types::profile::Profile;

/// 30 s: the time for which an opening keeps other tasks from adopting a conversation of that user.
/// It is longer than an opening may take, even by another replica's clock. It is also longer
/// than the pause before an opening without an answer is attempted again.
const OPENING_TIME: TimeDelta = TimeDelta::seconds(30);

/// An opening in progress, with its write-ahead record.
pub(super) struct RecordedOpening {
    user: UserRef,
    /// The known profile of the user, with the additions of the opening.
    pub(super) profile: Profile,
    pending: PendingOpening,
    /// An earlier opening whose answer was lost. It may have created an open conversation at the
    /// Cloud.
    earlier: Option<PendingOpening>,
}

impl RecordedOpening {
    /// Returns the side that opened a conversation. `opened` is true if the Cloud opened it now,
    /// false if it was open before.
    pub(super) fn opened_by(&self, opened: bool) -> OpenedBy {
        if opened || self.earlier.is_some() {
            OpenedBy::User
        } else {
            OpenedBy::Agent
        }
    }
}

impl Bridge {
    /// Records an opening before the request to the Cloud; `None` if a conversation other than
    /// `ended` is open by now, since an agent has opened it.
    pub(super) async fn record_opening(
        &self,
        caller: &Caller,
        user: UserRef,
        opening: &Opening,
        ended: Option<&ConversationId>,
    ) -> Result<Option<RecordedOpening>, Error> {
        let store = &self.parts.store;
        let (mut profile, earlier) = store.profile_and_opening(user).await?;
        if let Some(newer) = &opening.profile {
            profile.merge(newer.clone());
        }
        let now = self.parts.clock.now();
        let earlier = earlier.filter(|earlier| earlier.outcome_matters(now));
        let pending = PendingOpening {
            channel_id: caller.channel.id.clone(),
            features: opening.features.clone(),
            profile: opening.profile.is_some().then(|| profile.clone()),
            since: earlier.as_ref().map_or(now, |earlier| earlier.since),
            attempted_at: now,
        };
        let until = now + OPENING_TIME;
        let open = store.begin_opening(user, &pending, until).await?;
        let recorded = RecordedOpening {
            user,
            profile,
            pending,
            earlier,
        };
        if open.is_some_and(|open| Some(&open.id) != ended) {
            self.discard_opening(&recorded).await?;
            return Ok(None);
        }
        Ok(Some(recorded))
    }

    /// Removes the record of an opening that created no conversation. The record of an earlier one
    /// stays.
    pub(super) async fn discard_opening(&self, recorded: &RecordedOpening) -> Result<(), Error> {
        let store = &self.parts.store;
        let earlier = recorded.earlier.as_ref();
        store
            .end_opening(recorded.user, &recorded.pending, earlier)
            .await?;
        Ok(())
    }

    /// Removes the records of an opening and of an earlier one, now that their conversation is
    /// known.
    pub(super) async fn settle_opening(&self, recorded: &RecordedOpening) -> Result<(), Error> {
        let store = &self.parts.store;
        store
            .end_opening(recorded.user, &recorded.pending, None)
            .await?;
        Ok(())
    }
}

/// True if the Cloud may have opened a conversation although its answer does not say so.
pub(super) fn may_have_opened(error: &Error) -> bool {
    match error {
        Error::OpeningPending { .. } => true,
        Error::Cloud(error) => {
            error.outcome_unknown() || matches!(error, cloud::Error::Unavailable { .. })
        }
        _ => false,
    }
}
