//! The reading of one metric and candidate: estimates, e-values and claims, before the metric's role is considered.

use crate::inference::claims::Claims;
use crate::inference::verdict::{Classic, Estimate, LogE, LostAnswers};

/// The result of one metric for one candidate, before it is judged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    pub(crate) n: u64,
    pub(crate) n_min: u64,
    pub(crate) stable: Option<Estimate>,
    pub(crate) value: Option<Estimate>,
    pub(crate) difference: Option<Estimate>,
    pub(crate) log_e: Option<LogE>,
    pub(crate) claims: Claims,
    pub(crate) classic: Option<Classic>,
    pub(crate) lost: LostAnswers,
}
