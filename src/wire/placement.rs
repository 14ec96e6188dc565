//! Kafka's default partitioner, to find a key on the same partition as other producers.

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;
const R: u32 = 24;

/// Returns the hash by which Kafka's Java client partitions keys.
pub fn murmur2(bytes: &[u8]) -> u32 {
    // Kafka hashes a 32-bit length; no key is that long.
    #[expect(clippy::cast_possible_truncation, reason = "Kafka's own arithmetic is modulo 2^32")]
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (index, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// Returns the partition of a key among `count` partitions, or 0 if `count` is 0.
pub fn partition(key: &[u8], count: i32) -> i32 {
    let positive = i32::try_from(murmur2(key) & 0x7fff_ffff).unwrap_or(i32::MAX);
    positive.checked_rem(count).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{murmur2, partition};

    /// The vectors of Kafka's own `UtilsTest.testMurmur2` and of librdkafka's `unittest_murmur2`.
    #[test]
    fn hashes_as_kafka_does() {
        let check = |key: &str, expected: u32| {
            assert_eq!(murmur2(key.as_bytes()), expected, "{key}");
        };
        check("21", (-973_932_308_i32).cast_unsigned());
        check("foobar", (-790_332_482_i32).cast_unsigned());
        check("a-little-bit-long-string", (-985_981_536_i32).cast_unsigned());
        check("a-little-bit-longer-string", (-1_486_304_829_i32).cast_unsigned());
        check(
            "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
            (-58_897_971_i32).cast_unsigned(),
        );
        check("abc", 479_470_107);
        check("kafka", 0xd067_cf64);
        check("giberish123456789", 0x8f55_2b0c);
        check("1234", 0x9fc9_7b14);
        check("234", 0xe7c0_09ca);
        check("34", 0x8739_30da);
        check("4", 0x5a4b_5ca1);
        check("", 0x106e_08d9);
    }

    #[test]
    fn a_key_stands_in_one_of_the_partitions() {
        assert_eq!(partition(b"foobar", 1), 0);
        // toPositive(-790332482) = 1357151166.
        assert_eq!(partition(b"foobar", 12), 1_357_151_166 % 12);
        assert_eq!(partition(b"foobar", 0), 0);
    }
}
