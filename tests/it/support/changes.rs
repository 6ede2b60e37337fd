//! Writes events and dialogs as the service does: as the effects of a change from the Cloud.

use chrono::{DateTime, Utc};
use liveperson_bridge::store::{
    Admission, Arrival, ArrivalOutcome, Change, ChangesTx, Echo, Error, HostedFile,
    KnownConversation, NewEvent, OpenConversation, Opened, Store, ToTranslate, Translated,
    Translation, UnknownConversation,
};
use liveperson_bridge::types::conversation::{
    Announced, ConversationChange, CurrentDialog, Dialog, Features, OpenedBy,
};
use liveperson_bridge::types::file::FileId;
use liveperson_bridge::types::ids::{ChannelId, UserKey};

/// The id of the account, the user and the conversation of the changes that create events.
const CARRIER: &str = "99999999";

/// Appends events to their channels' logs, and to their delivery lanes if they have a deadline, in
/// one transaction.
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
    // Only the first call opens the conversation.
    store.insert_opened(&opened, None).await.unwrap();
    let translation = Translation {
        events: events.to_vec(),
        ..Translation::default()
    };
    let outcome = admit(store, CARRIER, CARRIER, None, translation, now).await;
    assert_eq!(outcome, ArrivalOutcome::Matched(events.len()));
}

/// Stores a dialog of an account's conversation. Returns true if the conversation is known.
pub(crate) async fn store_reported_dialog(
    store: &Store,
    account: &str,
    conversation: &str,
    dialog: &Dialog,
) -> bool {
    let translation = Translation {
        events: Vec::new(),
        conversation: Some(ConversationChange {
            updated_at: None,
            announced: Announced::Opened,
            closed: None,
            dialogs: vec![dialog.clone()],
            side_dialogs: Vec::new(),
            fingerprint: "test".to_owned(),
        }),
        ..Translation::default()
    };
    let outcome = admit(
        store,
        account,
        conversation,
        Some(true),
        translation,
        dialog.opened_at,
    );
    outcome.await == ArrivalOutcome::Matched(0)
}

async fn admit(
    store: &Store,
    account: &str,
    subject: &str,
    open: Option<bool>,
    translation: Translation,
    now: DateTime<Utc>,
) -> ArrivalOutcome {
    let arrival = Arrival {
        account_id: account.parse().unwrap(),
        key: None,
        subject: subject.to_owned(),
        consumer_id: None,
        named_dialog: None,
        position: None,
        open,
        kind: "test",
        body: "test".to_owned(),
        parent: None,
        signed: None,
    };
    let arrivals = [arrival];
    let changes = store.begin_changes(&arrivals, &[], now).await.unwrap();
    let admission = translated(changes, &SameTranslation(translation)).await;
    admission.unwrap().outcomes[0]
}

/// The translation of changes.
pub(crate) trait Translate: Sync {
    /// Returns the file in a change, with the id for a new file.
    fn file(&self, _change: Change<'_>) -> Option<(FileId, HostedFile)> {
        None
    }

    /// Returns the effects of a change; `file` is the id of its file.
    fn translate(
        &self,
        _change: Change<'_>,
        _known: &KnownConversation,
        _file: Option<FileId>,
    ) -> Translation {
        Translation::default()
    }

    /// Returns the state of an unknown conversation according to a change.
    fn unknown_conversation(&self, _change: Change<'_>) -> UnknownConversation {
        UnknownConversation::Ended
    }

    /// Returns the channel for a conversation that an agent opened.
    fn channel_of(&self, _latest: Option<&ChannelId>) -> Option<ChannelId> {
        None
    }

    /// Returns the event for a conversation that closed because another one replaced it.
    fn replaced(&self, _known: &KnownConversation) -> Option<NewEvent> {
        None
    }

    /// Returns the echo in a change, if it is one.
    fn echo(&self) -> Option<Echo> {
        None
    }
}

/// Applies changes with this translation.
pub(crate) async fn translated(
    mut changes: ChangesTx<'_>,
    translate: &impl Translate,
) -> Result<Admission, Error> {
    while let Some(found) = changes.look_up().await? {
        let translated = match found {
            ToTranslate::UnknownConversations(changes) => {
                let changes = changes.into_iter();
                let states = changes.map(|(_, change)| translate.unknown_conversation(change));
                Translated::UnknownConversations(states.collect())
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
            ToTranslate::AdoptionCandidate {
                latest, replaced, ..
            } => Translated::AdoptionCandidate {
                channel_id: translate.channel_of(latest),
                replaced: replaced.and_then(|(known, _)| translate.replaced(known)),
            },
        };
        changes = changes.apply(translated).await?;
    }
    changes.commit().await
}

/// The same translation for every change.
struct SameTranslation(Translation);

impl Translate for SameTranslation {
    fn translate(&self, _: Change<'_>, _: &KnownConversation, _: Option<FileId>) -> Translation {
        self.0.clone()
    }
}
