//! Integration by Gauss and Legendre's sixteen points on panels.

/// The positive nodes on [-1, 1] and their weights; the others are their mirror.
const RULE: [(f64, f64); 8] = [
    (0.989_400_934_991_649_9, 0.027_152_459_411_754_096),
    (0.944_575_023_073_232_6, 0.062_253_523_938_647_894),
    (0.865_631_202_387_831_8, 0.095_158_511_682_492_79),
    (0.755_404_408_355_003, 0.124_628_971_255_533_88),
    (0.617_876_244_402_643_8, 0.149_595_988_816_576_74),
    (0.458_016_777_657_227_37, 0.169_156_519_395_002_54),
    (0.281_603_550_779_258_9, 0.182_603_415_044_923_58),
    (0.095_012_509_837_637_44, 0.189_450_610_455_068_5),
];

/// Calls `visit` with each node and weight for the integral from `low` to `high`, cut into equal panels.
pub fn nodes(low: f64, high: f64, panels: u32, mut visit: impl FnMut(f64, f64)) {
    let half = 0.5 * (high - low) / f64::from(panels);
    for panel in 0..panels {
        let centre = low + half * (2.0 * f64::from(panel) + 1.0);
        for (node, weight) in RULE {
            visit(centre - half * node, half * weight);
            visit(centre + half * node, half * weight);
        }
    }
}

/// Returns the integral of `f` from `low` to `high`, cut into equal panels.
pub fn integral(low: f64, high: f64, panels: u32, f: impl Fn(f64) -> f64) -> f64 {
    let mut sum = 0.0;
    nodes(low, high, panels, |x, weight| sum += weight * f(x));
    sum
}
