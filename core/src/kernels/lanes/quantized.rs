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
const AHEAD: usize = 256;

/// Bytes that memory delivers at a time.
pub(super) const LINE: usize = 64;

/// The activations of one token, sixteen blocks in a group; zeros where the last has fewer.
struct Token<L: Lanes> {
    /// Block 4 j + i of a group is in quarter j of `[i]`.
    inputs: [[L::Inputs; 4]; MOST_GROUPS],
    scales: [L::Floats; MOST_GROUPS],
    number: usize,
}

impl<L: Lanes> Token<L> {
    /// # Safety
    /// The contract of [`arguments::Matmul`]; there is such a token, with at most [`MOST_GROUPS`] groups.
    #[inline(always)]
    unsafe fn read(l: L, matmul: &arguments::Matmul, number: usize) -> Self {
        let none = [0; QUANTIZED_BLOCK];
        let mut token =
            Token { inputs: [[l.rearrange([&none; 4]); 4]; MOST_GROUPS], scales: [l.splat(0.0); MOST_GROUPS], number };
        let blocks = matmul.columns / QUANTIZED_BLOCK;
        // SAFETY: our own contract.
        let (inputs, scales) = unsafe {
            let row = portable::input_row(matmul, number);
            let inputs = core::slice::from_raw_parts(matmul.quantized.add(row * matmul.columns), matmul.columns);
            (inputs, core::slice::from_raw_parts(matmul.input_scales.add(row * blocks), blocks))
        };
        for (g, (inputs, scales)) in inputs.chunks(GROUP).zip(scales.chunks(LANES)).enumerate() {
            let mut group = [&none; LANES];
            for (block, inputs) in group.iter_mut().zip(inputs.as_chunks().0) {
                *block = inputs;
            }
            for i in 0..4 {
                token.inputs[g][i] = l.rearrange([group[i], group[4 + i], group[8 + i], group[12 + i]]);
            }
            let mut group = [0.0; LANES];
            group[..scales.len()].copy_from_slice(scales);
            // SAFETY: sixteen elements.
            token.scales[g] = unsafe { l.load(group.as_ptr()) };
        }
        token
    }
}

/// One token: the lanes are the blocks of a row.
///
/// # Safety
/// The contract of [`arguments::Matmul`]; a row has at most [`MOST_GROUPS`] groups.
#[inline(always)]
unsafe fn one_token<L: Lanes, B: Blocks>(l: L, matmul: &arguments::Matmul, token: usize) {
    // SAFETY: our own contract; all rows are below their number.
    unsafe {
        let token = Token::read(l, matmul, token);
        // The last group of a row may be read past the row's end, unless the matrix ends there.
        let blocks = matmul.columns / QUANTIZED_BLOCK;
        let last = (blocks.next_multiple_of(LANES).div_ceil(blocks) - 1).min(matmul.rows);
        // Rows far apart: memory delivers several streams faster than one.
        let apart = (matmul.rows - last) / 4;
        for row in 0..apart {
            let rows = [row, apart + row, 2 * apart + row, 3 * apart + row];
            some_rows::<L, B, 4, false>(l, matmul, &token, rows);
        }
        for row in 4 * apart..matmul.rows - last {
            some_rows::<L, B, 1, false>(l, matmul, &token, [row]);
        }
        for row in matmul.rows - last..matmul.rows {
            some_rows::<L, B, 1, true>(l, matmul, &token, [row]);
        }
    }
}

/// # Safety
/// The contract of [`arguments::Matmul`]; there are such rows, and unless they are the `LAST` ones, further blocks for the
/// last group.
#[inline(always)]
unsafe fn some_rows<L: Lanes, B: Blocks, const ROWS: usize, const LAST: bool>(
    l: L,
    matmul: &arguments::Matmul,
    token: &Token<L>,
    rows: [usize; ROWS],
) {
    let blocks = matmul.columns / QUANTIZED_BLOCK;
    let (whole, rest) = (blocks / LANES, blocks % LANES);
    let last = if LAST { rest.wrapping_sub(1) } else { LANES - 1 };
    let mut lanes = [l.splat(0.0); ROWS];
    // SAFETY: our own contract.
    unsafe {
        let mut places = [(core::ptr::null(), core::ptr::null()); ROWS];
        for r in 0..ROWS {
            places[r] = B::row(matmul, rows[r]);
        }
        for g in 0..whole {
            for r in 0..ROWS {
                let (sums, scales) = group_sums::<L, B>(l, places[r], g, LANES - 1, &token.inputs[g]);
                lanes[r] = l.fma(sums, l.mul(scales, token.scales[g]), lanes[r]);
            }
        }
        if rest > 0 {
            for r in 0..ROWS {
                let (sums, scales) = group_sums::<L, B>(l, places[r], whole, last, &token.inputs[whole]);
                lanes[r] = l.first(rest, l.fma(sums, l.mul(scales, token.scales[whole]), lanes[r]), lanes[r]);
            }
        }
        for r in 0..ROWS {
            *matmul.outputs.add(token.number * matmul.output_stride + rows[r]) = l.sum(lanes[r]);
        }
    }
}

/// The sums of products of sixteen blocks of a row, and their weights' scales, from the first of the group to number
/// `last`, which stands in for those after it.
///
/// # Safety
/// There are such blocks.
#[inline(always)]
unsafe fn group_sums<L: Lanes, B: Blocks>(
    l: L,
    row: (*const u8, *const u8),
    group: usize,
    last: usize,
    inputs: &[L::Inputs; 4],
) -> (L::Floats, L::Floats) {
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
        let mut sums = [l.splat_integer(0); 4];
        for i in 0..4 {
            let weights = B::integers(l, [blocks[i], blocks[4 + i], blocks[8 + i], blocks[12 + i]], true);
            sums[i] = l.dot_blocks(weights, &inputs[i]);
        }
        let scales = if last == LANES - 1 { B::scales_in_row(l, first.1) } else { B::scales(l, &scales) };
        (l.to_floats(l.sum_rows(sums)), scales)
    }
}
