use jsonwebtoken::{EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const SECRET: &str = "a secret of at least 32 bytes, really";
/// The asymmetric algorithms, with their private and public keys.
const KEYS: [(JwtAlgorithm, &str, &str); 3] = [
    (
        JwtAlgorithm::Rs256,
        include_str!("../../../tests/keys/rsa.private.pem"),
        include_str!("../../../tests/keys/rsa.public.pem"),
    ),
    (
        JwtAlgorithm::Es256,
        include_str!("../../../tests/keys/p256.private.pem"),
        include_str!("../../../tests/keys/p256.public.pem"),
    ),
    (
        JwtAlgorithm::EdDsa,
        include_str!("../../../tests/keys/ed25519.private.pem"),
        include_str!("../../../tests/keys/ed25519.public.pem"),
    ),
];

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn signer(algorithm: JwtAlgorithm, key: &str) -> EncodingKey {
    let key = key.as_bytes();
    match algorithm {
        JwtAlgorithm::Hs256 => Ok(EncodingKey::from_secret(key)),
        JwtAlgorithm::Rs256 => EncodingKey::from_rsa_pem(key),
        JwtAlgorithm::Es256 => EncodingKey::from_ec_pem(key),
        JwtAlgorithm::EdDsa => EncodingKey::from_ed_pem(key),
    }
    .unwrap()
}

fn token(algorithm: JwtAlgorithm, key: &str, claims: &Value) -> String {
    let header = Header::new(algorithm.algorithm());
    encode(&header, claims, &signer(algorithm, key)).unwrap()
}

fn secret() -> JwtKey {
    JwtKey::read(JwtAlgorithm::Hs256, SECRET).unwrap()
}

fn error_of(claims: &Value) -> JwtError {
    let token = token(JwtAlgorithm::Hs256, SECRET, claims);
    secret().verify(&token, now()).unwrap_err()
}

#[test]
fn a_token_verifies_only_with_the_key_of_its_algorithm() {
    let claims = json!({"iss": "sms", "exp": 1_800_000_060, "user": "ada"});
    let shared = (JwtAlgorithm::Hs256, SECRET, SECRET);
    let all: Vec<_> = KEYS.into_iter().chain([shared]).collect();
    for &(algorithm, private, _) in &all {
        let token = token(algorithm, private, &claims);

        for &(other, _, public) in &all {
            let key = JwtKey::read(other, public).unwrap();
            let verified = key.verify(&token, now());

            if other == algorithm {
                let claims = verified.unwrap();
                assert_eq!(claims.iss, "sms");
                assert_eq!(claims.user.as_deref(), Some("ada"));
            } else {
                assert_eq!(verified, Err(JwtError::Untrusted), "{other:?}");
            }
        }
    }
}

#[test]
fn a_public_key_is_never_used_as_a_shared_secret() {
    let claims = json!({"iss": "sms", "exp": 1_800_000_060});
    for (algorithm, _, public) in KEYS {
        let forged = token(JwtAlgorithm::Hs256, public, &claims);

        let key = JwtKey::read(algorithm, public).unwrap();
        assert_eq!(key.verify(&forged, now()), Err(JwtError::Untrusted));
    }
}

#[test]
fn a_token_without_a_signature_is_refused() {
    let signed = token(
        JwtAlgorithm::Hs256,
        SECRET,
        &json!({"iss": "sms", "exp": 1_800_000_060}),
    );
    let claims = signed.split('.').nth(1).unwrap();
    for name in ["none", "None", "HS256"] {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": name, "typ": "JWT"}).to_string());
        let bare = format!("{header}.{claims}.");

        assert_eq!(secret().verify(&bare, now()), Err(JwtError::Untrusted));
    }
    let mut altered = signed.clone();
    altered.replace_range(signed.len() - 2.., "AA");
    assert_eq!(secret().verify(&altered, now()), Err(JwtError::Untrusted));
}

/// Returns a token with a valid signature over this header and these claims, exactly as they are
/// written.
fn signed(header: &str, claims: &str) -> String {
    let parts = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    let message = parts.join(".");
    let key = signer(JwtAlgorithm::Hs256, SECRET);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
    format!("{message}.{}", signature.unwrap())
}

#[test]
fn the_validity_of_a_token_has_a_tolerance_of_a_minute() {
    let at = |exp: Value| json!({"iss": "sms", "exp": exp});
    let year = 366 * 24 * 60 * 60;

    for (claims, expected) in [
        (at(json!(1_799_999_940)), JwtError::Expired),
        (at(json!(1_799_999_940.0)), JwtError::Expired),
        (at(json!(0)), JwtError::Expired),
        (at(json!(-1)), JwtError::Expired),
        (at(json!("tomorrow")), JwtError::InvalidTime),
        (at(json!("1800000060")), JwtError::InvalidTime),
        (at(json!(null)), JwtError::InvalidTime),
        (at(json!(true)), JwtError::InvalidTime),
        (at(json!([1_800_000_060])), JwtError::Malformed),
        (json!({"iss": "sms"}), JwtError::MissingExpiry),
        (at(json!(1_800_000_061 + year)), JwtError::ExpiryTooFar),
        (at(json!(1_800_000_060_000_u64)), JwtError::ExpiryTooFar),
        (at(json!(u64::MAX)), JwtError::ExpiryTooFar),
        (at(json!(1e300)), JwtError::ExpiryTooFar),
        (
            json!({"iss": "sms", "exp": 1_800_000_300, "nbf": 1_800_000_061}),
            JwtError::NotYetValid,
        ),
        (
            json!({"iss": "sms", "exp": 1_800_000_300, "nbf": 1_800_000_000_000_u64}),
            JwtError::NotYetValid,
        ),
        (
            json!({"iss": "sms", "exp": 1_800_000_300, "nbf": "now"}),
            JwtError::InvalidTime,
        ),
        (
            json!({"iss": "sms", "exp": 1_800_000_300, "nbf": null}),
            JwtError::InvalidTime,
        ),
    ] {
        assert_eq!(error_of(&claims), expected, "{claims}");
    }
    for claims in [
        at(json!(1_799_999_941)),
        at(json!(1_799_999_940.5)),
        at(json!(1_800_000_060 + year)),
        json!({"iss": "sms", "exp": 1_800_000_300, "nbf": 1_800_000_060, "aud": "anybody"}),
    ] {
        let token = token(JwtAlgorithm::Hs256, SECRET, &claims);
        assert!(secret().verify(&token, now()).is_ok(), "{claims}");
    }
}

#[test]
fn the_user_of_a_token_is_a_string_or_left_out() {
    let of = |user: Value| json!({"iss": "sms", "exp": 1_800_000_060, "user": user});

    for user in [
        json!(null),
        json!(5),
        json!(true),
        json!(["ada"]),
        json!({}),
    ] {
        assert_eq!(error_of(&of(user.clone())), JwtError::InvalidUser, "{user}");
    }
    let token = token(JwtAlgorithm::Hs256, SECRET, &of(json!("ada")));
    let claims = secret().verify(&token, now()).unwrap();
    assert_eq!(claims.user.as_deref(), Some("ada"));
}

#[test]
fn a_token_with_critical_extensions_is_refused() {
    let claims = r#"{"iss": "sms", "exp": 1800000060}"#;

    for header in [
        r#"{"alg": "HS256", "crit": ["x-bind"], "x-bind": "abc"}"#,
        r#"{"alg": "HS256", "crit": ["b64"], "b64": false}"#,
        r#"{"alg": "HS256", "crit": []}"#,
        r#"{"alg": "HS256", "crit": null}"#,
    ] {
        let verified = secret().verify(&signed(header, claims), now());
        assert_eq!(verified, Err(JwtError::Critical), "{header}");
    }
    let usual = r#"{"alg": "HS256", "typ": "JWT", "kid": "1", "x-bind": "abc"}"#;
    assert!(secret().verify(&signed(usual, claims), now()).is_ok());
}

#[test]
fn ambiguous_or_invalid_claims_are_refused() {
    let header = r#"{"alg": "HS256"}"#;

    for claims in [
        r#"{"iss": "sms", "exp": 1800000060, "user": "ada", "user": "bob"}"#,
        r#"{"iss": "sms", "exp": 1800000060, "exp": 1800000061}"#,
        r#"{"iss": "sms", "iss": "app", "exp": 1800000060}"#,
        r#"{"iss": "sms", "exp": 1e400}"#,
        r#"{"exp": 1800000060}"#,
        r#"{"iss": 5, "exp": 1800000060}"#,
        r#"["sms", "ada", 1800000060]"#,
        "5",
    ] {
        let verified = secret().verify(&signed(header, claims), now());
        let is_refused = matches!(verified, Err(JwtError::Malformed | JwtError::Untrusted));
        assert!(is_refused, "{claims}: {verified:?}");
    }
}

#[test]
fn a_token_signed_with_another_key_is_refused_without_details() {
    let other = "another secret of at least 32 bytes";
    for claims in [
        json!({"iss": "sms"}),
        json!({"iss": "sms", "exp": 1}),
        json!({"iss": "sms", "exp": 1e300, "user": null}),
    ] {
        let token = token(JwtAlgorithm::Hs256, other, &claims);
        assert_eq!(secret().verify(&token, now()), Err(JwtError::Untrusted));
    }
}

proptest! {
    #[test]
    fn any_text_is_refused_without_a_panic(header in any::<String>(), claims in any::<String>(), text in any::<String>()) {
        for token in [signed(&header, &claims), signed(r#"{"alg": "HS256"}"#, &claims), text] {
            let _claims = unverified_claims(&token);
            prop_assert!(secret().verify(&token, now()).is_err());
        }
    }
}

#[test]
fn keys_that_do_not_fit_the_algorithm_are_refused() {
    let [(_, private_rsa, public_rsa), (_, _, public_p256), _] = KEYS;

    for (algorithm, text) in [
        (JwtAlgorithm::Hs256, "short"),
        (JwtAlgorithm::Rs256, SECRET),
        (JwtAlgorithm::Es256, public_rsa),
        (JwtAlgorithm::EdDsa, public_p256),
        (JwtAlgorithm::EdDsa, ""),
        (JwtAlgorithm::Es256, private_rsa),
    ] {
        assert!(JwtKey::read(algorithm, text).is_none(), "{algorithm:?}");
    }
    assert!(!format!("{:?}", secret()).contains("secret of"));
}

#[test]
fn the_channel_of_a_token_is_readable_before_verification() {
    let token = token(
        JwtAlgorithm::Hs256,
        "another secret of at least 32 bytes",
        &json!({"iss": "sms", "exp": 1}),
    );

    let claims = unverified_claims(&token).unwrap();
    assert_eq!(
        (claims.iss.as_str(), claims.is_for_one_user),
        ("sms", false)
    );
    for none in ["", "a.b.c", "a key", &"x".repeat(5000)] {
        assert_eq!(unverified_claims(none), None);
    }
}
