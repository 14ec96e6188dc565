//! Finds the word that somebody probably meant.

/// Returns the known word nearest to the one that was read, if one is near.
pub(crate) fn nearest<'a>(read: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |word: &str| -> Vec<char> {
        word.chars()
            .filter(|w| !matches!(w, '_' | '-' | ' '))
            .flat_map(char::to_lowercase)
            .collect()
    };
    let read = plain(read);
    let best = known.into_iter().map(|k| (distance(&read, &plain(k)), k)).min_by_key(|i| i.0)?;
    // A third of the letters may be wrong, and one always: `v22` is likely `v2`.
    (best.0 <= (read.len() / 3).max(1)).then_some(best.1)
}

/// Returns a sentence that names the nearest known word, or all of them.
pub(crate) fn did_you_mean(read: &str, known: &[&str]) -> String {
    match nearest(read, known.iter().copied()) {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("known here: {}", quoted(known)),
    }
}

/// Returns the words in backticks with commas between.
pub(crate) fn quoted(words: &[&str]) -> String {
    words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ")
}

/// Returns how many letters must be changed, added, dropped or swapped with their neighbour.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before = vec![0; to.len() + 1];
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, letter) in from.iter().enumerate() {
        let mut now = vec![row + 1; to.len() + 1];
        for (column, wanted) in to.iter().enumerate() {
            let change = last[column] + usize::from(letter != wanted);
            now[column + 1] = change.min(last[column + 1] + 1).min(now[column] + 1);
            let swapped =
                row > 0 && column > 0 && *letter == to[column - 1] && from[row - 1] == *wanted;
            if swapped {
                now[column + 1] = now[column + 1].min(before[column - 1] + 1);
            }
        }
        before = last;
        last = now;
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["shadowTimeout", "timeout", "onFailure", "v2"];
        let check = |read: &str, expected: Option<&str>| {
            assert_eq!(nearest(read, known), expected, "{read}");
        };
        check("timeuot", Some("timeout"));
        check("on_failure", Some("onFailure"));
        check("v22", Some("v2"));
        check("shadow-timeout", Some("shadowTimeout"));
        check("colour", None);
    }
}
