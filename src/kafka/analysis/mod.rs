//! The analysis role: one lane for each partition of predictions, which joins labels and publishes rows and partial evidence.
//!
//! `role` connects the lanes to the loop in `lanes::partition_role`, and to the repartitioning in `labels`. `lane` is one partition: the
//! core's analyst, which holds the cases until they mature, and how far it has read. `inputs` decodes predictions and labels, `rows`
//! writes analysis rows. After a restart a lane resumes from its snapshot (`snapshots`), else from its journal, else from what its
//! topics show (`recovery`); `partials` reads back the evidence that it has published.

pub mod partials;
pub mod rows;

pub mod inputs;
pub mod lane;
pub mod recovery;
pub mod snapshots;

pub mod missing_plans;
pub mod role;
