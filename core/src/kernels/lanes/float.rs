use super::{LANES, Lanes};
use crate::format::mxfp4::{self, NibbleOrder};
use crate::format::q8_0;
use crate::kernels::arguments;
use crate::kernels::portable::{self, fused};

/// How many weights of a row are made f32 at a time.
const PIECE: usize = 2 * LANES;

/// Weights that become f32.
pub trait Weights {
    /// The 32 weights of a row from column `column` on, a multiple of 32.
    ///
    /// # Safety
    /// There are as many.
    unsafe fn load<L: Lanes>(l: L, matmul: &arguments::Matmul, row: usize, column: usize) -> [L::Floats; 2];

    /// One weight. Only formats without blocks have rows that end between multiples of 32.
    ///
    /// # Safety
    /// It is there.
    unsafe fn get(matmul: &arguments::Matmul, row: usize, column: usize) -> f32;
}

/// Where an element of `size` bytes lies.
///
/// # Safety
/// It is there.
#[inline(always)]
unsafe fn element(matmul: &arguments::Matmul, row: usize, column: usize, size: usize) -> *const u8 {
    // SAFETY: our own contract.
    unsafe { matmul.weights.add(row * matmul.row_size + column * size) }
}

/// IEEE single precision.
pub struct F32;

impl Weights for F32 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(l: L, matmul: &arguments::Matmul, row: usize, column: usize) -> [L::Floats; 2] {
        // SAFETY: our own contract.
        unsafe {
            let from = element(matmul, row, column, 4).cast::<f32>();
            [l.load(from), l.load(from.wrapping_add(LANES))]
        }
    }

    unsafe fn get(matmul: &arguments::Matmul, row: usize, column: usize) -> f32 {
        // SAFETY: our own contract.
        unsafe { element(matmul, row, column, 4).cast::<f32>().read_unaligned() }
    }
}

/// IEEE half precision.
pub struct F16;

impl Weights for F16 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(l: L, matmul: &arguments::Matmul, row: usize, column: usize) -> [L::Floats; 2] {
        // SAFETY: our own contract.
        unsafe {
            let from = element(matmul, row, column, 2).cast::<u16>();
            [l.load_f16(from), l.load_f16(from.wrapping_add(LANES))]
        }
    }

    unsafe fn get(matmul: &arguments::Matmul, row: usize, column: usize) -> f32 {
        // SAFETY: our own contract.
        half::f16::from_bits(unsafe { element(matmul, row, column, 2).cast::<u16>().read_unaligned() }).to_f32()
    }
}

/// The upper half of single precision.
pub struct Bf16;

impl Weights for Bf16 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(l: L, matmul: &arguments::Matmul, row: usize, column: usize) -> [L::Floats; 2] {
        // SAFETY: our own contract.
        unsafe {
            let from = element(matmul, row, column, 2).cast::<u16>();
            [l.load_bf16(from), l.load_bf16(from.wrapping_add(LANES))]
        }
    }

    unsafe fn get(matmul: &arguments::Matmul, row: usize, column: usize) -> f32 {
        // SAFETY: our own contract.
        half::bf16::from_bits(unsafe { element(matmul, row, column, 2).cast::<u16>().read_unaligned() }).to_f32()
    }
}

/// Blocks of signed bytes.
pub struct Q8_0;

impl Weights for Q8_0 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(l: L, matmul: &arguments::Matmul, row: usize, column: usize) -> [L::Floats; 2] {
        // SAFETY: our own contract.
        unsafe {
            let block = element(matmul, row, column / q8_0::BLOCK_LEN, q8_0::BLOCK_SIZE);
            let scale = l.splat(half::f16::from_bits(block.cast::<u16>().read_unaligned()).to_f32());
            [l.mul(scale, l.load_i8(block.add(2))), l.mul(scale, l.load_i8(block.add(2 + LANES)))]
        }
    }

    unsafe fn get(_: &arguments::Matmul, _: usize, _: usize) -> f32 {
        unreachable!("rows are whole blocks")
    }
}

/// Blocks of codes.
pub struct Mxfp4;

impl Weights for Mxfp4 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(l: L, matmul: &arguments::Matmul, row: usize, column: usize) -> [L::Floats; 2] {
        let block = column / mxfp4::BLOCK_LEN;
        // SAFETY: our own contract.
        unsafe {
            let codes = element(matmul, row, block, matmul.code_stride);
            let scale = mxfp4::scale(*matmul.scales.add(row * matmul.scales_row_size + block * matmul.scale_stride));
            let [a, b] = l.load_mxfp4(codes, matmul.order == NibbleOrder::Halves as usize);
            let (half, scale) = (l.splat(0.5), l.splat(scale));
            [l.mul(l.mul(half, a), scale), l.mul(l.mul(half, b), scale)]
        }
    }

    unsafe fn get(_: &arguments::Matmul, _: usize, _: usize) -> f32 {
        unreachable!("rows are whole blocks")
    }
}

/// Rows of weights in any format times f32 activations, four rows and up to `TOKENS` tokens at a time.
///
/// # Safety
/// The contract of [`arguments::Matmul`].
#[inline(always)]
pub unsafe fn matmul<L: Lanes, W: Weights, const TOKENS: usize>(l: L, matmul: &arguments::Matmul) {
    // Rows far apart: memory delivers several streams faster than one.
    let apart = matmul.rows / 4;
    // SAFETY: our own contract; all rows and tokens are below their numbers.
    unsafe {
        for row in 0..apart {
            some_rows::<L, W, 4, TOKENS>(l, matmul, [row, apart + row, 2 * apart + row, 3 * apart + row]);
        }
        for row in 4 * apart..matmul.rows {
            some_rows::<L, W, 1, TOKENS>(l, matmul, [row]);
        }
    }
}

/// # Safety
/// The contract of [`arguments::Matmul`]; there are such rows.
#[inline(always)]
unsafe fn some_rows<L: Lanes, W: Weights, const ROWS: usize, const TOKENS: usize>(
    l: L,
    matmul: &arguments::Matmul,
    rows: [usize; ROWS],
) {
    let whole = matmul.tokens / TOKENS * TOKENS;
    // SAFETY: our own contract.
    unsafe {
        for token in (0..whole).step_by(TOKENS) {
            tile::<L, W, ROWS, TOKENS>(l, matmul, rows, token);
        }
        for token in whole..matmul.tokens {
            tile::<L, W, ROWS, 1>(l, matmul, rows, token);
        }
    }
}

/// Some rows times some tokens, from `token` on.
///
/// # Safety
/// The contract of [`arguments::Matmul`]; there are such rows and tokens.
#[inline(always)]
unsafe fn tile<L: Lanes, W: Weights, const ROWS: usize, const TOKENS: usize>(
    l: L,
    matmul: &arguments::Matmul,
    rows: [usize; ROWS],
    token: usize,
) {
    let mut inputs = [matmul.inputs; TOKENS];
    for (t, inputs) in inputs.iter_mut().enumerate() {
        // SAFETY: our own contract.
        *inputs = unsafe { matmul.inputs.add(portable::input_row(matmul, token + t) * matmul.columns) };
    }
    let mut lanes = [[l.splat(0.0); ROWS]; TOKENS];
    let whole = matmul.columns / PIECE * PIECE;
    for column in (0..whole).step_by(PIECE) {
        // SAFETY: columns from here on to the end of the piece are there.
        unsafe {
            let mut weights = [[l.splat(0.0); 2]; ROWS];
            for r in 0..ROWS {
                weights[r] = W::load(l, matmul, rows[r], column);
            }
            for t in 0..TOKENS {
                let inputs = [l.load(inputs[t].add(column)), l.load(inputs[t].add(column + LANES))];
                for r in 0..ROWS {
                    lanes[t][r] = l.fma(weights[r][0], inputs[0], lanes[t][r]);
                    lanes[t][r] = l.fma(weights[r][1], inputs[1], lanes[t][r]);
                }
            }
        }
    }
    for t in 0..TOKENS {
        for r in 0..ROWS {
            // SAFETY: rows and tokens are there, and so are the columns after the last whole piece.
            unsafe {
                let sum = if whole == matmul.columns {
                    l.sum(lanes[t][r])
                } else {
                    let mut rest = [0.0; LANES];
                    l.store(rest.as_mut_ptr(), lanes[t][r]);
                    for column in whole..matmul.columns {
                        let lane = &mut rest[column % LANES];
                        *lane = fused(W::get(matmul, rows[r], column), *inputs[t].add(column), *lane);
                    }
                    l.sum(l.load(rest.as_ptr()))
                };
                *matmul.outputs.add((token + t) * matmul.output_stride + rows[r]) = sum;
            }
        }
    }
}
