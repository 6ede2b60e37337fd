//! The interpreter: translates a change into an event to store, with its channel, its user and the
//! time at which its delivery is given up.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use url::Url;

use super::translate::{self, FileLink, Ignored, translate};
use super::wire::{self, message::MessageContent};
use crate::clock::SharedClock;
use crate::crypto::FileLinkKeys;
use crate::store::{
    Arrival, Change, Echo, HostedFile, KnownConversation, NewEvent, OfferChange, ToTranslate,
    Translated, Translation, UnknownConversation,
};
use crate::types::event::data::{Data, Role, TYPING_LIFETIME};
use crate::types::event::{EventId, EventType, Subscription, UnaddressedEvent};
use crate::types::file::FileId;
use crate::types::ids::{AccountId, ChannelId, Namespace, UserKey};
use crate::types::links;
use crate::types::message::Digest;
use crate::types::offer::Offer;
use crate::types::sketch::Sketch;
use crate::types::trace::TraceContext;

/// A channel with its account and namespace. A conversation that the bridge did not open may be
/// adopted for a channel of its user's namespace.
#[derive(Debug)]
pub struct ChannelScope {
    /// The channel.
    pub channel_id: ChannelId,
    /// The account of its users.
    pub account_id: AccountId,
    /// Their namespace.
    pub namespace: Namespace,
}

/// The settings for the signed links to files in the events of a channel.
#[derive(Debug)]
pub struct SignedFileLinks {
    /// The keys that sign them.
    pub keys: FileLinkKeys,
    /// The time for which a link works, from the creation of its event.
    pub lifetime: TimeDelta,
}

/// The configuration that turns changes into events.
#[derive(Debug)]
pub struct Interpreter {
    /// The channels, and the events that each one receives.
    pub subscriptions: HashMap<ChannelId, Subscription>,
    /// The channels with their accounts and namespaces, in the order of the configuration.
    pub scopes: Vec<ChannelScope>,
    /// The client id of the bridge's app installation, by account.
    pub apps: HashMap<AccountId, String>,
    /// The base of the URLs from which channels fetch files.
    pub public_url: Url,
    /// The channels with signed links to files. The links of all others need a key.
    pub signed_file_links: HashMap<ChannelId, SignedFileLinks>,
    /// The clock.
    pub clock: SharedClock,
}

/// The changes of one batch, for translation.
pub(super) struct BatchTranslator<'a> {
    interpreter: &'a Interpreter,
    arrivals: &'a [Arrival],
    changes: &'a [wire::Change],
}

impl Interpreter {
    pub(super) fn batch_translator<'a>(
        &'a self,
        arrivals: &'a [Arrival],
        changes: &'a [wire::Change],
    ) -> BatchTranslator<'a> {
        BatchTranslator {
            interpreter: self,
            arrivals,
            changes,
        }
    }

    /// Returns the time at which the delivery of an event is given up.
    fn deliver_until(&self, subscription: &Subscription, kind: EventType) -> Option<DateTime<Utc>> {
        let max_age = subscription.max_age?;
        let age = if kind == EventType::TypingChanged {
            TYPING_LIFETIME.min(max_age)
        } else {
            max_age
        };
        Some(self.clock.now() + age)
    }

    fn file_link(&self, known: &KnownConversation, id: FileId) -> FileLink {
        let path = match self.signed_file_links.get(&known.channel_id) {
            Some(signed) => {
                let expires_at = self.clock.now() + signed.lifetime;
                links::signed_file(&signed.keys.sign(id.to_bytes(), expires_at))
            }
            None => links::file(&known.user_id, id),
        };
        let url = links::below(&self.public_url, &path);
        FileLink { id, url }
    }
}

impl BatchTranslator<'_> {
    /// Translates the result of a lookup.
    pub(super) fn translate(&self, found: &ToTranslate<'_>) -> Translated {
        match found {
            ToTranslate::UnknownConversations(changes) => {
                let changes = changes.iter();
                let unknown = changes.map(|(account, change)| self.classify(account, *change));
                Translated::UnknownConversations(unknown.collect())
            }
            ToTranslate::File(change) => Translated::File(self.file(*change)),
            ToTranslate::Change {
                change,
                known,
                file,
            } => Translated::Change {
                translation: self.translate_change(*change, known, *file),
                echo: self
                    .with_change(*change, |change, _| echo(change, known))
                    .flatten(),
            },
            ToTranslate::AdoptionCandidate {
                user,
                latest,
                replaced,
            } => Translated::AdoptionCandidate {
                channel_id: self.interpreter.channel_of(user, *latest),
                replaced: replaced.and_then(|(known, at)| self.replaced(known, at)),
            },
        }
    }

    /// Returns the file in a change, with an id for it in case it has none yet.
    fn file(&self, change: Change<'_>) -> Option<(FileId, HostedFile)> {
        let file = self.with_change(change, |change, _| {
            change.file().map(|file| HostedFile {
                relative_path: file.relative_path.to_owned(),
                file_type: file.file_type.clone(),
            })
        })??;
        Some((FileId::new(self.interpreter.clock.uuid()), file))
    }

    fn translate_change(
        &self,
        change: Change<'_>,
        known: &KnownConversation,
        file: Option<FileId>,
    ) -> Translation {
        let outcome = self.with_change(change, |change, parent| {
            self.interpreter.translate(change, parent, known, file)
        });
        match outcome {
            Some(Ok(translation)) => translation,
            Some(Err(ignored)) => {
                tracing::debug!(
                    conversation.id = %known.conversation_id,
                    why = ignored.as_str(),
                    "a change is ignored"
                );
                Translation::default()
            }
            None => Translation::default(),
        }
    }

    /// Classifies a change of an unknown conversation.
    fn classify(&self, account: &str, change: Change<'_>) -> UnknownConversation {
        let unknown = self.with_change(change, |change, _| {
            self.interpreter.classify(account, change)
        });
        unknown.unwrap_or(UnknownConversation::Ended)
    }

    /// Builds the event for a conversation that ended because another one replaced it.
    fn replaced(&self, known: &KnownConversation, at: DateTime<Utc>) -> Option<NewEvent> {
        let draft = translate::replaced(&known.conversation_id, known.consumer_id.as_deref(), at);
        self.interpreter.address(draft, known, None)
    }
}

/// Returns the user's message if a change echoes it.
fn echo(change: &wire::Change, known: &KnownConversation) -> Option<Echo> {
    let wire::Content::Message(message) = change.content() else {
        return None;
    };
    let id = message.originator.id.as_deref();
    let is_own =
        change.consumer_id().is_some() || (id.is_some() && id == known.consumer_id.as_deref());
    let wire::message::Event::Written(written) = &message.event else {
        return None;
    };
    let (digest, sketch) = match &written.content {
        MessageContent::Text(text) => (Digest::of_text(text), Some(Sketch::of(text))),
        MessageContent::File(file) => (Digest::of_file(&file.relative_path), None),
        _ => return None,
    };
    is_own.then_some(Echo {
        dialog_id: message.dialog()?.to_owned(),
        sequence: message.sequence?,
        digest: digest.into(),
        sketch,
        sent_at: message.sent_at,
    })
}

/// Returns the effect of an event on the choices that its user is offered.
fn offer_change(event: &UnaddressedEvent) -> OfferChange {
    let (EventType::MessageCreated, Data::Message(message)) = (event.kind, &event.data) else {
        return OfferChange::None;
    };
    match Offer::of(message) {
        Some(offer) => OfferChange::Made(Box::new(offer)),
        // An automatic message, such as "Are you still there?", leaves the earlier choices open.
        None if message.sender.role == Role::System => OfferChange::None,
        None => OfferChange::Withdrawn,
    }
}

impl BatchTranslator<'_> {
    /// Calls `f` with the change and its trace context. A stored change is parsed again.
    fn with_change<T>(
        &self,
        change: Change<'_>,
        f: impl FnOnce(&wire::Change, Option<&TraceContext>) -> T,
    ) -> Option<T> {
        match change {
            Change::Arrived(index) => {
                let (change, arrival) = (self.changes.get(index)?, self.arrivals.get(index)?);
                Some(f(change, arrival.parent.as_ref()))
            }
            Change::Stored { kind, body, parent } => {
                let kind = kind.parse().unwrap_or(wire::Kind::Unknown);
                Some(f(&wire::Change::parse(kind, body), parent))
            }
        }
    }
}

impl Interpreter {
    fn translate(
        &self,
        change: &wire::Change,
        parent: Option<&TraceContext>,
        known: &KnownConversation,
        file: Option<FileId>,
    ) -> Result<Translation, Ignored> {
        let translation = translate(
            change,
            &translate::KnownState {
                consumer_id: known.consumer_id.as_deref(),
                opened_by: known.opened_by,
                announced: known.announced,
                updated_at: known.updated_at,
                fingerprint: known.fingerprint.as_deref(),
                file: file.map(|id| self.file_link(known, id)),
                now: self.clock.now(),
            },
        )?;
        let offer = offer_change(&translation.event);
        let event = self.address(translation.event, known, parent);
        Ok(Translation {
            // A channel that does not get the message cannot show its choices.
            offer: event.as_ref().map_or(OfferChange::None, |_| offer),
            events: event.into_iter().collect(),
            conversation: translation.mapping,
        })
    }

    /// Addresses an event to the channel of its conversation; `None` if the channel does not want
    /// this type of event.
    fn address(
        &self,
        draft: UnaddressedEvent,
        known: &KnownConversation,
        parent: Option<&TraceContext>,
    ) -> Option<NewEvent> {
        let kind = draft.kind;
        let subscription = self.subscriptions.get(&known.channel_id);
        let subscription =
            subscription.filter(|subscription| subscription.events.contains(&kind))?;
        let id = EventId::new(self.clock.uuid());
        let event = draft.into_event(
            id,
            known.channel_id.clone(),
            known.user_id.clone(),
            Some(known.conversation_id.clone()),
        );
        Some(NewEvent {
            id,
            channel_id: known.channel_id.clone(),
            user: Some(known.user),
            kind,
            body: event.to_json(),
            parent: parent.cloned(),
            deliver_until: self.deliver_until(subscription, kind),
        })
    }

    /// Classifies a change of an unknown conversation.
    fn classify(&self, account: &str, change: &wire::Change) -> UnknownConversation {
        let wire::Content::Conversation(conversation) = change.content() else {
            return UnknownConversation::Ended;
        };
        let mut apps = self.apps.iter();
        let own = apps
            .find(|(id, _)| id.as_str() == account)
            .map(|(_, app)| app);
        let is_of_other_connector = conversation
            .connector()
            .is_some_and(|app| own.is_none_or(|own| !own.eq_ignore_ascii_case(app)));
        match conversation.ended {
            _ if is_of_other_connector => UnknownConversation::OfOtherConnector,
            true => UnknownConversation::Ended,
            false => UnknownConversation::Open {
                began_at: conversation.began_at(),
            },
        }
    }

    /// Returns the channel of the latest conversation if it is still configured, else the first one
    /// of the user's namespace.
    fn channel_of(&self, user: &UserKey, latest: Option<&ChannelId>) -> Option<ChannelId> {
        let scopes = || {
            let scopes = self.scopes.iter();
            scopes.filter(|scope| {
                scope.account_id == user.account_id && scope.namespace == user.namespace
            })
        };
        let latest_scope = scopes().find(|scope| Some(&scope.channel_id) == latest);
        let scope = latest_scope.or_else(|| scopes().next())?;
        Some(scope.channel_id.clone())
    }
}
