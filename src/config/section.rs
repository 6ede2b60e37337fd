//! Sections of the configuration tree, which are read key by key.
//!
//! The known keys of a section are those that the code reads. At the end of the section, all other
//! keys are reported as unknown. Reading continues after a problem, so that an operator sees all
//! problems at once.

use std::borrow::Cow;

use secrecy::zeroize::Zeroizing;

use super::form::Form;
use super::problem::Problem;
use super::source::variable_of;
use super::tree::{Node, Origin, Table, Value, child_key};
use super::{Environment, placeholder};

/// The marker for a value that is missing because of a problem that was reported.
#[derive(Debug, Clone, Copy)]
pub(super) struct AlreadyReported;

/// A section that is being read.
pub(super) struct Section<'a> {
    file: &'a str,
    environment: &'a Environment,
    key: String,
    table: &'a Table,
    known_keys: Vec<&'static str>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Section<'a> {
    /// Reads the root section.
    pub(super) fn read_root<T>(
        file: &'a str,
        environment: &'a Environment,
        table: &'a Table,
        problems: &'a mut Vec<Problem>,
        read: impl FnOnce(&mut Section<'_>) -> Result<T, AlreadyReported>,
    ) -> Result<T, AlreadyReported> {
        let section = Section {
            file,
            environment,
            key: String::new(),
            table,
            known_keys: vec![],
            problems,
        };
        section.read(read)
    }

    /// Returns the value of a key, if it is set.
    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        form: &Form<T>,
    ) -> Result<Option<T>, AlreadyReported> {
        let key = self.key_of(name);
        let node = self.node(name);
        node.map(|node| self.scalar(&key, node, form)).transpose()
    }

    /// Returns the value of a key that must be set.
    pub(super) fn required<T>(
        &mut self,
        name: &'static str,
        form: &Form<T>,
    ) -> Result<T, AlreadyReported> {
        let value = self.optional(name, form)?;
        value.ok_or_else(|| self.refuse(name, form.expected))
    }

    /// Returns the value of a key, or the value of the text `default` if the key is not set.
    pub(super) fn or_default<T>(
        &mut self,
        name: &'static str,
        form: &Form<T>,
        default: &str,
    ) -> Result<T, AlreadyReported> {
        match self.optional(name, form)? {
            Some(value) => Ok(value),
            None => form
                .parse(default)
                .map_err(|expected| self.refuse(name, &expected)),
        }
    }

    /// Returns the items of a list, if it is set.
    pub(super) fn list<T>(
        &mut self,
        name: &'static str,
        form: &Form<T>,
    ) -> Result<Option<Vec<T>>, AlreadyReported> {
        let Some(items) = self.items(name)? else {
            return Ok(None);
        };
        let key = self.key_of(name);
        let read: Vec<_> = items
            .iter()
            .enumerate()
            .map(|(index, item)| self.scalar(&format!("{key}[{index}]"), item, form))
            .collect();
        read.into_iter().collect::<Result<_, _>>().map(Some)
    }

    /// Returns the items of a list. In the file, a single string counts as a list of one item.
    pub(super) fn list_or_single<T>(
        &mut self,
        name: &'static str,
        form: &Form<T>,
    ) -> Result<Option<Vec<T>>, AlreadyReported> {
        match self.node(name) {
            Some(Node {
                origin: Origin::File,
                value: Value::Text(_),
            }) => Ok(self.optional(name, form)?.map(|item| vec![item])),
            _ => self.list(name, form),
        }
    }

    /// Reads a section within this one. A section that is not set is read as an empty one.
    pub(super) fn section<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Section<'_>) -> Result<T, AlreadyReported>,
    ) -> Result<T, AlreadyReported> {
        let key = self.key_of(name);
        match self.node(name) {
            Some(node) => self.read_table(key, node, read),
            None => self.child(key, &Table::default()).read(read),
        }
    }

    /// Reads a list of sections. The results of earlier sections are passed to the reader of each
    /// section.
    pub(super) fn sections<T>(
        &mut self,
        name: &'static str,
        mut read: impl FnMut(&mut Section<'_>, &[T]) -> Result<T, AlreadyReported>,
    ) -> Result<Vec<T>, AlreadyReported> {
        let items = match self.node(name).map(|node| &node.value) {
            None => &[],
            Some(Value::List(items)) => items.as_slice(),
            Some(other) => {
                let expected = format!("a list of tables, not {}", other.kind());
                return Err(self.refuse(name, &expected));
            }
        };
        let key = self.key_of(name);
        let mut values = Vec::with_capacity(items.len());
        let mut outcome = Ok(());
        for (index, item) in items.iter().enumerate() {
            let key = format!("{key}[{index}]");
            match self.read_table(key, item, |section| read(section, &values)) {
                Ok(value) => values.push(value),
                Err(reported) => outcome = Err(reported),
            }
        }
        outcome.map(|()| values)
    }

    /// Reports that a key does not have the expected value, or that it is missing.
    pub(super) fn refuse(&mut self, name: &'static str, expected: &str) -> AlreadyReported {
        let key = self.key_of(name);
        if let Some(node) = self.node(name) {
            return self.report(&key, &node.origin, expected);
        }
        let origin = format!("{} or {}", self.file, variable_of(&key));
        let problem = Problem::missing(&origin, &key, expected);
        self.problems.push(problem);
        AlreadyReported
    }

    fn report(&mut self, key: &str, origin: &Origin, expected: &str) -> AlreadyReported {
        let problem = Problem::expected(self.name_of(origin), key, expected);
        self.problems.push(problem);
        AlreadyReported
    }

    fn name_of<'o>(&'o self, origin: &'o Origin) -> &'o str {
        match origin {
            Origin::File => self.file,
            Origin::Variable(name) => name,
        }
    }

    fn key_of(&self, name: &str) -> String {
        child_key(&self.key, name)
    }

    fn node(&mut self, name: &'static str) -> Option<&'a Node> {
        if !self.known_keys.contains(&name) {
            self.known_keys.push(name);
        }
        self.table.get(name)
    }

    fn scalar<T>(&mut self, key: &str, node: &Node, form: &Form<T>) -> Result<T, AlreadyReported> {
        let parsed = match (&node.value, &node.origin) {
            (Value::Text(text), Origin::File) => {
                let filled = placeholder::fill(text, self.environment)
                    .map(Zeroizing::new)
                    .map_err(|expected| self.report(key, &node.origin, &expected))?;
                form.parse(&filled)
            }
            (Value::Text(text), Origin::Variable(_)) => form.parse(text),
            (Value::Integer(number), _) if form.is_number() => form.parse(&number.to_string()),
            (Value::Boolean(value), _) if form.is_boolean() => form.parse(&value.to_string()),
            (other, _) => {
                let expected = format!("{}, not {}", form.expected, other.kind());
                return Err(self.report(key, &node.origin, &expected));
            }
        };
        parsed.map_err(|expected| self.report(key, &node.origin, &expected))
    }

    /// Returns the items of a list of scalar values.
    fn items(&mut self, name: &'static str) -> Result<Option<Cow<'a, [Node]>>, AlreadyReported> {
        let Some(node) = self.node(name) else {
            return Ok(None);
        };
        match (&node.value, &node.origin) {
            (Value::List(items), _) => Ok(Some(items.into())),
            (Value::Text(text), Origin::Variable(_)) => {
                let expected = "items separated by commas, or a TOML array of strings";
                let items = Node::items_of_variable(text, &node.origin);
                let items = items.ok_or_else(|| self.refuse(name, expected))?;
                Ok(Some(items.into()))
            }
            (other, _) => Err(self.refuse(name, &format!("a list, not {}", other.kind()))),
        }
    }

    fn read_table<T>(
        &mut self,
        key: String,
        node: &Node,
        read: impl FnOnce(&mut Section<'_>) -> Result<T, AlreadyReported>,
    ) -> Result<T, AlreadyReported> {
        match &node.value {
            Value::Table(table) => self.child(key, table).read(read),
            other => {
                let expected = format!("a table, not {}", other.kind());
                Err(self.report(&key, &node.origin, &expected))
            }
        }
    }

    fn child<'b>(&'b mut self, key: String, table: &'b Table) -> Section<'b> {
        Section {
            file: self.file,
            environment: self.environment,
            key,
            table,
            known_keys: vec![],
            problems: self.problems,
        }
    }

    fn read<T>(
        mut self,
        read: impl FnOnce(&mut Section<'_>) -> Result<T, AlreadyReported>,
    ) -> Result<T, AlreadyReported> {
        let value = read(&mut self);
        let is_unknown = |name: &str| !self.known_keys.contains(&name);
        for (name, node) in self.table.iter().filter(|(name, _)| is_unknown(name)) {
            let origin = self.name_of(&node.origin);
            let problem = Problem::unknown_key(origin, &self.key_of(name), &self.known_keys);
            self.problems.push(problem);
        }
        value
    }
}
