//! ConsumerJWS: made on first use, stored sealed, made anew where the Cloud refuses one.

use crate::bridge::{Bridge, Error, Parts};
use crate::cloud::ConsumerJws;
use crate::crypto::Keyring;
use crate::store::{StoredToken, UserRef};
use crate::types::ids::UserKey;
use crate::types::trace::Trace;

/// A user's token as the Cloud takes it.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(super) token: ConsumerJws,
    /// Whether it was made for this request: one that is refused even then is not made again.
    pub(super) fresh: bool,
}

impl Bridge {
    /// The user's token: the stored one, else a new one. One that an older key has sealed is sealed anew.
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
            return Box::pin(self.make_token(key, user, trace)).await;
        };
        if stored.key_id != keyring.sealing_key_id() {
            let anew = seal(keyring, key, &token, stored.consumer_id)?;
            let resealed = store.reseal_token(user, &stored.sealed, &anew, None);
            Box::pin(resealed).await?;
        }
        Ok(Token {
            token,
            fresh: false,
        })
    }

    /// The stored token, where it needs not be sealed anew; one that does not open is dropped, to be made anew.
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

    /// Asks the Cloud for the user's token and keeps it in place of the one before.
    pub(super) async fn make_token(
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
        let made = cloud
            .consumer_token(&key.account_id, &key.external_id(), trace)
            .await?;
        let stored = seal(keyring, key, &made.token, made.consumer_id)?;
        store.set_token(user, &stored).await?;
        Ok(Token {
            token: made.token,
            fresh: true,
        })
    }
}

/// The token as it is stored.
pub(super) fn seal(
    keyring: &Keyring,
    key: &UserKey,
    token: &ConsumerJws,
    consumer_id: String,
) -> Result<StoredToken, Error> {
    Ok(StoredToken {
        sealed: keyring.seal(token.expose(), &place(key))?,
        key_id: keyring.sealing_key_id().to_owned(),
        consumer_id,
    })
}

/// The stored token, or `None` where it has to be made anew because it does not open.
pub(super) fn unseal(
    keyring: &Keyring,
    key: &UserKey,
    stored: &StoredToken,
) -> Option<ConsumerJws> {
    let token = keyring
        .open(&stored.sealed, &place(key))
        .inspect_err(|error| {
            tracing::warn!(
                key_id = stored.key_id,
                error = error as &dyn std::error::Error,
                "a stored ConsumerJWS does not open and is made anew; was a key taken out of encryption.keys too early?"
            );
        })
        .ok()?;
    ConsumerJws::new(token)
}

/// Whether one of the keys opens a token.
pub(super) fn opens(keyring: &Keyring, key: &UserKey, stored: &StoredToken) -> bool {
    keyring.open(&stored.sealed, &place(key)).is_ok()
}

/// Binds a sealed token to its column and its user, so that it opens for nobody else.
fn place(key: &UserKey) -> Vec<u8> {
    // No identifier holds a control character, so the joined text is unambiguous.
    let UserKey {
        account_id,
        namespace,
        user_id,
    } = key;
    format!("users.token\0{account_id}\0{namespace}\0{user_id}").into_bytes()
}
