//! The architecture rules: imports go one way, and each external crate is used by certain modules
//! only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The crates that only certain modules may use.
const CRATES: &[(&str, &[&str])] = &[
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
    ("mediatype", &["web"]),
    // The sandbox shares nothing with the client, so it calls webhooks with its own HTTP client.
    ("reqwest", &["sandbox"]),
    ("jsonwebtoken", &["crypto", "sandbox"]),
    // Other modules count with the metrics of the table in `telemetry`.
    ("metrics", &["telemetry"]),
    ("metrics_exporter_prometheus", &["telemetry"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("anyhow", &["cli"]),
    ("clap", &["cli"]),
];

/// Returns the lines of code of each module, including its submodules and their tests. Each member
/// of the workspace counts as a module.
fn modules() -> BTreeMap<String, Vec<String>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules = BTreeMap::<String, Vec<String>>::new();
    for file in files(&source) {
        let inside = file.strip_prefix(&source).unwrap();
        let first = inside.iter().next().unwrap().to_str().unwrap();
        let module = first.trim_end_matches(".rs").to_owned();
        modules.entry(module).or_default().extend(code(&file));
    }
    for (name, source) in members() {
        let lines = files(&source).iter().flat_map(|file| code(file)).collect();
        let namesake = modules.insert(name, lines);
        assert_eq!(namesake, None, "a module and a member have one name");
    }
    modules
}

/// Returns the source folders of the workspace's members by name; `liveperson-bridge-clock` is
/// `clock`.
fn members() -> BTreeMap<String, PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates");
    let folders = fs::read_dir(folder).unwrap();
    folders
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, entry.path().join("src"))
        })
        .collect()
}

/// Returns the lines of a file without comments.
fn code(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//"))
        .map(str::to_owned)
        .collect()
}

/// Returns the sources in a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    files_of_kind(folder, "rs")
}

/// Returns the files with an extension in a folder and its subfolders.
fn files_of_kind(folder: &Path, kind: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_of_kind(&path, kind));
        } else if path.extension().is_some_and(|extension| extension == kind) {
            found.push(path);
        }
    }
    found
}

/// Returns the names that follow `prefix` in a line, also within a group such as
/// `crate::{api, bridge::Error}`.
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

/// Reads the table in the documentation of the crate: the names that each module may use.
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
    let members = members();
    let module_names: BTreeSet<_> = modules.keys().map(String::as_str).collect();
    assert!(rules.len() >= 10, "the table in src/lib.rs was not read");

    for (module, lines) in &modules {
        if ["app", "cli", "lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let allowed = rules
            .get(module)
            .unwrap_or_else(|| panic!("the table in src/lib.rs lacks {module}"));
        for line in lines {
            let mut names = names_after(line, "liveperson_bridge_");
            if members.contains_key(module) {
                let service = names_after(line, "liveperson_bridge::");
                assert!(
                    service.is_empty(),
                    "{module} may not use the service: {line}"
                );
            } else {
                names.extend(names_after(line, "crate::"));
            }
            for name in names {
                assert!(
                    name == *module
                        || !module_names.contains(name.as_str())
                        || allowed.contains(&name),
                    "{module} may not use {name}: {line}"
                );
            }
        }
    }
}

#[test]
fn external_crates_are_used_only_by_their_modules() {
    for (module, lines) in &modules() {
        for (name, allowed) in CRATES {
            if allowed.contains(&module.as_str()) {
                continue;
            }
            let path = format!("{name}::");
            let used = lines.iter().find(|line| {
                line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
                    .any(|word| word.starts_with(&path))
            });
            assert_eq!(used, None, "{module} may not use {name}");
        }
    }
}

#[test]
fn names_of_imports_are_parsed() {
    assert_eq!(names_after("use crate::api;", "crate::"), ["api"]);
    assert_eq!(
        names_after("use crate::{api, bridge::Error};", "crate::"),
        ["api", "bridge"]
    );
    assert_eq!(
        names_after("use liveperson_bridge_clock::Clock;", "liveperson_bridge_"),
        ["clock"]
    );
    assert_eq!(
        names_after("fn f(a: crate::api::A) -> crate::store::B {}", "crate::"),
        ["api", "store"]
    );
}

/// Returns the sources below `src/store` by their paths in that folder.
fn sources_of_store() -> BTreeMap<String, String> {
    let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let sources = files(&store).into_iter().map(|file| {
        let inside = file.strip_prefix(&store).unwrap().to_str().unwrap();
        (inside.to_owned(), fs::read_to_string(&file).unwrap())
    });
    sources.collect()
}

/// Returns the lines of code of a source, with each import joined into one line.
fn statements(source: &str) -> Vec<String> {
    let mut statements = Vec::<String>::new();
    let mut is_open = false;
    let code = source.lines().map(str::trim);
    for line in code.filter(|line| !line.starts_with("//")) {
        match statements.last_mut() {
            Some(import) if is_open => import.push_str(line),
            _ => {
                is_open =
                    line.starts_with("use ") || line.starts_with("pub") && line.contains(" use ");
                statements.push(line.to_owned());
            }
        }
        is_open &= !line.ends_with(';');
    }
    statements
}

/// Splits a line of code into words.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
}

/// Returns the imports between children of the store, as pairs of importer and imported. An import
/// of a name that `root` re-exports counts as an import from that name's child.
fn imports_of_children(
    root: &str,
    sources: &BTreeMap<String, String>,
) -> BTreeSet<(String, String)> {
    let child_of = |path: &str| path.split(['/', '.']).next().unwrap().to_owned();
    let children: BTreeSet<_> = sources.keys().map(|path| child_of(path)).collect();
    let mut homes = BTreeMap::new();
    for statement in statements(root) {
        let import = statement.strip_prefix("pub ").unwrap_or(&statement);
        let Some(import) = import.strip_prefix("use ") else {
            continue;
        };
        let mut names = words(import);
        if let Some(child) = names.next().filter(|name| children.contains(*name)) {
            homes.extend(names.map(|name| (name.to_owned(), child.to_owned())));
        }
    }
    let mut imports = BTreeSet::new();
    for (path, source) in sources {
        let from = child_of(path);
        let up = "super::".repeat(path.split('/').count());
        for statement in statements(source) {
            let mut names = names_after(&statement, "crate::store::");
            names.extend(names_after(&statement, &up));
            for name in names {
                let to = if children.contains(&name) {
                    Some(&name)
                } else {
                    homes.get(&name)
                };
                imports.extend(
                    to.filter(|to| **to != from)
                        .map(|to| (from.clone(), to.clone())),
                );
            }
        }
    }
    imports
}

/// Returns the imports that go upwards: from the engine to the rest of the store, or from the
/// shared modules to anything but the engine.
fn upward_imports(imports: &BTreeSet<(String, String)>) -> Vec<&(String, String)> {
    let floors: [&[&str]; 2] = [&["engine"], &["locks", "parent", "rows"]];
    let floor = |child: &str| floors.iter().position(|floor| floor.contains(&child));
    let height = |child: &str| floor(child).unwrap_or(floors.len());
    let up = imports.iter();
    up.filter(|(from, to)| height(from) < height(to)).collect()
}

/// Returns the imports that are part of a cycle.
fn cyclic_imports(imports: &BTreeSet<(String, String)>) -> Vec<&(String, String)> {
    let leads_to = |from: &String, to: &String| {
        let (mut reached, mut next) = (BTreeSet::from([from]), vec![from]);
        while let Some(child) = next.pop() {
            let own = imports.iter().filter(|(from, _)| from == child);
            next.extend(own.map(|(_, to)| to).filter(|to| reached.insert(*to)));
        }
        reached.contains(to)
    };
    let imports = imports.iter();
    imports.filter(|(from, to)| leads_to(to, from)).collect()
}

#[test]
fn imports_within_the_store_go_one_way() {
    let imports = imports_of_children(include_str!("../../src/store.rs"), &sources_of_store());
    assert!(imports.len() >= 50, "only {imports:?} were found");

    assert_eq!(upward_imports(&imports), [] as [&(String, String); 0]);
    assert_eq!(cyclic_imports(&imports), [] as [&(String, String); 0]);
}

#[test]
fn a_wrong_import_within_the_store_is_detected() {
    let root =
        "mod engine;\npub use engine::error::Error;\npub use users::{\n    Token, User,\n};\n";
    let sources = |planted: [(&str, &str); 2]| {
        let sound = [
            ("engine.rs", "pub(super) mod tx;"),
            (
                "engine/tx.rs",
                "use super::limits;\nuse crate::store::Error;",
            ),
            ("rows.rs", "use super::Error;"),
            (
                "users.rs",
                "use super::engine::tx::on;\nuse super::{\n    Error,\n    rows,\n};",
            ),
            ("files.rs", "use super::rows;\n// use super::engine::tx;"),
            ("files/old.rs", "use super::Name;"),
        ];
        let mut sources = BTreeMap::from(sound);
        sources.extend(planted);
        let sources = sources.into_iter();
        sources
            .map(|(path, source)| (path.to_owned(), source.to_owned()))
            .collect::<BTreeMap<_, _>>()
    };
    let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());

    let sound = imports_of_children(root, &sources([("a.rs", ""), ("b.rs", "")]));
    assert!(sound.contains(&pair("users", "engine")) && sound.contains(&pair("users", "rows")));
    assert!(upward_imports(&sound).is_empty() && cyclic_imports(&sound).is_empty());

    // The imports name the item in `root` or its file, and one is a group of several lines.
    for (path, line) in [
        ("engine/tx.rs", "use crate::store::{Error, User};"),
        ("engine/tx.rs", "let row = crate::store::users::row();"),
        ("engine/tx.rs", "use super::super::users::User;"),
        ("engine.rs", "use super::{\n    Error,\n    Token,\n};"),
        ("rows.rs", "use super::users::User;"),
    ] {
        let imports = imports_of_children(root, &sources([(path, line), ("b.rs", "")]));
        assert_eq!(upward_imports(&imports).len(), 1, "{path}: {line}");
    }

    let circle = [
        ("files/old.rs", "use crate::store::User;"),
        ("users.rs", "use super::files::path;"),
    ];
    let imports = imports_of_children(root, &sources(circle));
    let expected = [pair("files", "users"), pair("users", "files")];
    assert_eq!(
        cyclic_imports(&imports),
        expected.iter().collect::<Vec<_>>()
    );
}

/// The path of a module in its crate.
type ModulePath = Vec<String>;

/// Returns the code of each module below a source folder, without its tests.
fn code_of_modules(source: &Path) -> BTreeMap<ModulePath, String> {
    let code = files(source).into_iter().filter_map(|file| {
        let inside = file.strip_prefix(source).unwrap().with_extension("");
        let names = inside.iter().map(|name| name.to_str().unwrap().to_owned());
        let path: ModulePath = names.filter(|name| name != "lib").collect();
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("\nmod tests {").next().unwrap().to_owned();
        let is_test = path.iter().any(|name| name == "tests");
        (!is_test).then_some((path, code))
    });
    code.collect()
}

/// Returns the paths that an import names: `super::{a, b::{c, d}}` names three.
fn expanded(import: &str) -> Vec<String> {
    let Some((before, group)) = import.split_once('{') else {
        return vec![import.to_owned()];
    };
    let group = group.trim_end_matches(';').trim_end();
    let group = group.strip_suffix('}').unwrap_or(group);
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if c == ',' && depth == 0 {
            parts.push(String::new());
        } else {
            parts.last_mut().unwrap().push(c);
        }
    }
    let parts = parts.iter().map(|part| part.trim());
    let parts = parts.filter(|part| !part.is_empty());
    parts
        .flat_map(|part| expanded(&format!("{before}{part}")))
        .collect()
}

/// Returns the paths within the crate that a statement names.
fn paths_in(statement: &str) -> Vec<String> {
    let import = statement
        .split_once("use ")
        .filter(|(before, _)| before.is_empty() || before.starts_with("pub"));
    if let Some((_, import)) = import {
        return expanded(import);
    }
    let is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let found = statement.split(|c| !is_path(c));
    let found = found.filter(|path| path.starts_with("crate::") || path.starts_with("super::"));
    found.map(str::to_owned).collect()
}

/// Returns the deepest module that a path leads to from a module; `None` if it leads out of the
/// crate.
fn module_at(
    path: &str,
    from: &ModulePath,
    modules: &BTreeMap<ModulePath, String>,
) -> Option<ModulePath> {
    let mut names = path.split("::").map(|name| {
        let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        &name[..end.unwrap_or(name.len())]
    });
    let child = |parent: &ModulePath, name: &str| {
        let path = [parent.as_slice(), &[name.to_owned()]].concat();
        modules.contains_key(&path).then_some(path)
    };
    let mut names = names.by_ref().peekable();
    let mut at = match *names.peek()? {
        "crate" => {
            names.next();
            ModulePath::new()
        }
        "self" => {
            names.next();
            from.clone()
        }
        "super" => {
            let mut at = from.clone();
            while names.next_if_eq(&"super").is_some() {
                at.pop();
            }
            at
        }
        name => {
            names.next();
            child(from, name)?
        }
    };
    for name in names {
        match child(&at, name) {
            Some(deeper) => at = deeper,
            None => break,
        }
    }
    Some(at)
}

/// Returns the imports between modules with the same parent, including those of their submodules.
fn imports_of_siblings(modules: &BTreeMap<ModulePath, String>) -> BTreeSet<(String, String)> {
    let mut imports = BTreeSet::new();
    for (from, code) in modules {
        let statements = statements(code);
        let paths = statements.iter().flat_map(|statement| paths_in(statement));
        for to in paths.filter_map(|path| module_at(&path, from, modules)) {
            let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if let (Some(_), Some(_)) = (from.get(shared), to.get(shared)) {
                let name = |path: &ModulePath| path[..=shared].join("::");
                imports.insert((name(from), name(&to)));
            }
        }
    }
    imports
}

#[test]
fn imports_between_sibling_modules_have_no_cycle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = [
        "src",
        "crates/clock/src",
        "crates/sandbox/src",
        "crates/web/src",
    ];
    let mut count = 0;
    for source in sources {
        let imports = imports_of_siblings(&code_of_modules(&root.join(source)));
        count += imports.len();
        assert_eq!(cyclic_imports(&imports), [] as [&(String, String); 0]);
    }
    assert!(count >= 500, "only {count} imports were found");
}

#[test]
fn a_cycle_of_sibling_modules_is_detected() {
    let circle = |planted: &str| {
        let sources = [
            ("", "mod a;\nmod b;"),
            ("a", "mod c;\nuse super::b;\nuse c::C;"),
            ("a::c", planted),
            ("a::d", "use super::c::C;"),
            ("b", "use crate::{\n    x,\n    B,\n};"),
        ];
        let modules = sources.map(|(path, code)| {
            let path = path.split("::").filter(|name| !name.is_empty());
            (path.map(str::to_owned).collect(), code.to_owned())
        });
        let imports = imports_of_siblings(&BTreeMap::from(modules));
        cyclic_imports(&imports).len()
    };

    assert_eq!(circle("use super::A;\nuse crate::b::B;"), 0);
    for (planted, count) in [
        ("use super::{\n    A,\n    d::D,\n};", 2),
        ("fn c() -> super::d::D {}", 2),
        ("pub(super) use super::super::a::{d};", 2),
    ] {
        assert_eq!(circle(planted), count, "{planted}");
    }
}

/// Returns the text of a line that is a comment.
fn comment(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix("//")?;
    Some(text.trim_start_matches(['/', '!']).trim())
}

/// Returns true if a comment is a question or begins with a question word.
fn is_question(comment: &str) -> bool {
    let first = comment.split(|c: char| !c.is_alphabetic()).next();
    let question_words = ["What", "How", "Whether", "Who", "Whose", "Where"];
    first.is_some_and(|first| question_words.contains(&first)) || comment.ends_with('?')
}

/// Returns the lines of comments of the workspace, each with its file and number, without examples.
fn comments() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["benches", "crates", "fuzz/fuzz_targets", "src", "tests"];
    let files = folders.iter().flat_map(|folder| files(&root.join(folder)));
    let lines = files.flat_map(|file| {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(root).unwrap().display().to_string();
        let mut is_example = false;
        let mut lines = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let Some(text) = comment(line) else { continue };
            is_example ^= text.starts_with("```");
            if !is_example {
                lines.push((format!("{name}:{}", index + 1), line.to_owned()));
            }
        }
        lines
    });
    lines.collect()
}

#[test]
fn comments_have_at_most_100_columns() {
    // Links and rows of tables cannot be wrapped.
    let may_be_wide = |line: &str| line.contains("://") || line.contains('|');

    let wide = comments().into_iter();
    let wide: Vec<_> = wide
        .filter(|(_, line)| line.chars().count() > 100 && !may_be_wide(line))
        .map(|(location, _)| location)
        .collect();

    assert!(wide.is_empty(), "{wide:#?}");
}

#[test]
fn few_comments_begin_with_a_question_word() {
    let comments = comments();
    let questions = comments.iter().filter_map(|(location, line)| {
        let text = comment(line)?;
        is_question(text).then_some((location, text))
    });
    let questions: Vec<_> = questions.collect();

    assert!(
        questions.len() * 1000 < comments.len() * 15,
        "{} of {}: {questions:#?}",
        questions.len(),
        comments.len()
    );
}

#[test]
fn questions_among_comments_are_found() {
    for text in ["    /// What is held.", "// Is it?", "//! Who: the caller"] {
        assert!(is_question(comment(text).unwrap()), "{text}");
    }
    for text in ["/// The caller.", "// Whatever comes is taken.", "//"] {
        assert!(!is_question(comment(text).unwrap()), "{text}");
    }
    assert_eq!(comment("let a = 1; // one"), None);
}

/// Returns the numbers of the lines in a Markdown text that are shown as pipes, not as a table. A
/// table begins with its head and a line of dashes, and a blank line ends it.
fn rows_without_table(text: &str) -> Vec<usize> {
    let is_row = |line: &str| line.starts_with('|');
    let is_ruler = |line: &str| is_row(line) && line.chars().all(|c| "|-: ".contains(c));
    let lines: Vec<_> = text.lines().collect();
    let (mut is_example, mut is_in_table, mut found) = (false, false, Vec::new());
    for (index, line) in lines.iter().enumerate() {
        is_example ^= line.starts_with("```");
        let follows_head = || lines.get(index + 1).is_some_and(|next| is_ruler(next));
        is_in_table = !is_example && is_row(line) && (is_in_table || follows_head());
        if !is_example && is_row(line) && !is_in_table {
            found.push(index + 1);
        }
    }
    found
}

#[test]
fn rows_in_documents_belong_to_a_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["docs", "tests"].map(|folder| files_of_kind(&root.join(folder), "md"));
    let documents = ["README.md", "CHANGELOG.md"].map(|name| root.join(name));
    for document in folders.into_iter().flatten().chain(documents) {
        let text = fs::read_to_string(&document).unwrap();

        let rows = rows_without_table(&text);

        assert_eq!(rows, [] as [usize; 0], "{}", document.display());
    }
}

#[test]
fn a_row_after_a_blank_line_is_found() {
    let table = "| key | meaning |\n| --- | --- |\n| `a` | b |\n";
    assert_eq!(rows_without_table(table), [] as [usize; 0]);
    let separate = format!("{table}\n| `c` | d |\n\n```text\n| no | row |\n```\n");
    assert_eq!(rows_without_table(&separate), [5]);
}
