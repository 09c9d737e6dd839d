use core::array;

use super::panel::many_tokens;
use super::{LANES, Lanes};
use crate::format::mxfp4::NibbleOrder;
use crate::format::q8_0;
use crate::kernels::{QUANTIZED_BLOCK, arguments, portable};

/// Weights in blocks of 32 integers with a scale.
pub trait Blocks {
    /// Bytes from one block of a row to the next, for integers and for scales.
    const STRIDES: (usize, usize);

    /// Where the integers of the first block of a row are, and where its scale.
    ///
    /// # Safety
    /// There is such a row.
    unsafe fn row(matmul: &arguments::Matmul, row: usize) -> (*const u8, *const u8);

    /// The integers of the four blocks there, as bytes: a quarter of the registers for each, in the first elements 0 to
    /// 15.
    ///
    /// # Safety
    /// There are such blocks.
    unsafe fn integers<L: Lanes>(l: L, blocks: [*const u8; 4]) -> [L::Integers; 2];

    /// The factors of blocks, from their scales.
    ///
    /// # Safety
    /// There are such scales.
    unsafe fn scales<L: Lanes>(l: L, scales: [*const u8; LANES]) -> L::Floats;
}

/// Codes, as [`Blocks::interleaved`](crate::format::mxfp4::Blocks::interleaved) or
/// [`Blocks::separate`](crate::format::mxfp4::Blocks::separate) says.
struct Mxfp4<const INTERLEAVED: bool>;

impl<const INTERLEAVED: bool> Blocks for Mxfp4<INTERLEAVED> {
    const STRIDES: (usize, usize) = if INTERLEAVED { (17, 17) } else { (16, 1) };

    #[inline(always)]
    unsafe fn row(matmul: &arguments::Matmul, row: usize) -> (*const u8, *const u8) {
        // SAFETY: our own contract.
        unsafe { (matmul.weights.add(row * matmul.row_size), matmul.scales.add(row * matmul.scales_row_size)) }
    }

    #[inline(always)]
    unsafe fn integers<L: Lanes>(l: L, blocks: [*const u8; 4]) -> [L::Integers; 2] {
        // SAFETY: our own contract.
        unsafe { l.mxfp4_i8(blocks, INTERLEAVED) }
    }

    #[inline(always)]
    unsafe fn scales<L: Lanes>(l: L, scales: [*const u8; LANES]) -> L::Floats {
        // SAFETY: our own contract.
        unsafe {
            let bytes = scales.map(|scale| *scale);
            // As `mxfp4::scale`, and half for the doubled codes.
            let bits = l.larger_integer(l.shift_left_23(l.load_u8(bytes.as_ptr())), l.splat_integer(0x0040_0000));
            l.mul(l.splat(0.5), l.floats_of_bits(bits))
        }
    }
}

/// Signed bytes.
struct Q8_0;

impl Blocks for Q8_0 {
    const STRIDES: (usize, usize) = (q8_0::BLOCK_SIZE, q8_0::BLOCK_SIZE);

    #[inline(always)]
    unsafe fn row(matmul: &arguments::Matmul, row: usize) -> (*const u8, *const u8) {
        // SAFETY: our own contract.
        let row = unsafe { matmul.weights.add(row * matmul.row_size) };
        (row.wrapping_add(2), row)
    }

    #[inline(always)]
    unsafe fn integers<L: Lanes>(l: L, blocks: [*const u8; 4]) -> [L::Integers; 2] {
        // SAFETY: our own contract.
        unsafe { [l.load_quarters(blocks), l.load_quarters(blocks.map(|block| block.add(16)))] }
    }

    #[inline(always)]
    unsafe fn scales<L: Lanes>(l: L, scales: [*const u8; LANES]) -> L::Floats {
        // SAFETY: our own contract.
        unsafe { l.load_f16(scales.map(|scale| scale.cast::<u16>().read_unaligned()).as_ptr()) }
    }
}

/// Rows of Q8_0 times quantized activations; many tokens, `TOKENS` at a time.
///
/// # Safety
/// The contract of [`arguments::Matmul`].
#[inline(always)]
pub unsafe fn matmul_q8_0<L: Lanes, const TOKENS: usize>(l: L, matmul: &arguments::Matmul) {
    // SAFETY: our own contract.
    unsafe { matmul_blocks::<L, Q8_0, TOKENS>(l, matmul) }
}

/// Rows of MXFP4 times quantized activations; many tokens, `TOKENS` at a time.
///
/// # Safety
/// The contract of [`arguments::Matmul`].
#[inline(always)]
pub unsafe fn matmul_mxfp4<L: Lanes, const TOKENS: usize>(l: L, matmul: &arguments::Matmul) {
    let strides = (matmul.code_stride, matmul.scale_stride);
    let halves = matmul.order == NibbleOrder::Halves as usize;
    // SAFETY: our own contract.
    unsafe {
        if halves && strides == Mxfp4::<true>::STRIDES {
            matmul_blocks::<L, Mxfp4<true>, TOKENS>(l, matmul);
        } else if !halves && strides == Mxfp4::<false>::STRIDES {
            matmul_blocks::<L, Mxfp4<false>, TOKENS>(l, matmul);
        } else {
            portable::matmul_mxfp4_quantized(matmul);
        }
    }
}

/// # Safety
/// The contract of [`arguments::Matmul`].
#[inline(always)]
unsafe fn matmul_blocks<L: Lanes, B: Blocks, const TOKENS: usize>(l: L, matmul: &arguments::Matmul) {
    // SAFETY: our own contract.
    unsafe {
        if matmul.tokens < FEW_TOKENS && matmul.columns <= GROUP * MOST_GROUPS {
            for token in 0..matmul.tokens {
                one_token::<L, B>(l, matmul, token);
            }
        } else {
            many_tokens::<L, B, TOKENS>(l, matmul);
        }
    }
}

/// From so many tokens on it pays to rearrange weights.
const FEW_TOKENS: usize = 3;

/// Activations that meet one round of blocks: one block in each lane.
const GROUP: usize = LANES * QUANTIZED_BLOCK;

/// So many groups of rearranged activations fit the stack: about 20 KiB.
const MOST_GROUPS: usize = 16;

/// Weights are asked for so many bytes ahead.
const AHEAD: usize = 512;

/// Bytes that memory delivers at a time.
pub(super) const LINE: usize = 64;

/// One token: the lanes are the blocks of a row.
///
/// # Safety
/// The contract of [`arguments::Matmul`]; a row has at most [`MOST_GROUPS`] groups.
#[inline(always)]
unsafe fn one_token<L: Lanes, B: Blocks>(l: L, matmul: &arguments::Matmul, token: usize) {
    const ROWS: usize = 4;
    let blocks = matmul.columns / QUANTIZED_BLOCK;
    // Block 4 j + i of a group is in quarter j of register i.
    let mut groups = [[l.rearrange([&[0; QUANTIZED_BLOCK]; 4]); 4]; MOST_GROUPS];
    // SAFETY: our own contract; all rows are below their number.
    unsafe {
        let row = portable::input_row(matmul, token);
        let inputs = core::slice::from_raw_parts(matmul.quantized.add(row * matmul.columns), matmul.columns);
        for (group, inputs) in groups.iter_mut().zip(inputs.chunks(GROUP)) {
            let inputs = inputs.as_chunks::<QUANTIZED_BLOCK>().0;
            for (i, group) in group.iter_mut().enumerate() {
                *group = l.rearrange(array::from_fn(|j| inputs.get(4 * j + i).unwrap_or(&[0; QUANTIZED_BLOCK])));
            }
        }
        let scales = matmul.input_scales.add(row * blocks);
        // Rows far apart: memory delivers several streams faster than one.
        let apart = matmul.rows / ROWS;
        for row in 0..apart {
            let rows = array::from_fn(|r| r * apart + row);
            some_rows::<L, B, ROWS>(l, matmul, (&groups, scales), rows, token);
        }
        for row in apart * ROWS..matmul.rows {
            some_rows::<L, B, 1>(l, matmul, (&groups, scales), [row], token);
        }
    }
}

/// # Safety
/// The contract of [`arguments::Matmul`]; there are such rows, and a scale for each block.
#[inline(always)]
unsafe fn some_rows<L: Lanes, B: Blocks, const ROWS: usize>(
    l: L,
    matmul: &arguments::Matmul,
    (groups, input_scales): (&[[L::Inputs; 4]; MOST_GROUPS], *const f32),
    rows: [usize; ROWS],
    token: usize,
) {
    let blocks = matmul.columns / QUANTIZED_BLOCK;
    let mut lanes = [l.splat(0.0); ROWS];
    let (whole, rest) = (blocks / LANES, blocks % LANES);
    // SAFETY: the blocks of whole groups are there; in the last group, those that are not are replaced by the last.
    unsafe {
        let places: [(*const u8, *const u8); ROWS] = array::from_fn(|r| B::row(matmul, rows[r]));
        for (g, group) in groups.iter().enumerate().take(whole) {
            let input_scales = l.load(input_scales.add(g * LANES));
            for r in 0..ROWS {
                let first = (places[r].0.add(g * LANES * B::STRIDES.0), places[r].1.add(g * LANES * B::STRIDES.1));
                for line in 0..(LANES * B::STRIDES.0).div_ceil(LINE) {
                    l.prefetch(first.0.wrapping_add(AHEAD + line * LINE));
                }
                let (sums, scales) = group_sums::<L, B>(l, first, LANES - 1, group);
                lanes[r] = l.fma(sums, l.mul(scales, input_scales), lanes[r]);
            }
        }
        if rest > 0 {
            let mut last_scales = [0.0; LANES];
            for (lane, scale) in last_scales[..rest].iter_mut().enumerate() {
                *scale = *input_scales.add(whole * LANES + lane);
            }
            let input_scales = l.load(last_scales.as_ptr());
            for r in 0..ROWS {
                let first =
                    (places[r].0.add(whole * LANES * B::STRIDES.0), places[r].1.add(whole * LANES * B::STRIDES.1));
                let (sums, scales) = group_sums::<L, B>(l, first, rest - 1, &groups[whole]);
                lanes[r] = l.first(rest, l.fma(sums, l.mul(scales, input_scales), lanes[r]), lanes[r]);
            }
        }
        for r in 0..ROWS {
            *matmul.outputs.add(token * matmul.output_stride + rows[r]) = l.sum(lanes[r]);
        }
    }
}

/// The sums of products of sixteen blocks, and their weights' scales; from the first on, given by its integers and its
/// scale, to number `last`, which stands in for those after it.
///
/// # Safety
/// There are such blocks.
#[inline(always)]
unsafe fn group_sums<L: Lanes, B: Blocks>(
    l: L,
    first: (*const u8, *const u8),
    last: usize,
    group: &[L::Inputs; 4],
) -> (L::Floats, L::Floats) {
    let mut sums = [l.splat_integer(0); 4];
    // SAFETY: our own contract.
    unsafe {
        for (i, sum) in sums.iter_mut().enumerate() {
            let weights = B::integers(l, array::from_fn(|j| first.0.add((4 * j + i).min(last) * B::STRIDES.0)));
            *sum = l.dot_blocks(weights, &group[i]);
        }
        let [a, b, c, d] = l.transpose(sums);
        let sums = l.to_floats(l.add_integers(l.add_integers(a, b), l.add_integers(c, d)));
        (sums, B::scales(l, array::from_fn(|lane| first.1.add(lane.min(last) * B::STRIDES.1))))
    }
}
