//! The batchers of the store, one for each kind of batched query.
//!
//! To add one, implement `Question` next to the function that uses it, and add a line to the list
//! below.

use super::Store;
use super::callbacks::Failed;
use super::delivery_lanes::{Due, Settle as SettleDelivery};
use super::engine::batching::Batcher;
use super::idempotency::{Begin, Finish, Note};
use super::requests::{Keep, Settle, TakeOff};
use super::standings::LookUp;
use super::users::Ensure;

macro_rules! batchers {
    ($($name:ident: $question:ty,)+) => {
        /// All batchers of the store.
        #[derive(Debug, Default)]
        pub(super) struct Batchers {
            $($name: Batcher<$question>,)+
        }

        $(impl AsRef<Batcher<$question>> for Store {
            fn as_ref(&self) -> &Batcher<$question> {
                &self.batchers.$name
            }
        })+
    };
}

batchers! {
    look_ups: LookUp,
    begins: Begin,
    notes: Note,
    finishes: Finish,
    ensures: Ensure,
    keeps: Keep,
    take_offs: TakeOff,
    settles: Settle,
    dues: Due,
    deliveries: SettleDelivery,
    failed: Failed,
}
