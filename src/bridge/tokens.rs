//! ConsumerJWS tokens, which are requested on first use, stored sealed, and renewed if the Cloud
//! refuses one.

use crate::bridge::{Bridge, Error, Parts};
use crate::cloud::ConsumerJws;
use crate::crypto::Keyring;
use crate::store::{StoredToken, UserRef};
use crate::types::ids::UserKey;
use crate::types::trace::Trace;

/// A user's token, as the Cloud accepts it.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(super) token: ConsumerJws,
    /// True if it was requested for this attempt. A refused token is then not renewed again.
    pub(super) fresh: bool,
}

impl Bridge {
    /// Returns the user's token: the stored one, else a new one. Re-encrypts a token that an older
    /// key has sealed.
    pub(crate) async fn token(
        &self,
        trace: &Trace,
        key: &UserKey,
        user: UserRef,
        stored: Option<StoredToken>,
    ) -> Result<Token, Error> {
        let Parts { store, keyring, .. } = &self.parts;
        let opened = stored.and_then(|stored| Some((unseal(keyring, key, &stored)?, stored)));
        let Some((token, stored)) = opened else {
            return Box::pin(self.request_token(key, user, trace)).await;
        };
        if stored.key_id != keyring.sealing_key_id() {
            let new_stored = seal(keyring, key, &token, stored.consumer_id)?;
            let resealed = store.reseal_token(user, &stored.sealed, &new_stored, None);
            Box::pin(resealed).await?;
        }
        Ok(Token {
            token,
            fresh: false,
        })
    }

    /// Returns the stored token if it needs no re-encryption. A token that does not open is
    /// dropped, so that it is renewed.
    pub(super) fn ready_token(
        &self,
        key: &UserKey,
        stored: &mut Option<StoredToken>,
    ) -> Option<Token> {
        let keyring = &self.parts.keyring;
        let stored = stored.take_if(|stored| stored.key_id == keyring.sealing_key_id())?;
        let token = unseal(keyring, key, &stored)?;
        Some(Token {
            token,
            fresh: false,
        })
    }

    /// Requests the user's token from the Cloud, and stores it in place of the former one.
    pub(super) async fn request_token(
        &self,
        key: &UserKey,
        user: UserRef,
        trace: &Trace,
    ) -> Result<Token, Error> {
        let Parts {
            store,
            cloud,
            keyring,
            ..
        } = &self.parts;
        let issued = cloud
            .consumer_token(&key.account_id, &key.external_id(), trace)
            .await?;
        let stored = seal(keyring, key, &issued.token, issued.consumer_id)?;
        store.set_token(user, &stored).await?;
        Ok(Token {
            token: issued.token,
            fresh: true,
        })
    }
}

/// Seals a token for storage.
pub(super) fn seal(
    keyring: &Keyring,
    key: &UserKey,
    token: &ConsumerJws,
    consumer_id: String,
) -> Result<StoredToken, Error> {
    Ok(StoredToken {
        sealed: keyring.seal(token.expose(), &sealing_context(key))?,
        key_id: keyring.sealing_key_id().to_owned(),
        consumer_id,
    })
}

/// Opens a stored token; `None` if it does not open and has to be renewed.
pub(super) fn unseal(
    keyring: &Keyring,
    key: &UserKey,
    stored: &StoredToken,
) -> Option<ConsumerJws> {
    let token = keyring
        .open(&stored.sealed, &sealing_context(key))
        .inspect_err(|error| {
            tracing::warn!(
                key_id = stored.key_id,
                error = error as &dyn std::error::Error,
                "a stored ConsumerJWS cannot be decrypted and is renewed; was a key removed from encryption.keys too early?"
            );
        })
        .ok()?;
    ConsumerJws::new(token)
}

/// True if one of the keys opens the token.
pub(super) fn opens(keyring: &Keyring, key: &UserKey, stored: &StoredToken) -> bool {
    keyring.open(&stored.sealed, &sealing_context(key)).is_ok()
}

/// Returns the context that binds a sealed token to its column and its user, so that it opens for
/// no other user.
fn sealing_context(key: &UserKey) -> Vec<u8> {
    // No identifier contains a control character, so the joined text is unambiguous.
    let UserKey {
        account_id,
        namespace,
        user_id,
    } = key;
    format!("users.token\0{account_id}\0{namespace}\0{user_id}").into_bytes()
}
