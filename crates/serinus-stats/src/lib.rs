//! Tests of two versions that stay valid however often one looks: e-processes and confidence sequences.
//!
//! Numbers in, numbers out: every function is a pure function of its arguments, and none panics on a number.
//!
//! **Units and signs.** Evidence is counts and fixed-point sums, which merge by addition in any order and can be retracted exactly.
//! Logarithms are natural. A difference is candidate minus stable; `treated` is the arm of the candidate. A test decides when
//! `log_e >= ln(1 / alpha)`, always compared in log space.
//!
//! **Errors.** Values that are not numbers are refused by the caller; each module documents the result for one that is passed anyway.
//!
//! **Reading order.** [`side`] and [`prior`] name what is tested and how bets are planned; [`kelly`] is the bet itself; [`ipw_bet`],
//! [`paired_bet`] and [`bounded_bet`] test rates, pairs and means with it, and [`invert`] turns a test into an interval.
//! [`asymp`] carries the metrics that are no means ([`ratio`], [`roc`]), [`exceedance`] and [`sketch`] latency, [`rr_mix`] and
//! [`split`] the split of traffic, [`cluster`] units with many requests. The other modules report and plan: no decision uses them.
//!
//! Sources are named in each module.

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
