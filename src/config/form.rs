//! The forms of values. A form has a description for error messages and converts text to a type.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use ipnet::IpNet;
use secrecy::zeroize::Zeroizing;
use secrecy::{SecretSlice, SecretString};
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer as _};
use url::{Host, Url};

use crate::crypto::{ApiKeyHash, JwtAlgorithm, Key};
use crate::types::conversation::{RouteId, Urgency};
use crate::types::event::EventType;
use crate::types::file::ImageType;
use crate::types::ids::{NAME, SCHEMA_NAME, SchemaName};
use crate::types::links;
use crate::types::message::Text;

/// The form of a value.
pub(super) struct Form<T> {
    /// The description of the form, for use after "expected".
    pub(super) expected: &'static str,
    kind: Kind,
    parse: fn(&str) -> Option<T>,
}

/// The kinds of forms. They differ in the TOML types that they accept and in the treatment of white
/// space.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A string.
    Text,
    /// A number, given as a string or an integer.
    Number,
    /// `true` or `false`, given as a string or a boolean.
    Boolean,
    /// A string in which white space can only be a mistake.
    Secret,
    /// A secret, or a key in PEM format, which has several lines.
    Pem,
}

impl<T> Form<T> {
    const fn text(expected: &'static str, parse: fn(&str) -> Option<T>) -> Self {
        Self::of(Kind::Text, expected, parse)
    }

    const fn number(expected: &'static str, parse: fn(&str) -> Option<T>) -> Self {
        Self::of(Kind::Number, expected, parse)
    }

    const fn secret(expected: &'static str, parse: fn(&str) -> Option<T>) -> Self {
        Self::of(Kind::Secret, expected, parse)
    }

    const fn pem(expected: &'static str, parse: fn(&str) -> Option<T>) -> Self {
        Self::of(Kind::Pem, expected, parse)
    }

    const fn of(kind: Kind, expected: &'static str, parse: fn(&str) -> Option<T>) -> Self {
        Self {
            expected,
            kind,
            parse,
        }
    }

    /// True if the file may hold an integer instead of a string.
    pub(super) fn is_number(&self) -> bool {
        self.kind == Kind::Number
    }

    /// True if the file may hold a boolean instead of a string.
    pub(super) fn is_boolean(&self) -> bool {
        self.kind == Kind::Boolean
    }

    /// Parses a text.
    ///
    /// Line breaks at the ends are not part of any value, and white space at the end is not part of
    /// a secret. A secret with other white space is refused. Invisible characters, such as a byte
    /// order mark, count as white space.
    ///
    /// # Errors
    ///
    /// The description of the expected text.
    pub(super) fn parse(&self, text: &str) -> Result<T, String> {
        let text = without_line_breaks(text);
        let text = match self.kind {
            Kind::Text | Kind::Number | Kind::Boolean => text,
            Kind::Secret | Kind::Pem => text.trim_end(),
        };
        let may_have_lines = self.kind == Kind::Pem && text.starts_with("-----BEGIN ");
        let is_secret = matches!(self.kind, Kind::Secret | Kind::Pem);
        if is_secret && !may_have_lines && text.contains(Text::is_blank_char) {
            let expected = self.expected;
            return Err(format!(
                "{expected}, without white space before or within it"
            ));
        }
        (self.parse)(text).ok_or_else(|| self.expected.to_owned())
    }
}

/// Removes the line breaks at the ends of a text. `echo`, editors and secrets that are mounted as
/// files add them.
pub(super) fn without_line_breaks(text: &str) -> &str {
    text.trim_matches(['\r', '\n'])
}

/// The address on which a server listens.
pub(super) const SOCKET_ADDRESS: Form<SocketAddr> = Form::text(
    "an IP address and a port such as 0.0.0.0:8080",
    parse_from_str,
);

/// The host of a URL: a name in lower case, or an IP address, an IPv6 one in brackets.
pub(super) const HOST: Form<String> = Form::text(
    "a host such as bridge.internal, without scheme and port",
    |text| match Host::parse(text).ok()? {
        Host::Domain(name) => {
            let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            name.chars().all(is_allowed).then_some(name)
        }
        address => Some(address.to_string()),
    },
);

/// A range of IP addresses.
pub(super) const NETWORK: Form<IpNet> =
    Form::text("an IP network such as 10.0.0.0/8", parse_from_str);

/// A URL to which paths are appended. Its own path must be percent-encoded: the parser accepts
/// characters that RFC 3986 forbids, and every link would contain them.
pub(super) const BASE_URL: Form<Url> = Form::text(
    "a percent-encoded http or https URL without user, query and fragment",
    |text| {
        parse_http_url(text).filter(|url| {
            links::is_path(url.path())
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        })
    },
);

/// A URL that is called as it is.
pub(super) const HTTP_URL: Form<Url> = Form::text("an http or https URL", parse_http_url);

/// The name of a PostgreSQL schema.
pub(super) const SCHEMA: Form<SchemaName> = Form::text(SCHEMA_NAME, parse_from_str);

/// The URL of a PostgreSQL database. It usually contains a password.
pub(super) const DATABASE_URL: Form<SecretString> = Form::secret(
    "a postgres:// or postgresql:// URL, with the password percent-encoded: @ as %40, / as %2F, # as %23, : as %3A",
    |text| {
        let url = Url::parse(text).ok()?;
        let is_postgres = matches!(url.scheme(), "postgres" | "postgresql");
        (is_postgres && !ends_within_password(&url)).then(|| text.into())
    },
);

/// The path of a directory.
pub(super) const DIRECTORY: Form<PathBuf> = Form::text("the path of a directory", |text| {
    (!text.is_empty()).then(|| text.into())
});

/// The maximum number of connections in a pool.
pub(super) const CONNECTIONS: Form<u32> = Form::number("a whole number from 1 to 1000", |text| {
    parse_from_str(text).filter(|number| (1..=1000).contains(number))
});

/// The maximum number of connections of an address that have not sent a complete request head yet.
pub(super) const PENDING_CONNECTIONS: Form<usize> =
    Form::number("a whole number from 0 to 16384", |text| {
        parse_from_str(text).filter(|number| (0..=16_384).contains(number))
    });

/// A limit on a number of requests, for instance per second.
pub(super) const REQUEST_LIMIT: Form<NonZeroU32> =
    Form::number("a whole number from 1", parse_from_str);

/// A setting that is on or off.
pub(super) const SWITCH: Form<bool> = Form::of(Kind::Boolean, "true or false", parse_from_str);

/// An encryption key.
pub(super) const ENCRYPTION_KEY: Form<Key> =
    Form::secret("the base64 of exactly 32 bytes", Key::from_base64);

/// The time for which the delivery of an event is attempted, or for which a signed link works.
pub(super) const LIFETIME: Form<TimeDelta> =
    Form::number("a time from 1m to 30d such as 72h", |text| {
        parse_duration(text)
            .filter(|time| (TimeDelta::minutes(1)..=TimeDelta::days(30)).contains(time))
    });

/// The time for which events are stored. A channel that was unavailable for an hour must still find
/// its events.
pub(super) const RETENTION: Form<TimeDelta> =
    Form::number("a time from 1h to 365d such as 7d", |text| {
        parse_duration(text)
            .filter(|time| (TimeDelta::hours(1)..=TimeDelta::days(365)).contains(time))
    });

/// An identifier that is safe in a path and a header.
pub(super) const fn id<T: FromStr>() -> Form<T> {
    Form::text(NAME, parse_from_str)
}

/// The size of a file. It is bounded, since a file is held in memory while it is in flight.
pub(super) const FILE_BYTES: Form<usize> =
    Form::number("a whole number from 1 to 10000000", |text| {
        parse_from_str(text).filter(|number| (1..=10_000_000).contains(number))
    });

/// The length of a request. The minimum leaves enough room for the text, and the maximum is far
/// below the limit of a body.
pub(super) const REQUEST_CHARS: Form<usize> =
    Form::number("a whole number from 1000 to 100000", |text| {
        parse_from_str(text).filter(|number| (1000..=100_000).contains(number))
    });

/// The type of a file.
pub(super) const FILE_TYPE: Form<ImageType> = Form::text("one of JPG, PNG, GIF", parse_from_str);

/// The client id of an app installation. It is not secret, but it has the same sources as a secret,
/// so the same rules apply.
pub(super) const CLIENT_ID: Form<String> = Form::secret("a client id", |text| {
    (!text.is_empty()).then(|| text.to_owned())
});

/// The client secret of an app installation.
pub(super) const CLIENT_SECRET: Form<SecretString> = Form::secret("a client secret", |text| {
    (!text.is_empty()).then(|| text.into())
});

/// An API key, or its hash.
///
/// A key is sent in a header after `Bearer`, so it can contain neither spaces nor characters beyond
/// ASCII.
pub(super) const API_KEY: Form<ApiKeyHash> = Form::secret(
    "an API key of visible ASCII characters, or sha256: and 64 hex digits",
    |text| match text.strip_prefix("sha256:") {
        Some(digits) => ApiKeyHash::from_hex(digits),
        None => (!text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()))
            .then(|| ApiKeyHash::of(text)),
    },
);

/// The signature algorithm of a channel's tokens.
pub(super) const JWT_ALGORITHM: Form<JwtAlgorithm> =
    Form::text("one of HS256, RS256, ES256, EdDSA", JwtAlgorithm::from_name);

/// A key that verifies tokens. Its format depends on the algorithm.
pub(super) const JWT_KEY: Form<SecretString> = Form::pem("a key", |text| Some(text.into()));

/// The origin of a web page, as a browser writes it.
pub(super) const ORIGIN: Form<String> =
    Form::text("an origin such as https://shop.example.com", |text| {
        let origin = parse_http_url(text)?.origin().ascii_serialization();
        (origin == text).then_some(origin)
    });

/// The secret that signs callbacks, in the format of the Standard Webhooks specification.
pub(super) const CALLBACK_SECRET: Form<SecretSlice<u8>> =
    Form::secret("whsec_ and the base64 of 24 to 64 bytes", |text| {
        let bytes = Zeroizing::new(STANDARD.decode(text.strip_prefix("whsec_")?).ok()?);
        // The copy has exactly the right capacity. Shrinking an allocation would leave a copy of
        // the secret behind.
        (24..=64)
            .contains(&bytes.len())
            .then(|| bytes.to_vec().into())
    });

/// The type of an event.
pub(super) const EVENT_TYPE: Form<EventType> = Form::text(
    "one of message.created, message.echoed, typing.changed, receipt.changed, conversation.opened, \
     conversation.updated, conversation.closed, message.sent, message.failed",
    parse_variant,
);

/// The priority of a conversation.
pub(super) const URGENCY: Form<Urgency> =
    Form::text("one of normal, urgent, prioritized", parse_variant);

/// The id of a skill, a campaign or an engagement.
pub(super) const ROUTE_ID: Form<RouteId> =
    Form::text("1 to 64 printable ASCII characters", |text| {
        RouteId::try_from(text.to_owned()).ok()
    });

/// The name of a client feature. [`crate::types::conversation::Features`] checks all names of a
/// list.
pub(super) const FEATURE: Form<String> =
    Form::text("a feature such as AUTO_MESSAGES", parse_from_str);

/// A language tag: parts of 1 to 8 letters or digits, separated by dashes.
pub(super) const LANGUAGE: Form<String> = Form::text("a language tag such as en-US", |text| {
    let is_part = |part: &str| {
        (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    (text.len() <= 35 && text.split('-').all(is_part)).then(|| text.to_owned())
});

fn parse_from_str<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// Parses a whole number with a unit, or of seconds if there is no unit: `30s`, `90m`, `72h`, `7d`.
fn parse_duration(text: &str) -> Option<TimeDelta> {
    let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let seconds = match text.strip_prefix(number)? {
        "" | "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    // The number must not have a sign, but `parse` would accept a plus.
    let number: u32 = number.parse().ok().filter(|_| !number.starts_with('+'))?;
    TimeDelta::try_seconds(i64::from(number).checked_mul(seconds)?)
}

fn parse_http_url(text: &str) -> Option<Url> {
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
}

/// True if the host of a database's URL seems to end within the password, at a `/`, `?` or `#` that
/// is not percent-encoded. The `@` before the real host then comes after the end of the host.
fn ends_within_password(url: &Url) -> bool {
    // A parameter may have an `@` in its value, such as the name of a user.
    let is_in_query = |query: &str| {
        let before = query.split_once('@').map(|(before, _)| before);
        before.is_some_and(|before| !before.contains('='))
    };
    url.fragment().is_some() || url.path().contains('@') || url.query().is_some_and(is_in_query)
}

/// Parses the variant of an enum from its name in the API.
fn parse_variant<T: DeserializeOwned>(text: &str) -> Option<T> {
    let deserializer: StrDeserializer<'_, ValueError> = text.into_deserializer();
    T::deserialize(deserializer).ok()
}
