//! Offers: the choices in the latest message to a user.

use liveperson_bridge::store::{
    Arrival, Change, Echo, KnownConversation, OfferChange, Store, Translation,
};
use liveperson_bridge::types::conversation::{Announced, Closed, ConversationChange};
use liveperson_bridge::types::event::data::Choice;
use liveperson_bridge::types::file::FileId;
use liveperson_bridge::types::offer::Offer;
use tokio::task::JoinSet;

use super::changes::arrival;
use super::{at, erase, key, open};
use crate::support::changes::{Translate, translated};
use crate::support::database::{Database, Engine};

on_both_engines!(
    the_latest_offer_of_a_conversation_is_kept_until_it_is_withdrawn,
    a_closed_conversation_has_no_offer,
    an_erasure_deletes_the_offer,
    concurrent_offers_and_closes_do_not_deadlock,
);

/// A title with characters that JSON escapes.
const TITLE: &str = "\"marker\"\u{0}\\";

/// A translation by the changes' bodies: `offer 3` offers choices in message 3, `withdraw` ends the
/// offer, and `close` closes the conversation.
struct Offering {
    bodies: Vec<String>,
    echo: Option<Echo>,
}

impl Translate for Offering {
    fn translate(
        &self,
        change: Change<'_>,
        _: &KnownConversation,
        _: Option<FileId>,
    ) -> Translation {
        let body = match change {
            Change::Arrived(index) => &self.bodies[index],
            Change::Stored { body, .. } => body,
        };
        match body.split(' ').collect::<Vec<_>>()[..] {
            ["offer", sequence] => Translation {
                offer: OfferChange::Made(Box::new(offer(sequence.parse().unwrap()))),
                ..Translation::default()
            },
            ["withdraw"] => Translation {
                offer: OfferChange::Withdrawn,
                ..Translation::default()
            },
            ["close"] => Translation {
                conversation: Some(ConversationChange {
                    updated_at: None,
                    announced: Announced::Closed,
                    closed: Some(Closed {
                        at: at(7),
                        reason: None,
                    }),
                    dialogs: Vec::new(),
                    side_dialogs: Vec::new(),
                    fingerprint: "closed".to_owned(),
                }),
                ..Translation::default()
            },
            _ => Translation::default(),
        }
    }

    fn echo(&self) -> Option<Echo> {
        self.echo.clone()
    }
}

fn offer(sequence: u32) -> Offer {
    Offer {
        dialog_id: "c1".to_owned(),
        sequence,
        choices: vec![Choice {
            title: TITLE.to_owned(),
            text: "text".to_owned(),
            metadata: serde_json::from_str(r#"[{"id": 1}]"#).unwrap(),
        }],
    }
}

/// Admits changes of these conversations, all in one transaction.
async fn admit(store: &Store, changes: &[(&str, &str)], echo: Option<Echo>) {
    let arrivals = changes.iter().map(|(conversation, body)| Arrival {
        open: (*body == "close").then_some(false),
        ..arrival(conversation, None, body)
    });
    let arrivals: Vec<_> = arrivals.collect();
    let bodies = arrivals.iter().map(|arrival| arrival.body.clone());
    let bodies = bodies.collect();
    let changes = store.begin_changes(&arrivals, &[], at(10)).await.unwrap();
    let admission = translated(changes, &Offering { bodies, echo }).await;
    admission.unwrap();
}

/// Admits changes of conversation `c1`, and returns its offer.
async fn offer_after(store: &Store, bodies: &[&str]) -> Option<Offer> {
    let changes: Vec<_> = bodies.iter().map(|body| ("c1", *body)).collect();
    admit(store, &changes, None).await;
    store.offer(&"c1".parse().unwrap()).await.unwrap()
}

async fn the_latest_offer_of_a_conversation_is_kept_until_it_is_withdrawn(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("ada"), at(0)).await.unwrap();
    open(&store, user, "c1", 1).await;
    let bob = store.ensure_user(&key("bob"), at(0)).await.unwrap();
    open(&store, bob, "c2", 1).await;
    admit(&store, &[("c2", "offer 9")], None).await;

    for (bodies, sequence) in [
        (&["withdraw"][..], None),
        (&["offer 3"], Some(3)),
        (&["another change"], Some(3)),
        (&["offer 4", "offer 5"], Some(5)),
        (&["offer 6", "withdraw"], None),
        (&["withdraw", "offer 7"], Some(7)),
        (&["withdraw"], None),
    ] {
        let stored = offer_after(&store, bodies).await;

        assert_eq!(stored, sequence.map(offer), "{bodies:?}");
    }
    let other = store.offer(&"c2".parse().unwrap()).await.unwrap();
    assert_eq!(other, Some(offer(9)));
    let unknown = store.offer(&"c3".parse().unwrap()).await.unwrap();
    assert_eq!(unknown, None);
}

async fn a_closed_conversation_has_no_offer(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("ada"), at(0)).await.unwrap();
    open(&store, user, "c1", 1).await;
    let id = "c1".parse().unwrap();

    offer_after(&store, &["offer 1"]).await;
    assert!(database.dump().await.contains("marker"));
    assert!(store.close_conversation(&id, at(5), None).await.unwrap());
    assert!(!database.dump().await.contains("marker"));
    assert!(store.reopen_conversation(user, &id).await.unwrap());
    assert_eq!(store.offer(&id).await.unwrap(), None);

    // A message that is processed after the close, or with it, has no effect either.
    assert_eq!(offer_after(&store, &["offer 2", "close"]).await, None);
    assert_eq!(offer_after(&store, &["offer 3"]).await, None);
    assert!(!database.dump().await.contains("marker"));
}

async fn an_erasure_deletes_the_offer(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("ada"), at(0)).await.unwrap();
    open(&store, user, "c1", 1).await;
    offer_after(&store, &["offer 1"]).await;
    assert!(database.dump().await.contains("marker"));

    assert!(erase(&store, user, 5).await);

    assert!(!database.dump().await.contains("marker"));
}

async fn concurrent_offers_and_closes_do_not_deadlock(engine: Engine) {
    const USERS: [&str; 4] = ["ada", "bob", "cyd", "dan"];
    const ROUNDS: u32 = 40;
    let database = Database::create(engine).await;
    let store = database.store().await;
    let mut tasks = JoinSet::new();
    for name in USERS {
        let user = store.ensure_user(&key(name), at(0)).await.unwrap();
        open(&store, user, name, 1).await;
        let store = store.clone();
        tasks.spawn(async move {
            let id = name.parse().unwrap();
            for _ in 0..ROUNDS {
                let closed = store.close_conversation(&id, at(3), None).await;
                closed.unwrap();
                store.reopen_conversation(user, &id).await.unwrap();
            }
        });
    }
    for offset in 0..4 {
        let store = store.clone();
        tasks.spawn(async move {
            for round in 0..ROUNDS {
                let mut names = USERS;
                names.rotate_left(offset);
                let body = ["offer 1", "withdraw"][usize::from(round % 3 == 0)];
                let echo = Echo {
                    dialog_id: names[0].to_owned(),
                    sequence: round,
                    digest: "digest".to_owned(),
                    sketch: None,
                    sent_at: None,
                };
                let changes = names.map(|name| (name, body));
                admit(&store, &changes, Some(echo)).await;
            }
        });
    }

    tasks.join_all().await;

    for name in USERS {
        let id = name.parse().unwrap();
        let last = [(name, "offer 1")];
        admit(&store, &last, None).await;
        assert_eq!(store.offer(&id).await.unwrap(), Some(offer(1)), "{name}");
    }
}
