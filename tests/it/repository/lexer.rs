//! Comments and string literals of a Rust file, found without a parser.

/// A comment line or a string literal.
pub(crate) struct Piece {
    /// The line on which it starts, counted from 1.
    pub(crate) line: usize,
    /// The code between the previous piece and this one.
    pub(crate) before: String,
    /// The comment without its slashes, or the literal without its quotes and with its line continuations joined.
    pub(crate) text: String,
    pub(crate) is_comment: bool,
}

/// Returns all comments and string literals in order.
pub(crate) fn pieces(text: &str) -> Vec<Piece> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let (mut at, mut line, mut before) = (0, 1, String::new());
    while at < chars.len() {
        let rest = &chars[at..];
        let (length, piece) = if rest.starts_with(&['/', '/']) {
            let length = rest.iter().position(|c| *c == '\n').unwrap_or(rest.len());
            let comment: String = rest[..length].iter().collect();
            (length, Some((comment.trim_start_matches(['/', '!']).trim().to_owned(), true)))
        } else if let Some(hashes) = raw_string_hashes(rest, &before) {
            let end: Vec<char> = format!("\"{}", "#".repeat(hashes)).chars().collect();
            let start = 2 + hashes;
            let length = rest[start..]
                .windows(end.len())
                .position(|window| window == end)
                .map_or(rest.len(), |position| start + position + end.len());
            let inner = rest[start..length - end.len().min(length - start)].iter().collect();
            (length, Some((inner, false)))
        } else if rest[0] == '"' {
            let length = string_length(rest);
            let inner: String = rest[1..length.saturating_sub(1).max(1)].iter().collect();
            (length, Some((join_continuations(&inner), false)))
        } else if rest[0] == '\'' {
            (char_length(rest), None)
        } else {
            (1, None)
        };
        match piece {
            Some((text, is_comment)) => {
                found.push(Piece { line, before: std::mem::take(&mut before), text, is_comment });
            }
            None => before.extend(&rest[..length]),
        }
        line += rest[..length].iter().filter(|c| **c == '\n').count();
        at += length;
    }
    found
}

/// Returns the number of `#` if a raw string starts here.
fn raw_string_hashes(rest: &[char], before: &str) -> Option<usize> {
    let is_inside_word = before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
        && !before.ends_with('b')
        && !before.ends_with('c');
    if rest[0] != 'r' || is_inside_word {
        return None;
    }
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    (rest.get(1 + hashes) == Some(&'"')).then_some(hashes)
}

fn string_length(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// The length of a character literal; 1 for a lifetime.
fn char_length(rest: &[char]) -> usize {
    match rest {
        ['\'', '\\', ..] => {
            rest.iter().skip(3).position(|c| *c == '\'').map_or(1, |position| position + 4)
        }
        ['\'', _, '\'', ..] => 3,
        _ => 1,
    }
}

/// Removes each `\` at the end of a line together with the indentation of the next line.
fn join_continuations(text: &str) -> String {
    let mut parts = text.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |joined, part| joined + part.trim_start())
}

#[test]
fn comments_and_literals_are_told_apart() {
    let text = "//! Head.\nlet a = \"one // \\\"two\\\" \\\n    three\"; // tail\nlet b = r#\"raw \"x\"\"#; let c: &'static str = b\"bytes\"; '\"' '\\'' for_r\"z\"";
    let found: Vec<(usize, bool, String)> =
        pieces(text).into_iter().map(|p| (p.line, p.is_comment, p.text)).collect();
    let expected = [
        (1, true, "Head."),
        (2, false, "one // \\\"two\\\" three"),
        (3, true, "tail"),
        (4, false, "raw \"x\""),
        (4, false, "bytes"),
        (4, false, "z"),
    ];
    assert_eq!(found, expected.map(|(line, kind, text)| (line, kind, text.to_owned())));
}
