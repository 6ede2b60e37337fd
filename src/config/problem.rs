//! The problems of a configuration, described without quoting any of its values, since any value
//! may be a secret.
//!
//! A problem is built only from names and from texts of the code, never from configured values. The
//! reason why a file is not TOML is a text of the parser, which quotes nothing either.

use std::fmt;

/// The error for a configuration that cannot be used, with all of its problems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    problems: Vec<Problem>,
}

impl Error {
    /// Creates the error for these problems.
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// Returns the problems in the order in which they were found.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    /// Writes one line for each problem.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// A problem of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {location}: {description}")]
pub struct Problem {
    /// The file or the variable to be corrected.
    origin: String,
    /// The key, or the position in the file.
    location: String,
    /// The description of the problem.
    description: String,
}

impl Problem {
    /// Creates the problem for a key or position without the expected value.
    pub(super) fn expected(origin: &str, location: &str, expected: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            location: location.to_owned(),
            description: format!("expected {expected}"),
        }
    }

    /// Creates the problem for a key that must be set and is not.
    pub(super) fn missing(origin: &str, key: &str, expected: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            location: key.to_owned(),
            description: format!("missing, expected {expected}"),
        }
    }

    /// Creates the problem for a position at which the file is not TOML.
    pub(super) fn not_toml(origin: &str, position: &str, reason: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            location: position.to_owned(),
            description: format!("not TOML: {reason}"),
        }
    }

    /// Creates the problem for a key that is not among the `known` keys of its section.
    pub(super) fn unknown_key(origin: &str, key: &str, known: &[&str]) -> Self {
        Self {
            origin: origin.to_owned(),
            location: key.to_owned(),
            description: format!("unknown key, expected one of {}", known.join(", ")),
        }
    }
}
