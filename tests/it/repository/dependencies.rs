//! The dependencies of the project: licenses, sources, and duplicate versions.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::repository::{read, root};

#[test]
fn dependencies_are_free_and_from_one_registry() {
    let output = Command::new(env!("CARGO"))
        // Only crates that this machine builds: those of other platforms are not downloaded, and a test downloads nothing.
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
        if source != "registry+https://github.com/rust-lang/crates.io-index"
            && !name.starts_with("serinus")
        {
            wrong.push(format!("{name}: comes from {source}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A test of the behavior would pass without it, because dev-dependencies enable the feature and the program's dependencies do not.
#[test]
fn the_program_reads_numbers_to_the_bit() {
    let manifest = read("Cargo.toml");
    let line = manifest.lines().find(|line| line.starts_with("serde_json = "));
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

/// The target triple of this machine, from the compiler.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").current_dir(root()).output().expect("rustc runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("rustc names its host")
        .to_owned()
}

/// The list `allow` of `[licenses]` in deny.toml.
fn allowed_licences() -> BTreeSet<String> {
    let text = read("deny.toml");
    let (_, list) = text.split_once("allow = [").expect("deny.toml lists the licences");
    let (list, _) = list.split_once(']').expect("the list ends");
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether the allowed licenses satisfy an SPDX expression. `/` is an old spelling of `OR`.
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

/// Two versions of one dependency are two copies in the binary: each pair is listed.
#[test]
fn doubled_dependencies_are_known() {
    // Each waits for the crate that needs the older one: heck (strum), syn (half of the derive macros), getrandom and r-efi
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
