use core::arch::aarch64::*;
use core::arch::naked_asm;
use core::array;

use ossicle_core::kernels::QUANTIZED_BLOCK;
use ossicle_core::kernels::arguments::Matmul;

use super::input_row;
use super::weights::Weights;

/// The numbers that a sum is made of before it is folded.
const LANES: usize = 16;

/// Rows in a panel.
const ROWS: usize = 8;

/// Blocks in a panel.
const BLOCKS: usize = 8;

/// Tokens that meet a panel together.
const TOKENS: usize = 4;

/// The sums of so many tokens.
const TILE: usize = ROWS * TOKENS;

/// Tiles that meet a panel before the next is made: their sums take 12 KiB of stack.
const MOST_TILES: usize = 16;

/// The lanes in an order in which folding them needs the fewest at a time: each sum is made as soon as both of its
/// terms are there.
const FOLDING_ORDER: [usize; LANES] = [0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15];

/// The argument block of the bodies.
#[repr(C)]
pub struct ManyTokens {
    /// The weights.
    pub panel: *const PanelBlock,
    /// Blocks in the panel; not 0.
    pub blocks: usize,
    /// For each token the activations that meet the first block. The next ones are sixteen blocks further on.
    pub inputs: [*const i16; TOKENS],
    /// Their scales.
    pub input_scales: [*const f32; TOKENS],
    /// One lane of the sums, in the order of [`Meet::place`].
    pub sums: *mut [f32; TILE],
}

/// A block of each row.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PanelBlock {
    /// Some columns of all rows, then the next columns: as many as the body multiplies at a time.
    weights: [i8; ROWS * QUANTIZED_BLOCK],
    /// What lower bytes of activations that are 128 too small take from the products, for each row.
    corrections: [i32; ROWS],
    /// The factors of the blocks.
    factors: [f32; ROWS],
}

const _: () = assert!(
    core::mem::offset_of!(ManyTokens, inputs) == 16
        && core::mem::offset_of!(ManyTokens, input_scales) == 48
        && core::mem::offset_of!(ManyTokens, sums) == 80
        && core::mem::offset_of!(PanelBlock, corrections) == 256
        && core::mem::offset_of!(PanelBlock, factors) == 288
        && size_of::<PanelBlock>() == 320
);

/// How a panel meets tokens.
pub trait Meet {
    /// Columns that an instruction takes of a row.
    const COLUMNS: usize;

    /// Adds the products of a panel and four tokens to their sums.
    const BODY: unsafe extern "C" fn(&ManyTokens);

    /// Where the sum of a row and a token is in its tile.
    fn place(row: usize, token: usize) -> usize;
}

/// Sums of products of four bytes.
pub struct Dotprod;

impl Meet for Dotprod {
    const COLUMNS: usize = 4;
    const BODY: unsafe extern "C" fn(&ManyTokens) = dotprod;

    fn place(row: usize, token: usize) -> usize {
        token * ROWS + row
    }
}

/// Two rows of eight bytes times two tokens.
pub struct I8mm;

impl Meet for I8mm {
    const COLUMNS: usize = 8;
    const BODY: unsafe extern "C" fn(&ManyTokens) = i8mm;

    fn place(row: usize, token: usize) -> usize {
        (row / 2 * 2 + token / 2) * 4 + row % 2 * 2 + token % 2
    }
}

/// # Safety
/// Panel, activations and sums are there; the processor has `sdot`.
#[unsafe(naked)]
pub unsafe extern "C" fn dotprod(arguments: &ManyTokens) {
    naked_asm!(include_str!("many_tokens_dotprod.S"), options(raw))
}

/// # Safety
/// Panel, activations and sums are there; the processor has `smmla`.
#[unsafe(naked)]
pub unsafe extern "C" fn i8mm(arguments: &ManyTokens) {
    naked_asm!(include_str!("many_tokens_i8mm.S"), options(raw))
}

/// All rows times all tokens: the lanes of a sum come one after the other.
///
/// # Safety
/// The contract of [`Matmul`], for quantized activations and these weights; the processor has the instructions of `M`.
pub unsafe fn many_tokens<M: Meet>(matmul: &Matmul, weights: &Weights) {
    let blocks = matmul.columns / QUANTIZED_BLOCK;
    let mut panel = [PanelBlock::EMPTY; BLOCKS];
    // Sums of 1, 2, 4, 8 and 16 lanes.
    let mut folded = [[[0.0; TILE]; 5]; MOST_TILES];
    let mut sums = [[0.0; TILE]; MOST_TILES];
    for first_row in (0..matmul.rows).step_by(ROWS) {
        for first_token in (0..matmul.tokens).step_by(MOST_TILES * TOKENS) {
            let tokens = (matmul.tokens - first_token).min(MOST_TILES * TOKENS);
            let tiles = tokens.div_ceil(TOKENS);
            for (step, lane) in FOLDING_ORDER.into_iter().enumerate() {
                sums[..tiles].fill([0.0; TILE]);
                for first_block in (lane..blocks).step_by(BLOCKS * LANES) {
                    let count = (blocks - first_block).div_ceil(LANES).min(BLOCKS);
                    for (b, panel) in panel[..count].iter_mut().enumerate() {
                        let block = first_block + b * LANES;
                        // Rows past the last repeat it.
                        let row = |r: usize| weights.block((first_row + r).min(matmul.rows - 1), block);
                        // SAFETY: the rows have this block.
                        unsafe { panel.read::<M>(weights, array::from_fn(row)) };
                    }
                    for (tile, sums) in sums[..tiles].iter_mut().enumerate() {
                        let first = first_token + tile * TOKENS;
                        // SAFETY: tokens past the last repeat it, and all have these blocks.
                        unsafe {
                            let rows: [usize; TOKENS] =
                                array::from_fn(|t| input_row(matmul, (first + t).min(matmul.tokens - 1)));
                            let from = |row| row * blocks + first_block;
                            M::BODY(&ManyTokens {
                                panel: panel.as_ptr(),
                                blocks: count,
                                inputs: rows.map(|row| matmul.quantized.add(from(row) * QUANTIZED_BLOCK)),
                                input_scales: rows.map(|row| matmul.input_scales.add(from(row))),
                                sums,
                            });
                        }
                    }
                }
                for (folded, sum) in folded[..tiles].iter_mut().zip(&sums) {
                    let levels = step.trailing_ones() as usize;
                    let add = |sum: [f32; TILE], before: &[f32; TILE]| array::from_fn(|i| before[i] + sum[i]);
                    folded[levels] = folded[..levels].iter().fold(*sum, add);
                }
            }
            for t in 0..tokens {
                for r in 0..(matmul.rows - first_row).min(ROWS) {
                    let sum = folded[t / TOKENS][4][M::place(r, t % TOKENS)];
                    // SAFETY: the outputs hold `rows` elements for each token.
                    unsafe { *matmul.outputs.add((first_token + t) * matmul.output_stride + first_row + r) = sum };
                }
            }
        }
    }
}

impl PanelBlock {
    pub const EMPTY: Self = Self { weights: [0; ROWS * QUANTIZED_BLOCK], corrections: [0; ROWS], factors: [0.0; ROWS] };

    /// Takes in a block of each row.
    ///
    /// # Safety
    /// They are there.
    #[inline(always)]
    unsafe fn read<M: Meet>(&mut self, weights: &Weights, blocks: [(*const u8, *const u8); ROWS]) {
        for (row, block) in blocks.into_iter().enumerate() {
            let mut integers = [0; QUANTIZED_BLOCK];
            // SAFETY: our own contract; 32 bytes.
            unsafe {
                let ([first, second], factor) = weights.read(block);
                vst1q_s8(integers.as_mut_ptr(), first);
                vst1q_s8(integers.as_mut_ptr().add(16), second);
                self.corrections[row] = 128 * (i32::from(vaddlvq_s8(first)) + i32::from(vaddlvq_s8(second)));
                self.factors[row] = factor;
            }
            for (part, integers) in integers.chunks_exact(M::COLUMNS).enumerate() {
                self.weights[(part * ROWS + row) * M::COLUMNS..][..M::COLUMNS].copy_from_slice(integers);
            }
        }
    }
}
