//! The batchers of the store, one for each kind of batched query.
//!
//! To add one, implement `BatchedQuery` next to the function that uses it, and add a line to the
//! list below.

use super::Store;
use super::callbacks::CountFailure;
use super::delivery_lanes::{DueEventsQuery, SettleDelivery};
use super::engine::batching::Batcher;
use super::idempotency::{ClaimKey, RecordSend, StoreAnswer};
use super::requests::{BeginAttempt, Enqueue, SettleAttempt};
use super::user_state::UserStateQuery;
use super::users::EnsureUser;

macro_rules! batchers {
    ($($name:ident: $query:ty,)+) => {
        /// All batchers of the store.
        #[derive(Debug, Default)]
        pub(super) struct Batchers {
            $($name: Batcher<$query>,)+
        }

        $(impl AsRef<Batcher<$query>> for Store {
            fn as_ref(&self) -> &Batcher<$query> {
                &self.batchers.$name
            }
        })+
    };
}

batchers! {
    user_states: UserStateQuery,
    key_claims: ClaimKey,
    send_records: RecordSend,
    answers: StoreAnswer,
    new_users: EnsureUser,
    enqueues: Enqueue,
    attempts: BeginAttempt,
    settled_attempts: SettleAttempt,
    due_events: DueEventsQuery,
    settled_deliveries: SettleDelivery,
    callback_failures: CountFailure,
}
