//! Rules of the repository that no compiler and no lint checks: imports (`rooms`), texts (`prose`, `messages`, `documents`), dependencies, compose file and scripts.

use std::fs;
use std::path::{Path, PathBuf};

mod compose;
mod dependencies;
mod documents;
mod lexer;
mod messages;
mod prose;
mod rooms;
mod tools;

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file below a folder with this extension, as paths from the project's root, in order.
pub(crate) fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(folder)];
    while let Some(path) = open.pop() {
        let Ok(entries) = fs::read_dir(&path) else { continue };
        for path in entries.map(|entry| entry.expect("a folder's entry can be read").path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path.strip_prefix(root()).expect("it is below the root").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Every Rust file below a folder, with its text.
pub(crate) fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    files(folder, "rs")
        .into_iter()
        .map(|path| (path.clone(), read(&path.display().to_string())))
        .collect()
}

/// The lines that are not comments, numbered from 1.
pub(crate) fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The code lines that are not tests: a test module ends a file, or has a file of its own.
pub(crate) fn product_lines<'a>(
    path: &Path,
    text: &'a str,
) -> impl Iterator<Item = (usize, &'a str)> {
    let is_test_file = path.components().any(|part| part.as_os_str() == "tests")
        || path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"));
    code_lines(text).take_while(move |(_, line)| !is_test_file && line.trim() != "#[cfg(test)]")
}
