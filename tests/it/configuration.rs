//! The errors for an invalid configuration. They name the source, the key and the expected value,
//! and show no secret.

use std::path::Path;

use liveperson_bridge::store::Location;
use tokio::process::Command;

use crate::support::configuration::bridge_toml;
use crate::support::process::{Ended, Process, command, configured, run, run_configured};

/// A configuration with an embedded database and a secret of every kind.
const SOUND: &str = r#"
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
[database]
data_dir = "data"
[encryption]
keys = ["AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="]
[[accounts]]
account_id = "12345678"
client_id = "75588e18"
client_secret = "cl1entsecret"
domain_api = "http://127.0.0.1:1"
[[channels]]
id = "sms"
account_id = "12345678"
api_keys = ["ap1key"]
callback_url = "https://user:callbackpa55@sms.example.com"
callback_secret = "whsec_AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD"
"#;

/// Parts of the secrets, in the configuration above and in the cases below.
const SECRETS: [&str; 6] = [
    "AQEBAQ",
    "cl1entsecret",
    "ap1key",
    "AwMDAw",
    "pa55",
    "s3cret",
];

#[track_caller]
fn assert_refused(ended: &Ended, complaint: &str) {
    assert_eq!(ended.code, 2, "{}", ended.errors);
    assert!(
        ended.errors.contains(&format!("error: {complaint}\n")),
        "{complaint} in {}",
        ended.errors
    );
    for secret in SECRETS {
        assert!(
            !ended.errors.contains(secret),
            "{secret} in {}",
            ended.errors
        );
    }
    assert_eq!(ended.output, "");
}

#[tokio::test]
async fn a_configuration_error_names_file_key_and_expected_value() {
    for (part, by, complaint) in [
        (
            "\"127.0.0.1:0\"\nadmin",
            "\"s3cret\"\nadmin",
            "listen: expected an IP address and a port such as 0.0.0.0:8080",
        ),
        (
            "data_dir = \"data\"",
            "url = \"mysql://b:s3cret@db\"",
            "database.url: expected a postgres:// or postgresql:// URL, with the password percent-encoded: @ as %40, / as %2F, # as %23, : as %3A",
        ),
        (
            "data_dir = \"data\"",
            "max_connections = 0",
            "database.max_connections: expected a whole number from 1 to 1000",
        ),
        (
            "AQE=\"",
            "s3cret\"",
            "encryption.keys[0]: expected the base64 of exactly 32 bytes",
        ),
        (
            "client_secret = \"cl1entsecret\"",
            "client_secret = 5",
            "accounts[0].client_secret: expected a client secret, not a number without quotes",
        ),
        (
            "domain_api =",
            "domain_apl =",
            "accounts[0].domain_apl: unknown key, expected one of account_id, client_id, client_secret, domain_api, allow_http_hosts, max_request_chars, max_file_bytes, file_types",
        ),
        (
            "cl1entsecret",
            "${UNSET}",
            "accounts[0].client_secret: expected the environment variable UNSET to be set",
        ),
        (
            "http://127.0.0.1:1",
            "127.0.0.1:1",
            "accounts[0].domain_api: expected a percent-encoded http or https URL without user, query and fragment",
        ),
        (
            "\"sms\"",
            "\"s m s\"",
            "channels[0].id: expected 1 to 64 letters, digits, '.', '-' or '_', and neither '.' nor '..'",
        ),
        (
            "ap1key",
            "s3cret key",
            "channels[0].api_keys[0]: expected an API key of visible ASCII characters, or sha256: and 64 hex digits, without white space before or within it",
        ),
        (
            "whsec_",
            "s3cret_",
            "channels[0].callback_secret: expected whsec_ and the base64 of 24 to 64 bytes",
        ),
        (
            "id = \"sms\"\n",
            "id = \"sms\"\nid = \"s3cret\"\n",
            "line 15, column 1: not TOML: this key is set twice",
        ),
    ] {
        assert!(SOUND.contains(part), "{part}");

        let ended = run_configured("serve", &SOUND.replacen(part, by, 1)).await;

        assert_refused(&ended, &format!("bridge.toml: {complaint}"));
    }
}

#[tokio::test]
async fn a_wrong_value_in_a_variable_is_reported_with_its_name() {
    for (variable, value, complaint) in [
        (
            "DATABASE_URL",
            "mysql://b:s3cret@db",
            "DATABASE_URL: database.url: expected a postgres:// or postgresql:// URL, with the password percent-encoded: @ as %40, / as %2F, # as %23, : as %3A",
        ),
        (
            "BRIDGE_DATABASE__MAX_CONNECTIONS",
            "s3cret",
            "BRIDGE_DATABASE__MAX_CONNECTIONS: database.max_connections: expected a whole number from 1 to 1000",
        ),
        (
            "BRIDGE_CHANNELS__0__API_KEYS",
            "s3cret key",
            "BRIDGE_CHANNELS__0__API_KEYS: channels[0].api_keys[0]: expected an API key of visible ASCII characters, or sha256: and 64 hex digits, without white space before or within it",
        ),
        (
            "BRIDGE_ACCOUNTS__7__CLIENT_SECRET",
            "s3cret",
            "BRIDGE_ACCOUNTS__7__CLIENT_SECRET: accounts: expected an index from 0 to 1 after its name",
        ),
        (
            "BRIDGE_LISTNE",
            "s3cret",
            "BRIDGE_LISTNE: listne: unknown key, expected one of listen, admin_listen, admin_hosts, operator_keys, pending_connections_per_address, public_url, allow_private_callbacks, retention, database, encryption, accounts, channels",
        ),
    ] {
        let (_folder, mut command) = configured("serve", SOUND);
        command.env(variable, value);

        assert_refused(&run(command).await, complaint);
    }
}

#[tokio::test]
async fn a_secret_containing_white_space_is_refused_and_not_shown() {
    for (part, key, value) in [
        (
            "cl1entsecret",
            "accounts[0].client_secret",
            "a client secret",
        ),
        (
            "whsec_AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD",
            "channels[0].callback_secret",
            "whsec_ and the base64 of 24 to 64 bytes",
        ),
    ] {
        let (_folder, mut command) = configured("serve", &SOUND.replace(part, "${SECRET}"));
        // Two secrets on two lines, each of them valid alone.
        command.env("SECRET", format!("{part}\n{part}\n"));

        let ended = run(command).await;

        let expected = format!("{key}: expected {value}, without white space before or within it");
        assert_refused(&ended, &format!("bridge.toml: {expected}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trailing_line_break_of_a_secret_is_ignored() {
    let text = SOUND.replace("cl1entsecret", "${SECRET}");
    let (_folder, mut command) = configured("serve", &text.replace("ap1key", "${KEY}"));
    command
        .env("SECRET", "cl1entsecret\n")
        .env("KEY", "ap1key\r\n");

    let line = serving(command).await;

    assert!(line.contains("accounts=1 channels=1"), "{line}");
}

#[tokio::test]
async fn commands_refuse_an_incomplete_configuration() {
    for name in ["serve", "migrate"] {
        let ended = run_configured(name, "").await;

        assert_eq!(ended.code, 2);
        let lines: Vec<_> = ended.errors.trim().lines().collect();
        assert_eq!(lines.len(), 3, "{lines:#?}");
        for (line, key) in lines
            .iter()
            .zip(["encryption.keys", "accounts", "channels"])
        {
            assert!(
                line.contains(&format!(": {key}: missing, expected at least one ")),
                "{line}"
            );
        }
    }
}

#[tokio::test]
async fn wrong_usage_exits_with_code_2() {
    for arguments in [
        &["--nothing"][..],
        &["nothing"],
        &[],
        &["serve", "extra"],
        &["serve", "--listen", "127.0.0.1:0"],
        &["sandbox", "--listen", "nowhere"],
        &["sandbox", "--config", "bridge.toml"],
        &["openapi", "--config", "bridge.toml"],
        &["demo", "--listen", "nowhere"],
        &["sandbox", "--webhook-url", "http://127.0.0.1:1/"],
        &[
            "sandbox",
            "--webhook-url=ftp://127.0.0.1:1/",
            "--account-id=1",
            "--client-id=app",
            "--client-secret=secret",
        ],
        &["--config"],
    ] {
        let ended = run(command(arguments)).await;

        assert_eq!(ended.code, 2, "{arguments:?}: {}", ended.errors);
        assert!(
            ended.errors.contains("--help"),
            "{arguments:?}: {}",
            ended.errors
        );
    }
}

#[tokio::test]
async fn a_named_configuration_file_must_exist() {
    let option = run(command(&["serve", "--config", "/nowhere/bridge.toml"])).await;
    let mut by_variable = command(&["serve"]);
    by_variable.env("BRIDGE_CONFIG", "/nowhere/bridge.toml");
    let variable = run(by_variable).await;

    let expected = "/nowhere/bridge.toml: expected a readable file (entity not found)";
    assert_refused(&option, &format!("--config: {expected}"));
    assert_refused(&variable, &format!("BRIDGE_CONFIG: {expected}"));
}

/// Starts a command and returns the log line with the addresses at which it listens.
async fn serving(command: Command) -> String {
    Process::start(command).log_line(" serving ").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_config_option_overrides_the_variable_and_the_working_directory() {
    let (folder, mut command) = configured("serve", "not TOML");
    let write = |name: &str, address: &str| {
        let path = folder.path().join(name);
        std::fs::write(
            &path,
            SOUND.replace("\"127.0.0.1:0\"\nadmin", &format!("\"{address}\"\nadmin")),
        )
        .unwrap();
        path
    };
    let by_variable = write("variable.toml", "127.0.0.2:0");
    let by_option = write("option.toml", "127.0.0.3:0");
    command.env("BRIDGE_CONFIG", &by_variable);

    let line = serving(command).await;
    assert!(line.contains(" listen=127.0.0.2:"), "{line}");

    let mut command = with_option(&by_option);
    command
        .current_dir(folder.path())
        .env("BRIDGE_CONFIG", &by_variable);
    let line = serving(command).await;
    assert!(line.contains(" listen=127.0.0.3:"), "{line}");
}

fn with_option(file: &Path) -> Command {
    command(&["serve", "--config", file.to_str().unwrap()])
}

#[tokio::test(flavor = "multi_thread")]
async fn environment_variables_override_the_configuration_file() {
    let (_folder, mut command) = configured("serve", SOUND);
    command.env("BRIDGE_LISTEN", "127.0.0.4:0");

    let line = serving(command).await;

    assert!(line.contains(" listen=127.0.0.4:"), "{line}");
    assert!(line.contains("database=\"embedded\""), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn environment_variables_alone_are_a_complete_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(&["serve"]);
    command.current_dir(folder.path());
    for (variable, value) in [
        ("LISTEN", "127.0.0.1:0"),
        ("ADMIN_LISTEN", "127.0.0.1:0"),
        (
            "ENCRYPTION__KEYS",
            "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
        ),
        ("ACCOUNTS__0__ACCOUNT_ID", "12345678"),
        ("ACCOUNTS__0__CLIENT_ID", "75588e18"),
        ("ACCOUNTS__0__CLIENT_SECRET", "cl1entsecret"),
        ("CHANNELS__0__ID", "sms"),
        ("CHANNELS__0__ACCOUNT_ID", "12345678"),
        ("CHANNELS__0__API_KEYS", "ap1key"),
    ] {
        command.env(format!("BRIDGE_{variable}"), value);
    }

    let line = serving(command).await;

    assert!(line.contains("accounts=1 channels=1"), "{line}");
    assert!(folder.path().join("data/bridge.db").exists());
}

#[tokio::test]
async fn database_url_replaces_the_database_of_the_file() {
    let location = Location::Embedded {
        data_dir: "data".into(),
    };
    let (_folder, mut command) =
        configured("migrate", &bridge_toml(&location, "http://127.0.0.1:1"));
    command.env(
        "DATABASE_URL",
        "postgres://bridge:s3cret@127.0.0.1:1/bridge",
    );

    let ended = run(command).await;

    // The database fails, not the configuration.
    assert_eq!(ended.code, 1);
    assert!(
        ended.errors.contains("Connection refused"),
        "{}",
        ended.errors
    );
    assert!(!ended.errors.contains("s3cret"), "{}", ended.errors);
}
