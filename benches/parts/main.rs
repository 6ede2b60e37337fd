//! Benchmarks of the parts that every message, notification or event passes. Each part is measured
//! by itself, without a database and mostly without a socket.
//!
//! `scripts/bench parts` runs them. A part that is not public is measured through the nearest
//! public one:
//!
//! * The JSON of a message: a request to the API's router that is refused for its last member.
//! * The answer of SEND: a message to a Cloud that is a thread of this process (`cloud`).
//! * Everything else: a complete message, with an embedded database (`api`).

#![expect(clippy::unwrap_used, reason = "a run that cannot go on ends")]

mod api;
mod cloud;

use std::hint::black_box;

use aws_lc_rs::hmac::{HMAC_SHA256, sign};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use criterion::Criterion;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use liveperson_bridge::crypto::{
    ApiKeyHash, JwtAlgorithm, JwtKey, Key, Keyring, unverified_claims,
};
use liveperson_bridge::delivery::sign::signatures;
use liveperson_bridge::webhooks::signature::verify;
use liveperson_bridge::webhooks::wire::Notification;
use serde_json::json;

const SECRET: &str = "a secret of at least 32 bytes, really";

/// A message of an agent.
const NOTIFICATION: &str = concat!(
    r#"{"kind":"notification","type":"ms.MessagingEventNotification","body":{"changes":[{"sequence":7,"#,
    r#""originatorId":"12345678.8f09b2be","originatorMetadata":{"id":"8f09b2be-7a63-4f4e-9f0a-51d11f3f28f1","#,
    r#""role":"ASSIGNED_AGENT"},"serverTimestamp":4000000000000,"event":{"type":"ContentEvent","#,
    r#""message":"Your parcel is on its way.","contentType":"text/plain"},"#,
    r#""conversationId":"c-1","dialogId":"c-1","messageAudience":"ALL"}]}}"#
);

/// The event that a channel receives for it.
const EVENT: &str = concat!(
    r#"{"id":"evt_0193540a7c2b7c3e9d1f2a3b4c5d6e7f","type":"message.created","channel":"bench","user_id":"user-1","#,
    r#""conversation_id":"c-1","occurred_at":"2026-11-22T08:00:00.123Z","data":{"sequence":7,"dialog_id":"c-1","#,
    r#""sender":{"id":"8f09b2be-7a63-4f4e-9f0a-51d11f3f28f1","role":"agent"},"text":"Your parcel is on its way."}}"#
);

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    keys(&mut criterion);
    tokens(&mut criterion);
    notifications(&mut criterion);
    callbacks(&mut criterion);
    sealed(&mut criterion);
    cloud::bench(&mut criterion);
    api::bench(&mut criterion);
    criterion.final_summary();
}

/// Finds an API key by its hash, among those of ten channels.
fn keys(criterion: &mut Criterion) {
    let stored: Vec<_> = (0..10)
        .map(|number| ApiKeyHash::of(&format!("key-{number}")))
        .collect();
    criterion.bench_function("API key", |bencher| {
        bencher.iter(|| {
            let presented = ApiKeyHash::of(black_box("key-5"));
            stored.iter().filter(|it| it.matches(&presented)).count()
        });
    });
}

/// Reads the issuer of a channel's token, and verifies the token.
fn tokens(criterion: &mut Criterion) {
    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let claims = json!({"iss": "bench", "exp": 1_800_000_060, "user": "user-1"});
    let private = include_bytes!("../../tests/keys/p256.private.pem");
    let public = include_str!("../../tests/keys/p256.public.pem");
    let hs256 = EncodingKey::from_secret(SECRET.as_bytes());
    let es256 = EncodingKey::from_ec_pem(private).unwrap();
    for (name, algorithm, signer, key) in [
        (
            "JWT, HS256",
            Algorithm::HS256,
            hs256,
            JwtKey::read(JwtAlgorithm::Hs256, SECRET),
        ),
        (
            "JWT, ES256",
            Algorithm::ES256,
            es256,
            JwtKey::read(JwtAlgorithm::Es256, public),
        ),
    ] {
        let key = key.unwrap();
        let token = encode(&Header::new(algorithm), &claims, &signer).unwrap();
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                let named = unverified_claims(black_box(&token)).unwrap();
                (named, key.verify(&token, now).unwrap())
            });
        });
    }
}

fn notifications(criterion: &mut Criterion) {
    let key = aws_lc_rs::hmac::Key::new(HMAC_SHA256, SECRET.as_bytes());
    let tag = STANDARD.encode(sign(&key, NOTIFICATION.as_bytes()));
    let header = format!("sha256={tag}");
    let body = NOTIFICATION.as_bytes();
    criterion.bench_function("signature of a notification", |bencher| {
        bencher.iter(|| verify(black_box(&header), body, SECRET.as_bytes()).unwrap());
    });
    criterion.bench_function("JSON of a notification", |bencher| {
        bencher.iter(|| Notification::parse(black_box(body)).unwrap());
    });
}

/// Signs a callback as Standard Webhooks specifies.
fn callbacks(criterion: &mut Criterion) {
    let secrets = [vec![7; 32].into()];
    let id = "evt_0193540a7c2b7c3e9d1f2a3b4c5d6e7f";
    criterion.bench_function("signature of a callback", |bencher| {
        bencher.iter(|| signatures(&secrets, black_box(id), 1_800_000_000, EVENT));
    });
}

/// Unseals a user's token, as each message does.
fn sealed(criterion: &mut Criterion) {
    let keyring = Keyring::new(Key::new([7; 32]), vec![]);
    let sealed = keyring.seal(&[b's'; 620], b"users/1").unwrap();
    criterion.bench_function("unsealing a token", |bencher| {
        bencher.iter(|| keyring.open(black_box(&sealed), b"users/1").unwrap());
    });
}
