use std::error::Error as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use proptest::prelude::*;
use secrecy::ExposeSecret as _;

use super::*;
use crate::crypto::ApiKeyHash;
use crate::types::conversation::{Routing, Urgency};
use crate::types::event::EventType;
use crate::types::file::ImageType;

/// A file with every key, each with a value other than its default.
const FULL: &str = r#"
listen = "127.0.0.1:8081"
admin_listen = "127.0.0.1:9091"
admin_hosts = ["bridge-admin.internal", "Bridge-1"]
operator_keys = ["0perat0rkey", "sha256:89cee6f9f69741ee281920b1e9cf90fc71981afcb1d93058a95313d15039619d"]
pending_connections_per_address = 64
public_url = "https://bridge.example.com"
allow_private_callbacks = ["10.0.0.0/8", "fd00::/8"]
retention = "14d"

[database]
url = "postgres://bridge:pa55word@db/bridge"
schema = "bridge_1"
data_dir = "elsewhere"
max_connections = 5

[encryption]
keys = ["AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="]

[[accounts]]
account_id = "12345678"
client_id = "75588e18"
client_secret = "cl1entsecret"
domain_api = "http://127.0.0.1:9400"
allow_http_hosts = ["msg.internal", "10.1.2.3"]
max_request_chars = 4000
max_file_bytes = 1500000
file_types = ["PNG", "JPG"]

[[channels]]
id = "sms"
account_id = "12345678"
namespace = "phone"
api_keys = ["ap1key", "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"]
callback_url = "https://user:callbackpa55@sms.example.com/liveperson?token=callbackt0ken"
callback_secret = "whsec_AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD"
max_age = "90m"
cors_origins = ["https://shop.example.com"]
events = ["message.created", "conversation.closed"]
match_choices = true
signed_file_links = "48h"
[channels.jwt]
algorithm = "HS256"
key = ["f1rst-secret-of-at-least-32-bytes", "t0kensecretfedcba9876543210abcdef"]
[channels.defaults]
skill_id = "2736637412"
language = "en-US"
urgency = "urgent"
features = ["AUTO_MESSAGES"]
[channels.limits]
requests_per_second = 200
per_user_requests_per_second = 7
queued_requests = 5000
per_user_queued_requests = 50
"#;

/// A file with only the keys that have no default.
const MINIMAL: &str = r#"
[encryption]
keys = ["AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="]
[[accounts]]
account_id = "12345678"
client_id = "75588e18"
client_secret = "cl1entsecret"
[[channels]]
id = "sms"
account_id = "12345678"
api_keys = ["ap1key"]
"#;

/// Parts of the secrets in the two files above.
const SECRETS: [&str; 12] = [
    "0perat0rkey",
    "pa55word",
    "f1rst-secret",
    "t0kensecret",
    "AQEBAQ",
    "AgICAg",
    "cl1entsecret",
    "ap1key",
    "2bb80d537b1d",
    "AwMDAw",
    "callbackpa55",
    "callbackt0ken",
];

/// The description of the URL of a PostgreSQL database.
const POSTGRES_URL: &str = "a postgres:// or postgresql:// URL, with the password percent-encoded: @ as %40, / as %2F, # as %23, : as %3A";

fn variables<const N: usize>(variables: [(&str, &str); N]) -> Environment {
    variables.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
}

fn read(text: &str) -> Result<Config, Error> {
    parse("bridge.toml", text, &Environment::new())
}

fn read_with<const N: usize>(text: &str, set: [(&str, &str); N]) -> Result<Config, Error> {
    parse("bridge.toml", text, &variables(set))
}

/// Returns the full file with one of its parts replaced.
fn edited(part: &str, by: &str) -> String {
    assert!(FULL.contains(part), "{part}");
    FULL.replacen(part, by, 1)
}

fn complaint(result: Result<Config, Error>) -> String {
    result.map(drop).unwrap_err().to_string()
}

#[test]
fn every_key_is_read() {
    let config = read(FULL).unwrap();

    assert_eq!(config.listen.to_string(), "127.0.0.1:8081");
    assert_eq!(config.admin_listen.to_string(), "127.0.0.1:9091");
    assert_eq!(config.pending_connections_per_address, 64);
    assert_eq!(config.public_url.as_str(), "https://bridge.example.com/");
    assert_eq!(config.admin_hosts, ["bridge-admin.internal", "bridge-1"]);
    assert_eq!(config.operator_keys.len(), 2);
    assert!(config.operator_keys[0].matches(&ApiKeyHash::of("0perat0rkey")));
    assert!(config.operator_keys[1].matches(&ApiKeyHash::of("other-operator-key")));
    assert_eq!(
        config.allow_private_callbacks,
        ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap())
    );
    assert_eq!(config.retention, TimeDelta::days(14));
    assert_eq!(
        config.database.url.unwrap().expose_secret(),
        "postgres://bridge:pa55word@db/bridge"
    );
    assert_eq!(config.database.schema.unwrap().as_str(), "bridge_1");
    assert_eq!(config.database.data_dir, Path::new("elsewhere"));
    assert_eq!(config.database.max_connections, 5);
    let first = crate::crypto::Key::new([1; 32]);
    assert_eq!(config.encryption.keys.sealing_key_id(), first.id());

    let [account] = &config.accounts[..] else {
        panic!("one account")
    };
    assert_eq!(account.account_id.as_str(), "12345678");
    assert_eq!(account.client_id, "75588e18");
    assert_eq!(account.client_secret.expose_secret(), "cl1entsecret");
    assert_eq!(account.domain_api.as_str(), "http://127.0.0.1:9400/");
    assert_eq!(account.allow_http_hosts, ["msg.internal", "10.1.2.3"]);
    assert_eq!(account.max_request_chars, 4000);
    assert_eq!(account.max_file_bytes, 1_500_000);
    assert_eq!(account.file_types, [ImageType::Png, ImageType::Jpg]);

    let [channel] = &config.channels[..] else {
        panic!("one channel")
    };
    assert_eq!(channel.id.as_str(), "sms");
    assert_eq!(channel.account_id, account.account_id);
    assert_eq!(channel.namespace.as_str(), "phone");
    assert!(channel.api_keys[0].matches(&ApiKeyHash::of("ap1key")));
    assert!(channel.api_keys[1].matches(&ApiKeyHash::of("secret")));
    assert_eq!(channel.jwt_keys.len(), 2);
    assert_eq!(channel.cors_origins, ["https://shop.example.com"]);
    let callback = channel.callback.as_ref().unwrap();
    assert_eq!(callback.url.host_str(), Some("sms.example.com"));
    assert_eq!(callback.secrets.len(), 1);
    assert_eq!(callback.secrets[0].expose_secret(), [3; 24]);
    assert_eq!(channel.max_age, TimeDelta::minutes(90));
    assert_eq!(
        channel.events,
        [EventType::MessageCreated, EventType::ConversationClosed]
    );
    assert_eq!(channel.signed_file_links, Some(TimeDelta::hours(48)));
    assert!(channel.match_choices);
    let defaults = &channel.defaults;
    assert!(
        matches!(&defaults.routing, Some(Routing::Skill { skill_id }) if skill_id.as_str() == "2736637412")
    );
    let context = defaults.context.as_ref().unwrap();
    assert_eq!(context.language.as_deref(), Some("en-US"));
    assert_eq!(defaults.urgency, Some(Urgency::Urgent));
    assert_eq!(defaults.features.names(), ["AUTO_MESSAGES"]);
    let limits = channel.limits;
    assert_eq!(limits.requests_per_second.unwrap().get(), 200);
    assert_eq!(limits.per_user_requests_per_second.unwrap().get(), 7);
    assert_eq!(limits.queued.get(), 5000);
    assert_eq!(limits.queued_per_user.get(), 50);
}

#[test]
fn omitted_keys_have_their_defaults() {
    let config = read(MINIMAL).unwrap();

    assert_eq!(config.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(config.admin_listen.to_string(), "127.0.0.1:9090");
    assert_eq!(config.pending_connections_per_address, 1024);
    assert_eq!(config.public_url.as_str(), "http://0.0.0.0:8080/");
    assert!(config.admin_hosts.is_empty());
    assert!(config.operator_keys.is_empty());
    assert!(config.allow_private_callbacks.is_empty());
    assert!(config.database.url.is_none());
    assert_eq!(config.database.data_dir, Path::new("data"));
    assert_eq!(config.database.max_connections, 16);
    assert_eq!(
        config.accounts[0].domain_api.as_str(),
        "https://api.liveperson.net/"
    );
    assert!(config.accounts[0].allow_http_hosts.is_empty());
    assert_eq!(config.accounts[0].max_request_chars, 5000);
    assert_eq!(config.accounts[0].max_file_bytes, 3_000_000);
    assert_eq!(config.accounts[0].file_types, ImageType::ALL);
    let channel = &config.channels[0];
    assert_eq!(channel.namespace.as_str(), "sms");
    assert!(channel.callback.is_none());
    assert!(channel.jwt_keys.is_empty() && channel.cors_origins.is_empty());
    assert_eq!(config.retention, TimeDelta::days(7));
    assert_eq!(channel.max_age, TimeDelta::hours(72));
    assert_eq!(channel.events.len(), EventType::ALL.len() - 1);
    assert!(!channel.events.contains(&EventType::MessageEchoed));
    assert!(!channel.match_choices);
    assert_eq!(channel.signed_file_links, None);
    assert_eq!(
        channel.defaults,
        crate::types::conversation::Opening::default()
    );
    assert_eq!(channel.limits.requests_per_second, None);
    assert_eq!(channel.limits.per_user_requests_per_second, None);
    assert_eq!(channel.limits.queued.get(), 1_000_000);
    assert_eq!(channel.limits.queued_per_user.get(), 1000);
}

#[test]
fn debugging_the_configuration_shows_no_secret() {
    let shown = format!("{:#?}", read(FULL).unwrap());

    for secret in SECRETS {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(shown.contains("sms.example.com"));
    assert!(
        !shown.contains("3,\n"),
        "a callback secret's bytes: {shown}"
    );
}

/// Cases of wrong values: the part of the full file, its replacement, and the error. `~` is a line
/// break.
const WRONG_VALUES: &str = r#"
"127.0.0.1:8081" -> "localhost" -> listen: expected an IP address and a port such as 0.0.0.0:8080
"127.0.0.1:8081" -> 8081 -> listen: expected an IP address and a port such as 0.0.0.0:8080, not a number without quotes
"bridge-admin.internal" -> "" -> admin_hosts[0]: expected a host such as bridge.internal, without scheme and port
"bridge-admin.internal" -> "http://a" -> admin_hosts[0]: expected a host such as bridge.internal, without scheme and port
"bridge-admin.internal" -> "a:9090" -> admin_hosts[0]: expected a host such as bridge.internal, without scheme and port
"bridge-admin.internal" -> "*.internal" -> admin_hosts[0]: expected a host such as bridge.internal, without scheme and port
"0perat0rkey" -> "0perat0r key" -> operator_keys[0]: expected an API key of visible ASCII characters, or sha256: and 64 hex digits, without white space before or within it
"0perat0rkey" -> "" -> operator_keys[0]: expected an API key of visible ASCII characters, or sha256: and 64 hex digits
"0perat0rkey" -> "ap1key" -> operator_keys: expected keys that no channel uses
["0perat0rkey", -> ["0perat0rkey", "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b", -> operator_keys: expected keys that no channel uses
pending_connections_per_address = 64 -> pending_connections_per_address = 16385 -> pending_connections_per_address: expected a whole number from 0 to 16384
"127.0.0.1:9091" -> "127.0.0.1:8081" -> admin_listen: expected an address other than that of listen
"https://bridge.example.com" -> "bridge" -> public_url: expected a percent-encoded http or https URL without user, query and fragment
"https://bridge.example.com" -> "https://b.example?q" -> public_url: expected a percent-encoded http or https URL without user, query and fragment
"https://bridge.example.com" -> "https://b.example#f" -> public_url: expected a percent-encoded http or https URL without user, query and fragment
"https://bridge.example.com" -> "https://b.example/a|b" -> public_url: expected a percent-encoded http or https URL without user, query and fragment
"https://bridge.example.com" -> "https://b.example/100%" -> public_url: expected a percent-encoded http or https URL without user, query and fragment
"https://bridge.example.com" -> "https://u@b.example" -> public_url: expected a percent-encoded http or https URL without user, query and fragment
"fd00::/8" -> "10.0.0.1" -> allow_private_callbacks[1]: expected an IP network such as 10.0.0.0/8
["10.0.0.0/8", "fd00::/8"] -> "10.0.0.0/8" -> allow_private_callbacks: expected a list, not a string
postgres:// -> mysql:// -> database.url: expected a postgres:// or postgresql:// URL, with the password percent-encoded: @ as %40, / as %2F, # as %23, : as %3A
"elsewhere" -> "" -> database.data_dir: expected the path of a directory
"bridge_1" -> "Bridge" -> database.schema: expected 1 to 63 lower-case letters, digits and underscores, beginning with a letter, such as bridge
"bridge_1" -> "pg_bridge" -> database.schema: expected 1 to 63 lower-case letters, digits and underscores, beginning with a letter, such as bridge
max_connections = 5 -> max_connections = 0 -> database.max_connections: expected a whole number from 1 to 1000
max_connections = 5 -> max_connections = 1001 -> database.max_connections: expected a whole number from 1 to 1000
max_connections = 5 -> max_connections = 5.5 -> database.max_connections: expected a whole number from 1 to 1000, not a fraction
max_connections = 5 -> max_connections = true -> database.max_connections: expected a whole number from 1 to 1000, not a boolean
max_connections = 5 -> max_connections = 2026-11-22 -> database.max_connections: expected a whole number from 1 to 1000, not a date
AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE= -> AQEB -> encryption.keys[0]: expected the base64 of exactly 32 bytes
AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE= -> AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI= -> encryption.keys: expected keys that are all different
account_id = "12345678" -> account_id = 12345678 -> accounts[0].account_id: expected 1 to 64 letters, digits, '.', '-' or '_', and neither '.' nor '..', not a number without quotes
account_id = "12345678" -> account_id = "a/b" -> accounts[0].account_id: expected 1 to 64 letters, digits, '.', '-' or '_', and neither '.' nor '..'
"75588e18" -> "" -> accounts[0].client_id: expected a client id
"cl1entsecret" -> "" -> accounts[0].client_secret: expected a client secret
"cl1entsecret" -> { cl1entsecret = 1 } -> accounts[0].client_secret: expected a client secret, not a table
"http://127.0.0.1:9400" -> "ftp://127.0.0.1" -> accounts[0].domain_api: expected a percent-encoded http or https URL without user, query and fragment
"msg.internal" -> "http://msg.internal" -> accounts[0].allow_http_hosts[0]: expected a host such as bridge.internal, without scheme and port
max_request_chars = 4000 -> max_request_chars = 999 -> accounts[0].max_request_chars: expected a whole number from 1000 to 100000
max_request_chars = 4000 -> max_request_chars = 100001 -> accounts[0].max_request_chars: expected a whole number from 1000 to 100000
max_file_bytes = 1500000 -> max_file_bytes = 0 -> accounts[0].max_file_bytes: expected a whole number from 1 to 10000000
max_file_bytes = 1500000 -> max_file_bytes = 10000001 -> accounts[0].max_file_bytes: expected a whole number from 1 to 10000000
"PNG", "JPG" -> "PNG", "PDF" -> accounts[0].file_types[1]: expected one of JPG, PNG, GIF
["PNG", "JPG"] -> "PNG" -> accounts[0].file_types: expected a list, not a string
id = "sms" -> id = "" -> channels[0].id: expected 1 to 64 letters, digits, '.', '-' or '_', and neither '.' nor '..'
"sms"~account_id = "12345678" -> "sms"~account_id = "1" -> channels[0].account_id: expected the account_id of one of the accounts
id = "sms" -> id = ".." -> channels[0].id: expected 1 to 64 letters, digits, '.', '-' or '_', and neither '.' nor '..'
account_id = "12345678" -> account_id = "." -> accounts[0].account_id: expected 1 to 64 letters, digits, '.', '-' or '_', and neither '.' nor '..'
"phone" -> "phone:eu" -> channels[0].namespace: expected 1 to 64 letters, digits, '.', '-' or '_', and neither '.' nor '..'
"ap1key" -> " ap1key" -> channels[0].api_keys[0]: expected an API key of visible ASCII characters, or sha256: and 64 hex digits, without white space before or within it
"ap1key" -> "ap1kéy" -> channels[0].api_keys[0]: expected an API key of visible ASCII characters, or sha256: and 64 hex digits
"ap1key" -> "" -> channels[0].api_keys[0]: expected an API key of visible ASCII characters, or sha256: and 64 hex digits
sha256:2bb8 -> sha256: -> channels[0].api_keys[1]: expected an API key of visible ASCII characters, or sha256: and 64 hex digits
https://user -> ftp://user -> channels[0].callback_url: expected an http or https URL
whsec_ -> whsek_ -> channels[0].callback_secret: expected whsec_ and the base64 of 24 to 64 bytes
whsec_AwMD -> whsec_ -> channels[0].callback_secret: expected whsec_ and the base64 of 24 to 64 bytes
"HS256" -> "none" -> channels[0].jwt.algorithm: expected one of HS256, RS256, ES256, EdDSA
"HS256" -> "ES256" -> channels[0].jwt.key: expected a P-256 public key in PEM format
"f1rst-secret-of-at-least-32-bytes" -> "f1rst" -> channels[0].jwt.key: expected a secret of at least 32 bytes
"https://shop.example.com" -> "https://shop.example.com/" -> channels[0].cors_origins[0]: expected an origin such as https://shop.example.com
"https://shop.example.com" -> "*" -> channels[0].cors_origins[0]: expected an origin such as https://shop.example.com
"message.created" -> "message.create" -> channels[0].events[0]: expected one of message.created, message.echoed, typing.changed, receipt.changed, conversation.opened, conversation.updated, conversation.closed, message.sent, message.failed
match_choices = true -> match_choices = "yes" -> channels[0].match_choices: expected true or false
match_choices = true -> match_choices = 1 -> channels[0].match_choices: expected true or false, not a number without quotes
skill_id = "2736637412" -> skill_id = "" -> channels[0].defaults.skill_id: expected 1 to 64 printable ASCII characters
skill_id -> campaign_id = "1"~engagement_id = "2"~skill_id -> channels[0].defaults.skill_id: expected either campaign_id and engagement_id, or skill_id alone
"en-US" -> "en_US" -> channels[0].defaults.language: expected a language tag such as en-US
"urgent" -> "soon" -> channels[0].defaults.urgency: expected one of normal, urgent, prioritized
"AUTO_MESSAGES" -> "auto" -> channels[0].defaults.features: expected at most 16 names of capital letters, digits and underscores, such as AUTO_MESSAGES
= 200 -> = 0 -> channels[0].limits.requests_per_second: expected a whole number from 1
= 7 -> = -7 -> channels[0].limits.per_user_requests_per_second: expected a whole number from 1
= 5000 -> = 0 -> channels[0].limits.queued_requests: expected a whole number from 1
= 50~ -> = -1~ -> channels[0].limits.per_user_queued_requests: expected a whole number from 1
[channels.limits] -> limit = 5~[channels.limits] -> channels[0].defaults.limit: unknown key, expected one of campaign_id, engagement_id, skill_id, language, urgency, features
[database] -> [database]~"a b" = 5 -> database."a b": unknown key, expected one of url, schema, data_dir, max_connections
[database] -> keep = "7d"~[database] -> keep: unknown key, expected one of listen, admin_listen, admin_hosts, operator_keys, pending_connections_per_address, public_url, allow_private_callbacks, retention, database, encryption, accounts, channels
"14d" -> "14w" -> retention: expected a time from 1h to 365d such as 7d
"14d" -> "" -> retention: expected a time from 1h to 365d such as 7d
"14d" -> "d" -> retention: expected a time from 1h to 365d such as 7d
"14d" -> "-1d" -> retention: expected a time from 1h to 365d such as 7d
"14d" -> "1.5d" -> retention: expected a time from 1h to 365d such as 7d
"14d" -> "59m" -> retention: expected a time from 1h to 365d such as 7d
"14d" -> "366d" -> retention: expected a time from 1h to 365d such as 7d
"14d" -> 14.5 -> retention: expected a time from 1h to 365d such as 7d, not a fraction
"90m" -> "59s" -> channels[0].max_age: expected a time from 1m to 30d such as 72h
"90m" -> 59 -> channels[0].max_age: expected a time from 1m to 30d such as 72h
"90m" -> "31d" -> channels[0].max_age: expected a time from 1m to 30d such as 72h
"90m" -> "99999999999999999999d" -> channels[0].max_age: expected a time from 1m to 30d such as 72h
"90m" -> "15d" -> channels[0].max_age: expected at most retention, the time for which events are stored
"48h" -> "59s" -> channels[0].signed_file_links: expected a time from 1m to 30d such as 72h
"48h" -> "31d" -> channels[0].signed_file_links: expected a time from 1m to 30d such as 72h
"48h" -> true -> channels[0].signed_file_links: expected a time from 1m to 30d such as 72h, not a boolean
"#;

#[test]
fn a_wrong_value_is_reported_with_file_key_and_expectation() {
    for case in WRONG_VALUES.trim().lines() {
        let [part, by, expected] = case.split(" -> ").collect::<Vec<_>>()[..] else {
            panic!("{case}")
        };
        let text = edited(&part.replace('~', "\n"), &by.replace('~', "\n"));

        assert_eq!(
            complaint(read(&text)),
            format!("bridge.toml: {expected}"),
            "{case}"
        );
    }
}

#[test]
fn durations_have_a_unit_letter_or_are_in_seconds() {
    for (text, seconds) in [
        ("\"3600\"", 3600),
        ("3600", 3600),
        ("\"5400s\"", 5400),
        ("\"90m\"", 5400),
        ("\"72h\"", 259_200),
        ("\"14d\"", 1_209_600),
    ] {
        let config = read(&edited("\"90m\"", text)).unwrap();
        assert_eq!(
            config.channels[0].max_age,
            TimeDelta::seconds(seconds),
            "{text}"
        );
    }
}

#[test]
fn deliveries_are_attempted_no_longer_than_events_are_retained() {
    let text = edited("retention = \"14d\"", "retention = \"24h\"");
    let text = text.replace("max_age = \"90m\"\n", "");

    let config = read(&text).unwrap();

    assert_eq!(config.channels[0].max_age, TimeDelta::hours(24));
}

#[test]
fn a_callback_secret_has_24_to_64_bytes() {
    for (length, is_accepted) in [(23, false), (24, true), (64, true), (65, false)] {
        let secret = STANDARD.encode(vec![3; length]);
        let text = edited("AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD", &secret);

        assert_eq!(read(&text).is_ok(), is_accepted, "{length}");
    }
}

#[test]
fn a_missing_key_is_reported_with_the_places_to_set_it() {
    for (part, key, variable, expected) in [
        (
            "client_id = \"75588e18\"\n",
            "accounts[0].client_id",
            "ACCOUNTS__0__CLIENT_ID",
            "a client id",
        ),
        (
            "client_secret = \"cl1entsecret\"\n",
            "accounts[0].client_secret",
            "ACCOUNTS__0__CLIENT_SECRET",
            "a client secret",
        ),
        (
            "id = \"sms\"\n",
            "channels[0].id",
            "CHANNELS__0__ID",
            "1 to 64 letters, digits, '.', '-' or '_', and neither '.' nor '..'",
        ),
        (
            "callback_secret = \"whsec_AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD\"\n",
            "channels[0].callback_secret",
            "CHANNELS__0__CALLBACK_SECRET",
            "whsec_ and the base64 of 24 to 64 bytes, since callback_url is set",
        ),
    ] {
        assert_eq!(
            complaint(read(&edited(part, ""))),
            format!("bridge.toml or BRIDGE_{variable}: {key}: missing, expected {expected}")
        );
    }
    for (routing, key, variable) in [
        ("campaign_id", "engagement_id", "ENGAGEMENT_ID"),
        ("engagement_id", "campaign_id", "CAMPAIGN_ID"),
    ] {
        assert_eq!(
            complaint(read(&edited("skill_id", routing))),
            format!(
                "bridge.toml or BRIDGE_CHANNELS__0__DEFAULTS__{variable}: channels[0].defaults.{key}: \
                 missing, expected either campaign_id and engagement_id, or skill_id alone"
            )
        );
    }
}

#[test]
fn an_empty_configuration_lacks_keys_accounts_and_channels() {
    assert_eq!(
        complaint(read("")),
        "bridge.toml or BRIDGE_ENCRYPTION__KEYS: encryption.keys: missing, expected at least one key: the base64 of exactly 32 bytes\n\
         bridge.toml or BRIDGE_ACCOUNTS: accounts: missing, expected at least one account: [[accounts]], or variables such as BRIDGE_ACCOUNTS__0__ACCOUNT_ID\n\
         bridge.toml or BRIDGE_CHANNELS: channels: missing, expected at least one channel: [[channels]], or variables such as BRIDGE_CHANNELS__0__ID"
    );
}

#[test]
fn all_errors_are_reported_together_without_consequential_ones() {
    let text = FULL
        .replace("127.0.0.1:8081", "nowhere")
        .replace("12345678", "a/b")
        .replace("\"ap1key\"", "1, \"\"")
        .replace("urgency", "urgent");

    let error = read(&text).unwrap_err();

    assert_eq!(error.problems().len(), 6, "{error}");
    assert!(error.source().is_none());
    assert_eq!(
        error.to_string(),
        "bridge.toml: listen: expected an IP address and a port such as 0.0.0.0:8080\n\
         bridge.toml: accounts[0].account_id: expected 1 to 64 letters, digits, '.', '-' or '_', and neither '.' nor '..'\n\
         bridge.toml: channels[0].account_id: expected 1 to 64 letters, digits, '.', '-' or '_', and neither '.' nor '..'\n\
         bridge.toml: channels[0].api_keys[0]: expected an API key of visible ASCII characters, or sha256: and 64 hex digits, not a number without quotes\n\
         bridge.toml: channels[0].api_keys[1]: expected an API key of visible ASCII characters, or sha256: and 64 hex digits\n\
         bridge.toml: channels[0].defaults.urgent: unknown key, expected one of campaign_id, engagement_id, skill_id, language, urgency, features"
    );
}

#[test]
fn a_channel_needs_api_keys_or_jwts_and_cors_needs_jwts() {
    let without_keys = MINIMAL.replace("[\"ap1key\"]", "[]");
    let jwt = "[channels.jwt]\nkey = \"f1rst-secret-of-at-least-32-bytes\"\n";
    let algorithm = "algorithm = \"HS256\"\n";

    assert_eq!(
        complaint(read_with(MINIMAL, [("BRIDGE_CHANNELS__0__API_KEYS", "")])),
        "BRIDGE_CHANNELS__0__API_KEYS: channels[0].api_keys: expected at least one API key"
    );
    let tokens = read(&format!("{without_keys}{jwt}{algorithm}")).unwrap();
    assert_eq!(tokens.channels[0].jwt_keys.len(), 1);
    assert!(complaint(read(&format!("{MINIMAL}{jwt}"))).ends_with(
        "channels[0].jwt.algorithm: missing, expected one of HS256, RS256, ES256, EdDSA"
    ));
    assert!(
        complaint(read(&format!("{MINIMAL}[channels.jwt]\n{algorithm}")))
            .ends_with("channels[0].jwt.key: missing, expected a secret of at least 32 bytes")
    );
    let origins = "cors_origins = [\"https://shop.example.com\"]\n";
    assert_eq!(
        complaint(read(&format!("{MINIMAL}{origins}"))),
        "bridge.toml: channels[0].cors_origins: expected none unless jwt is set, since a page must not hold an API key"
    );
}

#[test]
fn ids_and_api_keys_must_be_unique() {
    let account =
        "[[accounts]]\naccount_id = \"12345678\"\nclient_id = \"c\"\nclient_secret = \"s\"\n";
    let channel = |id: &str, key: &str| {
        format!("[[channels]]\nid = \"{id}\"\naccount_id = \"12345678\"\napi_keys = [\"{key}\"]\n")
    };

    assert_eq!(
        complaint(read(&format!("{MINIMAL}{account}"))),
        "bridge.toml: accounts[1].account_id: expected an id that no other account has"
    );
    assert_eq!(
        complaint(read(&format!("{MINIMAL}{}", channel("sms", "other")))),
        "bridge.toml: channels[1].id: expected an id that no other channel has"
    );
    assert_eq!(
        complaint(read(&format!("{MINIMAL}{}", channel("app", "ap1key")))),
        "bridge.toml: channels[1].api_keys: expected keys that no other channel uses"
    );
    assert!(read(&format!("{MINIMAL}{}", channel("app", "other"))).is_ok());
}

#[test]
fn a_channel_needs_an_api_key_and_takes_at_most_two_callback_secrets() {
    let secret = "\"whsec_AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD\"";
    let with_secrets = |count| edited(secret, &format!("[{}]", vec![secret; count].join(", ")));

    assert_eq!(
        complaint(read(&MINIMAL.replace("[\"ap1key\"]", "[]"))),
        "bridge.toml: channels[0].api_keys: expected at least one API key"
    );
    let config = read(&with_secrets(2)).unwrap();
    assert_eq!(
        config.channels[0].callback.as_ref().unwrap().secrets.len(),
        2
    );
    assert_eq!(
        complaint(read(&with_secrets(3))),
        "bridge.toml: channels[0].callback_secret: expected at most two secrets"
    );
}

#[test]
fn callbacks_can_be_turned_off_while_their_secret_stays() {
    let url = "callback_url = \"https://user:callbackpa55@sms.example.com/liveperson?token=callbackt0ken\"\n";

    assert!(
        read(&edited(url, "")).unwrap().channels[0]
            .callback
            .is_none()
    );
}

#[test]
fn both_servers_may_ask_for_a_free_port() {
    let text = FULL
        .replace("127.0.0.1:8081", "127.0.0.1:0")
        .replace("127.0.0.1:9091", "127.0.0.1:0");

    assert!(read(&text).is_ok());
}

#[test]
fn the_environment_alone_suffices() {
    let config = read_with(
        "",
        [
            ("BRIDGE_LISTEN", "127.0.0.1:1"),
            ("BRIDGE_DATABASE__MAX_CONNECTIONS", "7"),
            ("BRIDGE_ALLOW_PRIVATE_CALLBACKS", "10.0.0.0/8, 127.0.0.0/8"),
            (
                "BRIDGE_ENCRYPTION__KEYS__0",
                "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
            ),
            ("BRIDGE_ACCOUNTS__0__ACCOUNT_ID", "0012"),
            ("BRIDGE_ACCOUNTS__0__CLIENT_ID", "0012"),
            ("BRIDGE_ACCOUNTS__0__CLIENT_SECRET", "a,b${c}"),
            ("BRIDGE_CHANNELS__0__ID", "sms"),
            ("BRIDGE_CHANNELS__0__ACCOUNT_ID", "0012"),
            ("BRIDGE_CHANNELS__0__API_KEYS", "[\"with,comma\", \"b\"]"),
            ("BRIDGE_CHANNELS__0__EVENTS", ""),
            ("BRIDGE_CHANNELS__0__MATCH_CHOICES", "true"),
            (
                "BRIDGE_CHANNELS__0__CALLBACK_URL",
                "https://sms.example.com",
            ),
            (
                "BRIDGE_CHANNELS__0__CALLBACK_SECRET",
                "whsec_AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD",
            ),
            ("BRIDGE_CHANNELS__0__DEFAULTS__SKILL_ID", "0012"),
            ("BRIDGE_CHANNELS__0__LIMITS__REQUESTS_PER_SECOND", "3"),
            ("BRIDGE_CONFIG", "is no key"),
            ("UNRELATED", "x"),
        ],
    )
    .unwrap();

    assert_eq!(config.listen.port(), 1);
    assert_eq!(config.database.max_connections, 7);
    assert_eq!(config.allow_private_callbacks.len(), 2);
    let account = &config.accounts[0];
    assert_eq!(account.account_id.as_str(), "0012");
    assert_eq!(account.client_id, "0012");
    assert_eq!(account.client_secret.expose_secret(), "a,b${c}");
    let channel = &config.channels[0];
    assert!(channel.api_keys[0].matches(&ApiKeyHash::of("with,comma")));
    assert_eq!(channel.api_keys.len(), 2);
    assert!(channel.events.is_empty());
    assert!(channel.match_choices);
    assert_eq!(channel.callback.as_ref().unwrap().secrets.len(), 1);
    assert!(channel.defaults.routing.is_some());
    assert!(channel.limits.requests_per_second.is_some());
}

#[test]
fn a_variable_overrides_the_file_and_an_unset_placeholder_in_it() {
    let text = edited("cl1entsecret", "${UNSET}");

    let config = read_with(
        &text,
        [
            ("BRIDGE_ACCOUNTS__0__CLIENT_SECRET", "from-the-variable"),
            ("BRIDGE_CHANNELS__0__API_KEYS__1", "second"),
            ("BRIDGE_CHANNELS__0__DEFAULTS__FEATURES", "A,B"),
        ],
    )
    .unwrap();

    let account = &config.accounts[0];
    assert_eq!(account.client_secret.expose_secret(), "from-the-variable");
    assert_eq!(account.client_id, "75588e18");
    let channel = &config.channels[0];
    assert!(channel.api_keys[0].matches(&ApiKeyHash::of("ap1key")));
    assert!(channel.api_keys[1].matches(&ApiKeyHash::of("second")));
    assert_eq!(channel.defaults.features.names(), ["A", "B"]);
}

/// The secrets of the full file, as they are written there, each with its key. The client id is
/// among them, since it is treated like a secret.
const BY_KEY: [(&str, &str); 10] = [
    ("operator_keys[0]", "0perat0rkey"),
    (
        "operator_keys[1]",
        "sha256:89cee6f9f69741ee281920b1e9cf90fc71981afcb1d93058a95313d15039619d",
    ),
    ("database.url", "postgres://bridge:pa55word@db/bridge"),
    (
        "encryption.keys[0]",
        "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
    ),
    ("accounts[0].client_id", "75588e18"),
    ("accounts[0].client_secret", "cl1entsecret"),
    ("channels[0].api_keys[0]", "ap1key"),
    (
        "channels[0].api_keys[1]",
        "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b",
    ),
    (
        "channels[0].callback_secret",
        "whsec_AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD",
    ),
    (
        "channels[0].jwt.key[0]",
        "f1rst-secret-of-at-least-32-bytes",
    ),
];

/// Sets a secret of the full file to this text: in the file, by a placeholder, and by a variable.
fn set_in_each_source(key: &str, secret: &str, text: &str) -> [Result<Config, Error>; 3] {
    let quoted = format!("{secret:?}");
    let variable = source::variable_of(key);
    let in_file = toml::Value::from(text).to_string();
    // White space around an item of a variable that holds a whole list is not part of the item,
    // unless the item is in quotes.
    let in_variable = if key.ends_with("callback_secret") {
        format!("[{in_file}]")
    } else {
        text.to_owned()
    };
    [
        read(&edited(&quoted, &in_file)),
        read_with(&edited(&quoted, "\"${SECRET}\""), [("SECRET", text)]),
        read_with(FULL, [(variable.as_str(), in_variable.as_str())]),
    ]
}

/// Asserts that the secrets are those of the full file, with nothing before or after them.
fn assert_secrets(config: &Config, case: &str) {
    let url = config.database.url.as_ref().unwrap();
    let first = crate::crypto::Key::new([1; 32]);
    let account = &config.accounts[0];
    let channel = &config.channels[0];
    let callback = channel.callback.as_ref().unwrap();
    // A token of the channel, signed with the first secret.
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJzbXMiLCJleHAiOjE4MDAwMDAwNjB9.\
                 wP-oRrCAs2OQzq7WxPVhzVAcSZBtJzhYETRtRRewok0";
    let now = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();

    for is_right in [
        config.operator_keys[0].matches(&ApiKeyHash::of("0perat0rkey")),
        config.operator_keys[1].matches(&ApiKeyHash::of("other-operator-key")),
        url.expose_secret() == "postgres://bridge:pa55word@db/bridge",
        config.encryption.keys.sealing_key_id() == first.id(),
        account.client_id == "75588e18",
        account.client_secret.expose_secret() == "cl1entsecret",
        channel.api_keys[0].matches(&ApiKeyHash::of("ap1key")),
        channel.api_keys[1].matches(&ApiKeyHash::of("secret")),
        callback.secrets[0].expose_secret() == [3; 24],
        channel.jwt_keys[0].verify(token, now).is_ok(),
    ] {
        assert!(is_right, "{case}");
    }
}

#[test]
fn line_breaks_around_every_secret_are_removed() {
    for (key, secret) in BY_KEY {
        for (before, after) in [
            ("", "\n"),
            ("", "\r\n"),
            ("", " \n\n"),
            ("", " "),
            ("\n", "\n"),
        ] {
            let text = format!("{before}{secret}{after}");

            for config in set_in_each_source(key, secret, &text) {
                assert_secrets(&config.unwrap(), &format!("{key}: {text:?}"));
            }
        }
    }
}

#[test]
fn white_space_before_or_within_a_secret_is_refused_without_quoting_it() {
    for (key, secret) in BY_KEY {
        let (front, back) = secret.split_at(3);
        for text in [
            format!(" {secret}"),
            format!("\t{secret}"),
            format!("\u{a0}{secret}"),
            format!("\u{feff}{secret}"),
            format!("{front}\u{200b}{back}"),
            format!("{front} {back}"),
            format!("{front}\n{back}"),
            format!("{secret}\n{secret}"),
        ] {
            for refused in set_in_each_source(key, secret, &text) {
                let complaint = refused.map(drop).expect_err(key).to_string();

                let named = format!(": {key}");
                assert!(complaint.contains(&named), "{complaint}");
                let is_clear = complaint.ends_with(", without white space before or within it");
                assert!(is_clear && complaint.lines().count() == 1, "{complaint}");
                let is_shown = complaint.contains(front) && complaint.contains(back);
                assert!(!is_shown, "{complaint}");
            }
        }
    }
}

#[test]
fn line_breaks_around_list_items_and_placeholder_values_are_removed() {
    let keys =
        "0perat0rkey,\nsha256:89cee6f9f69741ee281920b1e9cf90fc71981afcb1d93058a95313d15039619d\n";
    let array = format!("[\"0perat0rkey\\n\", {:?}]\n", BY_KEY[1].1);
    for list in [keys, &array] {
        let config = read_with(FULL, [("BRIDGE_OPERATOR_KEYS", list)]);
        assert_secrets(&config.unwrap(), list);
    }
    let text = edited("pa55word", "${PASSWORD}");
    let config = read_with(&text, [("PASSWORD", "pa55word\n")]);
    assert_secrets(&config.unwrap(), "the password within the URL");
}

#[test]
fn a_public_key_may_contain_line_breaks() {
    let pem = include_str!("../../tests/keys/p256.public.pem");
    let jwt = "[channels.jwt]\nalgorithm = \"ES256\"\nkey = \"${KEY}\"\n";

    for text in [
        pem.to_owned(),
        format!("\n{pem}\n\n"),
        pem.replace('\n', "\r\n"),
    ] {
        let config = read_with(&format!("{MINIMAL}{jwt}"), [("KEY", &text)]).unwrap();
        assert_eq!(config.channels[0].jwt_keys.len(), 1);
    }
}

#[test]
fn line_breaks_around_other_values_are_removed() {
    let config = read_with(
        FULL,
        [
            ("BRIDGE_LISTEN", "127.0.0.1:1\n"),
            ("BRIDGE_DATABASE__DATA_DIR", "else where\r\n"),
            ("BRIDGE_DATABASE__MAX_CONNECTIONS", "7\n"),
            ("BRIDGE_CHANNELS__0__ID", "app\n"),
        ],
    )
    .unwrap();

    assert_eq!(config.listen.port(), 1);
    assert_eq!(config.database.data_dir, Path::new("else where"));
    assert_eq!(config.database.max_connections, 7);
    assert_eq!(config.channels[0].id.as_str(), "app");
}

#[test]
fn database_url_overrides_the_file_but_not_bridge_database_url() {
    let url = |config: Config| config.database.url.unwrap().expose_secret().to_owned();
    let short = ("DATABASE_URL", "postgres://short");
    let full = ("BRIDGE_DATABASE__URL", "postgresql://full");

    assert_eq!(url(read_with(FULL, [short]).unwrap()), "postgres://short");
    assert_eq!(
        url(read_with(FULL, [short, full]).unwrap()),
        "postgresql://full"
    );
    assert_eq!(
        complaint(read_with(FULL, [("DATABASE_URL", "sqlite://x")])),
        format!("DATABASE_URL: database.url: expected {POSTGRES_URL}")
    );
}

#[test]
fn a_password_that_ends_the_host_of_the_database_url_is_refused() {
    for url in [
        "postgres://bridge:p@ss/w#rd@db/bridge",
        "postgres://bridge:p@ss/word@db/bridge",
        "postgres://bridge:p@ss?word@db/bridge",
        "postgres://bridge:12/word@db/bridge",
        "postgres://bridge:12#word@db/bridge",
        "postgres://bridge:pass/word@db/bridge",
        "postgres://bridge:#word@db:5432/bridge",
    ] {
        assert_eq!(
            complaint(read_with(FULL, [("DATABASE_URL", url)])),
            format!("DATABASE_URL: database.url: expected {POSTGRES_URL}"),
            "{url}"
        );
    }
    for url in [
        "postgres://bridge:p%40ss%2Fw%23rd@db/bridge",
        "postgres://bridge:p@ss:word@db/bridge",
        "postgres://db/bridge?user=bridge@tenant&sslmode=require",
        "postgres://bridge@%2Frun%2Fpostgresql/bridge",
    ] {
        let config = read_with(FULL, [("DATABASE_URL", url)]).unwrap();
        assert_eq!(config.database.url.unwrap().expose_secret(), url);
    }
}

#[test]
fn indexed_variables_extend_a_list_in_index_order() {
    let keys: Vec<String> = (0..12)
        .map(|i| format!("BRIDGE_CHANNELS__0__API_KEYS__{i}"))
        .collect();
    let environment = keys
        .iter()
        .map(|name| (name.clone(), name.clone()))
        .collect();

    let config = parse("bridge.toml", MINIMAL, &environment).unwrap();

    assert_eq!(config.channels[0].api_keys.len(), 12);
    for (hash, key) in config.channels[0].api_keys.iter().zip(&keys) {
        assert!(hash.matches(&ApiKeyHash::of(key)), "{key}");
    }
}

/// Cases of wrong variables: the variable, its value, and the error.
const WRONG_VARIABLES: &str = r#"
BRIDGE_DATABASE__MAX_CONNECTIONS -> many -> database.max_connections: expected a whole number from 1 to 1000
BRIDGE_DATABASE -> x -> database: expected a table, not a string
BRIDGE_DATABASE__0 -> x -> database.0: unknown key, expected one of url, schema, data_dir, max_connections
BRIDGE_DATABASE__URI -> x -> database.uri: unknown key, expected one of url, schema, data_dir, max_connections
BRIDGE_DATABSE__URL -> x -> databse: unknown key, expected one of listen, admin_listen, admin_hosts, operator_keys, pending_connections_per_address, public_url, allow_private_callbacks, retention, database, encryption, accounts, channels
BRIDGE_ -> x -> "": unknown key, expected one of listen, admin_listen, admin_hosts, operator_keys, pending_connections_per_address, public_url, allow_private_callbacks, retention, database, encryption, accounts, channels
BRIDGE_LISTEN__PORT -> x -> listen: expected a table or a list, so that a part of it can be set
BRIDGE_ACCOUNTS -> [] -> accounts: expected a list of tables, not a string
BRIDGE_ACCOUNTS__CLIENT_SECRET -> x -> accounts: expected an index from 0 to 1 after its name
BRIDGE_ACCOUNTS__2__CLIENT_SECRET -> x -> accounts: expected an index from 0 to 1 after its name
BRIDGE_ACCOUNTS__0 -> x -> accounts[0]: expected a table, not a string
BRIDGE_CHANNELS__0__API_KEYS -> ["x" -> channels[0].api_keys: expected items separated by commas, or a TOML array of strings
BRIDGE_CHANNELS__0__API_KEYS -> [{ x = 1 }] -> channels[0].api_keys: expected items separated by commas, or a TOML array of strings
BRIDGE_CHANNELS__0__API_KEYS -> x,,y -> channels[0].api_keys[1]: expected an API key of visible ASCII characters, or sha256: and 64 hex digits
BRIDGE_CHANNELS__0__LIMITS__REQUESTS_PER_SECOND -> 0 -> channels[0].limits.requests_per_second: expected a whole number from 1
"#;

#[test]
fn a_wrong_value_in_a_variable_is_reported_with_its_name() {
    for case in WRONG_VARIABLES.trim().lines() {
        let [variable, value, expected] = case.split(" -> ").collect::<Vec<_>>()[..] else {
            panic!("{case}")
        };

        assert_eq!(
            complaint(read_with(FULL, [(variable, value)])),
            format!("{variable}: {expected}"),
            "{case}"
        );
    }
}

#[test]
fn a_missing_key_of_an_item_defined_by_variables_is_reported() {
    assert_eq!(
        complaint(read_with(
            MINIMAL,
            [
                ("BRIDGE_ACCOUNTS__1__ACCOUNT_ID", "2"),
                ("BRIDGE_ACCOUNTS__1__CLIENT_ID", "c")
            ]
        )),
        "bridge.toml or BRIDGE_ACCOUNTS__1__CLIENT_SECRET: accounts[1].client_secret: missing, expected a client secret"
    );
}

#[test]
fn placeholders_in_any_string_are_filled_or_reported() {
    let text = FULL
        .replace("\"AUTO_MESSAGES\"", "\"${FEATURE}\"")
        .replace("cl1entsecret", "a${SECRET}$${b}")
        .replace(
            "max_connections = 5",
            "max_connections = \"${CONNECTIONS}\"",
        );
    let feature = ("FEATURE", "A");
    let secret = ("SECRET", "${FEATURE}");

    let config = read_with(&text, [feature, secret, ("CONNECTIONS", "9")]).unwrap();

    assert_eq!(config.channels[0].defaults.features.names(), ["A"]);
    assert_eq!(
        config.accounts[0].client_secret.expose_secret(),
        "a${FEATURE}${b}"
    );
    assert_eq!(config.database.max_connections, 9);
    assert_eq!(
        complaint(read_with(&text, [("CONNECTIONS", "9"), feature])),
        "bridge.toml: accounts[0].client_secret: expected the environment variable SECRET to be set"
    );
    assert_eq!(
        complaint(read(&edited("cl1entsecret", "${cl1entsecret"))),
        "bridge.toml: accounts[0].client_secret: expected ${NAME} with the name of a variable, or $${ for ${ itself"
    );
}

#[test]
fn a_toml_error_shows_its_position_and_its_reason_in_plain_words() {
    for (text, expected) in [
        (
            "listen = \"x\"\nsecret = \"s3cret",
            "line 2, column 17: not TOML: the closing quote of a string is missing",
        ),
        (
            "secret = 's3cret\na = 1",
            "line 1, column 17: not TOML: the closing quote of a string is missing",
        ),
        (
            "a = s3cret",
            "line 1, column 5: not TOML: the quotes around a string are missing",
        ),
        (
            "a = 1\na = 2",
            "line 2, column 1: not TOML: this key is set twice",
        ),
        (
            "s3cret\n",
            "line 1, column 7: not TOML: key with no value, expected `=`",
        ),
    ] {
        assert_eq!(
            complaint(read(text)),
            format!("bridge.toml: {expected}"),
            "{text}"
        );
    }
}

#[test]
fn the_config_option_takes_precedence_over_the_variable() {
    let directory = tempfile::tempdir().unwrap();
    let option = directory.path().join("option.toml");
    let variable = directory.path().join("variable.toml");
    let missing = directory.path().join("missing.toml");
    std::fs::write(&option, MINIMAL).unwrap();
    std::fs::write(&variable, FULL).unwrap();
    let environment = variables([("BRIDGE_CONFIG", variable.to_str().unwrap())]);

    let listen = |option: Option<&Path>| load(option, &environment).unwrap().listen.port();
    assert_eq!(listen(Some(&option)), 8080);
    assert_eq!(listen(None), 8081);
    assert_eq!(
        complaint(load(Some(&missing), &environment)),
        format!(
            "--config: {}: expected a readable file (entity not found)",
            missing.display()
        )
    );
    assert_eq!(
        complaint(load(
            None,
            &variables([("BRIDGE_CONFIG", missing.to_str().unwrap())])
        )),
        format!(
            "BRIDGE_CONFIG: {}: expected a readable file (entity not found)",
            missing.display()
        )
    );
}

#[test]
fn the_example_loads_with_the_environment_that_it_names() {
    let environment = [
        (
            "ENCRYPTION_KEY",
            "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
        ),
        ("LP_CLIENT_SECRET", "secret"),
        ("SMS_API_KEY", "key"),
    ];
    assert!(read_with(example(), environment).is_ok());

    // Comments that contain keys are examples, so they must be valid as well.
    let is_key = |line: &str| {
        line.split_once(" = ")
            .is_some_and(|(name, _)| !name.contains(' '))
    };
    let lines = example().lines();
    let uncommented = lines.map(|line| {
        line.strip_prefix("# ")
            .filter(|key| is_key(key))
            .unwrap_or(line)
    });
    let uncommented = uncommented.collect::<Vec<_>>().join("\n");
    let set = [
        ("DATABASE_URL", "postgres://db/bridge"),
        (
            "SMS_CALLBACK_SECRET",
            "whsec_AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD",
        ),
        ("SMS_JWT_KEY", "f1rst-secret-of-at-least-32-bytes"),
        ("OPERATOR_KEY", "operator"),
    ];
    let environment = environment.into_iter().chain(set);
    let environment = environment
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    let config = parse("bridge.example.toml", &uncommented, &environment).unwrap();
    assert!(config.channels[0].callback.is_some());
    assert!(config.channels[0].limits.requests_per_second.is_some());
}

#[test]
fn the_manual_and_the_example_name_every_key() {
    let manual = include_str!("../../docs/configuration.md");
    for line in FULL.lines() {
        let Some((key, _)) = line.split_once(" = ") else {
            continue;
        };
        assert!(manual.contains(&format!("`{key}`")), "{key} in the manual");
        assert!(
            manual.contains(&format!("{}`", key.to_uppercase())),
            "the variable of {key} in the manual"
        );
        assert!(
            example().contains(&format!("{key} = ")),
            "{key} in the example"
        );
    }
}

proptest! {
    #[test]
    fn no_error_shows_a_value(
        secret in "[A-Za-z0-9+/=%&@:?#-]{0,40}",
        line in 0..FULL.lines().count(),
        shape in 0..6_usize,
    ) {
        let secret = format!("s3cr3t-{secret}");
        let shapes = [
            format!("\"{secret}\""),
            format!("[\"{secret}\"]"),
            format!("{{ key = \"{secret}\" }}"),
            format!("\"${{{secret}\""),
            secret.clone(),
            format!("\"{secret}"),
        ];
        let lines: Vec<String> = FULL
            .lines()
            .enumerate()
            .map(|(index, text)| match text.split_once(" = ") {
                Some((key, _)) if index == line => format!("{key} = {}", shapes[shape]),
                _ => text.to_owned(),
            })
            .collect();

        if let Err(error) = read(&lines.join("\n")) {
            prop_assert!(!error.to_string().contains("s3cr3t"), "{error}");
            let debug = format!("{error:?}");
            prop_assert!(!debug.contains("s3cr3t"), "{debug}");
        }
    }

    #[test]
    fn no_error_shows_the_value_of_a_variable(
        secret in any::<String>(),
        variable in prop::sample::select(vec![
            "BRIDGE_LISTEN", "BRIDGE_DATABASE", "DATABASE_URL", "BRIDGE_ENCRYPTION__KEYS", "BRIDGE_ENCRYPTION__KEYS__0",
            "BRIDGE_ACCOUNTS", "BRIDGE_ACCOUNTS__0__DOMAIN_API", "BRIDGE_CHANNELS__0__API_KEYS",
            "BRIDGE_CHANNELS__0__CALLBACK_SECRET", "BRIDGE_CHANNELS__0__LIMITS__REQUESTS_PER_SECOND", "BRIDGE_UNKNOWN",
        ]),
        brackets in any::<bool>(),
    ) {
        // No form accepts this letter, so every value is refused.
        let secret = format!("s3cr3t é{secret}");
        let value = if brackets { format!("[{secret:?}, {{ {secret:?} = 1 }}]") } else { secret };

        let error = read_with(FULL, [(variable, value.as_str())]).map(drop).unwrap_err();

        prop_assert!(!error.to_string().contains("s3cr3t"), "{error}");
        let debug = format!("{error:?}");
        prop_assert!(!debug.contains("s3cr3t"), "{debug}");
    }

    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in any::<String>(), name in "[A-Z0-9_]{0,20}", value in any::<String>()) {
        let environment = [(format!("BRIDGE_{name}"), value)].into();
        prop_assert!(parse("bridge.toml", &text, &environment).is_err());
    }
}
