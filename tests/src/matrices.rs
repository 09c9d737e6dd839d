//! Matrices in every format that kernels read, made of numbers that are hard on them.

use half::f16;
use ossicle_core::format::mxfp4::Blocks;
use ossicle_core::format::{Matrix, Values};

use crate::checkpoint::{mxfp4, q8_0};
use crate::guarded::Guarded;
use crate::numbers::{Kind, Numbers};

/// How the numbers of a matrix are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// Upper halves of 32-bit floats.
    Bf16,
    /// Blocks of 32 signed bytes and a scale.
    Q8_0,
    /// MXFP4 as in GGUF files.
    Mxfp4Interleaved,
    /// MXFP4 as in safetensors files.
    Mxfp4Separate,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 6] =
        [Self::F32, Self::F16, Self::Bf16, Self::Q8_0, Self::Mxfp4Interleaved, Self::Mxfp4Separate];

    /// Whether numbers come in blocks of 32. Only then kernels take quantized activations.
    pub fn is_quantized(self) -> bool {
        matches!(self, Self::Q8_0 | Self::Mxfp4Interleaved | Self::Mxfp4Separate)
    }
}

/// A matrix whose bytes end where accessible memory ends.
pub struct GuardedMatrix {
    /// How its numbers are kept.
    pub format: Format,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub columns: usize,
    data: Guarded<u8>,
    /// Of [`Format::Mxfp4Separate`], else empty.
    scales: Guarded<u8>,
}

impl GuardedMatrix {
    /// Numbers of one kind, as far as the format can hold them; all finite.
    pub fn of(numbers: &mut Numbers, kind: Kind, format: Format, rows: usize, columns: usize) -> Self {
        let len = rows * columns;
        let mut scales = Vec::new();
        let data = match format {
            Format::F32 => numbers.floats(kind, len).iter().flat_map(|value| value.to_le_bytes()).collect(),
            Format::F16 => {
                let clamp = |value: &f32| f16::from_f32(value.clamp(-65504.0, 65504.0));
                numbers.floats(kind, len).iter().flat_map(|value| clamp(value).to_le_bytes()).collect()
            }
            Format::Bf16 => {
                let upper_half = |value: &f32| [value.to_le_bytes()[2], value.to_le_bytes()[3]];
                numbers.floats(kind, len).iter().flat_map(upper_half).collect()
            }
            Format::Q8_0 => {
                let scales = numbers.floats(kind, len / 32).into_iter().map(|scale| scale.clamp(-65504.0, 65504.0));
                let mut block =
                    |scale| [&f16::from_f32(scale).to_le_bytes(), &integers(kind, numbers, 32)[..]].concat();
                scales.flat_map(&mut block).collect()
            }
            Format::Mxfp4Interleaved => {
                let block = |_| [&[scale(kind, numbers)], &integers(kind, numbers, 16)[..]].concat();
                (0..len / 32).flat_map(block).collect()
            }
            Format::Mxfp4Separate => {
                scales = (0..len / 32).map(|_| scale(kind, numbers)).collect();
                integers(kind, numbers, len / 2)
            }
        };
        Self::with_bytes(format, rows, columns, &data, &scales)
    }

    /// A matrix with these bytes; `scales` only where they are separate.
    pub fn with_bytes(format: Format, rows: usize, columns: usize, data: &[u8], scales: &[u8]) -> Self {
        Self { format, rows, columns, data: Guarded::copy_of(data), scales: Guarded::copy_of(scales) }
    }

    /// As kernels take it.
    pub fn matrix(&self) -> Matrix<'_> {
        let blocks = self.rows * self.columns / 32;
        let values = match self.format {
            Format::F32 => Values::F32(&self.data),
            Format::F16 => Values::F16(&self.data),
            Format::Bf16 => Values::Bf16(&self.data),
            Format::Q8_0 => Values::Q8_0(&self.data),
            Format::Mxfp4Interleaved => Values::Mxfp4(Blocks::interleaved(&self.data, blocks).expect("whole blocks")),
            Format::Mxfp4Separate => {
                Values::Mxfp4(Blocks::separate(&self.data, &self.scales, blocks).expect("whole blocks"))
            }
        };
        Matrix::new(self.rows, self.columns, values).expect("as many bytes as the shape demands")
    }

    /// Its numbers, exactly, read without the engine: `[rows][columns]`.
    pub fn numbers(&self) -> Vec<f64> {
        let two = |two: &[u8]| [two[0], two[1]];
        match self.format {
            Format::F32 => self.data.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four).into()).collect(),
            Format::F16 => self.data.chunks(2).map(|bytes| f16::from_le_bytes(two(bytes)).to_f64()).collect(),
            Format::Bf16 => {
                self.data.chunks(2).map(|bytes| f32::from_le_bytes([0, 0, bytes[0], bytes[1]]).into()).collect()
            }
            Format::Q8_0 => self.data.as_chunks().0.iter().flat_map(q8_0).collect(),
            Format::Mxfp4Interleaved => self.data.chunks(17).flat_map(interleaved_block).collect(),
            Format::Mxfp4Separate => mxfp4(&self.data, &self.scales),
        }
    }
}

/// Byte j holds element j in its low half and element j + 16 in its high one, after a byte of scale.
fn interleaved_block(block: &[u8]) -> Vec<f64> {
    let pairs = mxfp4(&block[1..], &block[..1]);
    let half = |first: usize| pairs.iter().skip(first).step_by(2);
    half(0).chain(half(1)).copied().collect()
}

/// Bytes of integers or codes.
fn integers(kind: Kind, numbers: &mut Numbers, len: usize) -> Vec<u8> {
    match kind {
        Kind::Zeros => vec![0; len],
        Kind::Sparse => (0..len).map(|_| if numbers.below(10) > 0 { 0 } else { numbers.bits() as u8 }).collect(),
        // The largest magnitudes, all of one sign: sums of products grow as far as they can.
        Kind::Outlier => vec![if numbers.below(2) == 0 { 0x77 } else { 0xff }; len],
        _ => numbers.bytes(len),
    }
}

/// The exponent of a block of MXFP4.
fn scale(kind: Kind, numbers: &mut Numbers) -> u8 {
    let (least, most) = match kind {
        Kind::MixedMagnitudes => (107, 147),
        Kind::Large => (170, 178),
        Kind::Small => (70, 78),
        Kind::Subnormal => (0, 3),
        _ => (120, 130),
    };
    (least + numbers.below(most - least)) as u8
}
