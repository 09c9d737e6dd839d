use core::arch::aarch64::*;

use ossicle_core::format::mxfp4::{self, DOUBLED, NibbleOrder};
use ossicle_core::format::q8_0;
use ossicle_core::kernels::arguments::Matmul;

/// Weights in blocks of 32 integers with a scale.
pub struct Weights {
    pub format: Format,
    /// Bytes from one block of a row to the next: integers, scales.
    pub strides: (usize, usize),
    /// The integers and the scale of the first block.
    first: (*const u8, *const u8),
    /// Bytes from one row to the next: integers, scales.
    row_sizes: (usize, usize),
}

/// What the bytes of a block mean.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Signed bytes, and an f16.
    Q8_0,
    /// Codes, and an exponent.
    Mxfp4(NibbleOrder),
}

impl Weights {
    /// The weights of a matrix in Q8_0.
    pub fn q8_0(matmul: &Matmul) -> Self {
        Self {
            format: Format::Q8_0,
            strides: (q8_0::BLOCK_SIZE, q8_0::BLOCK_SIZE),
            first: (matmul.weights.wrapping_add(2), matmul.weights),
            row_sizes: (matmul.row_size, matmul.row_size),
        }
    }

    /// The weights of a matrix in MXFP4.
    pub fn mxfp4(matmul: &Matmul) -> Self {
        let halves = matmul.order == NibbleOrder::Halves as usize;
        Self {
            format: Format::Mxfp4(if halves { NibbleOrder::Halves } else { NibbleOrder::Adjacent }),
            strides: (matmul.code_stride, matmul.scale_stride),
            first: (matmul.weights, matmul.scales),
            row_sizes: (matmul.row_size, matmul.scales_row_size),
        }
    }

    /// Where the integers of a block are, and where its scale.
    pub fn block(&self, row: usize, block: usize) -> (*const u8, *const u8) {
        (
            self.first.0.wrapping_add(row * self.row_sizes.0 + block * self.strides.0),
            self.first.1.wrapping_add(row * self.row_sizes.1 + block * self.strides.1),
        )
    }

    /// The integers of a block, and the factor of their products.
    ///
    /// # Safety
    /// There is such a block.
    pub unsafe fn read(&self, (integers, scale): (*const u8, *const u8)) -> ([int8x16_t; 2], f32) {
        // SAFETY: our own contract.
        unsafe {
            match self.format {
                Format::Q8_0 => {
                    let block = core::slice::from_raw_parts(scale, q8_0::BLOCK_SIZE);
                    ([vld1q_s8(integers.cast()), vld1q_s8(integers.add(16).cast())], q8_0::get(block).0)
                }
                Format::Mxfp4(order) => {
                    let (codes, doubled) = (vld1q_u8(integers), vld1q_s8(DOUBLED.as_ptr()));
                    let low = vqtbl1q_s8(doubled, vandq_u8(codes, vdupq_n_u8(15)));
                    let high = vqtbl1q_s8(doubled, vshrq_n_u8::<4>(codes));
                    let in_order = match order {
                        NibbleOrder::Halves => [low, high],
                        NibbleOrder::Adjacent => [vzip1q_s8(low, high), vzip2q_s8(low, high)],
                    };
                    // Half, for the doubled codes.
                    (in_order, 0.5 * mxfp4::scale(*scale))
                }
            }
        }
    }
}
