//! The rules of the house that no compiler and no lint holds: rooms, head comments, documents, dependencies.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Each room and the rooms it may import. The same table stands in ARCHITECTURE.md; a test compares them.
///
/// A new room: its line here, its row there, its `mod` line in `lib.rs`.
const ROOMS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("stats", &[]),
    ("strategy", &["domain", "stats"]),
    ("join", &["domain"]),
    ("engine", &["domain", "stats", "strategy", "join"]),
    ("spec", &["domain", "strategy"]),
    ("wire", &["domain", "stats", "strategy", "join", "engine", "spec"]),
    ("simulate", &["domain", "stats", "strategy", "join", "engine", "spec"]),
    ("kafka", &["domain", "stats", "strategy", "join", "engine", "spec", "wire"]),
    ("worker", &["domain", "wire", "kafka"]),
    ("api", &["domain", "engine", "kafka"]),
    (
        "cli",
        &[
            "domain", "stats", "strategy", "join", "engine", "spec", "wire", "simulate", "kafka",
            "worker", "api",
        ],
    ),
    (
        "demo",
        &[
            "domain", "stats", "strategy", "join", "engine", "spec", "wire", "kafka", "worker",
            "cli",
        ],
    ),
];

/// The rooms of the machines and of what they are made of: no clock, no chance, no I/O, no lock, no log.
const PURE: &[&str] = &["domain", "stats", "strategy", "join", "engine", "spec", "wire"];

/// What a pure room never names, outside its tests.
const IMPURE: &[&str] = &[
    "std::time",
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "std::process",
    "Mutex",
    "RwLock",
    "Condvar",
    "Atomic",
    "mpsc",
    "SystemTime",
    "Instant::",
    "rand::",
    "tokio::",
    "tracing::",
    "rdkafka",
    "async fn",
    "println!",
];

#[test]
fn arrows_point_one_way() {
    let mut wrong = Vec::new();
    for (room, may_import) in ROOMS {
        for (path, text) in sources(&format!("src/{room}")) {
            for (number, line) in code_lines(&text) {
                for named in rooms_named(line) {
                    if named != *room && !may_import.contains(&named.as_str()) {
                        wrong.push(format!(
                            "{}:{number}: `{room}` imports `{named}`",
                            path.display()
                        ));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_folder_of_src_is_a_room() {
    let folders: BTreeSet<String> = fs::read_dir(root().join("src"))
        .expect("src can be listed")
        .map(|entry| entry.expect("an entry of src can be read"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let rooms: BTreeSet<String> = ROOMS.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(folders, rooms, "folders of src on the left, ROOMS on the right");
}

#[test]
fn imports_take_the_full_path() {
    let banned = [
        ("super::super", "import by `crate::room::file::Name`"),
        ("use serinus::", "the inside does not go through lib.rs"),
        ("use crate::{", "one room a line"),
    ];
    let mut wrong = Vec::new();
    for (path, text) in ROOMS.iter().flat_map(|(room, _)| sources(&format!("src/{room}"))) {
        for (number, line) in code_lines(&text) {
            for (what, instead) in &banned {
                if line.contains(what) {
                    wrong.push(format!("{}:{number}: {what}: {instead}", path.display()));
                }
            }
            // A test module may take its parent whole; nothing else hides where a name comes from.
            let is_glob = line.trim_start().trim_start_matches("pub ").starts_with("use ")
                && line.contains("::*");
            if is_glob && line.trim() != "use super::*;" {
                wrong.push(format!("{}:{number}: a glob import", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_pure_rooms_do_nothing_but_compute() {
    let mut wrong = Vec::new();
    for (path, text) in PURE.iter().flat_map(|room| sources(&format!("src/{room}"))) {
        for (number, line) in product_lines(&path, &text) {
            for what in IMPURE.iter().filter(|what| line.contains(**what)) {
                wrong.push(format!("{}:{number}: {what}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "a pure room names what only the shell may:\n{}", wrong.join("\n"));
}

#[test]
fn the_machines_cannot_fail() {
    let mut wrong = Vec::new();
    for (path, text) in ["engine", "join"].iter().flat_map(|room| sources(&format!("src/{room}"))) {
        for (number, line) in product_lines(&path, &text) {
            if line.contains("-> Result<") || line.contains("-> anyhow::Result") {
                wrong.push(format!("{}:{number}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "a bad record is an event, not an error:\n{}", wrong.join("\n"));
}

#[test]
fn the_nouns_and_machines_are_not_serialisable() {
    let mut wrong = Vec::new();
    for (path, text) in ["domain", "stats", "strategy", "join", "engine"]
        .iter()
        .flat_map(|room| sources(&format!("src/{room}")))
    {
        for (number, line) in product_lines(&path, &text) {
            // A value of the user's own shape is carried as what it is; reading and writing bytes is `wire`'s.
            let line = line.replace("serde_json::Value", "");
            if ["serde::", "serde_json", "Serialize", "Deserialize"]
                .iter()
                .any(|what| line.contains(what))
            {
                wrong.push(format!("{}:{number}", path.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "`wire` and `spec` have their own types for bytes:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn only_the_shell_names_the_kafka_client() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        for (number, line) in code_lines(&text) {
            if line.contains("rdkafka") && !path.starts_with("src/kafka") {
                wrong.push(format!("{}:{number}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_stands_in_one_file() {
    let files: BTreeSet<PathBuf> = sources("src")
        .into_iter()
        .filter(|(_, text)| {
            code_lines(text).any(|(_, line)| {
                line.contains("unsafe {")
                    || line.contains("unsafe fn")
                    || line.contains("unsafe impl")
            })
        })
        .map(|(path, _)| path)
        .collect();
    assert!(
        files.len() <= 1 && files.iter().all(|path| path.starts_with("src/kafka")),
        "unsafe code in {files:?}"
    );
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut wrong = Vec::new();
    for (path, text) in ["src", "tests", "benches", "examples", "fuzz/src", "fuzz/targets"]
        .iter()
        .flat_map(|folder| sources(folder))
    {
        let first = text.lines().next().unwrap_or_default();
        if !(first.starts_with("//! ") && first.ends_with(['.', ':'])) {
            wrong.push(format!("{}: {first:?}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "the first line is one `//!` sentence:\n{}", wrong.join("\n"));
}

#[test]
fn a_mod_file_is_a_map() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src").into_iter().filter(|(path, _)| path.ends_with("mod.rs")) {
        for (number, line) in code_lines(&text) {
            let line = line.trim();
            let is_map = line.is_empty()
                || line.starts_with("#[")
                || line
                    .trim_start_matches("pub ")
                    .trim_start_matches("pub(crate) ")
                    .starts_with("mod ");
            if !is_map {
                wrong.push(format!("{}:{number}: {line}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "mod.rs holds its doc and its `mod` lines:\n{}", wrong.join("\n"));
}

#[test]
fn files_are_read_at_a_sitting() {
    // Past this there are two things in one file. A list of data that is one thing says so here.
    const LINES_MAX: usize = 600;
    let long: Vec<String> = ["src", "tests"]
        .iter()
        .flat_map(|folder| sources(folder))
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "over {LINES_MAX} lines:\n{}", long.join("\n"));
}

#[test]
fn the_room_table_is_the_documented_one() {
    let text = read("ARCHITECTURE.md");
    let documented: Vec<(String, Vec<String>)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| {
            let (room, cells) = row.split_once("/` |")?;
            let (_, imports) = cells.trim_end().trim_end_matches('|').rsplit_once('|')?;
            Some((room.to_owned(), words(imports)))
        })
        .collect();
    let held: Vec<(String, Vec<String>)> = ROOMS
        .iter()
        .map(|(room, imports)| {
            ((*room).to_owned(), imports.iter().map(|import| (*import).to_owned()).collect())
        })
        .collect();
    assert_eq!(documented, held, "ARCHITECTURE.md's table on the left, ROOMS on the right");
}

#[test]
fn what_the_documents_name_exists() {
    let mut documents =
        vec!["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "AGENTS.md", "CHANGELOG.md"]
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>();
    documents.extend(files("docs", "md").iter().map(|path| path.display().to_string()));
    let mut wrong = Vec::new();
    for document in documents {
        for named in read(&document).split('`').skip(1).step_by(2).filter(|word| names_a_file(word))
        {
            let (path, test) =
                named.split_once("::").map_or((named, None), |(path, test)| (path, Some(test)));
            let exists = if path.contains('*') {
                path.split_once('*').is_some_and(|(folder, _)| root().join(folder).is_dir())
            } else {
                root().join(path).exists()
            };
            if !exists {
                wrong.push(format!("{document}: `{named}`: no such file"));
            } else if let Some(test) = test
                && !read(path).contains(&format!("fn {test}("))
            {
                wrong.push(format!("{document}: `{named}`: no such function"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let mut documents = files("docs", "md");
    documents.extend(
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "AGENTS.md"].map(PathBuf::from),
    );
    let mut wrong = Vec::new();
    for document in documents {
        let text = read(&document.display().to_string());
        let folder = document.parent().unwrap_or(Path::new(""));
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            if !path.is_empty() && !path.contains("://") && !root().join(folder).join(path).exists()
            {
                wrong.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_examples_are_there_and_the_readme_names_them() {
    let examples: Vec<PathBuf> =
        ["yaml", "py", "rs"].iter().flat_map(|extension| files("examples", extension)).collect();
    let rollouts = examples
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .count();
    assert!(rollouts >= 3, "one rollout of each strategy: {examples:?}");
    let readme = read("README.md");
    for path in &examples {
        assert!(
            readme.contains(&path.display().to_string()),
            "README.md does not name {}",
            path.display()
        );
    }
}

#[test]
fn dependencies_are_free_and_from_one_registry() {
    let output = Command::new(env!("CARGO"))
        // Only what this machine builds: the crates of other platforms are not there, and a test downloads nothing.
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--offline",
            "--filter-platform",
            &host(),
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let allowed = allowed_licences();
    assert!(allowed.contains("Apache-2.0"), "deny.toml's list was not found");
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().expect("packages are listed") {
        let name = package["name"].as_str().unwrap_or_default();
        let licence = package["license"].as_str().unwrap_or("none");
        if !is_allowed(licence, &allowed) {
            wrong.push(format!("{name}: licence `{licence}` is not in deny.toml"));
        }
        let source = package["source"].as_str().unwrap_or("this project");
        if source != "registry+https://github.com/rust-lang/crates.io-index" && name != "serinus" {
            wrong.push(format!("{name}: comes from {source}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A test of the behaviour would pass without it: the tests' own dependencies ask for the feature, the program's do not.
#[test]
fn the_program_reads_numbers_to_the_bit() {
    let manifest = read("Cargo.toml");
    let line = manifest.lines().find(|it| it.starts_with("serde_json = "));
    let line = line.expect("serde_json is a dependency");
    assert!(
        line.contains("\"float_roundtrip\""),
        "without it a design reads back one digit off: {line}"
    );
}

#[test]
fn licence_expressions_are_understood() {
    let allowed: BTreeSet<String> =
        ["MIT", "BSD-3-Clause", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
    let check = |expression: &str, expected: bool| {
        assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
    };
    check("MIT", true);
    check("GPL-3.0", false);
    check("GPL-3.0 OR MIT", true);
    check("GPL-3.0/MIT", true);
    check("GPL-3.0 AND MIT", false);
    check("(GPL-3.0 OR MIT) AND BSD-3-Clause", true);
    check("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true);
    check("Apache-2.0", false);
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The triple of this machine, as the compiler names it.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").current_dir(root()).output().expect("rustc runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("rustc names its host")
        .to_owned()
}

/// Every file below a folder with this extension, as paths from the project's root, in order.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(folder)];
    while let Some(path) = open.pop() {
        let Ok(entries) = fs::read_dir(&path) else { continue };
        for path in entries.map(|entry| entry.expect("a folder's entry can be read").path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|it| it == extension) {
                found.push(path.strip_prefix(root()).expect("it is below the root").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Every Rust file below a folder, with its text.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    files(folder, "rs")
        .into_iter()
        .map(|path| (path.clone(), read(&path.display().to_string())))
        .collect()
}

/// The lines that are not comments, numbered from 1.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The code lines that are not tests: a test module ends a file, or has a file of its own.
fn product_lines<'a>(path: &Path, text: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let is_test_file = path.components().any(|part| part.as_os_str() == "tests")
        || path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"));
    code_lines(text).take_while(move |(_, line)| !is_test_file && line.trim() != "#[cfg(test)]")
}

fn rooms_named(line: &str) -> Vec<String> {
    line.split("crate::")
        .skip(1)
        .map(|rest| rest.chars().take_while(|it| it.is_ascii_lowercase() || *it == '_').collect())
        .collect()
}

fn words(cell: &str) -> Vec<String> {
    cell.split(|it: char| !(it.is_ascii_alphanumeric() || it == '_'))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// True for `src/join/ledger.rs`, `tests/it/tidy.rs::name`, `Makefile` and the like; false for commands and topic names.
fn names_a_file(word: &str) -> bool {
    let folders = ["src/", "tests/", "docs/", "examples/", "schemas/", "benches/", "fuzz/", ".ci/"];
    !word.contains([' ', '<', '{', '\n']) && folders.iter().any(|folder| word.starts_with(folder))
        || [
            "Cargo.toml",
            "Makefile",
            "Dockerfile",
            "docker-compose.yml",
            "clippy.toml",
            "deny.toml",
        ]
        .contains(&word)
}

/// The list `allow` of `[licenses]` in deny.toml.
fn allowed_licences() -> BTreeSet<String> {
    let text = read("deny.toml");
    let (_, list) = text.split_once("allow = [").expect("deny.toml lists the licences");
    let (list, _) = list.split_once(']').expect("the list ends");
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether an SPDX expression can be met with the allowed licences. `/` is an old way to write `OR`.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut tokens: Vec<&str> = spaced.split_whitespace().rev().collect();
    either(&mut tokens, allowed)
}

fn either(tokens: &mut Vec<&str>, allowed: &BTreeSet<String>) -> bool {
    let mut any = both(tokens, allowed);
    while tokens.last() == Some(&"OR") {
        tokens.pop();
        any |= both(tokens, allowed);
    }
    any
}

fn both(tokens: &mut Vec<&str>, allowed: &BTreeSet<String>) -> bool {
    let mut all = one(tokens, allowed);
    while tokens.last() == Some(&"AND") {
        tokens.pop();
        all &= one(tokens, allowed);
    }
    all
}

fn one(tokens: &mut Vec<&str>, allowed: &BTreeSet<String>) -> bool {
    let Some(first) = tokens.pop() else { return false };
    if first == "(" {
        let inner = either(tokens, allowed);
        return tokens.pop() == Some(")") && inner;
    }
    if tokens.last() != Some(&"WITH") {
        return allowed.contains(first);
    }
    tokens.pop();
    tokens.pop().is_some_and(|exception| allowed.contains(&format!("{first} WITH {exception}")))
}

/// Two dependencies of one name and different versions are two copies in the binary: each pair is known by name.
#[test]
fn doubled_dependencies_are_known() {
    // Each waits for the crate that pulls the older one: heck (strum), syn (half of the derive macros), getrandom and r-efi
    // (ahash, tempfile), base64 (serde-saphyr). embedded-io is an option of postcard, in the lock file only.
    const KNOWN: &[&str] = &["base64", "embedded-io", "getrandom", "heck", "r-efi", "syn"];
    let lock = read("Cargo.lock");
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    for name in lock.lines().filter_map(|line| line.strip_prefix("name = ")) {
        *versions.entry(name.trim_matches('"')).or_default() += 1;
    }
    let doubled: Vec<&str> =
        versions.iter().filter(|(_, count)| **count > 1).map(|(name, _)| *name).collect();
    let unknown: Vec<&&str> = doubled.iter().filter(|name| !KNOWN.contains(name)).collect();
    assert!(
        unknown.is_empty(),
        "two versions of {unknown:?}: find who pulls the older one with `cargo tree -d`"
    );
}
