use core::mem::MaybeUninit;

use super::panel::many_tokens;
use super::{LANES, Lanes};
use crate::format::mxfp4::NibbleOrder;
use crate::format::q8_0;
use crate::kernels::{FEW_TOKENS_COLUMNS, QUANTIZED_BLOCK, arguments, portable};

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
    /// 15; biased as [`Lanes::dot_blocks`] wants them, or not.
    ///
    /// # Safety
    /// There are such blocks.
    unsafe fn integers<L: Lanes>(l: L, blocks: [*const u8; 4], biased: bool) -> [L::Integers; 2];

    /// The factors of blocks, from their scales.
    ///
    /// # Safety
    /// There are such scales.
    unsafe fn scales<L: Lanes>(l: L, scales: &[*const u8; LANES]) -> L::Floats;

    /// The factors of sixteen blocks in a row, from the first one's scale on.
    ///
    /// # Safety
    /// There are such blocks.
    #[inline(always)]
    unsafe fn scales_in_row<L: Lanes>(l: L, first: *const u8) -> L::Floats {
        let mut scales = [first; LANES];
        for (b, scale) in scales.iter_mut().enumerate() {
            *scale = first.wrapping_add(b * Self::STRIDES.1);
        }
        // SAFETY: our own contract.
        unsafe { Self::scales(l, &scales) }
    }
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
    unsafe fn integers<L: Lanes>(l: L, blocks: [*const u8; 4], biased: bool) -> [L::Integers; 2] {
        // SAFETY: our own contract.
        unsafe { l.mxfp4_i8(blocks, INTERLEAVED, biased) }
    }

    #[inline(always)]
    unsafe fn scales<L: Lanes>(l: L, scales: &[*const u8; LANES]) -> L::Floats {
        let mut bytes = [0; LANES];
        for (byte, scale) in bytes.iter_mut().zip(scales) {
            // SAFETY: our own contract.
            *byte = unsafe { **scale };
        }
        // SAFETY: sixteen bytes.
        unsafe { mxfp4_factors(l, bytes.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn scales_in_row<L: Lanes>(l: L, first: *const u8) -> L::Floats {
        if !INTERLEAVED {
            // SAFETY: our own contract; one scale follows the other.
            return unsafe { mxfp4_factors(l, first) };
        }
        // The registers are busy with codes, so the scales come together in integers.
        let mut words = [0; LANES / 8];
        for (w, word) in words.iter_mut().enumerate() {
            for byte in 0..8 {
                let scale = first.wrapping_add((8 * w + byte) * Self::STRIDES.1);
                // SAFETY: our own contract. Volatile, or the compiler would take registers after all.
                *word |= u64::from(unsafe { scale.read_volatile() }) << (8 * byte);
            }
        }
        words = words.map(u64::to_le);
        // SAFETY: sixteen bytes.
        unsafe { mxfp4_factors(l, words.as_ptr().cast()) }
    }
}

/// As [`scale`](crate::format::mxfp4::scale) of sixteen bytes, and half for the doubled codes.
///
/// # Safety
/// There are so many.
#[inline(always)]
unsafe fn mxfp4_factors<L: Lanes>(l: L, scales: *const u8) -> L::Floats {
    // SAFETY: our own contract.
    let bits = unsafe { l.larger_integer(l.shift_left_23(l.load_u8(scales)), l.splat_integer(0x0040_0000)) };
    l.mul(l.splat(0.5), l.floats_of_bits(bits))
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
    unsafe fn integers<L: Lanes>(l: L, blocks: [*const u8; 4], biased: bool) -> [L::Integers; 2] {
        let [a, b, c, d] = blocks;
        // SAFETY: our own contract.
        let bytes = unsafe { [l.load_quarters(blocks), l.load_quarters([a.add(16), b.add(16), c.add(16), d.add(16)])] };
        if biased { [l.biased(bytes[0]), l.biased(bytes[1])] } else { bytes }
    }

    #[inline(always)]
    unsafe fn scales<L: Lanes>(l: L, scales: &[*const u8; LANES]) -> L::Floats {
        let mut halves = [0; LANES];
        for (half, scale) in halves.iter_mut().zip(scales) {
            // SAFETY: our own contract.
            *half = unsafe { scale.cast::<u16>().read_unaligned() };
        }
        // SAFETY: sixteen elements.
        unsafe { l.load_f16(halves.as_ptr()) }
    }
}

/// Rows of Q8_0 times quantized activations of many tokens, `TOKENS` at a time.
///
/// # Safety
/// The contract of [`arguments::Matmul`].
#[inline(always)]
pub unsafe fn matmul_q8_0<L: Lanes, const TOKENS: usize>(l: L, matmul: &arguments::Matmul) {
    // SAFETY: our own contract.
    unsafe { many_tokens::<L, Q8_0, TOKENS>(l, matmul) }
}

/// Rows of MXFP4 times quantized activations of many tokens, `TOKENS` at a time.
///
/// # Safety
/// The contract of [`arguments::Matmul`].
#[inline(always)]
pub unsafe fn matmul_mxfp4<L: Lanes, const TOKENS: usize>(l: L, matmul: &arguments::Matmul) {
    // SAFETY: our own contract.
    unsafe {
        match is_interleaved(matmul) {
            Some(true) => many_tokens::<L, Mxfp4<true>, TOKENS>(l, matmul),
            Some(false) => many_tokens::<L, Mxfp4<false>, TOKENS>(l, matmul),
            None => portable::matmul_mxfp4_quantized(matmul),
        }
    }
}

/// Rows of Q8_0 times quantized activations of few tokens.
///
/// # Safety
/// The contract of [`arguments::Matmul`], with at most [`FEW_TOKENS_COLUMNS`] columns.
#[inline(always)]
pub unsafe fn matmul_q8_0_few<L: Lanes>(l: L, matmul: &arguments::Matmul) {
    // SAFETY: our own contract.
    unsafe { few_tokens::<L, Q8_0>(l, matmul) }
}

/// Rows of MXFP4 times quantized activations of few tokens.
///
/// # Safety
/// The contract of [`arguments::Matmul`], with at most [`FEW_TOKENS_COLUMNS`] columns.
#[inline(always)]
pub unsafe fn matmul_mxfp4_few<L: Lanes>(l: L, matmul: &arguments::Matmul) {
    // SAFETY: our own contract.
    unsafe {
        match is_interleaved(matmul) {
            Some(true) => few_tokens::<L, Mxfp4<true>>(l, matmul),
            Some(false) => few_tokens::<L, Mxfp4<false>>(l, matmul),
            None => portable::matmul_mxfp4_quantized(matmul),
        }
    }
}

/// Which of [`Mxfp4`] the weights are, if any.
fn is_interleaved(matmul: &arguments::Matmul) -> Option<bool> {
    let strides = (matmul.code_stride, matmul.scale_stride);
    let halves = matmul.order == NibbleOrder::Halves as usize;
    match halves {
        true if strides == Mxfp4::<true>::STRIDES => Some(true),
        false if strides == Mxfp4::<false>::STRIDES => Some(false),
        _ => None,
    }
}

/// Activations that meet one round of blocks: one block in each lane.
const GROUP: usize = LANES * QUANTIZED_BLOCK;

/// So many groups of rearranged activations fit the stack: about 40 KiB.
const MOST_GROUPS: usize = 32;

/// Tokens that meet a group of weights together, if their activations fit.
const TOGETHER: usize = 4;

const _: () = assert!(FEW_TOKENS_COLUMNS <= GROUP * MOST_GROUPS);

/// Weights are asked for so many bytes ahead.
const AHEAD: usize = 256;

/// Bytes that memory delivers at a time.
pub(super) const LINE: usize = 64;

/// Activations of a token: sixteen blocks, zeros where there are fewer.
#[derive(Clone, Copy)]
struct Group<L: Lanes> {
    /// Block 4 j + i is in quarter j of `[i]`.
    inputs: [L::Inputs; 4],
    scales: L::Floats,
}

impl<L: Lanes> Group<L> {
    #[inline(always)]
    fn of(l: L, inputs: &[i16], scales: &[f32]) -> Self {
        let none = [0; QUANTIZED_BLOCK];
        let mut blocks = [&none; LANES];
        for (block, inputs) in blocks.iter_mut().zip(inputs.as_chunks().0) {
            *block = inputs;
        }
        let mut group = Self { inputs: [l.rearrange([&none; 4]); 4], scales: l.splat(0.0) };
        for i in 0..4 {
            group.inputs[i] = l.rearrange([blocks[i], blocks[4 + i], blocks[8 + i], blocks[12 + i]]);
        }
        let mut floats = [0.0; LANES];
        floats[..scales.len()].copy_from_slice(scales);
        // SAFETY: sixteen elements.
        group.scales = unsafe { l.load(floats.as_ptr()) };
        group
    }
}

/// Few tokens: the lanes are the blocks of a row, which is expanded once for all of them.
///
/// # Safety
/// The contract of [`arguments::Matmul`], with at most [`FEW_TOKENS_COLUMNS`] columns.
#[inline(always)]
unsafe fn few_tokens<L: Lanes, B: Blocks>(l: L, matmul: &arguments::Matmul) {
    let blocks = matmul.columns / QUANTIZED_BLOCK;
    let in_token = blocks.div_ceil(LANES);
    let most = (MOST_GROUPS / in_token).min(TOGETHER);
    let mut groups = [const { MaybeUninit::<Group<L>>::uninit() }; MOST_GROUPS];
    let mut first = 0;
    while first < matmul.tokens {
        // Passes of about the same size.
        let left = matmul.tokens - first;
        let count = left.div_ceil(left.div_ceil(most));
        for (token, groups) in (first..first + count).zip(groups.chunks_mut(in_token)) {
            // SAFETY: our own contract; there is such a token.
            let (inputs, scales) = unsafe {
                let row = portable::input_row(matmul, token);
                let inputs = core::slice::from_raw_parts(matmul.quantized.add(row * matmul.columns), matmul.columns);
                (inputs, core::slice::from_raw_parts(matmul.input_scales.add(row * blocks), blocks))
            };
            for (group, (inputs, scales)) in groups.iter_mut().zip(inputs.chunks(GROUP).zip(scales.chunks(LANES))) {
                group.write(Group::of(l, inputs, scales));
            }
        }
        // SAFETY: our own contract; there are so many tokens, and so many groups have been written.
        unsafe {
            let groups = core::slice::from_raw_parts(groups.as_ptr().cast(), count * in_token);
            match count {
                1 => all_rows::<L, B, 1>(l, matmul, first, groups),
                2 => all_rows::<L, B, 2>(l, matmul, first, groups),
                3 => all_rows::<L, B, 3>(l, matmul, first, groups),
                _ => all_rows::<L, B, 4>(l, matmul, first, groups),
            }
        }
        first += count;
    }
}

/// Rows times the tokens from `first` on, whose activations follow one another.
///
/// # Safety
/// The contract of [`arguments::Matmul`]; there are so many tokens.
#[inline(always)]
unsafe fn all_rows<L: Lanes, B: Blocks, const TOKENS: usize>(
    l: L,
    matmul: &arguments::Matmul,
    first: usize,
    groups: &[Group<L>],
) {
    // The last group of a row may be read past the row's end, unless the matrix ends there.
    let blocks = matmul.columns / QUANTIZED_BLOCK;
    let last = (blocks.next_multiple_of(LANES).div_ceil(blocks) - 1).min(matmul.rows);
    // Rows far apart: memory delivers several streams faster than one.
    let apart = (matmul.rows - last) / 4;
    // SAFETY: our own contract; all rows are below their number.
    unsafe {
        for row in 0..apart {
            let rows = [row, apart + row, 2 * apart + row, 3 * apart + row];
            some_rows::<L, B, 4, TOKENS, false>(l, matmul, first, groups, rows);
        }
        for row in 4 * apart..matmul.rows {
            some_rows::<L, B, 1, TOKENS, true>(l, matmul, first, groups, [row]);
        }
    }
}

/// # Safety
/// The contract of [`arguments::Matmul`]; there are such rows and tokens, and unless the rows may be the `LAST` ones, further
/// blocks for the last group.
#[inline(always)]
unsafe fn some_rows<L: Lanes, B: Blocks, const ROWS: usize, const TOKENS: usize, const LAST: bool>(
    l: L,
    matmul: &arguments::Matmul,
    first: usize,
    groups: &[Group<L>],
    rows: [usize; ROWS],
) {
    let blocks = matmul.columns / QUANTIZED_BLOCK;
    let (whole, rest, in_token) = (blocks / LANES, blocks % LANES, blocks.div_ceil(LANES));
    let last = if LAST { rest.wrapping_sub(1) } else { LANES - 1 };
    let mut lanes = [[l.splat(0.0); TOKENS]; ROWS];
    // SAFETY: our own contract.
    unsafe {
        let mut places = [(core::ptr::null(), core::ptr::null()); ROWS];
        for r in 0..ROWS {
            places[r] = B::row(matmul, rows[r]);
        }
        for g in 0..whole {
            for r in 0..ROWS {
                lanes[r] = add_group::<L, B, TOKENS>(l, places[r], LANES - 1, (groups, in_token, g), lanes[r]);
            }
        }
        if rest > 0 {
            for r in 0..ROWS {
                let added = add_group::<L, B, TOKENS>(l, places[r], last, (groups, in_token, whole), lanes[r]);
                for t in 0..TOKENS {
                    lanes[r][t] = l.first(rest, added[t], lanes[r][t]);
                }
            }
        }
        for r in 0..ROWS {
            for (t, lanes) in lanes[r].into_iter().enumerate() {
                *matmul.outputs.add((first + t) * matmul.output_stride + rows[r]) = l.sum(lanes);
            }
        }
    }
}

/// Adds the products of a group of a row's blocks and the same group of each token's to the lanes. The group's block of number
/// `last` stands in for those after it.
///
/// # Safety
/// There are such blocks.
#[inline(always)]
unsafe fn add_group<L: Lanes, B: Blocks, const TOKENS: usize>(
    l: L,
    row: (*const u8, *const u8),
    last: usize,
    (groups, in_token, group): (&[Group<L>], usize, usize),
    mut lanes: [L::Floats; TOKENS],
) -> [L::Floats; TOKENS] {
    // SAFETY: our own contract.
    unsafe {
        let first = (row.0.add(group * LANES * B::STRIDES.0), row.1.add(group * LANES * B::STRIDES.1));
        for line in 0..(LANES * B::STRIDES.0).div_ceil(LINE) {
            l.prefetch(first.0.wrapping_add(AHEAD + line * LINE));
        }
        let (mut blocks, mut scales) = ([first.0; LANES], [first.1; LANES]);
        for b in 0..LANES {
            blocks[b] = first.0.add(b.min(last) * B::STRIDES.0);
            scales[b] = first.1.add(b.min(last) * B::STRIDES.1);
        }
        let (mut weights, mut sums) = ([[l.splat_integer(0); 2]; 4], [l.splat_integer(0); 4]);
        for i in 0..4 {
            weights[i] = B::integers(l, [blocks[i], blocks[4 + i], blocks[8 + i], blocks[12 + i]], true);
            if TOKENS == 1 {
                // Alone it meets weights while the next are read.
                sums[i] = l.dot_blocks(weights[i], &groups[group].inputs[i]);
            }
        }
        let scales = if last == LANES - 1 { B::scales_in_row(l, first.1) } else { B::scales(l, &scales) };
        for (t, lanes) in lanes.iter_mut().enumerate() {
            let token = &groups[t * in_token + group];
            if TOKENS > 1 {
                for i in 0..4 {
                    sums[i] = l.dot_blocks(weights[i], &token.inputs[i]);
                }
            }
            *lanes = l.fma(l.to_floats(l.sum_rows(sums)), l.mul(scales, token.scales), *lanes);
        }
        lanes
    }
}
