//! The Domain API.

use super::*;
use crate::{Behaviour, Credentials, LookupForm};

const SENTINEL: &str = "/api/account/le12345678/service/sentinel/baseURI.json?version=1.0";
const HOST: (&str, &str) = ("host", "127.0.0.1:9400");

fn sentinel() -> Value {
    json!({"service": "sentinel", "account": ACCOUNT, "baseURI": "http://127.0.0.1:9400"})
}

#[tokio::test]
async fn a_domain_lookup_returns_an_object_with_the_called_address() {
    let answer = Cloud::new().call("GET", SENTINEL, &[HOST], "").await;

    answer.assert(200, sentinel());
}

#[tokio::test]
async fn a_domain_lookup_returns_an_array_if_configured() {
    let cloud = Cloud::new();
    cloud.sandbox.set_behaviour(Behaviour {
        lookup_form: LookupForm::Array,
        ..Behaviour::default()
    });

    let answer = cloud.call("GET", SENTINEL, &[HOST], "").await;

    answer.assert(200, json!({"baseURIs": [sentinel()]}));
}

#[tokio::test]
async fn the_list_has_every_service_at_the_public_url() {
    let cloud = Cloud::with(Options {
        public_url: Some("https://sandbox.example".to_owned()),
        ..Options::default()
    });

    let uri = format!("/api/account/{ACCOUNT}/service/baseURI.json?version=1.0");
    let answer = cloud.call("GET", &uri, &[], "").await;

    assert_eq!(answer.status, StatusCode::OK);
    let entries = answer.body["baseURIs"].as_array().unwrap();
    let services: Vec<_> = entries
        .iter()
        .map(|e| e["service"].as_str().unwrap())
        .collect();
    assert_eq!(
        services,
        ["asyncMessagingEnt", "sentinel", "idp", "swift", "smt"]
    );
    assert!(
        entries
            .iter()
            .all(|e| e["baseURI"] == "https://sandbox.example")
    );
}

#[tokio::test]
async fn invalid_domain_lookups_are_refused() {
    let cloud = Cloud::with(Options {
        accounts: vec![Credentials {
            account_id: ACCOUNT.to_owned(),
            client_id: "app".to_owned(),
            client_secret: "s3cret".into(),
        }],
        ..Options::default()
    });

    let no_version = SENTINEL.replace("?version=1.0", "");
    let other_case = SENTINEL.replace("sentinel", "Sentinel");
    let other_account = SENTINEL.replace(ACCOUNT, "other");
    let cases = [
        (no_version.as_str(), 400, "version=1.0"),
        (&other_case, 404, "names are case-sensitive"),
        (&other_account, 401, "no account `other`"),
    ];
    for (uri, status, complaint) in cases {
        let answer = cloud.call("GET", uri, &[HOST], "").await;
        answer.assert_complaint(status, complaint);
    }
}
