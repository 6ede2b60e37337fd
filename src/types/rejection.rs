//! Notifications of the Cloud that were rejected, and the reasons.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};

use super::ids::{AccountId, Invalid};

/// 4 days: the age from which a notification is rejected. The Cloud repeats a notification for 3
/// days at most.
///
/// Repeats are recognized for longer than that, so that no notification is processed twice, however
/// late it arrives. Source: vendor's Webhooks documentation, "Retry policy".
pub const OLDEST_NOTIFICATION: TimeDelta = TimeDelta::days(4);

/// The reason why a notification was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rejection {
    /// The path names an account that is not configured.
    UnknownAccount,
    /// The header `x-liveperson-account-id` is missing or names another account.
    AccountHeader,
    /// The header `x-liveperson-client-id` is missing or names another app installation.
    ClientId,
    /// The header `x-liveperson-signature` is missing.
    SignatureMissing,
    /// The header `x-liveperson-signature` contains no signature.
    SignatureMalformed,
    /// The signature is not that of this body with the configured secret.
    SignatureWrong,
    /// The body exceeds the size limit, so its signature cannot be checked.
    TooLarge,
    /// The body did not arrive completely or in time, so its signature cannot be checked.
    Incomplete,
    /// The body is signed, but is not JSON.
    NotJson,
    /// The body is signed, but contains no list of changes.
    NoChanges,
    /// The body is signed, but contains changes of an unknown type or shape.
    NotUnderstood,
    /// The body is signed, but is older than [`OLDEST_NOTIFICATION`]; for a typing state, older
    /// than 5 minutes.
    TooOld,
}

impl Rejection {
    /// All reasons.
    pub const ALL: [Self; 12] = [
        Self::UnknownAccount,
        Self::AccountHeader,
        Self::ClientId,
        Self::SignatureMissing,
        Self::SignatureMalformed,
        Self::SignatureWrong,
        Self::TooLarge,
        Self::Incomplete,
        Self::NotJson,
        Self::NoChanges,
        Self::NotUnderstood,
        Self::TooOld,
    ];

    /// Returns the name of the reason in metrics, in the database and for operators' programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownAccount => "unknown_account",
            Self::AccountHeader => "account_header",
            Self::ClientId => "client_id",
            Self::SignatureMissing => "signature_missing",
            Self::SignatureMalformed => "signature_malformed",
            Self::SignatureWrong => "signature_wrong",
            Self::TooLarge => "too_large",
            Self::Incomplete => "incomplete",
            Self::NotJson => "not_json",
            Self::NoChanges => "no_changes",
            Self::NotUnderstood => "not_understood",
            Self::TooOld => "too_old",
        }
    }

    /// True if the notification was answered with a 4xx. For the other reasons the signature is
    /// right, and the answer was 200.
    #[must_use]
    pub const fn is_refusal(self) -> bool {
        match self {
            Self::UnknownAccount
            | Self::AccountHeader
            | Self::ClientId
            | Self::SignatureMissing
            | Self::SignatureMalformed
            | Self::SignatureWrong
            | Self::TooLarge
            | Self::Incomplete => true,
            Self::NotJson | Self::NoChanges | Self::NotUnderstood | Self::TooOld => false,
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownAccount => "the account in the path is not configured",
            Self::AccountHeader => {
                "x-liveperson-account-id is missing or is not the account in the path"
            }
            Self::ClientId => "x-liveperson-client-id is missing or is not the account's client_id",
            Self::SignatureMissing => "x-liveperson-signature is missing",
            Self::SignatureMalformed => "x-liveperson-signature is malformed",
            Self::SignatureWrong => {
                "the signature is wrong: another client_secret, or a body that was changed in transit"
            }
            Self::TooLarge => "the body is too large",
            Self::Incomplete => "the body did not arrive in full within 5 seconds",
            Self::NotJson => "the body is not JSON",
            Self::NoChanges => "the body contains no changes",
            Self::NotUnderstood => "changes of an unknown type or shape",
            Self::TooOld => "changes older than 4 days, or typing indicators older than 5 minutes",
        })
    }
}

impl FromStr for Rejection {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut all = Self::ALL.into_iter();
        all.find(|reason| reason.as_str() == text).ok_or(Invalid {
            expected: "the reason of a rejection",
        })
    }
}

/// The notifications of an account that were rejected for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The configured account; `None` for all accounts that are not configured.
    pub account_id: Option<AccountId>,
    /// The reason.
    pub reason: Rejection,
    /// The number of notifications since `first_at`.
    pub count: u64,
    /// The time of the first one.
    pub first_at: DateTime<Utc>,
    /// The time of the last one.
    pub last_at: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_read_back_as_it_was_written() {
        for reason in Rejection::ALL {
            assert_eq!(reason.as_str().parse(), Ok(reason));
        }
        assert!("".parse::<Rejection>().is_err());
    }
}
