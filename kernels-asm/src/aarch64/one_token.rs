use core::arch::naked_asm;
use core::array;

use ossicle_core::format::mxfp4::{DOUBLED, NibbleOrder};
use ossicle_core::kernels::QUANTIZED_BLOCK;
use ossicle_core::kernels::arguments::Matmul;

use super::input_row;
use super::weights::{Format, Weights};

/// Blocks of activations that fit the stack: 18 KiB.
const MOST_BLOCKS: usize = 256;

/// The longest row that [`one_token`] takes.
pub const MOST_COLUMNS: usize = MOST_BLOCKS * QUANTIZED_BLOCK;

/// Rows that meet a block of activations together.
const ROWS: usize = 4;

/// The argument block of the bodies.
#[repr(C)]
pub struct OneToken {
    /// The integers of the first block of each row.
    pub integers: [*const u8; ROWS],
    /// Its scale.
    pub scales: [*const u8; ROWS],
    /// Bytes from one block to the next: integers.
    pub integers_stride: usize,
    /// Bytes from one block to the next: scales.
    pub scales_stride: usize,
    /// One for each block of a row.
    pub inputs: *const Activations,
    /// Blocks in a row; not 0.
    pub blocks: usize,
    /// The doubled values of MXFP4 codes.
    pub doubled: *const i8,
    /// The results.
    pub outputs: [f32; ROWS],
}

/// A block of activations, taken apart.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Activations {
    /// The upper bytes.
    pub high: [i8; QUANTIZED_BLOCK],
    /// The lower bytes.
    pub low: [u8; QUANTIZED_BLOCK],
    /// What weights that are 128 too large make too much of the products with the lower bytes, negative.
    pub correction: i32,
    /// The activations' scale.
    pub scale: f32,
}

const _: () = assert!(
    core::mem::offset_of!(OneToken, scales) == 32
        && core::mem::offset_of!(OneToken, integers_stride) == 64
        && core::mem::offset_of!(OneToken, inputs) == 80
        && core::mem::offset_of!(OneToken, doubled) == 96
        && core::mem::offset_of!(OneToken, outputs) == 104
        && core::mem::offset_of!(Activations, low) == 32
        && core::mem::offset_of!(Activations, correction) == 64
        && size_of::<Activations>() == 72
);

/// # Safety
/// The blocks are there, and readable; the processor has `sdot`.
#[unsafe(naked)]
pub unsafe extern "C" fn q8_0(arguments: &mut OneToken) {
    naked_asm!(include_str!("one_token_q8_0.S"), include_str!("one_token.S"), options(raw))
}

/// # Safety
/// The blocks are there, and readable; the processor has `sdot`.
#[unsafe(naked)]
pub unsafe extern "C" fn mxfp4(arguments: &mut OneToken) {
    naked_asm!(include_str!("one_token_mxfp4.S"), include_str!("one_token.S"), options(raw))
}

/// All rows times one token.
///
/// # Safety
/// The contract of [`Matmul`], for quantized activations and these weights; rows have at most [`MOST_COLUMNS`]; the
/// processor has `sdot`.
pub unsafe fn one_token(matmul: &Matmul, weights: &Weights, token: usize) {
    let blocks = matmul.columns / QUANTIZED_BLOCK;
    let adjacent = weights.format == Format::Mxfp4(NibbleOrder::Adjacent);
    let body = if weights.format == Format::Q8_0 { q8_0 } else { mxfp4 };
    let mut inputs = [Activations { high: [0; 32], low: [0; 32], correction: 0, scale: 0.0 }; MOST_BLOCKS];
    // SAFETY: our own contract; rows past the last are replaced by it.
    unsafe {
        let row = input_row(matmul, token);
        let integers = core::slice::from_raw_parts(matmul.quantized.add(row * matmul.columns), matmul.columns);
        let scales = core::slice::from_raw_parts(matmul.input_scales.add(row * blocks), blocks);
        for ((inputs, integers), scale) in inputs.iter_mut().zip(integers.as_chunks().0).zip(scales) {
            *inputs = take_apart(integers, *scale, adjacent);
        }
        // Rows far apart: memory delivers several streams faster than one.
        let apart = matmul.rows.div_ceil(ROWS);
        for row in 0..apart {
            let rows: [usize; ROWS] = array::from_fn(|r| (r * apart + row).min(matmul.rows - 1));
            let mut arguments = OneToken {
                integers: rows.map(|row| weights.block(row, 0).0),
                scales: rows.map(|row| weights.block(row, 0).1),
                integers_stride: weights.strides.0,
                scales_stride: weights.strides.1,
                inputs: inputs.as_ptr(),
                blocks,
                doubled: DOUBLED.as_ptr(),
                outputs: [0.0; ROWS],
            };
            body(&mut arguments);
            for (row, output) in rows.into_iter().zip(arguments.outputs) {
                *matmul.outputs.add(token * matmul.output_stride + row) = output;
            }
        }
    }
}

/// The order is that of the weights as the bodies make them: for adjacent codes, those at even places come first.
fn take_apart(integers: &[i16; QUANTIZED_BLOCK], scale: f32, adjacent: bool) -> Activations {
    let half = QUANTIZED_BLOCK / 2;
    let ordered = if adjacent { array::from_fn(|i| integers[2 * (i % half) + i / half]) } else { *integers };
    let low = ordered.map(|integer| integer as u8);
    let correction = -128 * low.iter().map(|low| i32::from(*low)).sum::<i32>();
    Activations { high: ordered.map(|integer| (integer >> 8) as i8), low, correction, scale }
}
