//! Suggests the known word that a misspelled one was probably meant to be.

use strsim::osa_distance;

/// Returns the known word with the fewest typing errors, or `None` if every known word differs too much.
pub(crate) fn nearest<'a>(read: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |word: &str| -> String {
        word.chars()
            .filter(|c| !matches!(c, '_' | '-' | ' '))
            .flat_map(char::to_lowercase)
            .collect()
    };
    let read = plain(read);
    let distances = known.into_iter().map(|word| (osa_distance(&read, &plain(word)), word));
    let (distance, word) = distances.min_by_key(|(distance, _)| *distance)?;
    // Up to a third of the letters may be wrong, but at least one: `v22` is likely `v2`.
    (distance <= (read.chars().count() / 3).max(1)).then_some(word)
}

/// Returns help that names the nearest known word, or all known words if none is near.
pub(crate) fn did_you_mean(read: &str, known: &[&str]) -> String {
    match nearest(read, known.iter().copied()) {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("known here: {}", quoted(known)),
    }
}

/// Returns the words in backticks, separated by commas.
pub(crate) fn quoted(words: &[&str]) -> String {
    words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ")
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
