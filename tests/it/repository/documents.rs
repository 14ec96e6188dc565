//! Documents name files and tests that exist, and their links have targets.

use std::path::{Path, PathBuf};

use crate::repository::{files, read, root};

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

/// True for paths such as `crates/serinus-core/src/join/open_cases.rs`, `tests/it/repository/rooms.rs::name` and `Makefile`; false for commands and topic names.
fn names_a_file(word: &str) -> bool {
    let folders = [
        "src/",
        "crates/",
        "tests/",
        "docs/",
        "examples/",
        "schemas/",
        "benches/",
        "fuzz/",
        ".ci/",
    ];
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
