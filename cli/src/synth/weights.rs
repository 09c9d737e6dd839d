//! Random numbers in the formats of weights.
//!
//! Every number is uniformly distributed and depends on nothing but the seed and its place, so that any part of a file can
//! be made on any thread.

use half::{bf16, f16};
use ossicle_core::file::TensorType;

/// How the numbers of a tensor are distributed.
#[derive(Clone, Copy, Debug)]
pub struct Distribution {
    /// 0 in all but [`TensorType::F32`].
    pub mean: f32,
    /// Standard deviation.
    pub deviation: f32,
}

/// SplitMix64 (G. L. Steele, D. Lea, C. H. Flood: Fast Splittable Pseudorandom Number Generators, 2014).
pub struct Random(u64);

impl Random {
    /// The numbers of one place: each different place has its own.
    pub fn new(seed: u64, place: [u64; 2]) -> Self {
        place.iter().fold(Self(seed), |random, number| Self(Self(random.0).next() ^ Self(*number).next()))
    }

    #[inline]
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// From -1 to 1.
    #[inline]
    fn signed(&mut self) -> f32 {
        (self.next() as i64 >> 40) as f32 / (1 << 23) as f32
    }

    /// From 0 to `bound - 1`.
    #[inline]
    fn below(&mut self, bound: u64) -> u64 {
        ((self.next() >> 32) * bound) >> 32
    }
}

/// Standard deviation of the sixteen E2M1 values: sqrt((0 + 0.25 + 1 + 2.25 + 4 + 9 + 16 + 36) / 8).
const MXFP4_DEVIATION: f32 = 2.926;
/// By what three equally frequent scales of 1/2, 1 and 2 raise a standard deviation: sqrt((1/4 + 1 + 4) / 3).
const MXFP4_SCALES: f32 = 1.323;

/// Fills `bytes`, whole blocks of `dtype`, with numbers.
///
/// # Panics
/// If the type is none that weights of a GGUF file have.
pub fn fill(random: &mut Random, dtype: TensorType, distribution: Distribution, bytes: &mut [u8]) {
    let Distribution { mean, deviation } = distribution;
    // A uniform distribution over [-a, a] has the standard deviation a / sqrt(3).
    let amplitude = deviation * 3f32.sqrt();
    match dtype {
        TensorType::F32 => {
            for value in bytes.as_chunks_mut::<4>().0 {
                *value = (mean + amplitude * random.signed()).to_le_bytes();
            }
        }
        TensorType::Bf16 => {
            for value in bytes.as_chunks_mut::<2>().0 {
                *value = bf16::from_f32(amplitude * random.signed()).to_le_bytes();
            }
        }
        TensorType::Q8_0 => {
            for block in bytes.as_chunks_mut::<34>().0 {
                let scale = amplitude / 127.0 * (1.0 + 0.25 * random.signed());
                block[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
                for eight in block[2..].as_chunks_mut::<8>().0 {
                    // -128 is not in the format: its quantizers never write it.
                    *eight = random.next().to_le_bytes().map(|byte| (byte as i8).max(-127) as u8);
                }
            }
        }
        TensorType::Mxfp4 => {
            let exponent = (deviation / (MXFP4_DEVIATION * MXFP4_SCALES)).log2().round() as i32;
            let least = (127 + exponent - 1) as u8;
            for block in bytes.as_chunks_mut::<17>().0 {
                block[0] = least + random.below(3) as u8;
                for eight in block[1..].as_chunks_mut::<8>().0 {
                    *eight = random.next().to_le_bytes();
                }
            }
        }
        _ => panic!("no weights of {dtype}"),
    }
}
