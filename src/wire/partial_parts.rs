//! Parts that the records of a partial share: strata, versions, and sparse lists of bins.

use crate::wire::malformed::Malformed;
use serinus_core::domain::ids::{StageIndex, Version};
use serinus_core::evidence::design::{Part, Stratum};

/// The index and the count of each bin that is not empty.
pub(super) type SparseBins = Vec<(u32, u64)>;

pub(super) fn sparse(bins: &[u64]) -> SparseBins {
    (0..).zip(bins).filter(|(_, n)| **n > 0).map(|(bin, n)| (bin, *n)).collect()
}

pub(super) fn dense(bins: &SparseBins, count: usize) -> Result<Vec<u64>, Malformed> {
    let mut dense = vec![0_u64; count];
    for (bin, n) in bins {
        match dense.get_mut(*bin as usize) {
            Some(count) => {
                let sum = count.checked_add(*n);
                *count = sum.ok_or_else(|| Malformed::new("partial", "its bins overflow"))?;
            }
            None => return Err(Malformed::new("partial", format!("bin {bin} is out of range"))),
        }
    }
    Ok(dense)
}

pub(super) fn pair(stratum: Stratum) -> (u32, u32) {
    (stratum.stage.0, stratum.drops)
}

pub(super) fn stratum((stage, drops): (u32, u32)) -> Stratum {
    Stratum { stage: StageIndex(stage), drops }
}

pub(super) fn part(is_copied: bool) -> Part {
    if is_copied { Part::Copied } else { Part::Chosen }
}

pub(super) fn version(text: &str) -> Version {
    text.into()
}
