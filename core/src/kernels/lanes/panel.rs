use core::array;

use super::quantized::{Blocks, LINE};
use super::{LANES, Lanes};
use crate::kernels::{QUANTIZED_BLOCK, arguments, portable};

/// Rows of weights in a panel: one in each lane.
const ROWS: usize = LANES;

/// Blocks in a panel.
const BLOCKS: usize = 8;

/// Tokens that meet a panel before the next is made: their sums take 24 KiB of stack.
const MOST_TOKENS: usize = 64;

/// The lanes in an order in which folding them needs the fewest at a time: each sum is made as soon as both of its
/// terms are there.
const FOLDING_ORDER: [usize; LANES] = [0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15];

/// Rows of weights in blocks of 32 integers times quantized activations of many tokens: the lanes are sixteen rows, and
/// the lanes of a row's sum come one after the other.
///
/// # Safety
/// The contract of [`arguments::Matmul`].
#[inline(always)]
pub unsafe fn many_tokens<L: Lanes, B: Blocks, const TOKENS: usize>(l: L, matmul: &arguments::Matmul) {
    let blocks = matmul.columns / QUANTIZED_BLOCK;
    let mut panel = Panel {
        pairs: [[l.splat_integer(0); QUANTIZED_BLOCK / 2]; BLOCKS],
        scales: [l.splat(0.0); BLOCKS],
        first_block: 0,
        count: 0,
    };
    // Sums of 1, 2, 4, 8 and 16 lanes.
    let mut folded = [[l.splat(0.0); 5]; MOST_TOKENS];
    let mut sums = [l.splat(0.0); MOST_TOKENS];
    for first_row in (0..matmul.rows).step_by(ROWS) {
        // SAFETY: lanes past the last row repeat it.
        let rows: [_; ROWS] = array::from_fn(|r| unsafe { B::row(matmul, (first_row + r).min(matmul.rows - 1)) });
        for first_token in (0..matmul.tokens).step_by(MOST_TOKENS) {
            let tokens = (matmul.tokens - first_token).min(MOST_TOKENS);
            for (step, lane) in FOLDING_ORDER.into_iter().enumerate() {
                ask_ahead::<L, B>(l, matmul, first_row + ROWS + step);
                sums[..tokens].fill(l.splat(0.0));
                for first_block in (lane..blocks).step_by(BLOCKS * LANES) {
                    let count = (blocks - first_block).div_ceil(LANES).min(BLOCKS);
                    // SAFETY: rows, blocks and tokens are below their numbers.
                    unsafe {
                        panel.read::<B>(l, &rows, first_block, count);
                        let mut token = 0;
                        while token < tokens {
                            let (first, sums) = (first_token + token, &mut sums[token..tokens]);
                            // Passes of about the same size: products of few tokens wait for one another.
                            let passes = sums.len().div_ceil(TOKENS);
                            token += match sums.len().div_ceil(passes) {
                                1 => panel.meet::<1>(l, matmul, first, sums),
                                2 => panel.meet::<2>(l, matmul, first, sums),
                                3 => panel.meet::<3>(l, matmul, first, sums),
                                4 => panel.meet::<4>(l, matmul, first, sums),
                                5 => panel.meet::<5>(l, matmul, first, sums),
                                6 => panel.meet::<6>(l, matmul, first, sums),
                                7 => panel.meet::<7>(l, matmul, first, sums),
                                _ => panel.meet::<8>(l, matmul, first, sums),
                            };
                        }
                    }
                }
                for (folded, sum) in folded[..tokens].iter_mut().zip(&sums) {
                    let levels = step.trailing_ones() as usize;
                    folded[levels] = folded[..levels].iter().fold(*sum, |sum, before| l.add(*before, sum));
                }
            }
            for (t, folded) in folded[..tokens].iter().enumerate() {
                let mut outputs = [0.0; ROWS];
                // SAFETY: sixteen elements; the outputs hold `rows` elements for each token.
                unsafe {
                    l.store(outputs.as_mut_ptr(), folded[4]);
                    let to = matmul.outputs.add((first_token + t) * matmul.output_stride + first_row);
                    to.copy_from_nonoverlapping(outputs.as_ptr(), (matmul.rows - first_row).min(ROWS));
                }
            }
        }
    }
}

/// Asks for a row that will be read; there need be no such row. A panel has as many rows as steps, so that one row at each
/// step brings the next panel, in the order in which memory delivers fastest.
#[inline(always)]
fn ask_ahead<L: Lanes, B: Blocks>(l: L, matmul: &arguments::Matmul, row: usize) {
    let blocks = matmul.columns / QUANTIZED_BLOCK;
    let parts = [
        (matmul.weights, matmul.row_size, B::STRIDES.0),
        (matmul.scales, matmul.scales_row_size, if B::STRIDES.1 < B::STRIDES.0 { B::STRIDES.1 } else { 0 }),
    ];
    for (first, row_size, stride) in parts {
        let row = first.wrapping_add(row.wrapping_mul(row_size));
        for at in (0..blocks * stride).step_by(LINE) {
            l.prefetch_far(row.wrapping_add(at));
        }
    }
}

/// Some blocks of sixteen rows, sixteen apart: those that one lane of the sums adds up.
struct Panel<L: Lanes> {
    /// Elements 2 p and 2 p + 1 of all rows: [blocks][p].
    pairs: [[L::Integers; QUANTIZED_BLOCK / 2]; BLOCKS],
    scales: [L::Floats; BLOCKS],
    first_block: usize,
    count: usize,
}

impl<L: Lanes> Panel<L> {
    /// Takes in blocks of the rows, which are given by the integers and the scale of their first.
    ///
    /// # Safety
    /// There are such blocks, and at most [`BLOCKS`].
    #[inline(always)]
    unsafe fn read<B: Blocks>(
        &mut self,
        l: L,
        rows: &[(*const u8, *const u8); ROWS],
        first_block: usize,
        count: usize,
    ) {
        (self.first_block, self.count) = (first_block, count);
        for b in 0..count {
            let block = first_block + b * LANES;
            // SAFETY: our own contract.
            unsafe {
                let (mut blocks, mut scales) = ([rows[0].0; ROWS], [rows[0].1; ROWS]);
                for r in 0..ROWS {
                    blocks[r] = rows[r].0.add(block * B::STRIDES.0);
                    scales[r] = rows[r].1.add(block * B::STRIDES.1);
                }
                self.scales[b] = B::scales(l, &scales);
                let mut halves = [[l.splat_integer(0); 4]; 2];
                for i in 0..4 {
                    let blocks = [blocks[i], blocks[4 + i], blocks[8 + i], blocks[12 + i]];
                    [halves[0][i], halves[1][i]] = B::integers(l, blocks, false);
                }
                for (half, pairs) in halves.into_iter().zip(self.pairs[b].as_chunks_mut::<8>().0) {
                    for (four, pairs) in l.transpose(half).into_iter().zip(pairs.as_chunks_mut::<2>().0) {
                        *pairs = l.pairs_of_bytes(four);
                    }
                }
            }
        }
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
                let inputs: [*const i16; TOKENS] =
                    array::from_fn(|t| matmul.quantized.add(input_rows[t] * matmul.columns + block * QUANTIZED_BLOCK));
                for (pair, weights) in self.pairs[b].iter().enumerate() {
                    for t in 0..TOKENS {
                        dots[t] = l.dot_pairs(dots[t], *weights, inputs[t], pair);
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
