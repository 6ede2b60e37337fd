//! The configuration: typed, checked as a whole, and read once at the start.
//!
//! It comes from a TOML file and from environment variables, which win. Whatever is wrong with it is an [`Error`] that
//! names each file or variable, the key and what was expected, and never quotes a value, since any may be a secret.
//! Nothing behind this module has to check a configured value again; `{:?}` of a [`Config`] shows no secret.

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
use section::{Reported, Section};

pub use account::Account;
pub use channel::{Callback, Channel, Limits};
pub use problem::{Error, Problem};

/// Environment variables by name.
pub type Environment = BTreeMap<String, String>;

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the facade and the Cloud's webhooks are served: `0.0.0.0:8080` if left out.
    pub listen: SocketAddr,
    /// Where probes, metrics and the operator's page are served, for no one outside: `127.0.0.1:9090` if left out.
    pub admin_listen: SocketAddr,
    /// Host names by which the admin address may be called, beside IP addresses and `localhost`: none if left out.
    pub admin_hosts: Vec<String>,
    /// The keys of those who may act on the operator's page, none of a channel's: nobody may if left out.
    pub operator_keys: Vec<ApiKeyHash>,
    /// Connections of one remote address on which no whole head of a request has arrived yet: 1024 if left out, 0 for any number.
    pub pending_connections_per_address: usize,
    /// The service's own address as channels see it, for links to files: `http://` and `listen` if left out.
    pub public_url: Url,
    /// Private, loopback and link-local networks in which callbacks may be sent nevertheless: none if left out.
    pub allow_private_callbacks: Vec<IpNet>,
    /// How long events are kept: 7 days if left out.
    pub retention: TimeDelta,
    /// Where the state is kept.
    pub database: Database,
    /// How secrets are kept in the database.
    pub encryption: Encryption,
    /// The accounts of the Cloud, at least one.
    pub accounts: Vec<Account>,
    /// The channels, at least one.
    pub channels: Vec<Channel>,
}

/// Where the state is kept.
#[derive(Debug, Clone)]
pub struct Database {
    /// The URL of a PostgreSQL database; left out: an embedded database under `data_dir`.
    pub url: Option<SecretString>,
    /// The PostgreSQL schema of this bridge: what the role's own search path says if left out.
    pub schema: Option<SchemaName>,
    /// The directory of the embedded database: `data` if left out.
    pub data_dir: PathBuf,
    /// How many connections the pool may hold, 1 to 1000: 16 if left out.
    pub max_connections: u32,
}

/// How secrets are kept in the database.
#[derive(Debug, Clone)]
pub struct Encryption {
    /// The keys, at least one, no two alike: the first encrypts, all decrypt.
    pub keys: Keyring,
}

/// Reads the configuration from the file that `option` (the command line's `--config`) names, else from the one that
/// `BRIDGE_CONFIG` names, else from `bridge.toml` if there is one; and from the environment, which wins.
///
/// # Errors
///
/// Names every problem that was found, not the first one alone.
pub fn load(option: Option<&Path>, environment: &Environment) -> Result<Config, Error> {
    let (file, text) =
        source::read_file(option, environment).map_err(|problem| Error::new(vec![problem]))?;
    let text = Zeroizing::new(text);
    parse(&file, &text, environment)
}

/// Reads the configuration from the text of a file of this name, and from the environment, which wins.
///
/// # Errors
///
/// Names every problem that was found, not the first one alone.
pub fn parse(file: &str, text: &str, environment: &Environment) -> Result<Config, Error> {
    let mut problems = vec![];
    let tree = source::read_tree(file, text, environment, &mut problems)
        .map_err(|problem| Error::new(vec![problem]))?;
    match Section::read_root(file, environment, &tree, &mut problems, Config::read) {
        Ok(config) if problems.is_empty() => Ok(config),
        _ => Err(Error::new(problems)),
    }
}

/// The environment of this process. A variable that is not UTF-8 counts as unset.
#[must_use]
pub fn environment() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// A file that shows every key, with comments.
#[must_use]
pub fn example() -> &'static str {
    include_str!("../bridge.example.toml")
}

impl Config {
    fn read(section: &mut Section<'_>) -> Result<Self, Reported> {
        let listen = section.or_default("listen", &form::SOCKET_ADDRESS, "0.0.0.0:8080");
        let admin_listen = read_admin_listen(section, listen);
        let admin_hosts = section.list("admin_hosts", &form::HOST);
        let operator_keys = section.list("operator_keys", &form::API_KEY);
        let pending = section.or_default(
            "pending_connections_per_address",
            &form::PENDING_CONNECTIONS,
            "1024",
        );
        let own_url = match &listen {
            Ok(address) => format!("http://{address}"),
            Err(_) => "http://localhost".to_owned(),
        };
        let public_url = section.or_default("public_url", &form::BASE_URL, &own_url);
        let networks = section.list("allow_private_callbacks", &form::NETWORK);
        let retention = section.or_default("retention", &form::RETENTION, "7d");
        let database = section.section("database", Database::read);
        let encryption = section.section("encryption", Encryption::read);
        let accounts = read_accounts(section);
        let kept = retention.as_ref().ok().copied();
        let channels = read_channels(section, accounts.as_deref().ok(), kept);
        let operator_keys = match (operator_keys, &channels) {
            (Ok(Some(keys)), Ok(channels)) => of_no_channel(section, keys, channels),
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
    fn read(section: &mut Section<'_>) -> Result<Self, Reported> {
        let url = section.optional("url", &form::DATABASE_URL);
        let schema = section.optional("schema", &form::SCHEMA);
        let data_dir = section.or_default("data_dir", &form::DIRECTORY, "data");
        let max_connections = section.or_default("max_connections", &form::CONNECTIONS, "16");
        let (url, schema) = (url?, schema?);
        if schema.is_some() && url.is_none() {
            return Err(section.refuse(
                "schema",
                "a url beside it: the embedded database has no schemas",
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
    fn read(section: &mut Section<'_>) -> Result<Self, Reported> {
        let keys = section.list("keys", &form::ENCRYPTION_KEY)?;
        let mut keys = keys.unwrap_or_default().into_iter();
        let first = keys.next().ok_or_else(|| {
            section.refuse("keys", "at least one key: the base64 of exactly 32 bytes")
        })?;
        let mut others = Vec::with_capacity(keys.len());
        for key in keys {
            if key == first || others.contains(&key) {
                return Err(section.refuse("keys", "keys of which no two are alike"));
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
    listen: Result<SocketAddr, Reported>,
) -> Result<SocketAddr, Reported> {
    let address = section.or_default("admin_listen", &form::SOCKET_ADDRESS, "127.0.0.1:9090")?;
    // Port 0 asks for a free port, so the two will differ.
    if address.port() != 0 && listen.is_ok_and(|listen| listen == address) {
        return Err(section.refuse("admin_listen", "another address than that of listen"));
    }
    Ok(address)
}

/// The keys of operators, unless a channel could act with one of them.
fn of_no_channel(
    section: &mut Section<'_>,
    keys: Vec<ApiKeyHash>,
    channels: &[Channel],
) -> Result<Vec<ApiKeyHash>, Reported> {
    let mut known = channels.iter().flat_map(|channel| &channel.api_keys);
    if known.any(|known| keys.iter().any(|key| key.matches(known))) {
        return Err(section.refuse("operator_keys", "keys that no channel has"));
    }
    Ok(keys)
}

fn read_accounts(section: &mut Section<'_>) -> Result<Vec<Account>, Reported> {
    let accounts = section.sections("accounts", Account::read)?;
    if accounts.is_empty() {
        return Err(section.refuse("accounts", "at least one account: [[accounts]], or variables from BRIDGE_ACCOUNTS__0__ACCOUNT_ID on"));
    }
    Ok(accounts)
}

fn read_channels(
    section: &mut Section<'_>,
    accounts: Option<&[Account]>,
    retention: Option<TimeDelta>,
) -> Result<Vec<Channel>, Reported> {
    let channels = section.sections("channels", |section, others| {
        Channel::read(section, others, accounts, retention)
    })?;
    if channels.is_empty() {
        return Err(section.refuse(
            "channels",
            "at least one channel: [[channels]], or variables from BRIDGE_CHANNELS__0__ID on",
        ));
    }
    Ok(channels)
}

#[cfg(test)]
mod tests;
