//! The machines of Serinus without Kafka: routing, joining answers with labels, evidence, decisions, and simulated rollouts.
//!
//! A machine takes `(now, event)` and appends effects. Nothing here reads a clock, draws a random number or does I/O (`simulate` draws
//! from seeded generators), so that every decision can be recomputed from recorded inputs.
//!
//! The modules are in the order in which they may import: each knows only those above it.
//!
//! | module | what it holds |
//! |---|---|
//! | [`domain`] | requests, answers, labels, shares, time, and the published assignment function |
//! | [`plan`] | models and rollouts as the machines see them |
//! | [`evidence`] | sums that merge exactly, by stage, version and metric |
//! | [`inference`] | what the evidence shows: findings with intervals, health, plans for the next stage |
//! | [`decision`] | the gates between stages, and the verdict |
//! | [`join`] | cases that wait for labels, and labels that wait for cases |
//! | [`engine`] | the three machines: [`engine::serving`], [`engine::analyst`], [`engine::judge`] |
//! | [`spec`] | the YAML of users, with errors that point at its lines |
//! | [`simulate`] | synthetic worlds: how often a spec decides wrongly, and after how many requests |
//!
//! `examples/rollout.rs` judges a canary in simulated worlds. Times are milliseconds of event time unless a name says otherwise.

#![warn(missing_docs)]

pub mod domain;

pub mod plan;

pub mod evidence;

pub mod inference;

pub mod decision;

pub mod join;

pub mod engine;

pub mod spec;

pub mod simulate;
