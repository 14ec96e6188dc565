//! What is left out, in this order, of a record of ours that does not fit into one message.

use std::sync::Arc;

use crate::wire::analysis::AnalysisRecord;
use serinus_core::domain::case::{CaseAnswer, Prediction};
use serinus_core::domain::record::Bytes;

/// The longest text of others that is kept where space is short.
const TEXT_BYTES_MAX: usize = 1000;
/// The longest text where next to nothing fits.
const TEXT_BYTES_MIN: usize = 160;

/// Returns the beginning of a text, whole where it is short.
pub fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// Returns the beginning of a text where next to nothing fits.
pub fn cut_short(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MIN)]
}

/// Leaves the answers' values out of a prediction; each says so where its error would stand.
pub fn without_values(prediction: &mut Prediction) {
    for answer in &mut prediction.answers {
        if let Some(value) = answer.value.take() {
            let words = || Arc::from(left_out(value.len()));
            answer.error.get_or_insert_with(words);
        }
    }
}

/// Cuts what else can be large in a prediction, but for the request id, by which it is joined.
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

/// Leaves the answers' values out of a row; each says so where its error would stand.
pub fn without_row_values(row: &mut AnalysisRecord) {
    for answer in &mut row.answers {
        let json = answer.value.take().map(|v| v.to_string().len());
        // Four characters of base64 are three bytes.
        let bytes = answer.value_base64.take().map(|v| v.len() / 4 * 3);
        if let Some(size) = json.or(bytes) {
            answer.error.get_or_insert_with(|| left_out(size));
        }
    }
}

/// Leaves the label's value out of a row, and cuts what else can be large but for the request id.
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
