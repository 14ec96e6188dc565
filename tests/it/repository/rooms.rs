//! Rooms and crates: allowed imports, names that a pure room must not use, and limits on the length of files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::repository::{code_lines, product_lines, read, root, sources};

/// A room: its name, its folder, and the rooms that it may import. A test compares this table with the one in ARCHITECTURE.md.
///
/// A new room: a line here, a row there, and a `mod` line in the `lib.rs` of its crate.
const ROOMS: &[(&str, &str, &[&str])] = &[
    ("stats", "crates/serinus-stats/src", &[]),
    ("domain", "crates/serinus-core/src/domain", &[]),
    ("plan", "crates/serinus-core/src/plan", &["domain"]),
    ("evidence", "crates/serinus-core/src/evidence", &["stats", "domain", "plan"]),
    ("inference", "crates/serinus-core/src/inference", &["stats", "domain", "plan", "evidence"]),
    (
        "decision",
        "crates/serinus-core/src/decision",
        &["stats", "domain", "plan", "evidence", "inference"],
    ),
    ("join", "crates/serinus-core/src/join", &["domain"]),
    (
        "engine",
        "crates/serinus-core/src/engine",
        &["stats", "domain", "plan", "evidence", "inference", "decision", "join"],
    ),
    ("spec", "crates/serinus-core/src/spec", &["domain", "plan"]),
    (
        "simulate",
        "crates/serinus-core/src/simulate",
        &["stats", "domain", "plan", "evidence", "inference", "join", "engine", "spec"],
    ),
    (
        "wire",
        "src/wire",
        &["stats", "domain", "plan", "evidence", "inference", "decision", "join", "engine", "spec"],
    ),
    (
        "kafka",
        "src/kafka",
        &["domain", "plan", "evidence", "inference", "join", "engine", "spec", "wire"],
    ),
    ("worker", "src/worker", &["kafka"]),
    ("api", "src/api", &["domain", "engine", "kafka"]),
    (
        "cli",
        "src/cli",
        &[
            "domain", "plan", "decision", "join", "engine", "spec", "simulate", "wire", "kafka",
            "worker", "api",
        ],
    ),
    ("demo", "src/demo", &["domain", "plan", "spec", "wire", "kafka", "worker", "cli"]),
];

/// The rooms of the state machines and their building blocks: no clock, no randomness, no I/O, no lock, no log.
const PURE: &[&str] = &[
    "stats",
    "domain",
    "plan",
    "evidence",
    "inference",
    "decision",
    "join",
    "engine",
    "spec",
    "wire",
];

/// The pure rooms whose types are not serializable.
const UNSERIALISED: &[&str] =
    &["stats", "domain", "plan", "evidence", "inference", "decision", "join", "engine"];

/// Names that a pure room must not use outside its tests.
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

const CRATES: &[&str] = &["crates/serinus-stats/src", "crates/serinus-core/src", "src"];

#[test]
fn rooms_import_only_rooms_below() {
    let mut wrong = Vec::new();
    for (room, folder, may_import) in ROOMS {
        for (path, text) in sources(folder) {
            for (number, line) in code_lines(&text) {
                for named in rooms_named(folder, line) {
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
fn no_two_files_import_each_other() {
    let mut wrong = Vec::new();
    for folder in CRATES {
        let imports = imports_of(folder);
        let mut open: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> = imports
            .iter()
            .map(|(file, named)| (file, named.iter().filter(|n| *n != file).collect()))
            .collect();
        // Removes files that import no remaining file; what is left is in a circle or leads into one.
        loop {
            let done: BTreeSet<&PathBuf> =
                open.iter().filter(|(_, named)| named.is_empty()).map(|(file, _)| *file).collect();
            if done.is_empty() {
                break;
            }
            open.retain(|file, _| !done.contains(file));
            for named in open.values_mut() {
                named.retain(|file| !done.contains(file));
            }
        }
        wrong.extend(open.iter().map(|(file, named)| format!("{} -> {named:?}", file.display())));
    }
    assert!(wrong.is_empty(), "circles, and files that lead into one:\n{}", wrong.join("\n"));
}

#[test]
fn the_folders_of_kafka_import_each_other_one_way() {
    let folder = "src/kafka";
    let room_of = |path: &Path| {
        let inside = path.strip_prefix(folder).ok()?;
        Some(inside.components().next()?.as_os_str().to_string_lossy().into_owned())
    };
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, named) in imports_of("src") {
        let Some(room) = room_of(&file) else { continue };
        let named = named.iter().filter_map(|file| room_of(file)).filter(|other| *other != room);
        imports.entry(room.clone()).or_default().extend(named);
    }
    while !imports.is_empty() {
        let done: Vec<String> = imports
            .iter()
            .filter(|(_, named)| !named.iter().any(|room| imports.contains_key(room)))
            .map(|(room, _)| room.clone())
            .collect();
        assert!(!done.is_empty(), "a circle of rooms, or rooms that lead into one: {imports:#?}");
        imports.retain(|room, _| !done.contains(room));
    }
}

#[test]
fn the_library_crates_read_no_clock() {
    let mut wrong = Vec::new();
    for (path, text) in ["crates/serinus-stats/src", "crates/serinus-core/src"]
        .iter()
        .flat_map(|folder| sources(folder))
    {
        for (number, line) in product_lines(&path, &text) {
            if ["std::time", "Instant", "SystemTime"].iter().any(|clock| line.contains(clock)) {
                wrong.push(format!("{}:{number}: {line}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "time comes from records:\n{}", wrong.join("\n"));
}

#[test]
fn every_folder_is_a_room() {
    let mut folders = BTreeSet::new();
    for path in ["src", "crates/serinus-core/src"] {
        for entry in fs::read_dir(root().join(path)).expect("the folder can be listed") {
            let entry = entry.expect("an entry can be read");
            if entry.path().is_dir() {
                folders.insert(format!("{path}/{}", entry.file_name().to_string_lossy()));
            }
        }
    }
    folders.insert("crates/serinus-stats/src".to_owned());
    let rooms: BTreeSet<String> = ROOMS.iter().map(|(_, folder, _)| (*folder).to_owned()).collect();
    assert_eq!(folders, rooms, "folders on the left, ROOMS on the right");
}

#[test]
fn imports_take_the_full_path() {
    let banned = [
        ("super::super", "import by `crate::room::file::Name`"),
        ("use serinus::", "the inside does not go through lib.rs"),
        ("use crate::{", "one room a line"),
    ];
    let mut wrong = Vec::new();
    for (path, text) in ROOMS.iter().flat_map(|(_, folder, _)| sources(folder)) {
        for (number, line) in code_lines(&text) {
            for (what, instead) in &banned {
                if line.contains(what) {
                    wrong.push(format!("{}:{number}: {what}: {instead}", path.display()));
                }
            }
            // A test module may import its parent with a glob; everything else names what it imports.
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
    for (path, text) in of_rooms(PURE) {
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
    for (path, text) in of_rooms(&["engine", "join"]) {
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
    for (path, text) in of_rooms(UNSERIALISED) {
        let lines: Vec<(usize, &str)> = product_lines(&path, &text).collect();
        wrong.extend(serialisable(&lines).iter().map(|n| format!("{}:{n}", path.display())));
    }
    assert!(
        wrong.is_empty(),
        "`wire` and `spec` have their own types for bytes, except for enums of plain words:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn only_enums_of_plain_words_may_be_serialisable() {
    let check = |text: &str, expected: &[usize]| {
        let lines: Vec<(usize, &str)> = (1..).zip(text.lines()).collect();
        assert_eq!(serialisable(&lines), expected, "{text}");
    };
    let derive =
        "#[derive(\n    Clone, Serialize, Deserialize,\n)]\n#[serde(rename_all = \"lowercase\")]\n";
    check(
        &format!(
            "use serde::{{Deserialize, Serialize}};\n{derive}pub enum A {{\n    #[default]\n    B,\n    C,\n}}"
        ),
        &[],
    );
    check(&format!("{derive}pub enum A {{\n    B(u8),\n}}"), &[2, 4]);
    check(
        &format!("{derive}pub enum A {{\n    B,\n    C {{\n        d: u8,\n    }},\n}}"),
        &[2, 4],
    );
    check(&format!("{derive}pub struct A;"), &[2, 4]);
    check("#[derive(JsonSchema)]\npub struct A;", &[1]);
    check("impl Serialize for A {}", &[1]);
    check("let a = serde_json::to_vec(&b);\nlet c: serde_json::Value = d;", &[1]);
}

#[test]
fn only_the_shell_names_the_kafka_client() {
    let mut wrong = Vec::new();
    for (path, text) in CRATES.iter().flat_map(|folder| sources(folder)) {
        for (number, line) in code_lines(&text) {
            if line.contains("rdkafka") && !path.starts_with("src/kafka") {
                wrong.push(format!("{}:{number}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_is_in_one_file() {
    let files: BTreeSet<PathBuf> = CRATES
        .iter()
        .flat_map(|folder| sources(folder))
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
    for (path, text) in
        ["src", "crates", "tests", "benches", "examples", "fuzz/src", "fuzz/targets"]
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
    let maps = CRATES.iter().flat_map(|folder| sources(folder));
    for (path, text) in maps.filter(|(path, _)| path.ends_with("mod.rs")) {
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
    // A longer file has two subjects. A table of data that is one subject is listed here.
    const LINES_MAX: usize = 600;
    let long: Vec<String> = ["src", "crates", "tests"]
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
            let (folder, cells) = row.split_once("/` |")?;
            let (_, imports) = cells.trim_end().trim_end_matches('|').rsplit_once('|')?;
            Some((folder.to_owned(), words(imports)))
        })
        .collect();
    let held: Vec<(String, Vec<String>)> = ROOMS
        .iter()
        .map(|(_, folder, imports)| {
            ((*folder).to_owned(), imports.iter().map(|room| (*room).to_owned()).collect())
        })
        .collect();
    assert_eq!(documented, held, "ARCHITECTURE.md's table on the left, ROOMS on the right");
}

/// Returns the numbers of the lines that make a type serializable, except enums without data.
fn serialisable(lines: &[(usize, &str)]) -> Vec<usize> {
    let mut wrong = Vec::new();
    let mut rest = lines;
    while let Some(((number, line), after)) = rest.split_first() {
        rest = after;
        // A user-defined value is passed on unchanged; `wire` reads and writes bytes.
        let line = line.replace("serde_json::Value", "");
        let is_named = [
            "serde::",
            "serde_json",
            "#[serde",
            "schemars",
            "Serialize",
            "Deserialize",
            "JsonSchema",
        ]
        .iter()
        .any(|what| line.contains(what));
        let is_import = line.starts_with("use serde::{")
            || line.starts_with("use serde::Deserialize;")
            || line == "use schemars::JsonSchema;";
        if is_named && !is_import && !is_on_plain_enum(after) {
            wrong.push(*number);
        }
    }
    wrong
}

/// Whether the item after these attributes is an enum without data.
fn is_on_plain_enum(lines: &[(usize, &str)]) -> bool {
    let mut lines = lines.iter().map(|(_, line)| *line);
    let is_attribute = |line: &str| {
        line.starts_with("#[")
            || line.starts_with(")]")
            || line.starts_with("///")
            || line.starts_with("    ")
    };
    let Some(item) = lines.by_ref().find(|line| !is_attribute(line)) else { return false };
    if !(item.starts_with("pub enum ") && item.ends_with('{')) {
        return false;
    }
    lines.take_while(|line| *line != "}").all(|line| {
        let line = line.trim();
        let variant = line.strip_suffix(',').unwrap_or(line);
        line.is_empty()
            || line.starts_with("//")
            || line.starts_with("#[")
            || variant.chars().all(char::is_alphanumeric)
    })
}

/// The sources of these rooms.
fn of_rooms(rooms: &[&str]) -> Vec<(PathBuf, String)> {
    let wanted = ROOMS.iter().filter(|(room, _, _)| rooms.contains(room));
    wanted.flat_map(|(_, folder, _)| sources(folder)).collect()
}

/// The rooms that a line of a file in this folder names: of its own crate, and of the two crates below it.
fn rooms_named(folder: &str, line: &str) -> Vec<String> {
    let mut named = Vec::new();
    if !folder.starts_with("crates/serinus-stats") {
        named.extend(after(line, "crate::"));
    }
    named.extend(after(line, "serinus_core::"));
    named.extend(after(line, "serinus_stats::").into_iter().map(|_| "stats".to_owned()));
    named
}

/// The names behind a prefix.
fn after(line: &str, prefix: &str) -> Vec<String> {
    line.split(prefix)
        .skip(1)
        .map(|rest| rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect())
        .collect()
}

/// The files that each file of a crate imports, outside its tests.
fn imports_of(folder: &str) -> BTreeMap<PathBuf, BTreeSet<PathBuf>> {
    let files = sources(folder);
    let by_module: BTreeMap<String, &PathBuf> =
        files.iter().map(|(path, _)| (module(folder, path), path)).collect();
    let mut imports = BTreeMap::new();
    for (path, text) in &files {
        let mut named = BTreeSet::new();
        for (_, line) in product_lines(path, text) {
            for rest in line.split("crate::").skip(1) {
                let segments: Vec<&str> = rest
                    .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
                    .next()
                    .unwrap_or_default()
                    .split("::")
                    .filter(|segment| !segment.is_empty())
                    .collect();
                let found = (1..=segments.len())
                    .rev()
                    .find_map(|length| by_module.get(&segments[..length].join("::")));
                named.extend(found.map(|file| (*file).clone()));
            }
        }
        imports.insert(path.clone(), named);
    }
    imports
}

/// The module path of a file within its crate.
fn module(folder: &str, path: &Path) -> String {
    let inside =
        path.strip_prefix(folder).expect("the file is below the folder").with_extension("");
    let mut segments: Vec<String> =
        inside.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    if segments.last().is_some_and(|last| last == "mod") {
        segments.pop();
    }
    segments.join("::")
}

/// The words of a table cell.
fn words(cell: &str) -> Vec<String> {
    cell.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}
