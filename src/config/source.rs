//! The sources of the configuration: a file, and the environment on top of it.

use std::path::{Path, PathBuf};

use super::Environment;
use super::problem::Problem;
use super::tree::{Setting, Table};

const DEFAULT_FILE: &str = "bridge.toml";
const FILE_VARIABLE: &str = "BRIDGE_CONFIG";
const PREFIX: &str = "BRIDGE_";

/// Returns the name and text of the configuration file: the file that the command line names, or
/// else `BRIDGE_CONFIG`, or else `bridge.toml`.
///
/// The file `bridge.toml` may be missing, since the environment can supply everything.
pub(super) fn read_file(
    option: Option<&Path>,
    environment: &Environment,
) -> Result<(String, String), Problem> {
    let (origin, path) = if let Some(path) = option {
        ("--config", path.to_owned())
    } else if let Some(path) = environment.get(FILE_VARIABLE) {
        (FILE_VARIABLE, PathBuf::from(path))
    } else {
        ("working directory", PathBuf::from(DEFAULT_FILE))
    };
    let is_required = option.is_some() || environment.contains_key(FILE_VARIABLE);
    let name = path.display().to_string();
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok((name, text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_required => {
            Ok((name, String::new()))
        }
        Err(error) => {
            let expected = format!("a readable file ({})", error.kind());
            Err(Problem::expected(origin, &name, &expected))
        }
    }
}

/// Reads the settings of the file, and those of the environment on top of them. Variables that do
/// not fit into the tree are added to `problems`.
///
/// Fails at the first position at which the file is not TOML. The meaning of the text behind it is
/// uncertain.
pub(super) fn read_tree(
    file: &str,
    text: &str,
    environment: &Environment,
    problems: &mut Vec<Problem>,
) -> Result<Table, Problem> {
    let mut tree = parse(file, text)?;
    for (path, setting) in settings(environment) {
        if let Err(problem) = tree.set(&path, setting) {
            problems.push(problem);
        }
    }
    Ok(tree)
}

/// Parses the text of the file. An error contains the position and the reason, but not the line,
/// which may hold a secret.
fn parse(file: &str, text: &str) -> Result<Table, Problem> {
    text.parse()
        .map(Table::from_file)
        .map_err(|error: toml::de::Error| {
            let before = error
                .span()
                .and_then(|span| text.get(..span.start))
                .unwrap_or(text);
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            let position = format!("line {line}, column {column}");
            Problem::not_toml(file, &position, reason(error.message()))
        })
}

/// Returns the parser's message, or plain words for the most common mistakes.
fn reason(message: &str) -> &str {
    let quotes = ["string, expected `\"`", "string, expected `'`"];
    if quotes.iter().any(|end| message.ends_with(end)) {
        "the closing quote of a string is missing"
    } else if message.starts_with("string values must be quoted") {
        "the quotes around a string are missing"
    } else if message == "duplicate key" {
        "this key is set twice"
    } else {
        message
    }
}

/// Returns the settings of the environment with the path of each key. Later settings take
/// precedence.
fn settings(environment: &Environment) -> Vec<(Vec<&str>, Setting<'_>)> {
    let mut settings: Vec<(Vec<&str>, Setting<'_>)> = environment
        .iter()
        .filter(|(variable, _)| *variable != FILE_VARIABLE)
        .filter_map(|(variable, text)| {
            let path = variable.strip_prefix(PREFIX)?;
            Some((path.split("__").collect(), Setting { variable, text }))
        })
        .collect();
    // Numbers are sorted by value, so that a list grows from its first item to its last.
    settings.sort_by_cached_key(|(path, _)| {
        let path = path.iter().map(|s| (s.parse::<usize>().ok(), *s));
        path.collect::<Vec<_>>()
    });
    if let Some((variable, text)) = environment.get_key_value("DATABASE_URL") {
        settings.insert(0, (vec!["DATABASE", "URL"], Setting { variable, text }));
    }
    settings
}

/// Returns the name of the variable that sets a key.
pub(super) fn variable_of(key: &str) -> String {
    let name = key.replace(['.', '['], "__").replace(']', "");
    format!("{PREFIX}{}", name.to_uppercase())
}
