//! ConsumerJWS: made on first use, stored sealed, made anew where the Cloud refuses one.

use secrecy::{ExposeSecret as _, SecretString};

use crate::bridge::{Bridge, Caller, Error};
use crate::store::{StoredToken, UserRef};
use crate::types::ids::UserKey;
use crate::types::trace::Trace;

/// A user's token as the Cloud takes it.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) token: SecretString,
    /// Whether it was made for this request: one that is refused even then is not made again.
    pub(super) fresh: bool,
}

impl Bridge {
    /// The user's token: the stored one, else a new one.
    pub(super) async fn token(
        &self,
        caller: &Caller,
        key: &UserKey,
        user: UserRef,
        stored: Option<StoredToken>,
    ) -> Result<Token, Error> {
        match stored.and_then(|stored| self.unseal(key, &stored)) {
            Some(token) => Ok(Token {
                token,
                fresh: false,
            }),
            None => self.make_token(key, user, &caller.trace).await,
        }
    }

    /// Asks the Cloud for the user's token and keeps it in place of the one before.
    pub(super) async fn make_token(
        &self,
        key: &UserKey,
        user: UserRef,
        trace: &Trace,
    ) -> Result<Token, Error> {
        let made = self
            .parts
            .cloud
            .consumer_token(&key.account_id, &key.external_id(), trace)
            .await?;
        let stored = StoredToken {
            sealed: self
                .parts
                .keyring
                .seal(made.token.expose_secret().as_bytes(), &place(key))?,
            key_id: self.parts.keyring.sealing_key_id(),
            consumer_id: made.consumer_id,
        };
        self.parts.store.set_token(user, &stored).await?;
        Ok(Token {
            token: made.token,
            fresh: true,
        })
    }

    /// The stored token, or `None` where it has to be made anew because it does not open.
    fn unseal(&self, key: &UserKey, stored: &StoredToken) -> Option<SecretString> {
        let token = self
            .parts
            .keyring
            .open(&stored.sealed, &place(key))
            .inspect_err(|error| {
                tracing::warn!(
                    key_id = stored.key_id,
                    error = error as &dyn std::error::Error,
                    "a stored ConsumerJWS does not open and is made anew; was a key taken out of encryption.keys too early?"
                );
            })
            .ok()?;
        String::from_utf8(token).ok().map(SecretString::from)
    }
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
