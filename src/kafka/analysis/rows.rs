//! Writes analysis rows, without their larger parts if they do not fit into one message.

use crate::kafka::client::error::ShellError;
use crate::kafka::client::outgoing::Outgoing;
use crate::kafka::client::transaction::{Sent, TransactionalProducer};
use crate::kafka::lanes::size_limit;
use crate::wire::analysis::AnalysisRecord;
use crate::wire::placement;
use serinus_core::engine::analyst::io::Row;
use serinus_core::plan::rollout::ModelPlan;

/// Writes a row; if it is too large, without values, then without texts.
pub(crate) fn write_row(
    plan: &ModelPlan,
    row: &Row,
    count: i32,
    producer: &mut TransactionalProducer,
) -> Result<Sent, ShellError> {
    let mut record = AnalysisRecord::from(row);
    let mut offer = |record: &AnalysisRecord| {
        let key = record.key().as_bytes();
        let to = placement::partition(key, count);
        producer.offer(plain(&plan.topics.analysis, to, key, &record.encode(plan.format)))
    };
    let mut fit = offer(&record)?;
    for leave_out in [size_limit::without_row_values, size_limit::without_row_texts] {
        if fit == Sent::TooLarge {
            leave_out(&mut record);
            fit = offer(&record)?;
        }
    }
    Ok(fit)
}

/// Makes a record with a key and a value, and no headers.
pub(crate) fn plain<'a>(
    topic: &'a str,
    partition: i32,
    key: &'a [u8],
    value: &'a [u8],
) -> Outgoing<'a> {
    Outgoing {
        topic,
        partition,
        key: Some(key),
        value: Some(value),
        passthrough: &[],
        headers: &[],
        at: None,
    }
}
