//! The configuration as it was written: a tree in which each node has its origin.
//!
//! With the origin, a problem can name the file or the variable, even inside a list of tables. This
//! module checks only the structure that variables need.

use std::collections::BTreeMap;

use secrecy::zeroize::Zeroizing;

use super::problem::Problem;

/// The origin of a node.
#[derive(Clone)]
pub(super) enum Origin {
    /// The file.
    File,
    /// The environment variable of this name.
    Variable(String),
}

/// A node of the tree.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) value: Value,
}

/// The value of a node.
#[derive(Clone)]
pub(super) enum Value {
    /// A string of the file, or the value of any variable. It may be a secret.
    Text(Zeroizing<String>),
    /// An integer of the file.
    Integer(i64),
    /// A boolean of the file.
    Boolean(bool),
    /// A value of a type that no key accepts, with the name of the type.
    Other(&'static str),
    /// A list of the file, or one whose items are set by variables.
    List(Vec<Node>),
    /// A section.
    Table(Table),
}

/// The keys of a section.
#[derive(Clone, Default)]
pub(super) struct Table(BTreeMap<String, Node>);

/// A variable with its value.
#[derive(Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) variable: &'a str,
    pub(super) text: &'a str,
}

impl Table {
    /// Creates the tree of a file.
    pub(super) fn from_file(table: toml::Table) -> Self {
        Self::new(table, &Origin::File)
    }

    fn new(table: toml::Table, origin: &Origin) -> Self {
        let nodes = table.into_iter();
        Self(nodes.map(|(k, v)| (k, Node::new(v, origin))).collect())
    }

    /// Returns the value of a key.
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        self.0.get(name)
    }

    /// Iterates over the keys and their values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Node)> {
        self.0.iter()
    }

    /// Stores a variable's value at `path`, which consists of names in any case and of indices of
    /// lists.
    pub(super) fn set(&mut self, path: &[&str], setting: Setting<'_>) -> Result<(), Problem> {
        self.set_below("", path, setting)
    }

    fn set_below(&mut self, at: &str, path: &[&str], setting: Setting<'_>) -> Result<(), Problem> {
        let Some((name, rest)) = path.split_first() else {
            return Ok(());
        };
        let name = name.to_lowercase();
        let key = child_key(at, &name);
        let node = self
            .0
            .entry(name)
            .or_insert_with(|| setting.parent_of(rest));
        node.set(&key, rest, setting)
    }
}

impl Node {
    fn new(value: toml::Value, origin: &Origin) -> Self {
        let value = match value {
            toml::Value::String(text) => Value::Text(text.into()),
            toml::Value::Integer(number) => Value::Integer(number),
            toml::Value::Float(_) => Value::Other("a fraction"),
            toml::Value::Boolean(value) => Value::Boolean(value),
            toml::Value::Datetime(_) => Value::Other("a date"),
            toml::Value::Array(items) => {
                let items = items.into_iter().map(|item| Self::new(item, origin));
                Value::List(items.collect())
            }
            toml::Value::Table(table) => Value::Table(Table::new(table, origin)),
        };
        Self {
            origin: origin.clone(),
            value,
        }
    }

    /// Parses the items of a variable that holds a whole list: a TOML array of strings, or texts
    /// separated by commas.
    ///
    /// A variable cannot hold a list of tables, since a problem would have to quote their keys.
    pub(super) fn items_of_variable(text: &str, origin: &Origin) -> Option<Vec<Self>> {
        let text = text.trim();
        let items: Vec<String> = if text.is_empty() {
            vec![]
        } else if text.starts_with('[') {
            let array: toml::Value = text.parse().ok()?;
            array.try_into().ok()?
        } else {
            text.split(',').map(|item| item.trim().to_owned()).collect()
        };
        let items = items.into_iter().map(|item| Self {
            origin: origin.clone(),
            value: Value::Text(item.into()),
        });
        Some(items.collect())
    }

    /// Stores a variable's value at `path` below this node, whose key is `at`.
    fn set(&mut self, at: &str, path: &[&str], setting: Setting<'_>) -> Result<(), Problem> {
        let Some((segment, rest)) = path.split_first() else {
            self.origin = setting.origin();
            self.value = Value::Text(setting.text.to_owned().into());
            return Ok(());
        };
        match &mut self.value {
            Value::Table(table) => table.set_below(at, path, setting),
            Value::List(items) => {
                let length = items.len();
                let index = segment.parse().unwrap_or(usize::MAX);
                if index == length {
                    items.push(setting.parent_of(rest));
                }
                let item = items.get_mut(index).ok_or_else(|| {
                    let expected = format!("an index from 0 to {length} after its name");
                    Problem::expected(setting.variable, at, &expected)
                })?;
                item.set(&format!("{at}[{index}]"), rest, setting)
            }
            Value::Text(_) | Value::Integer(_) | Value::Boolean(_) | Value::Other(_) => {
                let expected = "a table or a list, so that a part of it can be set";
                Err(Problem::expected(setting.variable, at, expected))
            }
        }
    }
}

impl Value {
    /// Returns the type name for errors that say "expected …, not …".
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "a number without quotes",
            Self::Boolean(_) => "a boolean",
            Self::Other(kind) => kind,
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

impl Setting<'_> {
    fn origin(self) -> Origin {
        Origin::Variable(self.variable.to_owned())
    }

    /// Creates an empty node that can hold the rest of a path: a list if an index comes next, else
    /// a table.
    fn parent_of(self, rest: &[&str]) -> Node {
        let is_list = rest.first().is_some_and(|s| s.parse::<usize>().is_ok());
        Node {
            origin: self.origin(),
            value: if is_list {
                Value::List(vec![])
            } else {
                Value::Table(Table::default())
            },
        }
    }
}

/// Returns the full name of a key in a section. A name that needs quotes in TOML is shown in
/// quotes.
pub(super) fn child_key(section: &str, name: &str) -> String {
    let is_bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let name = if !name.is_empty() && name.bytes().all(is_bare) {
        name.to_owned()
    } else {
        format!("{name:?}")
    };
    if section.is_empty() {
        name
    } else {
        format!("{section}.{name}")
    }
}
