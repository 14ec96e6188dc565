//! The two questions every strategy answers, `route` and `judge`, over plain data.

pub mod metric;
pub mod stage;

pub mod assign;

pub mod bet_cache;

pub mod amended;
pub mod bounds;
pub mod centre;
pub mod design;
pub mod evidence;
pub mod planning;
pub mod scoring;
pub mod units;

pub mod forecast;

pub mod verdict;
pub mod words;

mod claims;
mod classic;
pub mod finding;
pub mod gaps;
pub mod health;
pub mod look;
mod pace;
mod ranked;
mod strata;

pub mod gates;
pub mod support;

pub mod ab;
pub mod canary;
pub mod contract;
pub mod shadow;
