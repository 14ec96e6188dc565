//! Hashes of other tools, so that a split of another tool can be recomputed here. Serinus uses `xxh3_64`.

/// FNV-1a with 32 bits.
pub fn fnv1a32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// `GrowthBook`'s second hash: a share of ten thousand.
pub fn growthbook_v2(seed: &str, id: &str) -> f64 {
    let inner = fnv1a32(format!("{seed}{id}").as_bytes());
    f64::from(fnv1a32(inner.to_string().as_bytes()) % 10_000) / 10_000.0
}

/// `MurmurHash3` with 32 bits (Appleby).
pub fn murmur3_32(bytes: &[u8], seed: u32) -> u32 {
    let mix = |k: u32| k.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let (blocks, tail) = bytes.as_chunks::<4>();
    let mut hash = blocks.iter().fold(seed, |hash, block| {
        (hash ^ mix(u32::from_le_bytes(*block)))
            .rotate_left(13)
            .wrapping_mul(5)
            .wrapping_add(0xe654_6b64)
    });
    if !tail.is_empty() {
        hash ^= mix(tail.iter().rev().fold(0, |k, byte| k << 8 | u32::from(*byte)));
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the length is mixed in modulo 2^32 by definition"
    )]
    let length = bytes.len() as u32;
    hash ^= length;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

/// `XXH64` with seed 0 (Collet).
pub fn xxh64(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh64::xxh64(bytes, 0)
}

/// Returns the point in [0, 1) of a 64-bit hash: its upper 53 bits.
pub fn point(hash: u64) -> f64 {
    (hash >> 11) as f64 * f64::exp2(-53.0)
}
