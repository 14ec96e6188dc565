//! Every text that the program logs, prints or returns as an error, in one generated file that is read as a whole.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::kit::process::serinus;
use crate::repository::lexer::{Piece, pieces};
use crate::repository::{root, sources};

const FILE: &str = "tests/it/repository/messages.txt";

const HEAD: &str = "# Generated: `make refresh` rewrites this file. Review its diff as a whole: a reader sees these texts at 3 a.m.\n";

/// Macros and calls whose literals are for developers: they are shown only if the program itself is wrong.
const INTERNAL: &[&str] =
    &["expect(", "unreachable!(", "panic!(", "assert!(", "reason =", "description =", "feature ="];

#[test]
fn the_list_of_messages_is_fresh() {
    let fresh = format!("{HEAD}{}{}", literals(), help());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(root().join(FILE), &fresh).expect("the file can be written");
    }
    let kept = fs::read_to_string(root().join(FILE)).unwrap_or_default();
    let differs = kept.lines().zip(fresh.lines()).find(|(kept, fresh)| kept != fresh);
    assert!(kept == fresh, "`make refresh` rewrites {FILE}; the first difference: {differs:?}");
}

/// The literals of each file that read as sentences, in order of appearance.
fn literals() -> String {
    let mut text = String::new();
    let mut all: Vec<(PathBuf, String)> =
        ["crates", "src"].iter().flat_map(|folder| sources(folder)).collect();
    all.retain(|(path, _)| !is_test(path));
    all.sort();
    for (path, source) in all {
        let product = source.split("#[cfg(test)]").next().unwrap_or_default();
        let messages: Vec<Piece> = pieces(product).into_iter().filter(is_message).collect();
        if messages.is_empty() {
            continue;
        }
        writeln!(text, "\n{}", path.display()).expect("a string takes all");
        for message in messages {
            writeln!(text, "  {}", message.text.replace('\n', "\n  ")).expect("a string takes all");
        }
    }
    text
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| ["tests", "examples"].iter().any(|name| part.as_os_str() == *name))
        || path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"))
}

/// A literal of several words that is not internal.
fn is_message(piece: &Piece) -> bool {
    let before = piece.before.trim_end();
    let is_word = |word: &&str| word.len() > 1 && word.chars().all(|c| c.is_ascii_lowercase());
    let mut words = piece.text.split(' ').map(|word| word.trim_matches([',', '.', ':', ';', '`']));
    !piece.is_comment
        && !INTERNAL.iter().any(|internal| before.ends_with(internal))
        && piece.text.contains(' ')
        && words.any(|word| is_word(&word))
}

/// The help of the program and of each of its commands.
fn help() -> String {
    let mut text = String::new();
    let top = help_of(&[]);
    let commands: Vec<&str> = top
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    assert!(commands.len() > 5, "the help lists the commands: {top}");
    for command in std::iter::once(None).chain(commands.into_iter().map(Some)) {
        let command: Vec<&str> = command.into_iter().collect();
        writeln!(text, "\n$ serinus {}", [&command[..], &["--help"]].concat().join(" "))
            .expect("a string takes all");
        for line in help_of(&command).lines() {
            writeln!(text, "{}", format!("  {line}").trim_end()).expect("a string takes all");
        }
    }
    text
}

fn help_of(command: &[&str]) -> String {
    // Without the environment: help shows the values of variables that options read.
    let output = serinus().args(command).arg("--help").env_clear().output();
    let output = output.expect("the program runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A sentence is a message; a name, a format and a reason of a lint are not.
#[test]
fn sentences_are_messages() {
    let found = |text: &str| {
        pieces(text).iter().filter(|p| is_message(p)).map(|p| p.text.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        found("info!(partition, \"partition blocked\"); x.expect(\"it is there\")"),
        ["partition blocked"]
    );
    assert_eq!(
        found("#[error(\"failed to read {0}\")] #[expect(a, reason = \"so it is\")]"),
        ["failed to read {0}"]
    );
    assert_eq!(found("const NAME: &str = \"rollout-events\"; format!(\"{a} {b}\")"), [""; 0]);
}
