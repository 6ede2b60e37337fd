//! The configuration of the service in tests.

use liveperson_bridge::store::Location;
use secrecy::ExposeSecret as _;

use super::cloud::{ACCOUNT, CLIENT_ID, CLIENT_SECRET};

/// The key of the channel `sms`.
pub(crate) const SMS_KEY: &str = "key-of-sms";
/// The key of the channel `app`, which has users of its own.
pub(crate) const APP_KEY: &str = "key-of-app";
/// The key of the channel `whatsapp`, which shares the users of `sms`.
pub(crate) const WHATSAPP_KEY: &str = "key-of-whatsapp";
/// The key of the channel `web`, which has defaults.
pub(crate) const WEB_KEY: &str = "key-of-web";

/// Base64 of 32 bytes.
pub(crate) const SEALING_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// Returns a `bridge.toml` for this database and this Cloud, listening on free ports.
pub(crate) fn bridge_toml(location: &Location, cloud_url: &str) -> String {
    let database = match location {
        Location::Postgres {
            url,
            schema,
            max_connections,
        } => {
            let schema = schema.as_ref();
            let schema = schema.map(|schema| format!("schema = \"{schema}\"\n"));
            format!(
                "url = \"{}\"\n{}max_connections = {max_connections}",
                url.expose_secret(),
                schema.unwrap_or_default()
            )
        }
        Location::Embedded { data_dir } => format!("data_dir = \"{}\"", data_dir.display()),
    };
    format!(
        r#"
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"

[database]
{database}

[encryption]
keys = ["{SEALING_KEY}"]

[[accounts]]
account_id = "{ACCOUNT}"
client_id = "{CLIENT_ID}"
client_secret = "{CLIENT_SECRET}"
domain_api = "{cloud_url}"

[[channels]]
id = "sms"
account_id = "{ACCOUNT}"
api_keys = ["{SMS_KEY}"]

[[channels]]
id = "app"
account_id = "{ACCOUNT}"
api_keys = ["{APP_KEY}"]

[[channels]]
id = "whatsapp"
namespace = "sms"
account_id = "{ACCOUNT}"
api_keys = ["{WHATSAPP_KEY}"]

[[channels]]
id = "web"
account_id = "{ACCOUNT}"
api_keys = ["{WEB_KEY}"]
[channels.defaults]
skill_id = "2736637412"
language = "en-US"
urgency = "urgent"
features = ["AUTO_MESSAGES"]
"#
    )
}

/// Adds a callback URL for the events of `sms`, signed with these secrets (a TOML value).
pub(crate) fn with_callback(toml: &str, url: &str, secrets: &str) -> String {
    let channel = "id = \"sms\"\n";
    let callback = format!("{channel}callback_url = \"{url}\"\ncallback_secret = {secrets}\n");
    let toml = toml.replacen(channel, &callback, 1);
    format!("allow_private_callbacks = [\"127.0.0.0/8\"]\n{toml}")
}
