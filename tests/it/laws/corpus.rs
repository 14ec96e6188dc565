//! The fuzz corpus: every change runs each of its files through its target.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serinus_core::engine::judge::event::Action;

use crate::fuzzed::{TARGETS, judge};

/// Laws hold trivially for histories without outcomes, so each history must have them.
#[test]
fn the_judges_of_the_corpus_do_all_that_a_judge_does() {
    let done: BTreeSet<&str> = files("judge_machine")
        .iter()
        .flat_map(|f| judge::actions(&fs::read(f).expect("it can be read")))
        .collect();
    // These histories have no labels after their decision.
    let all = Action::ALL.iter().filter(|action| **action != Action::Contested);
    let missing: Vec<&str> = all.map(|s| s.word()).filter(|w| !done.contains(w)).collect();
    assert!(missing.is_empty(), "no judge of the corpus did {missing:?}");
}

fn files(target: &str) -> Vec<PathBuf> {
    listed(&format!("fuzz/corpus/{target}"))
}

fn listed(folder: &str) -> Vec<PathBuf> {
    let folder = root().join(folder);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|d| d.expect("it can be listed").path())
        .collect();
    files.sort();
    files
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_folder_of_the_corpus_has_its_target() {
    let mut folders: Vec<String> = listed("fuzz/corpus")
        .iter()
        .map(|l| l.file_name().expect("it has a name").to_string_lossy().into_owned())
        .collect();
    folders.sort();
    let mut names = TARGETS.map(|(name, _)| name.to_owned());
    names.sort();
    assert_eq!(folders, names, "folders of the corpus on the left, targets on the right");
    for name in names {
        let file = root().join(format!("fuzz/targets/{name}.rs"));
        let text = fs::read_to_string(&file).unwrap_or_default();
        assert!(text.contains(&format!("run(\"{name}\", ")), "{} does not run it", file.display());
        let script = fs::read_to_string(root().join("fuzz/run.sh")).expect("it is there");
        assert!(script.contains(&format!("[{name}]=")), "fuzz/run.sh does not know {name}");
    }
}

#[test]
fn every_target_holds_its_laws_on_its_corpus() {
    for (name, target) in TARGETS {
        let files = files(name);
        let mut held = 0;
        for file in &files {
            // Printed only if the target panics, to name the file.
            println!("{}", file.display());
            held += usize::from(target(&fs::read(file).expect("it can be read")));
        }
        // Coverage leads decoders to many malformed records; some must be well-formed.
        assert!(files.len() >= 100, "{name}: {} files", files.len());
        assert!(held >= 5, "{name}: {held} of {} files hold anything", files.len());
    }
}
