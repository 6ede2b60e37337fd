//! Key rotation: tokens that older keys have sealed are re-encrypted with the first key.

use super::tokens::{opens, seal, unseal};
use super::{audit, erasures};
use crate::bridge::Error;
use crate::clock::Clock;
use crate::crypto::Keyring;
use crate::store::Store;
use crate::types::audit::{Action, Actor, Entry, EntryId};

/// 500: the number of tokens that are read at once.
const BATCH: u32 = 500;

/// The result of a key rotation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotation {
    /// The number of tokens that were re-encrypted with the first key.
    pub sealed_anew: u64,
    /// The number of tokens that no key opens. They are renewed when they are next needed.
    pub unopened: u64,
}

/// Counts the stored tokens that the keys open, and those that they do not. Reads at most
/// `limit` tokens that the first key has sealed, `limit` that other keys have sealed, and `limit`
/// of erased users.
///
/// # Errors
///
/// If the database is unavailable.
pub async fn count_opened(
    store: &Store,
    keyring: &Keyring,
    limit: u32,
) -> Result<(usize, usize), Error> {
    // No key has an empty id, so this returns tokens of all keys.
    let all = store.tokens_not_sealed_by("", None, limit).await?;
    let sealed_by_others = store
        .tokens_not_sealed_by(keyring.sealing_key_id(), None, limit)
        .await?;
    let sealed_by_first = all
        .into_iter()
        .filter(|(.., stored)| stored.key_id == keyring.sealing_key_id());
    let (opened, unopened): (Vec<_>, Vec<_>) = sealed_by_first
        .chain(sealed_by_others)
        .partition(|(_, key, stored)| opens(keyring, key, stored));
    let closes = store.closes_not_sealed_by("", None, limit).await?;
    let (opened_closes, unopened_closes): (Vec<_>, Vec<_>) = closes
        .iter()
        .partition(|close| erasures::opens(keyring, close));
    Ok((
        opened.len() + opened_closes.len(),
        unopened.len() + unopened_closes.len(),
    ))
}

/// Re-encrypts all tokens that a key other than the first has sealed, including those of erased
/// users. Safe while the service runs.
///
/// # Errors
///
/// If the database is unavailable. Re-encrypted tokens stay so and are recorded, and another run
/// continues from there.
pub async fn rotate(
    store: &Store,
    keyring: &Keyring,
    clock: &dyn Clock,
) -> Result<Rotation, Error> {
    let mut rotation = Rotation::default();
    let (id, at) = (EntryId::new(clock.uuid()), clock.now());
    let entry = |rotation: Rotation| Entry {
        id,
        at,
        actor: Actor::Command,
        channel_id: None,
        action: Action::RotateKeys {
            key_id: keyring.sealing_key_id().to_owned(),
            sealed_anew: rotation.sealed_anew,
            unopened: rotation.unopened,
        },
        request_id: None,
    };
    let mut last = None;
    loop {
        let batch = store
            .tokens_not_sealed_by(keyring.sealing_key_id(), last, BATCH)
            .await?;
        let Some((user, ..)) = batch.last() else {
            break;
        };
        last = Some(*user);
        for (user, key, stored) in batch {
            let Some(token) = unseal(keyring, &key, &stored) else {
                rotation.unopened += 1;
                continue;
            };
            let resealed = seal(keyring, &key, &token, stored.consumer_id)?;
            let next = Rotation {
                sealed_anew: rotation.sealed_anew + 1,
                ..rotation
            };
            let sealed = &stored.sealed;
            // A token that was replaced meanwhile needs no re-encryption.
            if store
                .reseal_token(user, sealed, &resealed, Some(&entry(next)))
                .await?
            {
                rotation = next;
            }
        }
    }
    let mut last = None;
    loop {
        let batch = store
            .closes_not_sealed_by(keyring.sealing_key_id(), last, BATCH)
            .await?;
        let Some(close) = batch.last() else {
            break;
        };
        last = Some(close.id);
        for close in &batch {
            let Some(resealed) = erasures::reseal(keyring, close)? else {
                rotation.unopened += 1;
                continue;
            };
            let next = Rotation {
                sealed_anew: rotation.sealed_anew + 1,
                ..rotation
            };
            // A close that was done meanwhile needs no re-encryption.
            if store
                .reseal_close(close.id, &resealed, &entry(next))
                .await?
            {
                rotation = next;
            }
        }
    }
    let entry = entry(rotation);
    store.record_action(&entry).await?;
    audit::log(&entry);
    Ok(rotation)
}
