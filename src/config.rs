//! The configuration: typed, validated as a whole, and read once at the start.
//!
//! It comes from a TOML file and from environment variables, which take precedence. All mistakes
//! are reported in one [`Error`]. The error names the file or variable, the key and the expected
//! value. It never quotes a value, since any value may be a secret. No other code has to check a
//! configured value again. `{:?}` of a [`Config`] shows no secret.

mod account;
mod channel;
mod form;
mod placeholder;
mod problem;
mod section;
mod source;
mod tree;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use chrono::TimeDelta;
use ipnet::IpNet;
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use url::Url;

use crate::crypto::{ApiKeyHash, Keyring};
use crate::types::ids::SchemaName;
use section::{AlreadyReported, Section};

pub use account::Account;
pub use channel::{Callback, Channel, Limits};
pub use problem::{Error, Problem};

/// Environment variables by name.
pub type Environment = BTreeMap<String, String>;

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address of the API and of the Cloud's webhooks: `0.0.0.0:8080` if left out.
    pub listen: SocketAddr,
    /// The address of probes, metrics and the operator's page, for internal use only:
    /// `127.0.0.1:9090` if left out.
    pub admin_listen: SocketAddr,
    /// Host names by which the admin address may be called, besides IP addresses and `localhost`:
    /// empty if left out.
    pub admin_hosts: Vec<String>,
    /// The keys of operators who may act on the operator's page. No channel has one of them. If
    /// left out, no operator may act.
    pub operator_keys: Vec<ApiKeyHash>,
    /// The maximum number of connections of one remote address that have not sent a complete
    /// request head yet: 1024 if left out, 0 for no limit.
    pub pending_connections_per_address: usize,
    /// The URL of this service as channels see it, for links to files: `http://` followed by
    /// `listen` if left out.
    pub public_url: Url,
    /// Private, loopback and link-local networks to which callbacks may nevertheless be sent: empty
    /// if left out.
    pub allow_private_callbacks: Vec<IpNet>,
    /// The time for which events are stored: 7 days if left out.
    pub retention: TimeDelta,
    /// The database.
    pub database: Database,
    /// The encryption of secrets in the database.
    pub encryption: Encryption,
    /// The accounts of the Cloud, at least one.
    pub accounts: Vec<Account>,
    /// The channels, at least one.
    pub channels: Vec<Channel>,
}

/// The settings of the database.
#[derive(Debug, Clone)]
pub struct Database {
    /// The URL of a PostgreSQL database; `None` for an embedded database in `data_dir`.
    pub url: Option<SecretString>,
    /// The PostgreSQL schema of this bridge; `None` for the search path of the role.
    pub schema: Option<SchemaName>,
    /// The directory of the embedded database: `data` if left out.
    pub data_dir: PathBuf,
    /// The maximum number of connections in the pool, 1 to 1000: 16 if left out.
    pub max_connections: u32,
}

/// The encryption of secrets in the database.
#[derive(Debug, Clone)]
pub struct Encryption {
    /// The keys. There is at least one, and all are different. The first key encrypts, all keys
    /// decrypt.
    pub keys: Keyring,
}

/// Reads the configuration from a file and from the environment, which takes precedence.
///
/// `option` (the command line's `--config`) names the file, or else `BRIDGE_CONFIG`. Without both,
/// the file is `bridge.toml`, if it exists.
///
/// # Errors
///
/// Returns all problems, not only the first one.
pub fn load(option: Option<&Path>, environment: &Environment) -> Result<Config, Error> {
    let (file, text) =
        source::read_file(option, environment).map_err(|problem| Error::new(vec![problem]))?;
    let text = Zeroizing::new(text);
    parse(&file, &text, environment)
}

/// Reads the configuration from the text of a file with this name and from the environment, which
/// takes precedence.
///
/// # Errors
///
/// Returns all problems, not only the first one.
pub fn parse(file: &str, text: &str, environment: &Environment) -> Result<Config, Error> {
    let mut problems = vec![];
    let tree = source::read_tree(file, text, environment, &mut problems)
        .map_err(|problem| Error::new(vec![problem]))?;
    match Section::read_root(file, environment, &tree, &mut problems, Config::read) {
        Ok(config) if problems.is_empty() => Ok(config),
        _ => Err(Error::new(problems)),
    }
}

/// Returns the environment of this process. A variable that is not UTF-8 counts as unset.
#[must_use]
pub fn environment() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Returns an example of a file that shows every key, with comments.
#[must_use]
pub fn example() -> &'static str {
    include_str!("../bridge.example.toml")
}

impl Config {
    fn read(section: &mut Section<'_>) -> Result<Self, AlreadyReported> {
        let listen = section.or_default("listen", &form::SOCKET_ADDRESS, "0.0.0.0:8080");
        let admin_listen = read_admin_listen(section, listen);
        let admin_hosts = section.list("admin_hosts", &form::HOST);
        let operator_keys = section.list("operator_keys", &form::API_KEY);
        let pending = section.or_default(
            "pending_connections_per_address",
            &form::PENDING_CONNECTIONS,
            "1024",
        );
        let default_url = match &listen {
            Ok(address) => format!("http://{address}"),
            Err(_) => "http://localhost".to_owned(),
        };
        let public_url = section.or_default("public_url", &form::BASE_URL, &default_url);
        let networks = section.list("allow_private_callbacks", &form::NETWORK);
        let retention = section.or_default("retention", &form::RETENTION, "7d");
        let database = section.section("database", Database::read);
        let encryption = section.section("encryption", Encryption::read);
        let accounts = read_accounts(section);
        let max_age_limit = retention.as_ref().ok().copied();
        let channels = read_channels(section, accounts.as_deref().ok(), max_age_limit);
        let operator_keys = match (operator_keys, &channels) {
            (Ok(Some(keys)), Ok(channels)) => reject_channel_keys(section, keys, channels),
            (keys, _) => keys.map(Option::unwrap_or_default),
        };

        Ok(Self {
            listen: listen?,
            admin_listen: admin_listen?,
            admin_hosts: admin_hosts?.unwrap_or_default(),
            operator_keys: operator_keys?,
            pending_connections_per_address: pending?,
            public_url: public_url?,
            allow_private_callbacks: networks?.unwrap_or_default(),
            retention: retention?,
            database: database?,
            encryption: encryption?,
            accounts: accounts?,
            channels: channels?,
        })
    }
}

impl Database {
    fn read(section: &mut Section<'_>) -> Result<Self, AlreadyReported> {
        let url = section.optional("url", &form::DATABASE_URL);
        let schema = section.optional("schema", &form::SCHEMA);
        let data_dir = section.or_default("data_dir", &form::DIRECTORY, "data");
        let max_connections = section.or_default("max_connections", &form::CONNECTIONS, "16");
        let (url, schema) = (url?, schema?);
        if schema.is_some() && url.is_none() {
            return Err(section.refuse(
                "schema",
                "a url as well, since the embedded database has no schemas",
            ));
        }
        Ok(Self {
            url,
            schema,
            data_dir: data_dir?,
            max_connections: max_connections?,
        })
    }
}

impl Encryption {
    fn read(section: &mut Section<'_>) -> Result<Self, AlreadyReported> {
        let keys = section.list("keys", &form::ENCRYPTION_KEY)?;
        let mut keys = keys.unwrap_or_default().into_iter();
        let first = keys.next().ok_or_else(|| {
            section.refuse("keys", "at least one key: the base64 of exactly 32 bytes")
        })?;
        let mut others = Vec::with_capacity(keys.len());
        for key in keys {
            if key == first || others.contains(&key) {
                return Err(section.refuse("keys", "keys that are all different"));
            }
            others.push(key);
        }
        Ok(Self {
            keys: Keyring::new(first, others),
        })
    }
}

fn read_admin_listen(
    section: &mut Section<'_>,
    listen: Result<SocketAddr, AlreadyReported>,
) -> Result<SocketAddr, AlreadyReported> {
    let address = section.or_default("admin_listen", &form::SOCKET_ADDRESS, "127.0.0.1:9090")?;
    // Port 0 requests a free port, so the two addresses will differ.
    if address.port() != 0 && listen.is_ok_and(|listen| listen == address) {
        return Err(section.refuse("admin_listen", "an address other than that of listen"));
    }
    Ok(address)
}

/// Returns the keys of operators, unless a channel has one of them.
fn reject_channel_keys(
    section: &mut Section<'_>,
    keys: Vec<ApiKeyHash>,
    channels: &[Channel],
) -> Result<Vec<ApiKeyHash>, AlreadyReported> {
    let mut api_keys = channels.iter().flat_map(|channel| &channel.api_keys);
    if api_keys.any(|api_key| keys.iter().any(|key| key.matches(api_key))) {
        return Err(section.refuse("operator_keys", "keys that no channel uses"));
    }
    Ok(keys)
}

fn read_accounts(section: &mut Section<'_>) -> Result<Vec<Account>, AlreadyReported> {
    let accounts = section.sections("accounts", Account::read)?;
    if accounts.is_empty() {
        return Err(section.refuse("accounts", "at least one account: [[accounts]], or variables such as BRIDGE_ACCOUNTS__0__ACCOUNT_ID"));
    }
    Ok(accounts)
}

fn read_channels(
    section: &mut Section<'_>,
    accounts: Option<&[Account]>,
    retention: Option<TimeDelta>,
) -> Result<Vec<Channel>, AlreadyReported> {
    let channels = section.sections("channels", |section, earlier| {
        Channel::read(section, earlier, accounts, retention)
    })?;
    if channels.is_empty() {
        return Err(section.refuse(
            "channels",
            "at least one channel: [[channels]], or variables such as BRIDGE_CHANNELS__0__ID",
        ));
    }
    Ok(channels)
}

#[cfg(test)]
mod tests;
