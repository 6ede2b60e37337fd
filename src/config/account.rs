//! Accounts of the Conversational Cloud.

use secrecy::SecretString;
use url::Url;

use super::form;
use super::section::{AlreadyReported, Section};
use crate::types::file::ImageType;
use crate::types::ids::AccountId;

/// 3,000,000 bytes: the smaller meaning of the vendor's "3 MB", so that the Cloud accepts such a
/// file in any case.
const MAX_FILE_BYTES: &str = "3000000";

/// 5000 characters. Source: vendor's how-to for connectors, the only page with a number.
const MAX_REQUEST_CHARS: &str = "5000";

/// An account ("brand") of the Conversational Cloud, with the app installation that the bridge uses
/// there.
#[derive(Debug, Clone)]
pub struct Account {
    /// The account's id. No other account has the same.
    pub account_id: AccountId,
    /// The client id of the app installation.
    pub client_id: String,
    /// The client secret of the app installation. It obtains tokens and verifies the signatures of
    /// the Cloud's webhooks.
    pub client_secret: SecretString,
    /// The URL at which the hosts of the account's services are looked up:
    /// `https://api.liveperson.net` if left out.
    pub domain_api: Url,
    /// Hosts for which a `domain_api` with https may return http URLs: empty if left out.
    pub allow_http_hosts: Vec<String>,
    /// The maximum number of characters in the JSON of a text request to the Cloud, 1000 to
    /// 100,000: 5000 if left out.
    pub max_request_chars: usize,
    /// The maximum number of bytes in a user's file, 1 to 10,000,000: 3,000,000 if left out.
    pub max_file_bytes: usize,
    /// The types of files that users may send: all known types if left out.
    pub file_types: Vec<ImageType>,
}

impl Account {
    pub(super) fn read(
        section: &mut Section<'_>,
        earlier: &[Self],
    ) -> Result<Self, AlreadyReported> {
        let account_id = section.required("account_id", &form::id());
        let client_id = section.required("client_id", &form::CLIENT_ID);
        let client_secret = section.required("client_secret", &form::CLIENT_SECRET);
        let domain_api =
            section.or_default("domain_api", &form::BASE_URL, "https://api.liveperson.net");
        let http_hosts = section.list("allow_http_hosts", &form::HOST);
        let max_request_chars =
            section.or_default("max_request_chars", &form::REQUEST_CHARS, MAX_REQUEST_CHARS);
        let max_file_bytes =
            section.or_default("max_file_bytes", &form::FILE_BYTES, MAX_FILE_BYTES);
        let file_types = section.list("file_types", &form::FILE_TYPE);

        let account_id = account_id?;
        if earlier.iter().any(|other| other.account_id == account_id) {
            return Err(section.refuse("account_id", "an id that no other account has"));
        }
        Ok(Self {
            account_id,
            client_id: client_id?,
            client_secret: client_secret?,
            domain_api: domain_api?,
            allow_http_hosts: http_hosts?.unwrap_or_default(),
            max_request_chars: max_request_chars?,
            max_file_bytes: max_file_bytes?,
            file_types: file_types?.unwrap_or_else(|| ImageType::ALL.to_vec()),
        })
    }
}
