//! The shell blocks of README.md and docs: each one can be pasted into an interactive bash or zsh.
//! There it succeeds, and prints what the page shows after it.
//!
//! The blocks of a page run one after the other, in one shell, beside a demo that has the addresses
//! of the page. A block with a command of [`NOT_RUN`] is only checked for its syntax.

use std::fs;
use std::io::{PipeWriter, Write as _, pipe};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;

use futures_util::future::join_all;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::channel::Channel;
use crate::support::demo::Demo;
use crate::support::patience::eventually;
use crate::support::process::{PROGRAM, Process, command_of, run};

/// The beginnings of commands that are not run, each with the reason.
const NOT_RUN: &[(&str, &str)] = &[
    ("cargo ", "builds a program"),
    ("scripts/", "takes minutes, or runs these tests"),
    ("./configure", "builds another project"),
    ("docker ", "needs Docker"),
    ("kubectl ", "needs a cluster"),
    ("python3 ", "runs until it is stopped"),
    ("docs/examples/", "runs until it is stopped"),
    ("curl -sS -u gateway:password", "calls a running example"),
    (
        "liveperson-bridge ",
        "needs an account, or runs until it is stopped",
    ),
    (
        "target/release/liveperson-bridge serve",
        "runs until it is stopped",
    ),
];

/// An interactive shell that reads its commands from a pipe.
struct Shell {
    program: &'static str,
    /// The arguments for an interactive shell without the user's settings, and without output other
    /// than that of the commands.
    arguments: &'static [&'static str],
    /// The line that makes it print `@@failed` for each command that fails.
    prelude: &'static str,
}

const BASH: Shell = Shell {
    program: "bash",
    arguments: &["--norc", "--noprofile", "--noediting", "-i"],
    prelude: "set -E; trap 'echo \"@@failed: $BASH_COMMAND\"' ERR",
};

const ZSH: Shell = Shell {
    program: "zsh",
    arguments: &["-f", "-i", "+o", "prompt_sp", "+o", "prompt_cr"],
    prelude: "TRAPZERR() { echo \"@@failed: $?\" }",
};

/// A fenced block of a page.
struct Block {
    /// The page, and the line at which the block begins.
    location: String,
    language: String,
    text: String,
    /// True if it shows the output of the block before it. At most one paragraph separates the two.
    is_output: bool,
}

impl Block {
    /// Returns the reason why a shell block is not run, if there is one.
    fn not_run(&self) -> Option<&'static (&'static str, &'static str)> {
        let is_used = |beginning: &str| {
            let mut commands = self.text.lines().map(without_variables);
            commands.any(|command| command.starts_with(beginning))
        };
        NOT_RUN.iter().find(|&&(beginning, _)| is_used(beginning))
    }

    /// True if it reads events until it is stopped.
    fn is_stream(&self) -> bool {
        self.text.contains("text/event-stream")
    }

    /// Returns the text to be pasted. A stream ends after 3 s.
    fn pasted(&self) -> String {
        if !self.is_stream() {
            return self.text.clone();
        }
        let stream = self.text.replace("curl -sSN", "curl -sN --max-time 3");
        assert_ne!(stream, self.text, "{}", self.location);
        // 28 is curl's exit code for a time limit.
        format!("{} || test $? -eq 28\n", stream.trim_end())
    }
}

/// Returns a line without the variables that it sets for its command.
fn without_variables(line: &str) -> &str {
    let is_assignment = |word: &str| {
        let name = word.split_once('=').map(|(name, _)| name);
        name.is_some_and(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    };
    match line.split_once(' ') {
        Some((word, rest)) if is_assignment(word) => without_variables(rest),
        _ => line,
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the blocks of each page.
fn pages() -> Vec<Vec<Block>> {
    let docs = fs::read_dir(root().join("docs")).unwrap();
    let docs = docs.map(|entry| entry.unwrap().path());
    let docs = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let pages = docs.chain([root().join("README.md")]);
    pages
        .map(|path| {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            blocks(&name, &fs::read_to_string(&path).unwrap())
        })
        .collect()
}

fn blocks(page: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::<Block>::new();
    let mut open: Option<Block> = None;
    let mut since_last = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let Some(language) = line.strip_prefix("```") else {
            match &mut open {
                Some(block) => block.text.extend([line, "\n"]),
                None => since_last.push(line),
            }
            continue;
        };
        if let Some(block) = open.take() {
            blocks.push(block);
            since_last.clear();
            continue;
        }
        let follows = blocks.last().is_some_and(|last| last.language == "sh");
        let paragraphs = since_last.split(|line| line.is_empty());
        let paragraphs: Vec<_> = paragraphs.filter(|lines| !lines.is_empty()).collect();
        let is_near = paragraphs.len() <= 1 && !since_last.iter().any(|line| line.starts_with('#'));
        open = Some(Block {
            location: format!("{page}:{}", index + 1),
            language: language.to_owned(),
            text: String::new(),
            is_output: ["json", "text"].contains(&language) && follows && is_near,
        });
    }
    assert!(open.is_none(), "{page}: the last block has no end");
    blocks
}

/// Returns the shell blocks of all pages.
fn shell_blocks() -> Vec<Block> {
    let blocks = pages().into_iter().flatten();
    let blocks: Vec<_> = blocks.filter(|block| block.language == "sh").collect();
    assert!(blocks.len() > 20, "only {} were found", blocks.len());
    blocks
}

/// Returns a command of a program in the `PATH`.
fn command_by_name(program: &str, arguments: &[&str]) -> Command {
    let mut command = command_of(Path::new(program), arguments);
    command.env("PATH", std::env::var_os("PATH").unwrap());
    command
}

/// A running shell beside a demo.
struct Session {
    process: Process,
    input: PipeWriter,
    /// The addresses of the documentation, each with that of the demo.
    addresses: Vec<(&'static str, String)>,
    /// The number of blocks that were pasted.
    pasted: usize,
    /// The lengths of the output and of the errors of earlier blocks.
    lengths: (usize, usize),
    _folder: TempDir,
}

impl Session {
    /// Starts a shell in a folder that looks like a checkout after a release build.
    async fn start(shell: &Shell, demo: &Demo) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let build = folder.path().join("target/release");
        fs::create_dir_all(&build).unwrap();
        symlink(PROGRAM, build.join("liveperson-bridge")).unwrap();
        let example = "bridge.example.toml";
        fs::copy(root().join(example), folder.path().join(example)).unwrap();
        let addresses = addresses(demo).await;
        let cloud = demo.address("Simulated Cloud").await;
        let (reader, mut input) = pipe().unwrap();
        let mut command = command_by_name(shell.program, shell.arguments);
        command
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .env("TERM", "dumb")
            .envs([("PS1", ""), ("PS2", "")])
            // The example configuration would call LivePerson's servers.
            .env("BRIDGE_ACCOUNTS__0__DOMAIN_API", cloud)
            .stdin(Stdio::from(reader));
        let process = Process::start(command);
        writeln!(input, "{}\necho @@begin >&2", shell.prelude).unwrap();
        process.log_line("@@begin").await;
        Self {
            lengths: (0, process.log().len()),
            process,
            input,
            addresses,
            pasted: 0,
            _folder: folder,
        }
    }

    /// Pastes a block and waits until it has ended. Returns its output, with the addresses of the
    /// documentation.
    async fn paste(&mut self, block: &Block) -> String {
        self.pasted += 1;
        let end = format!("@@end {}@@", self.pasted);
        let mut text = block.pasted();
        for (documented, real) in &self.addresses {
            text = text.replace(documented, real);
        }
        writeln!(self.input, "{text}echo; echo '{end}'; echo '{end}' >&2").unwrap();
        self.process.output_line(&end).await;
        self.process.log_line(&end).await;
        let (all_output, all_errors) = (self.process.output(), self.process.log());
        let output = all_output[self.lengths.0..].replace(&end, "");
        let errors = all_errors[self.lengths.1..].replace(&end, "");
        self.lengths = (all_output.len(), all_errors.len());
        let shown = format!("{}: {output}{errors}", block.location);
        assert!(!output.contains("@@failed"), "{shown}");
        assert_eq!(errors.trim(), "", "{shown}");
        for refusal in ["urn:liveperson-bridge:problem:", "{\"error\":"] {
            assert!(!output.contains(refusal), "{shown}");
        }
        with_documented(output, &self.addresses)
    }
}

/// Returns the addresses of the documentation, each with that of the demo.
async fn addresses(demo: &Demo) -> Vec<(&'static str, String)> {
    let mut addresses = Vec::new();
    for (documented, name) in [
        ("127.0.0.1:8080", "API"),
        ("127.0.0.1:9090", "Operator's page"),
        ("127.0.0.1:9400", "Simulated Cloud"),
    ] {
        let url = demo.address(name).await;
        let real = url.trim_start_matches("http://").to_owned();
        addresses.push((documented, real));
    }
    addresses
}

/// Replaces the addresses of a demo by those of the documentation.
fn with_documented(mut text: String, addresses: &[(&'static str, String)]) -> String {
    for (documented, real) in addresses {
        text = text.replace(real, documented);
    }
    text
}

/// Waits until the scripted agent of the demo has answered a message.
async fn answered(channel: &Channel, message: &str) {
    let answer = format!("\"You said: {message}\"");
    eventually(&answer, async || {
        let events = channel.get("/v1/events?limit=1000").await.expect(200);
        events.to_string().contains(&answer).then_some(())
    })
    .await;
}

/// Pastes the blocks of a page into a shell.
async fn paste_page(shell: &Shell, blocks: &[Block]) {
    let is_run = |block: &Block| block.language == "sh" && block.not_run().is_none();
    if !blocks.iter().any(is_run) {
        return;
    }
    let demo = Demo::start().await;
    let channel = Channel::new(&demo.api, "demo-key");
    // A reader of a page in docs has already sent a message.
    channel.say("carol", "Hi").await.expect(201);
    answered(&channel, "Hi").await;
    let mut session = Session::start(shell, &demo).await;
    let mut greets = false;
    for (index, block) in blocks.iter().enumerate() {
        if !is_run(block) {
            continue;
        }
        if greets && block.is_stream() {
            answered(&channel, "Hello").await;
        }
        let output = session.paste(block).await;
        greets |= block.text.contains("/messages") && block.text.contains("{\"text\": \"Hello\"}");
        if let Some(shown) = blocks.get(index + 1).filter(|next| next.is_output) {
            assert_shown(shown, &output);
        }
    }
}

async fn paste_all_pages(shell: &Shell) {
    let pages = pages();
    join_all(pages.iter().map(|blocks| paste_page(shell, blocks))).await;
}

/// Panics unless the output is what the page shows. In a block of text, each line is one of the
/// output's, in this order.
#[track_caller]
fn assert_shown(shown: &Block, output: &str) {
    let Block { location, text, .. } = shown;
    if shown.language == "json" {
        let expected: Value = serde_json::from_str(text).unwrap();
        let actual: Value = serde_json::from_str(output).unwrap();
        assert!(has_form(&expected, &actual), "{location}: {actual:#}");
        return;
    }
    let mut lines = output.lines();
    for line in text.lines() {
        let is_there = lines.any(|actual| matches(line, actual));
        assert!(is_there, "{location}: {line} is not in {output}");
    }
}

/// True if a text is the pattern, in which `…` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, others)) = pattern.split_once('…') else {
        return pattern == text;
    };
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = others.rsplit_once('…').unwrap_or(("", others));
    for part in middle.split('…') {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// True if a value is the one that is shown. In texts, `…` stands for any text. As the last item
/// of a list or as a member of an object, it stands for any others.
fn has_form(shown: &Value, actual: &Value) -> bool {
    match (shown, actual) {
        (Value::String(shown), Value::String(actual)) => matches(shown, actual),
        (Value::Array(shown), Value::Array(actual)) => {
            let (items, is_open) = match shown.split_last() {
                Some((last, items)) if *last == "…" => (items, true),
                _ => (shown.as_slice(), false),
            };
            let has_length = actual.len() == items.len() || is_open && actual.len() > items.len();
            has_length && items.iter().zip(actual).all(|(a, b)| has_form(a, b))
        }
        (Value::Object(shown), Value::Object(actual)) => {
            let is_open = shown.contains_key("…");
            let has_all = shown.iter().all(|(name, value)| {
                name == "…" || actual.get(name).is_some_and(|it| has_form(value, it))
            });
            has_all && (is_open || shown.len() == actual.len())
        }
        _ => shown == actual,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_block_can_be_pasted_into_bash() {
    paste_all_pages(&BASH).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_block_can_be_pasted_into_zsh() {
    paste_all_pages(&ZSH).await;
}

#[tokio::test]
async fn every_shell_block_is_valid_and_has_no_comments() {
    for block in shell_blocks() {
        let Block { location, text, .. } = &block;
        // An interactive zsh takes a comment for a command or for arguments.
        let mut words = text.split_whitespace();
        assert!(words.all(|word| !word.starts_with('#')), "{location}");
        for shell in [BASH, ZSH] {
            let checked = run(command_by_name(shell.program, &["-n", "-c", text])).await;

            assert_eq!(checked.code, 0, "{location}: {}", checked.errors);
            assert_eq!(checked.errors, "", "{location}");
        }
    }
}

#[test]
fn every_reason_not_to_run_a_block_is_needed() {
    let blocks = shell_blocks();
    for reason in NOT_RUN {
        let is_needed = blocks.iter().any(|block| block.not_run() == Some(reason));

        assert!(is_needed, "{reason:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_shows_the_first_lines_of_the_demo() {
    let demo = Demo::start().await;
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let blocks = blocks("README.md", &text);
    let mut blocks = blocks
        .iter()
        .skip_while(|block| block.text != "cargo run -- demo\n");
    let shown = blocks.nth(1).expect("a block after the command");

    let output = with_documented(demo.process.output(), &addresses(&demo).await);

    assert!(shown.is_output, "{}", shown.location);
    let printed: Vec<_> = output.lines().map(columns).collect();
    let shown: Vec<_> = shown.text.lines().map(columns).collect();
    // A line break comes first.
    assert_eq!(printed[1..=shown.len()], shown);
}

/// Returns the words of a line.
fn columns(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn shown_outputs_are_compared_by_their_form() {
    for (pattern, text, is_match) in [
        ("a", "a", true),
        ("a", "ab", false),
        ("a…", "ab", true),
        ("…b", "ab", true),
        ("a…b…c", "a1b2c", true),
        ("a…b…c", "a1c2b", false),
        ("a…b", "ab b", true),
        ("…", "", true),
    ] {
        assert_eq!(matches(pattern, text), is_match, "{pattern}: {text}");
    }
    for (shown, actual, is_match) in [
        (r#"{"a": "x…"}"#, r#"{"a": "xy"}"#, true),
        (r#"{"a": "x…"}"#, r#"{"a": "y"}"#, false),
        (r#"{"a": "…"}"#, r#"{"a": "x", "b": 1}"#, false),
        (r#"{"a": "…", "…": "…"}"#, r#"{"a": "x", "b": 1}"#, true),
        (r#"{"a": "…", "…": "…"}"#, r#"{"b": 1}"#, false),
        (r#"[1, "…"]"#, "[1, 2, 3]", true),
        (r#"[1, "…"]"#, "[2, 3]", false),
        ("[1]", "[1, 2]", false),
        ("0", "1", false),
    ] {
        let [left, right] =
            [shown, actual].map(|text| serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(has_form(&left, &right), is_match, "{shown}: {actual}");
    }
}

#[test]
fn blocks_are_found_with_their_outputs() {
    let page = "# A\n\n```sh\na\nb\n```\n\nIt prints:\n\n```json\n1\n```\n\n```sh\nc\n```\n\n## B\n\n```text\nd\n```\n";

    let blocks = blocks("page", page);

    let found: Vec<_> = blocks
        .iter()
        .map(|block| (&*block.location, &*block.text, block.is_output))
        .collect();
    assert_eq!(
        found,
        [
            ("page:3", "a\nb\n", false),
            ("page:10", "1\n", true),
            ("page:14", "c\n", false),
            ("page:20", "d\n", false),
        ]
    );
    assert_eq!(without_variables("A=1 B_C=2 d e=3"), "d e=3");
}
