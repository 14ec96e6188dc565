//! Groups faults for the message of a failed test.

use std::collections::BTreeMap;

/// Groups faults that differ only in numbers and short names; returns the count and the first three of each group.
pub(crate) fn by_kind(faults: &[String]) -> Vec<String> {
    let mut kinds: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for fault in faults {
        let kind = fault.split(|c: char| !c.is_alphabetic()).filter(|i| i.len() > 2);
        kinds.entry(kind.collect::<Vec<_>>().join(" ")).or_default().push(fault);
    }
    let mut kinds: Vec<Vec<&str>> = kinds.into_values().collect();
    kinds.sort_by_key(|k| std::cmp::Reverse(k.len()));
    kinds
        .iter()
        .take(20)
        .map(|k| format!("{} times:\n  {}", k.len(), k[..k.len().min(3)].join("\n  ")))
        .collect()
}

#[test]
fn faults_that_differ_only_in_numbers_are_grouped() {
    let faults = ["a-1: served 2 times", "b: lost", "a-22: served 3 times"].map(str::to_owned);
    assert_eq!(
        by_kind(&faults),
        ["2 times:\n  a-1: served 2 times\n  a-22: served 3 times", "1 times:\n  b: lost"]
    );
}
