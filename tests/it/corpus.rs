//! The corpus that fuzzing has grown, and what once broke a law: every file of it through its target, on every change.

use std::fs;
use std::path::Path;

use crate::fuzzed::TARGETS;

#[test]
fn every_target_holds_its_laws_on_its_corpus() {
    for (name, target) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let mut files: Vec<_> = fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|it| it.expect("it can be listed").path())
            .collect();
        files.sort();
        let mut held = 0;
        for file in &files {
            // Said only where the target panics, so that the file is known.
            println!("{}", file.display());
            held += usize::from(target(&fs::read(file).expect("it can be read")));
        }
        // Most of what coverage leads a decoder to is no whole record, but some of it is.
        assert!(files.len() >= 100, "{name}: {} files", files.len());
        assert!(held >= 5, "{name}: {held} of {} files hold anything", files.len());
    }
}
