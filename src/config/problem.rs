//! What is wrong with a configuration, said without quoting any of its values: any of them may be a secret.
//!
//! That holds by construction: a problem is made of names and of what the code expected there, never of what it found.

use std::fmt;

/// A configuration that cannot be used, with every problem that was found in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    problems: Vec<Problem>,
}

impl Error {
    /// The error of these problems.
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// The problems in the order in which they were found.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    /// Writes a line for each problem.
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

/// One thing to mend in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {place}: {complaint}")]
pub struct Problem {
    /// The file or the variable that is to be mended.
    origin: String,
    /// The key, or the position in the file.
    place: String,
    /// What was expected.
    complaint: String,
}

impl Problem {
    /// A place that does not hold what is expected there.
    pub(super) fn expected(origin: &str, place: &str, expected: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            place: place.to_owned(),
            complaint: format!("expected {expected}"),
        }
    }

    /// A key that nothing reads, beside the `known` ones of its section.
    pub(super) fn unknown_key(origin: &str, key: &str, known: &[&str]) -> Self {
        Self {
            origin: origin.to_owned(),
            place: key.to_owned(),
            complaint: format!("unknown key, expected one of {}", known.join(", ")),
        }
    }
}
