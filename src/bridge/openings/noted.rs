//! Openings are noted before the Cloud is asked and forgotten with their outcome, so that what the Cloud tells of a conversation
//! meanwhile is not taken for an agent's doing.

use chrono::TimeDelta;

use crate::bridge::{Bridge, Caller, Error};
use crate::cloud;
use crate::store::{PendingOpening, UserRef};
use crate::types::conversation::{OpenedBy, Opening};
use crate::types::ids::ConversationId;
use crate::types::profile::Profile;

/// 30 s: how long an opening that was begun keeps others from taking a conversation of that user over: longer than one may take,
/// also by the clock of another replica, and than the pause before an opening whose answer was lost is tried again.
const UNDER_WAY: TimeDelta = TimeDelta::seconds(30);

/// An opening that is under way.
pub(super) struct Noted {
    user: UserRef,
    /// What is known of the user, with what the opening adds.
    pub(super) profile: Profile,
    pending: PendingOpening,
    /// One before it whose answer was lost: the conversation that the Cloud has may have come of that.
    earlier: Option<PendingOpening>,
}

impl Noted {
    /// The side that opened a conversation which the Cloud `opened` now, or had open.
    pub(super) fn opened_by(&self, opened: bool) -> OpenedBy {
        if opened || self.earlier.is_some() {
            OpenedBy::User
        } else {
            OpenedBy::Agent
        }
    }
}

impl Bridge {
    /// Notes an opening before the Cloud is asked for it; none where another conversation than the `ended` one is open by now,
    /// since an agent has opened it.
    pub(super) async fn note_opening(
        &self,
        caller: &Caller,
        user: UserRef,
        opening: &Opening,
        ended: Option<&ConversationId>,
    ) -> Result<Option<Noted>, Error> {
        let store = &self.parts.store;
        let (mut profile, earlier) = store.before_opening(user).await?;
        if let Some(newer) = &opening.profile {
            profile.merge(newer.clone());
        }
        let now = self.parts.clock.now();
        let earlier = earlier.filter(|earlier| earlier.is_open_question(now));
        let pending = PendingOpening {
            channel_id: caller.channel.id.clone(),
            features: opening.features.clone(),
            profile: opening.profile.is_some().then(|| profile.clone()),
            since: earlier.as_ref().map_or(now, |earlier| earlier.since),
            tried_at: now,
        };
        let until = now + UNDER_WAY;
        let open = store.begin_opening(user, &pending, until).await?;
        let noted = Noted {
            user,
            profile,
            pending,
            earlier,
        };
        if open.is_some_and(|open| Some(&open.id) != ended) {
            self.forget_opening(&noted).await?;
            return Ok(None);
        }
        Ok(Some(noted))
    }

    /// Forgets an opening of which nothing came.
    pub(super) async fn forget_opening(&self, noted: &Noted) -> Result<(), Error> {
        let store = &self.parts.store;
        let left = noted.earlier.as_ref();
        store.end_opening(noted.user, &noted.pending, left).await?;
        Ok(())
    }

    /// Forgets an opening, and one before it, now that the conversation is known that they came to.
    pub(super) async fn settle_opening(&self, noted: &Noted) -> Result<(), Error> {
        let store = &self.parts.store;
        store.end_opening(noted.user, &noted.pending, None).await?;
        Ok(())
    }
}

/// Whether the Cloud may have opened a conversation although its answer says nothing of one.
pub(super) fn may_have_opened(error: &Error) -> bool {
    match error {
        Error::OpeningPending { .. } => true,
        Error::Cloud(error) => {
            error.outcome_unknown() || matches!(error, cloud::Error::Unavailable { .. })
        }
        _ => false,
    }
}
