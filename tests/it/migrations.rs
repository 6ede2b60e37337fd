//! The rules for migrations. Both engines have the same ones, and no migration removes anything
//! that the previous version still uses.
//!
//! During a rolling update two consecutive versions share one database. So a migration only expands
//! the schema. A later version removes the parts that are no longer needed. Its migration says
//! since when they are not read: `-- contract: since 0.4.0 nothing reads …`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The first schema, which every version has.
const FIRST_SCHEMA: &str = "0001_schema.sql";

const CONTRACT: &str = "-- contract: since ";

/// Returns the migrations of an engine by file name.
fn migrations(engine: &str) -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let files = fs::read_dir(folder.join(engine)).unwrap();
    files
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// Returns the statements of a migration in capitals and without comments, each split into words.
/// Leaves out the bodies of functions and triggers.
fn statements(text: &str) -> Vec<Vec<String>> {
    let code = text
        .lines()
        .map(|line| line.split("--").next().unwrap_or_default());
    let code = code.collect::<Vec<_>>().join("\n").to_uppercase();
    let mut statements = Vec::new();
    // The body of a function is between two `$$`, that of a trigger between BEGIN and END.
    let mut in_trigger = false;
    for statement in code.split("$$").step_by(2).collect::<String>().split(';') {
        let words = statement.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        let words = words.filter(|word| !word.is_empty()).map(str::to_owned);
        let words: Vec<_> = words.collect();
        if in_trigger {
            in_trigger = words != ["END"];
            continue;
        }
        if words.len() > 1 && words[..2] == ["CREATE", "TRIGGER"] {
            // A trigger of PostgreSQL calls a function and has no body.
            in_trigger = words.iter().any(|word| word == "BEGIN");
        }
        if !words.is_empty() {
            statements.push(words);
        }
    }
    statements
}

/// Returns the first statement of a migration that may break the previous version.
fn contraction(text: &str) -> Option<String> {
    let mut new_tables = Vec::new();
    for statement in statements(text) {
        let words: Vec<_> = statement.iter().map(String::as_str).collect();
        let expands = match words[..] {
            ["CREATE", "TABLE", name, ..] => {
                new_tables.push(name.to_owned());
                true
            }
            // This test assumes that an update or a trigger concerns a column that the same
            // migration has added. The fill factor makes no difference to any version.
            ["CREATE", "FUNCTION" | "INDEX" | "TRIGGER" | "VIEW", ..]
            | ["UPDATE", ..]
            | ["ALTER", "TABLE", _, "SET", "FILLFACTOR", _] => true,
            // On an existing table a unique index is a new rule for the previous version.
            ["CREATE", "UNIQUE", "INDEX", _, "ON", table, ..] => {
                new_tables.iter().any(|new| new == table)
            }
            ["ALTER", "TABLE", _, "ADD", "COLUMN", ..] => statement[3..]
                .split(|word| word == "ADD")
                .all(|column| column.is_empty() || is_optional_column(column)),
            _ => false,
        };
        if !expands {
            return Some(words.join(" "));
        }
    }
    None
}

/// True if a version that does not know a new column can leave it out: `COLUMN name type …`.
fn is_optional_column(words: &[String]) -> bool {
    let has = |word: &str| words.iter().any(|other| other == word);
    let is_required = words.windows(2).any(|pair| pair == ["NOT", "NULL"]);
    words[0] == "COLUMN"
        && (!is_required || has("DEFAULT"))
        && !["DROP", "RENAME", "TYPE", "SET", "UNIQUE", "PRIMARY"]
            .iter()
            .any(|word| has(word))
}

/// Returns the first statement of a migration that a distributed PostgreSQL refuses.
fn not_distributable(text: &str) -> Option<String> {
    let mut found = statements(text).into_iter().filter(|statement| {
        let has = |word: &str| statement.iter().any(|other| other == word);
        let makes = |kind: &str| statement[0] == "CREATE" && has(kind);
        let adds = has("ADD") && has("COLUMN");
        let constrains = ["CHECK", "REFERENCES", "UNIQUE", "PRIMARY"]
            .iter()
            .any(|word| has(word));
        makes("TRIGGER") || adds && constrains
    });
    found.next().map(|statement| statement.join(" "))
}

/// True if a migration says since which version nothing needs the parts that it removes.
fn has_contract_line(text: &str) -> bool {
    let mut contracts = text.lines().filter_map(|line| line.strip_prefix(CONTRACT));
    contracts.any(|rest| {
        let (version, why) = rest.split_once(' ').unwrap_or((rest, ""));
        let numbers: Vec<_> = version.split('.').collect();
        numbers.len() == 3
            && numbers.iter().all(|number| number.parse::<u32>().is_ok())
            && !why.trim().is_empty()
    })
}

#[test]
fn both_engines_have_the_same_migrations() {
    let names = |engine| migrations(engine).into_keys().collect::<Vec<_>>();

    let postgres = names("postgres");

    assert_eq!(postgres[0], FIRST_SCHEMA);
    assert_eq!(postgres, names("sqlite"));
    for (name, number) in postgres.iter().zip(1..) {
        let stem = name.strip_suffix(".sql").expect(name);
        let (version, _) = stem.split_once('_').expect(name);
        assert_eq!(version, format!("{number:04}"), "{name}");
    }
}

#[test]
fn migrations_remove_nothing_that_the_previous_version_uses() {
    for engine in ["postgres", "sqlite"] {
        let migrations = migrations(engine);
        let later = migrations.iter().filter(|(name, _)| *name != FIRST_SCHEMA);
        for (name, text) in later {
            if let Some(statement) = contraction(text) {
                assert!(
                    has_contract_line(text),
                    "{engine}/{name} does more than expand, and has no line `{CONTRACT}1.2.3 nothing …`: {statement}"
                );
            }
        }
    }
}

#[test]
fn a_distributed_postgresql_accepts_the_migrations() {
    for (name, text) in migrations("postgres") {
        assert_eq!(not_distributable(&text), None, "{name}");
    }
    for refused in [
        "CREATE TRIGGER a AFTER INSERT ON b EXECUTE FUNCTION c();",
        "CREATE CONSTRAINT TRIGGER a AFTER INSERT ON b EXECUTE FUNCTION c();",
        "ALTER TABLE a ADD COLUMN b BIGINT;\nALTER TABLE a ADD COLUMN c TEXT CHECK (c <> '');",
        "ALTER TABLE a ADD COLUMN b BIGINT REFERENCES c (d);",
    ] {
        assert!(not_distributable(refused).is_some(), "{refused}");
    }
}

#[test]
fn expanding_and_contracting_statements_are_distinguished() {
    for expands in [
        "-- DROP TABLE a;\nCREATE TABLE a (b BIGINT NOT NULL); CREATE UNIQUE INDEX c ON a (b);",
        "CREATE INDEX a ON b (c) WHERE d IS NOT NULL;",
        "ALTER TABLE a ADD COLUMN b BIGINT;",
        "ALTER TABLE a SET (fillfactor = 50);",
        "CREATE FUNCTION a() RETURNS TRIGGER AS $$ BEGIN DELETE FROM b; END $$; CREATE VIEW c AS SELECT 1;",
        "CREATE TRIGGER a AFTER INSERT ON b BEGIN DELETE FROM c; UPDATE d SET e = 1; END; CREATE INDEX f ON b (c);",
        "ALTER TABLE a ADD COLUMN b TEXT NOT NULL DEFAULT '', ADD COLUMN c TEXT;",
        "ALTER TABLE a ADD COLUMN b TEXT CHECK (b IN ('x', 'y')); -- a comment\nUPDATE a SET b = 'x';",
    ] {
        assert_eq!(contraction(expands), None, "{expands}");
    }
    for takes_away in [
        "CREATE TABLE a (b BIGINT); DROP TABLE c;",
        "DROP INDEX a;",
        "CREATE UNIQUE INDEX a ON b (c);",
        "alter table a drop column b;",
        "ALTER TABLE a SET LOGGED;",
        "ALTER TABLE a RENAME COLUMN b TO c;",
        "ALTER TABLE a RENAME TO b;",
        "ALTER TABLE a ADD COLUMN b BIGINT NOT NULL;",
        "ALTER TABLE a ADD COLUMN b BIGINT NOT NULL DEFAULT 1, ADD COLUMN c TEXT NOT NULL;",
        "ALTER TABLE a ADD COLUMN b TEXT, ALTER COLUMN c TYPE TEXT;",
        "ALTER TABLE a ADD COLUMN b TEXT, DROP COLUMN c;",
        "ALTER TABLE a ALTER COLUMN b SET NOT NULL;",
        "ALTER TABLE a ADD CONSTRAINT b CHECK (c > 0);",
        "ALTER TABLE a ADD COLUMN b TEXT UNIQUE;",
        "DELETE FROM a;",
        "CREATE FUNCTION a() RETURNS TRIGGER AS $$ BEGIN RETURN NULL; END $$; DELETE FROM a;",
        "CREATE TRIGGER a AFTER INSERT ON b BEGIN DELETE FROM c; END; DELETE FROM a;",
        "TRUNCATE a;",
    ] {
        assert!(contraction(takes_away).is_some(), "{takes_away}");
    }
    assert!(has_contract_line(
        "-- contract: since 0.4.0 nothing reads a.b\nALTER TABLE a DROP COLUMN b;"
    ));
    for says_nothing in [
        "-- contract:",
        "-- contract: since 0.4.0",
        "-- contract: since then nothing reads a.b",
        "-- nothing reads a.b since 0.4.0",
    ] {
        assert!(!has_contract_line(says_nothing), "{says_nothing}");
    }
}
