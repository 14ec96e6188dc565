//! Shortens records that do not fit into one message: which parts are left out, and in which order.

use std::sync::Arc;

use crate::wire::analysis::AnalysisRecord;
use serinus_core::domain::case::{CaseAnswer, Prediction};
use serinus_core::domain::record::Bytes;

/// Longest foreign text, in bytes, that a shortened record keeps.
const TEXT_BYTES_MAX: usize = 1000;
/// Longest text, in bytes, if the topic accepts only tiny records.
const TEXT_BYTES_MIN: usize = 160;

/// Cuts a text to `TEXT_BYTES_MAX`.
pub fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// Cuts a text to `TEXT_BYTES_MIN`.
pub fn cut_short(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MIN)]
}

/// Removes the answers' values from a prediction, and notes each removal in the answer's error.
pub fn without_values(prediction: &mut Prediction) {
    for answer in &mut prediction.answers {
        if let Some(value) = answer.value.take() {
            let words = || Arc::from(left_out(value.len()));
            answer.error.get_or_insert_with(words);
        }
    }
}

/// Cuts every other large part of a prediction except the request id, which the join needs.
pub fn without_texts(prediction: &mut Prediction) {
    prediction.segments = Arc::default();
    let is_long = |b: &Bytes| b.len() > TEXT_BYTES_MAX;
    if let Some(unit) = prediction.unit.take_if(|t| is_long(t)) {
        prediction.unit = Some(Bytes::from(&unit[..TEXT_BYTES_MAX]));
    }
    for CaseAnswer { error, .. } in &mut prediction.answers {
        *error = error.take().map(|e| Arc::from(cut(&e)));
    }
}

/// Removes the answers' values from a row, and notes each removal in the answer's error.
pub fn without_row_values(row: &mut AnalysisRecord) {
    for answer in &mut row.answers {
        let json = answer.value.take().map(|v| v.to_string().len());
        // Four characters of base64 encode three bytes.
        let bytes = answer.value_base64.take().map(|v| v.len() / 4 * 3);
        if let Some(size) = json.or(bytes) {
            answer.error.get_or_insert_with(|| left_out(size));
        }
    }
}

/// Removes the label's value from a row, and cuts every other large part except the request id.
pub fn without_row_texts(row: &mut AnalysisRecord) {
    row.label = None;
    row.segments = None;
    for text in [&mut row.unit, &mut row.unit_base64].into_iter().flatten() {
        text.truncate(cut(text).len());
    }
    for error in row.answers.iter_mut().filter_map(|a| a.error.as_mut()) {
        error.truncate(cut(error).len());
    }
}

fn left_out(size: usize) -> String {
    format!("its value of {size} bytes is left out: the record would not fit into one message")
}

#[cfg(test)]
mod tests {
    use super::{TEXT_BYTES_MAX, cut};

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        let long = "\u{e9}".repeat(TEXT_BYTES_MAX);
        assert_eq!(cut(&long).len(), TEXT_BYTES_MAX);
        assert_eq!(cut(&format!("x{long}")).len(), TEXT_BYTES_MAX - 1);
    }
}
