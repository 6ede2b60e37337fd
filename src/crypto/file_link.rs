//! The tokens of signed links to files. A token opens one file without an API key, until it
//! expires.
//!
//! A token is the base64url of `key id (4 bytes) | expiry (4 bytes) | file (16 bytes) | tag (16
//! bytes)`, which has 54 characters, so that a link fits into a text message. The expiry is in
//! seconds since 1970. The tag is the first half of an HMAC-SHA256 over a label, the channel's id
//! and the rest of the token. So a token is valid for its channel only, and no other use of the key
//! makes such tags. Source of the truncation: RFC 2104, section 5.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use secrecy::ExposeSecret as _;
use subtle::ConstantTimeEq as _;

use super::{Key, Keyring};

const KEY_ID_BYTES: usize = 4;
const EXPIRY_BYTES: usize = 4;
const FILE_BYTES: usize = 16;
const TAG_BYTES: usize = 16;

/// 54 characters.
const TOKEN_CHARS: usize = ((KEY_ID_BYTES + EXPIRY_BYTES + FILE_BYTES + TAG_BYTES) * 8).div_ceil(6);

/// The labels of the two hashes, which nothing else is hashed with.
const ID_LABEL: &[u8] = b"liveperson-bridge file link key id\0";
const TAG_LABEL: &[u8] = b"liveperson-bridge file link\0";

/// The reason that a token opens no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileLinkError {
    /// The token is malformed, was altered, belongs to another channel, or its key is not
    /// configured any more.
    #[error("no key of the channel has signed the token")]
    Untrusted,
    /// The token is genuine, but its time is over.
    #[error("the token has expired")]
    Expired,
}

/// The keys that sign and verify the tokens of one channel: the first one signs, and all of them
/// verify.
#[derive(Debug, Clone)]
pub struct FileLinkKeys {
    first: LinkKey,
    others: Vec<LinkKey>,
    channel_id: String,
}

#[derive(Debug, Clone)]
struct LinkKey {
    /// The public id of the key in tokens of this channel.
    id: [u8; KEY_ID_BYTES],
    key: hmac::Key,
}

/// A token that is not verified yet.
#[derive(Clone)]
pub struct FileLinkToken {
    key_id: [u8; KEY_ID_BYTES],
    expiry: [u8; EXPIRY_BYTES],
    file: [u8; FILE_BYTES],
    tag: [u8; TAG_BYTES],
}

impl Keyring {
    /// Returns the keys for the links to files of a channel.
    #[must_use]
    pub fn file_link_keys(&self, channel_id: &str) -> FileLinkKeys {
        let of_channel = |key: &Key| LinkKey::new(key, channel_id);
        FileLinkKeys {
            first: of_channel(&self.first),
            others: self.others.iter().map(of_channel).collect(),
            channel_id: channel_id.to_owned(),
        }
    }
}

impl FileLinkKeys {
    /// Creates the token for a file. It is valid until `expires_at`, to the second. A time that
    /// does not fit, from the year 2106 on, makes a token that has already expired.
    #[must_use]
    pub fn sign(&self, file: [u8; FILE_BYTES], expires_at: DateTime<Utc>) -> String {
        let key = &self.first;
        let expires_at = u32::try_from(expires_at.timestamp()).unwrap_or_default();
        let expiry = expires_at.to_be_bytes();
        let tag = key.tag(&self.channel_id, expiry, file);
        URL_SAFE_NO_PAD.encode([&key.id[..], &expiry, &file, &tag].concat())
    }

    /// Verifies a token, and returns its file.
    ///
    /// # Errors
    ///
    /// The reason that the token opens no file at this time.
    pub fn verify(
        &self,
        token: &FileLinkToken,
        now: DateTime<Utc>,
    ) -> Result<[u8; FILE_BYTES], FileLinkError> {
        // Ids are short, so two keys may share one.
        let keys = std::iter::once(&self.first).chain(&self.others);
        let mut keys = keys.filter(|key| key.id == token.key_id);
        let is_genuine = keys.any(|key| {
            let tag = key.tag(&self.channel_id, token.expiry, token.file);
            tag.ct_eq(&token.tag).into()
        });
        if !is_genuine {
            return Err(FileLinkError::Untrusted);
        }
        let expires_at = i64::from(u32::from_be_bytes(token.expiry));
        if now.timestamp() >= expires_at {
            return Err(FileLinkError::Expired);
        }
        Ok(token.file)
    }
}

impl LinkKey {
    fn new(key: &Key, channel_id: &str) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.bytes.expose_secret());
        Self {
            id: first_bytes(&key, &[ID_LABEL, channel_id.as_bytes()]),
            key,
        }
    }

    fn tag(
        &self,
        channel_id: &str,
        expiry: [u8; EXPIRY_BYTES],
        file: [u8; FILE_BYTES],
    ) -> [u8; TAG_BYTES] {
        // A channel's id contains no control character, so the joined parts are unambiguous.
        let channel_id = channel_id.as_bytes();
        first_bytes(
            &self.key,
            &[TAG_LABEL, channel_id, b"\0", &self.id, &expiry, &file],
        )
    }
}

/// Returns the first bytes of the HMAC of the joined parts.
fn first_bytes<const N: usize>(key: &hmac::Key, parts: &[&[u8]]) -> [u8; N] {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(part);
    }
    let mut first = [0; N];
    let hash = context.sign();
    let hash: &[u8] = hash.as_ref();
    first
        .iter_mut()
        .zip(hash)
        .for_each(|(to, from)| *to = *from);
    first
}

impl FileLinkToken {
    /// Decodes a token; `None` if the text does not have its form.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        if text.len() != TOKEN_CHARS {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (key_id, rest) = bytes.split_first_chunk()?;
        let (expiry, rest) = rest.split_first_chunk()?;
        let (file, tag) = rest.split_first_chunk()?;
        Some(Self {
            key_id: *key_id,
            expiry: *expiry,
            file: *file,
            tag: tag.try_into().ok()?,
        })
    }
}

impl std::fmt::Debug for FileLinkToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FileLinkToken([REDACTED])")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const FILE: [u8; FILE_BYTES] = [7; FILE_BYTES];

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    fn key(byte: u8) -> Key {
        Key::new([byte; 32])
    }

    fn keys(keyring: &Keyring) -> FileLinkKeys {
        keyring.file_link_keys("sms")
    }

    /// Verifies the text of a token as of second 0.
    fn verify(keys: &FileLinkKeys, token: &str) -> Result<[u8; FILE_BYTES], FileLinkError> {
        let token = FileLinkToken::decode(token).ok_or(FileLinkError::Untrusted)?;
        keys.verify(&token, at(0))
    }

    #[test]
    fn a_token_opens_its_file_until_it_expires() {
        let keys = keys(&Keyring::new(key(1), vec![]));
        let text = keys.sign(FILE, at(60));
        let token = FileLinkToken::decode(&text).unwrap();

        assert_eq!(text.len(), 54);
        assert!(
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        );
        assert_eq!(keys.verify(&token, at(0)), Ok(FILE));
        assert_eq!(keys.verify(&token, at(59)), Ok(FILE));
        assert_eq!(keys.verify(&token, at(60)), Err(FileLinkError::Expired));
    }

    #[test]
    fn a_token_with_an_altered_bit_is_untrusted() {
        let keys = keys(&Keyring::new(key(1), vec![]));
        // An altered token is never reported as expired, even if the genuine one has expired.
        for expires_at in [60, -60] {
            let token = keys.sign(FILE, at(expires_at));
            let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
            assert_eq!(bytes.len(), 40);
            for position in 0..bytes.len() * 8 {
                let mut altered = bytes.clone();
                altered[position / 8] ^= 1 << (position % 8);
                let altered = URL_SAFE_NO_PAD.encode(altered);
                assert_eq!(
                    verify(&keys, &altered),
                    Err(FileLinkError::Untrusted),
                    "bit {position}"
                );
            }
        }
    }

    #[test]
    fn a_token_has_only_one_spelling() {
        let keys = keys(&Keyring::new(key(1), vec![]));
        let token = keys.sign(FILE, at(60));

        assert!(FileLinkToken::decode(&token).is_some());
        let cut = &token[..53];
        for other in [
            String::new(),
            cut.to_owned(),
            format!("{token}A"),
            format!("{token}="),
            format!("{token}=="),
            format!(" {token}"),
            format!("{cut}é"),
            "é".repeat(27),
            "+".repeat(54),
        ] {
            assert!(FileLinkToken::decode(&other).is_none(), "{other}");
        }
        // Four bits of the last character are unused, and must be zero.
        let alphabet = ('A'..='Z').chain('a'..='z').chain('0'..='9');
        let spellings = alphabet.filter(|last| verify(&keys, &format!("{cut}{last}")).is_ok());
        assert_eq!(spellings.count(), 1);
    }

    #[test]
    fn a_token_is_valid_only_for_its_channel_and_key() {
        let keyring = Keyring::new(key(1), vec![]);
        let token = keys(&keyring).sign(FILE, at(60));

        for other in [
            keyring.file_link_keys("app"),
            keyring.file_link_keys("sm"),
            keyring.file_link_keys(""),
            keys(&Keyring::new(key(2), vec![])),
        ] {
            assert_eq!(verify(&other, &token), Err(FileLinkError::Untrusted));
        }
    }

    #[test]
    fn a_token_is_valid_for_as_long_as_its_key_is_configured() {
        let token = keys(&Keyring::new(key(1), vec![])).sign(FILE, at(60));
        let appended = keys(&Keyring::new(key(2), vec![key(3), key(1)]));
        let removed = keys(&Keyring::new(key(2), vec![key(3)]));

        assert_eq!(verify(&appended, &token), Ok(FILE));
        assert_eq!(verify(&removed, &token), Err(FileLinkError::Untrusted));
        let fresh = appended.sign(FILE, at(60));
        assert_eq!(verify(&removed, &fresh), Ok(FILE));
    }

    #[test]
    fn keys_that_share_an_id_are_all_tried() {
        let mut keys = keys(&Keyring::new(key(1), vec![key(2)]));
        let second = keys.others[0].clone();
        keys.first.id = second.id;
        let signer = FileLinkKeys {
            first: second,
            others: vec![],
            channel_id: "sms".to_owned(),
        };

        assert_eq!(verify(&keys, &signer.sign(FILE, at(60))), Ok(FILE));
    }

    #[test]
    fn tokens_of_different_files_keys_and_times_differ() {
        let [one, two] = [1, 2].map(|byte| keys(&Keyring::new(key(byte), vec![])));
        let tokens = BTreeSet::from([
            one.sign(FILE, at(60)),
            one.sign(FILE, at(61)),
            one.sign([8; FILE_BYTES], at(60)),
            two.sign(FILE, at(60)),
        ]);

        assert_eq!(tokens.len(), 4);
        assert_eq!(one.sign(FILE, at(60)), one.sign(FILE, at(60)));
    }

    #[test]
    fn an_expiry_that_does_not_fit_has_passed() {
        let keys = keys(&Keyring::new(key(1), vec![]));

        for seconds in [-1, i64::from(u32::MAX) + 1] {
            let token = keys.sign(FILE, DateTime::from_timestamp(seconds, 0).unwrap());
            assert_eq!(verify(&keys, &token), Err(FileLinkError::Expired));
        }
    }

    #[test]
    fn debugging_shows_neither_a_token_nor_a_key() {
        let keys = keys(&Keyring::new(key(0xab), vec![]));
        let token = FileLinkToken::decode(&keys.sign(FILE, at(60))).unwrap();

        assert_eq!(format!("{token:?}"), "FileLinkToken([REDACTED])");
        let shown = format!("{keys:?}");
        assert!(
            !shown.contains("171, 171") && !shown.contains("abab"),
            "{shown}"
        );
    }
}
