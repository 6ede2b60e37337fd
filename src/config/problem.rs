//! The problems of a configuration, described without quoting any of its values, since any value
//! may be a secret.
//!
//! This always holds, because a problem is made of names and of the expectations of the code, never
//! of configured values.

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
#[error("{origin}: {place}: {complaint}")]
pub struct Problem {
    /// The file or the variable to be corrected.
    origin: String,
    /// The key, or the position in the file.
    place: String,
    /// The description of the problem.
    complaint: String,
}

impl Problem {
    /// Creates the problem for a place that does not hold the expected value.
    pub(super) fn expected(origin: &str, place: &str, expected: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            place: place.to_owned(),
            complaint: format!("expected {expected}"),
        }
    }

    /// Creates the problem for a key that is not among the `known` keys of its section.
    pub(super) fn unknown_key(origin: &str, key: &str, known: &[&str]) -> Self {
        Self {
            origin: origin.to_owned(),
            place: key.to_owned(),
            complaint: format!("unknown key, expected one of {}", known.join(", ")),
        }
    }
}
