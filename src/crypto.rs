//! Cryptography for stored secrets and for credentials: the keyring that seals stored values, the
//! hashes by which API keys are compared, and the tokens of channels and of links.
//!
//! A sealed value is `version (1 byte) | key id (8 bytes) | nonce (24 bytes) | ciphertext and tag`,
//! encrypted with XChaCha20-Poly1305. The nonce is long enough to be random. The associated data
//! names the row of the value, so that a value that was copied to another row cannot be opened. No
//! value can be stored unencrypted. Source of the cipher: draft-irtf-cfrg-xchacha-03.
//!
//! Each message opens one token, which takes about 3 µs. The same cipher, assembled from parts of
//! aws-lc, took 1 µs, but would have been cryptographic code of our own.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use secrecy::zeroize::{Zeroize as _, Zeroizing};
use secrecy::{ExposeSecret, SecretBox};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

mod file_link;
mod jwt;

pub use file_link::{FileLinkError, FileLinkKeys, FileLinkToken};
pub use jwt::{Claims, JwtAlgorithm, JwtError, JwtKey, UnverifiedClaims, unverified_claims};

const VERSION: u8 = 1;
const KEY_ID_BYTES: usize = 8;
const NONCE_BYTES: usize = 24;

/// The reason that a sealed value could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The value is too short, or has an unknown version.
    #[error("the sealed value is malformed")]
    Malformed,
    /// The value was sealed with a key that the configuration no longer lists.
    #[error("the sealed value's key is not in encryption.keys")]
    UnknownKey,
    /// The value was altered, or belongs to another row.
    #[error("the sealed value was altered or belongs to another row")]
    Refused,
    /// The value is too large to be sealed.
    #[error("the value could not be sealed")]
    Unsealable,
}

/// A key of 32 bytes, zeroed when dropped and never shown.
pub struct Key {
    bytes: SecretBox<[u8; 32]>,
    id: [u8; KEY_ID_BYTES],
    /// The id in hex, formatted once, since it is compared for each message.
    name: String,
}

impl Key {
    /// Creates a key of these bytes.
    #[must_use]
    pub fn new(mut bytes: [u8; 32]) -> Self {
        let mut id = [0; KEY_ID_BYTES];
        // The id is public and must not help to find the key. So it is a hash, with a label that no
        // other hash has.
        let hash = Sha256::new()
            .chain_update(b"liveperson-bridge key id\0")
            .chain_update(bytes)
            .finalize();
        id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        let secret = SecretBox::new(Box::new(bytes));
        bytes.zeroize();
        Self {
            bytes: secret,
            id,
            name: format!("{:016x}", u64::from_be_bytes(id)),
        }
    }

    /// Decodes a key from the base64 text of exactly 32 bytes.
    #[must_use]
    pub fn from_base64(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(text).ok()?);
        Some(Self::new(bytes.as_slice().try_into().ok()?))
    }

    /// Generates a random key, for values that need not outlive the process.
    #[must_use]
    pub fn random() -> Self {
        Self::new(rand::random())
    }

    /// Returns the key as base64 text, as the configuration has it.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.bytes.expose_secret())
    }

    /// Returns the key's public id: 16 hex digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.name
    }

    /// Returns the HMAC-SHA256 of a value as text. A label separates it from other uses of the key.
    fn pseudonym(&self, value: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.bytes.expose_secret());
        let mut context = hmac::Context::with_key(&key);
        context.update(b"liveperson-bridge pseudonym\0");
        context.update(value);
        URL_SAFE_NO_PAD.encode(context.sign())
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.bytes.expose_secret().into())
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        Self::new(*self.bytes.expose_secret())
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.bytes
            .expose_secret()
            .ct_eq(other.bytes.expose_secret())
            .into()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id())
    }
}

/// A value in its stored form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

/// The configured keys: the first one seals, and all of them open.
#[derive(Debug, Clone)]
pub struct Keyring {
    first: Key,
    others: Vec<Key>,
}

impl Keyring {
    /// Creates a keyring that seals with `first`.
    #[must_use]
    pub fn new(first: Key, others: Vec<Key>) -> Self {
        Self { first, others }
    }

    /// Returns the public id of the key that seals.
    #[must_use]
    pub fn sealing_key_id(&self) -> &str {
        self.first.id()
    }

    /// Returns a keyed hash of `value`, made with the key that seals. Equal values have equal
    /// hashes, and without the key no value can be guessed from its hash.
    #[must_use]
    pub fn pseudonym(&self, value: &[u8]) -> String {
        self.first.pseudonym(value)
    }

    /// Returns the keyed hashes of `value` for all keys, so that a hash that was made with an older
    /// key is found until it is replaced.
    #[must_use]
    pub fn pseudonyms(&self, value: &[u8]) -> Vec<String> {
        let keys = std::iter::once(&self.first).chain(&self.others);
        keys.map(|key| key.pseudonym(value)).collect()
    }

    /// Encrypts `value` for the row that `context` names.
    ///
    /// # Errors
    ///
    /// [`Error::Unsealable`] for a value of more than 256 GiB.
    pub fn seal(&self, value: &[u8], context: &[u8]) -> Result<Sealed, Error> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload {
            msg: value,
            aad: context,
        };
        let ciphertext = self.first.cipher().encrypt(&nonce.into(), payload);
        let ciphertext = ciphertext.map_err(|_| Error::Unsealable)?;
        let header = [&[VERSION], &self.first.id[..], &nonce];
        Ok(Sealed([&header.concat(), &ciphertext[..]].concat()))
    }

    /// Decrypts a value that was sealed for `context`. The result is zeroed when it is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`], [`Error::UnknownKey`] or [`Error::Refused`].
    pub fn open(&self, sealed: &Sealed, context: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (&version, rest) = sealed.0.split_first().ok_or(Error::Malformed)?;
        let (id, rest) = rest
            .split_first_chunk::<KEY_ID_BYTES>()
            .ok_or(Error::Malformed)?;
        let (nonce, ciphertext) = rest
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(Error::Malformed)?;
        if version != VERSION {
            return Err(Error::Malformed);
        }
        let key = std::iter::once(&self.first)
            .chain(&self.others)
            .find(|key| &key.id == id)
            .ok_or(Error::UnknownKey)?;
        let payload = Payload {
            msg: ciphertext,
            aad: context,
        };
        let value = key.cipher().decrypt(nonce.into(), payload);
        value.map(Zeroizing::new).map_err(|_| Error::Refused)
    }
}

/// The SHA-256 of an API key, which is all that the bridge stores of it.
#[derive(Clone, Copy)]
pub struct ApiKeyHash([u8; 32]);

impl ApiKeyHash {
    /// Hashes a key as a caller presents it.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// Decodes a hash from 64 hex digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        // `from_str_radix` alone would accept a sign as a digit.
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(hash))
    }

    /// Returns the first 8 hex digits as a number. They tell keys apart, and do not reveal the key.
    #[must_use]
    pub fn first_digits(&self) -> u32 {
        let [first, second, third, fourth, ..] = self.0;
        u32::from_be_bytes([first, second, third, fourth])
    }

    /// True if both are hashes of the same key. The time does not depend on the position at which
    /// they differ.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// True if one of these is a hash of the same key. Compares all of them, even after a match, so
    /// that the time reveals nothing.
    #[must_use]
    pub fn is_among(&self, known: &[Self]) -> bool {
        known
            .iter()
            .fold(false, |found, known| known.matches(self) | found)
    }
}

impl fmt::Debug for ApiKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKeyHash([REDACTED])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring() -> Keyring {
        Keyring::new(Key::new([7; 32]), vec![])
    }

    #[test]
    fn a_sealed_value_opens_only_in_its_own_context() {
        let sealed = keyring().seal(b"token", b"users/1").unwrap();

        assert_eq!(**keyring().open(&sealed, b"users/1").unwrap(), *b"token");
        assert_eq!(keyring().open(&sealed, b"users/2"), Err(Error::Refused));
        assert!(!sealed.0.windows(5).any(|window| window == b"token"));
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2);
        let byte = |pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.map(byte).collect()
    }

    /// Source: draft-irtf-cfrg-xchacha-03, section A.3.1.
    #[test]
    fn the_cipher_opens_the_test_vector_of_its_specification() {
        let key = Key::new(std::array::from_fn(|index| {
            0x80 + u8::try_from(index).unwrap()
        }));
        let nonce = bytes("404142434445464748494a4b4c4d4e4f5051525354555657");
        let ciphertext = bytes(concat!(
            "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39",
            "ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9",
            "21f9664c97637da9768812f615c68b13b52e",
            "c0875924c1c7987947deafd8780acf49",
        ));
        let sealed = Sealed([&[VERSION], &key.id[..], &nonce, &ciphertext].concat());

        let opened = Keyring::new(key, vec![]).open(&sealed, &bytes("50515253c0c1c2c3c4c5c6c7"));

        let text = "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                    sunscreen would be it.";
        assert_eq!(**opened.unwrap(), *text.as_bytes());
    }

    #[test]
    fn two_seals_of_one_value_differ() {
        assert_ne!(
            keyring().seal(b"token", b"").unwrap(),
            keyring().seal(b"token", b"").unwrap()
        );
    }

    #[test]
    fn an_old_key_still_opens_after_a_rotation_and_a_removed_one_does_not() {
        let sealed = keyring().seal(b"token", b"").unwrap();
        let rotated = Keyring::new(Key::new([8; 32]), vec![Key::new([7; 32])]);
        let removed = Keyring::new(Key::new([8; 32]), vec![]);

        assert_eq!(**rotated.open(&sealed, b"").unwrap(), *b"token");
        assert_eq!(removed.open(&sealed, b""), Err(Error::UnknownKey));
    }

    #[test]
    fn a_pseudonym_depends_on_the_key_and_the_value() {
        let rotated = Keyring::new(Key::new([8; 32]), vec![Key::new([7; 32])]);
        let (former, all) = (keyring().pseudonym(b"ada"), rotated.pseudonyms(b"ada"));

        assert_eq!(former, keyring().pseudonym(b"ada"));
        assert_ne!(former, keyring().pseudonym(b"bob"));
        assert_eq!(all, [rotated.pseudonym(b"ada"), former]);
        assert_ne!(all[0], all[1]);
    }

    #[test]
    fn an_altered_or_truncated_value_does_not_open() {
        let sealed = keyring().seal(b"token", b"").unwrap();

        for position in 0..sealed.0.len() {
            let mut altered = sealed.clone();
            altered.0[position] ^= 1;
            assert!(keyring().open(&altered, b"").is_err(), "byte {position}");
            let cut = Sealed(sealed.0[..position].to_vec());
            assert!(keyring().open(&cut, b"").is_err(), "cut at {position}");
        }
    }

    #[test]
    fn a_key_is_base64_of_exactly_32_bytes() {
        assert!(Key::from_base64(&STANDARD.encode([1; 32])).is_some());
        assert!(Key::from_base64(&STANDARD.encode([1; 31])).is_none());
        assert!(Key::from_base64("no base64!").is_none());
    }

    #[test]
    fn api_keys_are_compared_by_their_hash() {
        let known = ApiKeyHash::from_hex(
            "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b",
        )
        .unwrap();

        assert!(ApiKeyHash::of("secret").matches(&known));
        assert!(!ApiKeyHash::of("Secret").matches(&known));
        assert_eq!(known.first_digits(), 0x2bb8_0d53);
        assert!(ApiKeyHash::from_hex("2bb8").is_none());
        assert!(ApiKeyHash::from_hex(&"+f".repeat(32)).is_none());
    }
}
