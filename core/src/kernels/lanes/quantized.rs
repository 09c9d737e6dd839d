use core::array;

use super::{LANES, Lanes};
use crate::format::mxfp4::NibbleOrder;
use crate::format::q8_0;
use crate::kernels::{QUANTIZED_BLOCK, arguments, portable};

/// Weights in blocks of 32 integers with a scale.
pub trait Blocks {
    /// The integers of the blocks at four places: a quarter of the registers for each place, and in register i elements
    /// 8 i to 8 i + 7.
    ///
    /// # Safety
    /// There are such blocks; a place is a row and a block of it.
    unsafe fn integers<L: Lanes>(l: L, matmul: &arguments::Matmul, places: [(usize, usize); 4]) -> [L::Integers; 4];

    /// The factors of the blocks at sixteen places.
    ///
    /// # Safety
    /// There are such blocks.
    unsafe fn scales<L: Lanes>(l: L, matmul: &arguments::Matmul, places: [(usize, usize); LANES]) -> L::Floats;
}

/// Codes, doubled; `HALVES` tells their order.
pub struct Mxfp4Blocks<const HALVES: bool>;

impl<const HALVES: bool> Blocks for Mxfp4Blocks<HALVES> {
    #[inline(always)]
    unsafe fn integers<L: Lanes>(l: L, matmul: &arguments::Matmul, places: [(usize, usize); 4]) -> [L::Integers; 4] {
        let at = |(row, block)| row * matmul.row_size + block * matmul.code_stride;
        // SAFETY: our own contract.
        unsafe { l.mxfp4_i16(places.map(|place| matmul.weights.add(at(place))), HALVES) }
    }

    #[inline(always)]
    unsafe fn scales<L: Lanes>(l: L, matmul: &arguments::Matmul, places: [(usize, usize); LANES]) -> L::Floats {
        let at = |(row, block)| row * matmul.scales_row_size + block * matmul.scale_stride;
        // SAFETY: our own contract.
        unsafe {
            let bytes = places.map(|place| *matmul.scales.add(at(place)));
            // As `mxfp4::scale`, and half for the doubled codes.
            let bits = l.larger_integer(l.shift_left_23(l.load_u8(bytes.as_ptr())), l.splat_integer(0x0040_0000));
            l.mul(l.splat(0.5), l.floats_of_bits(bits))
        }
    }
}

/// Signed bytes.
pub struct Q8_0Blocks;

impl Blocks for Q8_0Blocks {
    #[inline(always)]
    unsafe fn integers<L: Lanes>(l: L, matmul: &arguments::Matmul, places: [(usize, usize); 4]) -> [L::Integers; 4] {
        let at = |(row, block)| row * matmul.row_size + block * q8_0::BLOCK_SIZE + 2;
        // SAFETY: our own contract.
        unsafe { l.i8_i16(places.map(|place| matmul.weights.add(at(place)))) }
    }

    #[inline(always)]
    unsafe fn scales<L: Lanes>(l: L, matmul: &arguments::Matmul, places: [(usize, usize); LANES]) -> L::Floats {
        let at = |(row, block)| row * matmul.row_size + block * q8_0::BLOCK_SIZE;
        // SAFETY: our own contract.
        unsafe {
            let halves = places.map(|place| matmul.weights.add(at(place)).cast::<u16>().read_unaligned());
            l.load_f16(halves.as_ptr())
        }
    }
}

/// Rows of weights in blocks of 32 integers times quantized activations; many tokens, `TOKENS` at a time.
///
/// # Safety
/// The contract of [`arguments::Matmul`].
#[inline(always)]
pub unsafe fn matmul_quantized<L: Lanes, B: Blocks, const TOKENS: usize>(l: L, matmul: &arguments::Matmul) {
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

/// The same for MXFP4, in the order that the arguments tell.
///
/// # Safety
/// The contract of [`arguments::Matmul`].
#[inline(always)]
pub unsafe fn matmul_mxfp4_quantized<L: Lanes, const TOKENS: usize>(l: L, matmul: &arguments::Matmul) {
    // SAFETY: our own contract.
    unsafe {
        if matmul.order == NibbleOrder::Halves as usize {
            matmul_quantized::<L, Mxfp4Blocks<true>, TOKENS>(l, matmul);
        } else {
            matmul_quantized::<L, Mxfp4Blocks<false>, TOKENS>(l, matmul);
        }
    }
}

/// From so many tokens on it pays to rearrange weights.
const FEW_TOKENS: usize = 4;

/// Activations that meet one round of blocks: one block in each lane.
const GROUP: usize = LANES * QUANTIZED_BLOCK;

/// So many groups of rearranged activations fit the stack: 16 KiB.
const MOST_GROUPS: usize = 16;

/// The activations of sixteen blocks, where the integers of weights will meet them: block 4 j + i of the group is in
/// quarter j of the registers of `[i]`, eight elements in each.
type Group = [[[[i16; 8]; 4]; 4]; 4];

/// One token: the lanes are the blocks of a row.
///
/// # Safety
/// The contract of [`arguments::Matmul`]; a row has at most [`MOST_GROUPS`] groups.
#[inline(always)]
unsafe fn one_token<L: Lanes, B: Blocks>(l: L, matmul: &arguments::Matmul, token: usize) {
    const ROWS: usize = 4;
    let blocks = matmul.columns / QUANTIZED_BLOCK;
    let mut groups: [Group; MOST_GROUPS] = [[[[[0; 8]; 4]; 4]; 4]; MOST_GROUPS];
    // SAFETY: our own contract; all rows are below their number.
    unsafe {
        let row = portable::input_row(matmul, token);
        let inputs = core::slice::from_raw_parts(matmul.quantized.add(row * matmul.columns), matmul.columns);
        for (b, block) in inputs.as_chunks::<QUANTIZED_BLOCK>().0.iter().enumerate() {
            for (part, elements) in block.as_chunks::<8>().0.iter().enumerate() {
                groups[b / LANES][b % 4][part][b % LANES / 4] = *elements;
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
    (groups, input_scales): (&[Group; MOST_GROUPS], *const f32),
    rows: [usize; ROWS],
    token: usize,
) {
    let blocks = matmul.columns / QUANTIZED_BLOCK;
    let mut lanes = [l.splat(0.0); ROWS];
    let whole = blocks / LANES;
    // SAFETY: the blocks of whole groups are there; in the last group, those that are not are replaced by the last.
    unsafe {
        for (g, group) in groups.iter().enumerate().take(whole) {
            let input_scales = l.load(input_scales.add(g * LANES));
            for r in 0..ROWS {
                let places = array::from_fn(|lane| (rows[r], g * LANES + lane));
                let (sums, scales) = group_sums::<L, B>(l, matmul, places, group);
                lanes[r] = l.fma(sums, l.mul(scales, input_scales), lanes[r]);
            }
        }
        let rest = blocks % LANES;
        if rest > 0 {
            let mut last_scales = [0.0; LANES];
            for (lane, scale) in last_scales[..rest].iter_mut().enumerate() {
                *scale = *input_scales.add(whole * LANES + lane);
            }
            let input_scales = l.load(last_scales.as_ptr());
            for r in 0..ROWS {
                let places = array::from_fn(|lane| (rows[r], (whole * LANES + lane).min(blocks - 1)));
                let (sums, scales) = group_sums::<L, B>(l, matmul, places, &groups[whole]);
                lanes[r] = l.first(rest, l.fma(sums, l.mul(scales, input_scales), lanes[r]), lanes[r]);
            }
        }
        for r in 0..ROWS {
            *matmul.outputs.add(token * matmul.output_stride + rows[r]) = l.sum(lanes[r]);
        }
    }
}

/// The sums of products of sixteen blocks, and their weights' scales.
///
/// # Safety
/// The contract of [`arguments::Matmul`]; there are such blocks.
#[inline(always)]
unsafe fn group_sums<L: Lanes, B: Blocks>(
    l: L,
    matmul: &arguments::Matmul,
    places: [(usize, usize); LANES],
    group: &Group,
) -> (L::Floats, L::Floats) {
    let mut sums = [l.splat_integer(0); 4];
    for (i, sum) in sums.iter_mut().enumerate() {
        // SAFETY: our own contract; each part of a group has 32 elements.
        unsafe {
            let weights = B::integers(l, matmul, array::from_fn(|j| places[4 * j + i]));
            for (weights, inputs) in weights.into_iter().zip(&group[i]) {
                *sum = l.dot(*sum, weights, l.load_integers(inputs.as_ptr().cast()));
            }
        }
    }
    let [a, b, c, d] = l.transpose(sums);
    let sums = l.to_floats(l.add_integers(l.add_integers(a, b), l.add_integers(c, d)));
    // SAFETY: our own contract.
    (sums, unsafe { B::scales(l, matmul, places) })
}

/// Rows of weights in a panel: one in each lane.
const PANEL_ROWS: usize = LANES;

/// Blocks in a panel.
const PANEL_BLOCKS: usize = 8;

/// Tokens that meet a panel before the next is made: their sums take 20 KiB of stack.
const PANEL_TOKENS: usize = 64;

/// The lanes in an order in which folding them needs the fewest at a time: each sum is made as soon as both of its
/// terms are there.
const FOLDING_ORDER: [usize; LANES] = [0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15];

/// Many tokens: the lanes are sixteen rows, and the lanes of a row's sum come one after the other.
///
/// # Safety
/// The contract of [`arguments::Matmul`].
#[inline(always)]
unsafe fn many_tokens<L: Lanes, B: Blocks, const TOKENS: usize>(l: L, matmul: &arguments::Matmul) {
    let blocks = matmul.columns / QUANTIZED_BLOCK;
    for first_row in (0..matmul.rows).step_by(PANEL_ROWS) {
        // Lanes past the last row repeat it.
        let rows: [usize; PANEL_ROWS] = array::from_fn(|r| (first_row + r).min(matmul.rows - 1));
        for first_token in (0..matmul.tokens).step_by(PANEL_TOKENS) {
            let tokens = (matmul.tokens - first_token).min(PANEL_TOKENS);
            // Sums of 1, 2, 4, 8 and 16 lanes.
            let mut folded = [[l.splat(0.0); 5]; PANEL_TOKENS];
            for (step, lane) in FOLDING_ORDER.into_iter().enumerate() {
                let mut sums = [l.splat(0.0); PANEL_TOKENS];
                for first_block in (lane..blocks).step_by(PANEL_BLOCKS * LANES) {
                    let count = (blocks - first_block).div_ceil(LANES).min(PANEL_BLOCKS);
                    // SAFETY: rows, blocks and tokens are below their numbers.
                    unsafe {
                        let panel = Panel::read::<B>(l, matmul, rows, first_block, count);
                        let mut token = 0;
                        while token < tokens {
                            let (matmul, first, sums) = (matmul, first_token + token, &mut sums[token..tokens]);
                            token += match tokens - token {
                                rest if rest >= TOKENS => panel.meet::<TOKENS>(l, matmul, first, sums),
                                rest if rest >= 4 => panel.meet::<4>(l, matmul, first, sums),
                                rest if rest >= 2 => panel.meet::<2>(l, matmul, first, sums),
                                _ => panel.meet::<1>(l, matmul, first, sums),
                            };
                        }
                    }
                }
                for (folded, sum) in folded[..tokens].iter_mut().zip(sums) {
                    let levels = step.trailing_ones() as usize;
                    folded[levels] = folded[..levels].iter().fold(sum, |sum, before| l.add(*before, sum));
                }
            }
            for (t, folded) in folded[..tokens].iter().enumerate() {
                let mut outputs = [0.0; PANEL_ROWS];
                // SAFETY: sixteen elements; the outputs hold `rows` elements for each token.
                unsafe {
                    l.store(outputs.as_mut_ptr(), folded[4]);
                    let to = matmul.outputs.add((first_token + t) * matmul.output_stride + first_row);
                    to.copy_from_nonoverlapping(outputs.as_ptr(), (matmul.rows - first_row).min(PANEL_ROWS));
                }
            }
        }
    }
}

/// Some blocks of sixteen rows, sixteen apart: those that one lane of the sums adds up.
struct Panel<L: Lanes> {
    /// Elements 2 p and 2 p + 1 of all rows: [blocks][p].
    pairs: [[L::Integers; QUANTIZED_BLOCK / 2]; PANEL_BLOCKS],
    scales: [L::Floats; PANEL_BLOCKS],
    first_block: usize,
    count: usize,
}

impl<L: Lanes> Panel<L> {
    /// # Safety
    /// The contract of [`arguments::Matmul`]; there are such rows and blocks, and at most [`PANEL_BLOCKS`].
    #[inline(always)]
    unsafe fn read<B: Blocks>(
        l: L,
        matmul: &arguments::Matmul,
        rows: [usize; PANEL_ROWS],
        first_block: usize,
        count: usize,
    ) -> Self {
        let mut panel = Self {
            pairs: [[l.splat_integer(0); QUANTIZED_BLOCK / 2]; PANEL_BLOCKS],
            scales: [l.splat(0.0); PANEL_BLOCKS],
            first_block,
            count,
        };
        for b in 0..count {
            let block = first_block + b * LANES;
            // SAFETY: our own contract.
            unsafe {
                panel.scales[b] = B::scales(l, matmul, rows.map(|row| (row, block)));
                let mut parts = [[l.splat_integer(0); 4]; 4];
                for i in 0..4 {
                    let integers = B::integers(l, matmul, array::from_fn(|j| (rows[4 * j + i], block)));
                    for part in 0..4 {
                        parts[part][i] = integers[part];
                    }
                }
                for (part, pairs) in parts.into_iter().zip(panel.pairs[b].as_chunks_mut::<4>().0) {
                    *pairs = l.transpose(part);
                }
            }
        }
        panel
    }

    /// Adds the products with the blocks of some tokens, the first `TOKENS` from `token` on, to their sums; returns how
    /// many these are.
    ///
    /// # Safety
    /// The contract of [`arguments::Matmul`]; there are so many tokens and sums.
    #[inline(always)]
    unsafe fn meet<const TOKENS: usize>(
        &self,
        l: L,
        matmul: &arguments::Matmul,
        token: usize,
        sums: &mut [L::Floats],
    ) -> usize {
        let blocks = matmul.columns / QUANTIZED_BLOCK;
        let input_rows: [usize; TOKENS] =
            // SAFETY: our own contract.
            array::from_fn(|t| unsafe { portable::input_row(matmul, token + t) });
        let mut lanes = [l.splat(0.0); TOKENS];
        lanes.copy_from_slice(&sums[..TOKENS]);
        for b in 0..self.count {
            let block = self.first_block + b * LANES;
            let mut dots = [l.splat_integer(0); TOKENS];
            // SAFETY: a row of activations has that block, which is sixteen pairs, and a scale for it.
            unsafe {
                let inputs: [*const i32; TOKENS] = array::from_fn(|t| {
                    matmul.quantized.add(input_rows[t] * matmul.columns + block * QUANTIZED_BLOCK).cast()
                });
                for (pair, weights) in self.pairs[b].iter().enumerate() {
                    for t in 0..TOKENS {
                        let input = l.splat_integer(inputs[t].add(pair).read_unaligned());
                        dots[t] = l.dot(dots[t], *weights, input);
                    }
                }
                for t in 0..TOKENS {
                    let input_scale = l.splat(*matmul.input_scales.add(input_rows[t] * blocks + block));
                    lanes[t] = l.fma(l.to_floats(dots[t]), l.mul(self.scales[b], input_scale), lanes[t]);
                }
            }
        }
        sums[..TOKENS].copy_from_slice(&lanes);
        TOKENS
    }
}
