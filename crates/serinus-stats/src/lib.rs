//! Two-sample tests, e-processes, the SRM check, sketches and special functions.
//!
//! All functions are pure. Evidence is counts and fixed-point sums, which merge by addition in any
//! order and can be subtracted exactly. Logarithms are natural, `difference` is candidate minus stable, `treated` is the
//! candidate's arm, and comparisons are made in log space: reject if `log_e >= ln(1 / alpha)`.
//!
//! Callers refuse observations that are NaN; each file documents the result if one is passed anyway. No
//! function here panics on a number.

#![warn(missing_docs)]

pub mod beta;
pub mod interval;
pub mod quadrature;
pub mod side;
pub mod special;

pub mod kelly;
pub mod prior;

pub mod bounded_bet;
pub mod cluster;
pub mod invert;
pub mod ipw_bet;
pub mod paired_bet;
pub mod rr_mix;

pub mod exceedance;
pub mod sketch;
pub mod split;

pub mod asymp;

pub mod agreement;
pub mod exact;
pub mod moments;
pub mod multiple;
pub mod ranking;
pub mod ranks;
pub mod ratio;
pub mod roc;
pub mod two_sample;

pub mod bayes;
pub mod drift;
pub mod planning;

pub mod reference;

#[cfg(test)]
mod edges;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod trials;

/// The example of the README compiles and holds.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
