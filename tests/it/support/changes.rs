//! Events and dialogs, written down as the service does it: with a change that the Cloud tells of.

use chrono::{DateTime, Utc};
use liveperson_bridge::store::{
    Admission, Arrival, Change, ChangesTx, Echo, Error, Fate, HostedFile, Known, NewEvent,
    OpenConversation, Opened, Store, Stranger, ToTranslate, Translated, Translation,
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
    let arrivals = [arrival];
    let changes = store.begin_changes(&arrivals, &[], now).await.unwrap();
    let admission = translated(changes, &Told(told)).await;
    admission.unwrap().fates[0]
}

/// Says what changes mean.
pub(crate) trait Translate: Sync {
    /// The file that a change tells of, with the id that it gets unless it has one.
    fn file(&self, _change: Change<'_>) -> Option<(FileId, HostedFile)> {
        None
    }

    /// What a change comes to; `file` is the id of its file.
    fn translate(&self, _change: Change<'_>, _known: &Known, _file: Option<FileId>) -> Translation {
        Translation::default()
    }

    /// What a change says of a conversation that is not known.
    fn stranger(&self, _change: Change<'_>) -> Stranger {
        Stranger::Ended
    }

    /// The channel that a conversation is of which an agent opened.
    fn channel_of(&self, _latest: Option<&ChannelId>) -> Option<ChannelId> {
        None
    }

    /// What the channel is told of a conversation that has ended because another took its place.
    fn replaced(&self, _known: &Known) -> Option<NewEvent> {
        None
    }

    /// What the user said, where the change tells it back.
    fn echo(&self) -> Option<Echo> {
        None
    }
}

/// Has changes applied as they are translated.
pub(crate) async fn translated(
    mut changes: ChangesTx<'_>,
    translate: &impl Translate,
) -> Result<Admission, Error> {
    while let Some(found) = changes.look_up().await? {
        let translated = match found {
            ToTranslate::Strangers(changes) => {
                let changes = changes.into_iter();
                let strangers = changes.map(|(_, change)| translate.stranger(change));
                Translated::Strangers(strangers.collect())
            }
            ToTranslate::File(change) => Translated::File(translate.file(change)),
            ToTranslate::Change {
                change,
                known,
                file,
            } => Translated::Change {
                translation: translate.translate(change, known, file),
                echo: translate.echo(),
            },
            ToTranslate::Newcomer {
                latest, replaced, ..
            } => Translated::Newcomer {
                channel_id: translate.channel_of(latest),
                replaced: replaced.and_then(|(known, _)| translate.replaced(known)),
            },
        };
        changes = changes.apply(translated).await?;
    }
    changes.commit().await
}

/// Says of each change the same.
struct Told(Translation);

impl Translate for Told {
    fn translate(&self, _: Change<'_>, _: &Known, _: Option<FileId>) -> Translation {
        self.0.clone()
    }
}
