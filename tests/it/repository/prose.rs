//! The words that comments, messages and documents avoid.

use std::path::{Path, PathBuf};

use crate::repository::lexer::pieces;
use crate::repository::{files, read};

/// Phrases that technical English avoids; write what CONTRIBUTING.md says instead.
const PHRASES: &[&str] = &[
    "all the same",
    "and says",
    "anew",
    "are asked for",
    "are told",
    "are waited for",
    "as it was",
    "at the least",
    "at the most",
    "begins anew",
    "beside it",
    "by chance",
    "come round",
    "come to stand",
    "comes round",
    "for ever",
    "for long",
    "goes by",
    "hereby",
    "how many-th",
    "in vain",
    "is asked for",
    "is told",
    "is waited for",
    "makes up",
    "meanwhile",
    "no sooner than",
    "nobody",
    "of its own accord",
    "once more",
    "said so",
    "says so",
    "so many of",
    "somebody",
    "such as are",
    "the like",
    "thereby",
    "what came",
    "what comes",
    "what is to",
    "what stands",
    "whatever goes",
    "where it stood",
    "who reads",
    "who waits",
    "whoever",
];

/// This list itself.
const THIS: &str = "tests/it/repository/prose.rs";

#[test]
fn no_text_uses_a_banned_phrase() {
    let mut wrong = Vec::new();
    for path in texts() {
        for (line, text) in prose(&path) {
            let found = PHRASES.iter().filter(|phrase| holds(&text, phrase));
            wrong.extend(found.map(|f| format!("{}:{line}: {f}: {text}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "{} banned phrases:\n{}", wrong.len(), wrong.join("\n"));
}

/// Every file with text for people. Committed data and generated files are not text.
fn texts() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["src", "crates", "tests", "examples", "docs", "fuzz/targets", ".github"] {
        for extension in ["rs", "md", "py", "sh", "yaml", "yml"] {
            found.extend(files(folder, extension));
        }
    }
    let documents = ["README", "ARCHITECTURE", "CONTRIBUTING", "CHANGELOG", "AGENTS", "SECURITY"];
    found.extend(documents.iter().map(|name| PathBuf::from(format!("{name}.md"))));
    found.extend(["Makefile", ".ci/run", "Dockerfile", "docker-compose.yml"].map(PathBuf::from));
    found.retain(|path| path != &PathBuf::from(THIS));
    found
}

/// The numbered lines of a file that are prose: comments and string literals of Rust, everything of other files.
fn prose(path: &Path) -> Vec<(usize, String)> {
    let text = read(&path.display().to_string());
    if path.extension().is_some_and(|extension| extension == "rs") {
        let pieces = pieces(&text).into_iter();
        return pieces.map(|piece| (piece.line, piece.text)).collect();
    }
    text.lines().enumerate().map(|(index, line)| (index + 1, line.to_owned())).collect()
}

/// Whether a text holds a phrase as whole words, in any case.
fn holds(text: &str, phrase: &str) -> bool {
    let text = text.to_lowercase();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(phrase).any(|(start, _)| {
        !text[..start].ends_with(is_word) && !text[start + phrase.len()..].starts_with(is_word)
    })
}
