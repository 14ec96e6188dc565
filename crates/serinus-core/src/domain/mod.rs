//! The nouns: ids, time, shares, requests, answers, cases, labels, and the published assignment. No decisions.

pub mod ids;
pub mod time;

pub mod share;

pub mod assignment;
pub mod record;
pub mod routing;

pub mod case;
pub mod label;
