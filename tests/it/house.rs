//! The order of the house: imports go one way, and each crate has its room.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Crates that belong to some modules alone.
const ROOMS: &[(&str, &[&str])] = &[
    ("sqlx", &["store"]),
    ("axum", &["api", "app", "sandbox"]),
    ("tower", &["api", "http", "sandbox"]),
    ("hyper", &["app", "http"]),
    ("hyper_util", &["app", "http"]),
    ("hyper_rustls", &["http"]),
    ("http_body_util", &["http"]),
    ("h2", &["http"]),
    ("rustls", &["http"]),
    ("rustix", &["clock"]),
    ("image", &["media"]),
    ("mediatype", &["negotiation"]),
    // The sandbox shares nothing with the client, so it calls webhooks with a client of its own.
    ("reqwest", &["sandbox"]),
    ("jsonwebtoken", &["crypto", "sandbox"]),
    // Whoever counts names a metric of the table.
    ("metrics", &["telemetry"]),
    ("metrics_exporter_prometheus", &["telemetry"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("anyhow", &["cli"]),
    ("clap", &["cli"]),
];

/// The lines of code of each module, its submodules and their tests included.
fn modules() -> BTreeMap<String, Vec<String>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules = BTreeMap::<String, Vec<String>>::new();
    for file in files(&source) {
        let inside = file.strip_prefix(&source).unwrap();
        let first = inside.iter().next().unwrap().to_str().unwrap();
        let module = first.trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&file).unwrap();
        let code = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with("//"))
            .map(str::to_owned);
        modules.entry(module).or_default().extend(code);
    }
    modules
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The names that follow `prefix` in a line, also within a group: `crate::{api, bridge::Error}`.
fn names_after(line: &str, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    for rest in line.split(prefix).skip(1) {
        let grouped = rest.strip_prefix('{');
        for part in grouped.map_or(rest, |group| group).split(',') {
            let name: String = part
                .trim()
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            names.push(name);
            if grouped.is_none() {
                break;
            }
        }
    }
    names
}

/// The table in the documentation of the crate: module by module, what it may use.
fn rules() -> BTreeMap<String, BTreeSet<String>> {
    let names = |cell: &str| -> BTreeSet<String> {
        cell.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    };
    let mut rules = BTreeMap::new();
    for line in include_str!("../../src/lib.rs").lines() {
        let cells: Vec<_> = line.split('|').collect();
        if let [_, modules, uses, _] = cells[..] {
            for module in names(modules) {
                rules.insert(module, names(uses));
            }
        }
    }
    rules
}

#[test]
fn imports_go_one_way() {
    let rules = rules();
    let modules = modules();
    let known: BTreeSet<_> = modules.keys().map(String::as_str).collect();
    assert!(rules.len() >= 10, "the table in src/lib.rs was not read");

    for (module, lines) in &modules {
        if ["app", "cli", "lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let allowed = rules
            .get(module)
            .unwrap_or_else(|| panic!("the table in src/lib.rs lacks {module}"));
        for line in lines {
            for name in names_after(line, "crate::") {
                assert!(
                    name == *module || !known.contains(name.as_str()) || allowed.contains(&name),
                    "{module} may not use {name}: {line}"
                );
            }
        }
    }
}

#[test]
fn crates_stay_in_their_rooms() {
    for (module, lines) in &modules() {
        for (name, rooms) in ROOMS {
            if rooms.contains(&module.as_str()) {
                continue;
            }
            let path = format!("{name}::");
            let knows = lines.iter().find(|line| {
                line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
                    .any(|word| word.starts_with(&path))
            });
            assert_eq!(knows, None, "{module} may not know {name}");
        }
    }
}

#[test]
fn names_of_imports_are_read_right() {
    assert_eq!(names_after("use crate::api;", "crate::"), ["api"]);
    assert_eq!(
        names_after("use crate::{api, bridge::Error};", "crate::"),
        ["api", "bridge"]
    );
    assert_eq!(
        names_after("fn f(a: crate::api::A) -> crate::store::B {}", "crate::"),
        ["api", "store"]
    );
}
