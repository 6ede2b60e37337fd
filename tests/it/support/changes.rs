//! Events and dialogs, written down as the service does it: with a change that the Cloud tells of.

use chrono::{DateTime, Utc};
use liveperson_bridge::store::{
    Arrival, Change, Fate, HostedFile, Known, NewEvent, OpenConversation, Opened, Store, Translate,
    Translation,
};
use liveperson_bridge::types::conversation::{
    Announced, ConversationChange, CurrentDialog, Dialog, Features, OpenedBy,
};
use liveperson_bridge::types::file::FileId;
use liveperson_bridge::types::ids::{ChannelId, UserKey};

/// The account, the user and the conversation of the changes that bring events.
const CARRIER: &str = "99999999";

/// Adds events to their channels' logs and, where they are to be delivered, to their users' lanes: all in one transaction.
pub(crate) async fn append(store: &Store, events: &[NewEvent], now: DateTime<Utc>) {
    let key = UserKey {
        account_id: CARRIER.parse().unwrap(),
        namespace: "carrier".parse().unwrap(),
        user_id: CARRIER.parse().unwrap(),
    };
    let user = store.ensure_user(&key, now).await.unwrap();
    let channel_id: ChannelId = "carrier".parse().unwrap();
    let conversation = OpenConversation {
        id: CARRIER.parse().unwrap(),
        features: Features::default(),
        dialog: CurrentDialog::Main,
    };
    let opened = Opened {
        user,
        channel_id: &channel_id,
        conversation: &conversation,
        opened_by: OpenedBy::User,
        replaced: None,
        profile: None,
        at: now,
    };
    // All calls but the first find it open.
    store.insert_opened(&opened, None).await.unwrap();
    let told = Translation {
        events: events.to_vec(),
        conversation: None,
    };
    let fate = admit(store, CARRIER, CARRIER, None, told, now).await;
    assert_eq!(fate, Fate::Taken(events.len()));
}

/// Tells of a dialog of a conversation of an account; says whether the conversation is known.
pub(crate) async fn tell_of_dialog(
    store: &Store,
    account: &str,
    conversation: &str,
    dialog: &Dialog,
) -> bool {
    let told = Translation {
        events: Vec::new(),
        conversation: Some(ConversationChange {
            updated_at: None,
            announced: Announced::Opened,
            closed: None,
            dialogs: vec![dialog.clone()],
            side_dialogs: Vec::new(),
            fingerprint: "told".to_owned(),
        }),
    };
    let fate = admit(
        store,
        account,
        conversation,
        Some(true),
        told,
        dialog.opened_at,
    );
    fate.await == Fate::Taken(0)
}

async fn admit(
    store: &Store,
    account: &str,
    place: &str,
    open: Option<bool>,
    told: Translation,
    now: DateTime<Utc>,
) -> Fate {
    let arrival = Arrival {
        account_id: account.parse().unwrap(),
        key: None,
        place: place.to_owned(),
        consumer_id: None,
        side: None,
        turn: None,
        open,
        kind: "told",
        body: "told".to_owned(),
        parent: None,
        signed: None,
    };
    let admission = store.admit(&[arrival], &[], &Told(told), now).await;
    admission.unwrap().fates[0]
}

/// Says of each change the same.
struct Told(Translation);

impl Translate for Told {
    fn file(&self, _: Change<'_>) -> Option<(FileId, HostedFile)> {
        None
    }

    fn translate(&self, _: Change<'_>, _: &Known, _: Option<FileId>) -> Translation {
        self.0.clone()
    }
}
