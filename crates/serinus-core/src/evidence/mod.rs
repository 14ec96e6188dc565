//! Evidence as sums: they merge by addition, in any order, to the last bit.

pub mod design;
pub mod units;

pub mod bet_center;
pub mod bounds;
pub mod unscored;

pub mod late_labels;
pub mod sums;
