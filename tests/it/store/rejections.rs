//! Rejected notifications.

use liveperson_bridge::types::rejection::Rejected;
use liveperson_bridge::types::rejection::Rejection;

use super::at;
use crate::support::database::{Database, Engine};

on_both_engines!(
    rejections_are_summed_by_account_and_reason,
    a_day_without_rejections_resets_their_count,
    old_rejection_counts_are_removed,
);

const DAY: i64 = 86_400;

fn rejected(account: &str, reason: Rejection, count: u64, first: i64, last: i64) -> Rejected {
    Rejected {
        account_id: account.parse().ok(),
        reason,
        count,
        first_at: at(first),
        last_at: at(last),
    }
}

async fn rejections_are_summed_by_account_and_reason(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let wrong = Rejection::SignatureWrong;

    let first = [
        rejected("a", wrong, 2, 10, 11),
        rejected("", Rejection::UnknownAccount, 5, 7, 9),
        rejected("a", Rejection::NotJson, 1, 12, 12),
        rejected("b", wrong, 1, 8, 8),
    ];
    store.add_rejections(&first).await.unwrap();
    // From another replica with a clock that is behind.
    let second = [rejected("a", wrong, 3, 5, 6)];
    store.add_rejections(&second).await.unwrap();
    store.add_rejections(&[]).await.unwrap();

    assert_eq!(
        store.rejections().await.unwrap(),
        [
            rejected("a", Rejection::NotJson, 1, 12, 12),
            rejected("a", wrong, 5, 10, 11),
            rejected("", Rejection::UnknownAccount, 5, 7, 9),
            rejected("b", wrong, 1, 8, 8),
        ]
    );
}

async fn a_day_without_rejections_resets_their_count(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let add = async |count, at| {
        let added = [rejected("a", Rejection::ClientId, count, at, at)];
        store.add_rejections(&added).await.unwrap();
        store.rejections().await.unwrap().remove(0)
    };

    add(3, 0).await;
    let before = add(1, DAY - 1).await;
    let after = add(2, 2 * DAY).await;

    assert_eq!(before, rejected("a", Rejection::ClientId, 4, 0, DAY - 1));
    assert_eq!(
        after,
        rejected("a", Rejection::ClientId, 2, 2 * DAY, 2 * DAY)
    );
}

async fn old_rejection_counts_are_removed(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let added = [
        rejected("a", Rejection::ClientId, 1, 1, 5),
        rejected("a", Rejection::TooOld, 1, 1, 6),
    ];
    store.add_rejections(&added).await.unwrap();

    assert_eq!(store.remove_rejections(at(6), 500).await.unwrap(), 1);

    assert_eq!(store.rejections().await.unwrap(), added[1..]);
}
