//! Fuzzing of webhook bodies: reading and translating terminate for any body, and private data
//! stays private.

#![no_main]

use libfuzzer_sys::fuzz_target;
use liveperson_bridge::types::conversation::{Announced, OpenedBy};
use liveperson_bridge::types::ids::AccountId;
use liveperson_bridge::webhooks::translate::{FileLink, KnownState, translate};
use liveperson_bridge::webhooks::wire::message::Audience;
use liveperson_bridge::webhooks::wire::{Change, Content, Notification};

fuzz_target!(|body: &[u8]| {
    let Ok(notification) = Notification::parse(body) else {
        return;
    };
    let account: AccountId = "12345678".parse().unwrap();
    for change in notification.changes {
        let stored = Change::parse(change.kind(), change.json());
        assert_eq!(stored.dedupe_key(&account), change.dedupe_key(&account));
        let _ = (change.consumer_id(), change.file());
        for announced in [None, Some(Announced::Opened), Some(Announced::Closed)] {
            let known = KnownState {
                consumer_id: Some("consumer"),
                announced,
                opened_by: OpenedBy::User,
                updated_at: None,
                fingerprint: None,
                file: change.file().map(|_| FileLink {
                    id: "file_0193540a7c2b7c3e9d1f2a3b4c5d6e7f".parse().unwrap(),
                    url: String::new(),
                }),
                now: Default::default(),
            };
            let translated = translate(&change, &known);
            if let Content::Message(message) = change.content()
                && message.audience == Audience::Private
            {
                assert!(translated.is_err());
            }
            if let Ok(translation) = translated {
                let id = "evt_0193540a7c2b7c3e9d1f2a3b4c5d6e7f".parse().unwrap();
                let (channel, user) = ("sms".parse().unwrap(), "ada".parse().unwrap());
                let event = translation.event.into_event(id, channel, user, None);
                assert!(!event.to_json().is_empty());
            }
        }
    }
});
