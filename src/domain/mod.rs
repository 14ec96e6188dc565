//! The nouns: ids, time, shares, requests, answers, cases and labels. No decisions.

pub mod ids;
pub mod time;

pub mod share;

pub mod record;
pub mod routing;

pub mod case;
pub mod label;
