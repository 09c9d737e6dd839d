//! The argument blocks of the kernels.
//!
//! Each kernel takes one pointer to a `repr(C)` structure, so that intrinsics and assembly, on every system, read the
//! same offsets. [`super::Kernels`] fills them in, after it has checked every length.

use core::ops::Range;

/// out[t][r] = sum over c of weights[r][c] * inputs[index[t]][c].
#[repr(C)]
pub struct Matmul {
    /// The first row. MXFP4: the codes of its first block.
    pub weights: *const u8,
    /// Bytes from one row to the next.
    pub row_size: usize,
    /// MXFP4: the scale of the first block of the first row.
    pub scales: *const u8,
    /// MXFP4: bytes from one row's scales to the next.
    pub scales_row_size: usize,
    /// MXFP4: bytes from the codes of one block to those of the next.
    pub code_stride: usize,
    /// MXFP4: bytes from one scale to the next.
    pub scale_stride: usize,
    /// MXFP4: [`crate::format::mxfp4::NibbleOrder`].
    pub order: usize,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub columns: usize,
    /// Activations as f32, for the kernels that take them so.
    pub inputs: *const f32,
    /// Quantized activations, for the kernels that take them so.
    pub quantized: *const i16,
    /// One scale for each 32 quantized activations.
    pub input_scales: *const f32,
    /// Which row of activations each token uses; null: its own number.
    pub index: *const u32,
    /// Number of tokens.
    pub tokens: usize,
    /// out[0][0].
    pub outputs: *mut f32,
    /// Elements from one token's outputs to the next.
    pub output_stride: usize,
}

/// Blocks of 32 values to 16-bit integers and a scale.
#[repr(C)]
pub struct Quantize {
    /// The values.
    pub values: *const f32,
    /// How many; a multiple of 32.
    pub len: usize,
    /// `len` integers.
    pub quantized: *mut i16,
    /// `len / 32` scales.
    pub scales: *mut f32,
}

/// The clamped gated activation of gpt-oss.
#[repr(C)]
pub struct Swiglu {
    /// Gate i is at `gates[i * stride]`.
    pub gates: *const f32,
    /// Linear part i is at `linears[i * stride]`.
    pub linears: *const f32,
    /// 1 for separate halves, 2 for interleaved rows.
    pub stride: usize,
    /// Number of outputs.
    pub len: usize,
    /// Upper bound of gates; bound of the linear parts on both sides.
    pub limit: f32,
    /// `len` values.
    pub outputs: *mut f32,
}

/// Attention of the query heads that share one key-value head, for some tokens.
#[repr(C)]
pub struct Attend {
    /// [tokens][heads][head_dim], rotated.
    pub queries: *const f32,
    /// Values from one token's queries to the next one's.
    pub queries_stride: usize,
    /// Tokens, at positions that follow one another.
    pub tokens: usize,
    /// Query heads.
    pub heads: usize,
    /// Values in a head.
    pub head_dim: usize,
    /// Cached keys: [capacity / 16][head_dim][16], in the cache's format.
    pub keys: *const u8,
    /// Cached values: [capacity][head_dim], in the cache's format.
    pub values: *const u8,
    /// Signed bytes: [capacity / 16][2][16], what the keys and the values of each position are multiplied by.
    pub scales: *const f32,
    /// Positions in the ring, a multiple of 64; position p lies at p % capacity.
    pub capacity: usize,
    /// One past the last position that the first token sees; the next token sees one more.
    pub end: usize,
    /// How many positions a token sees, if there are so many before its end.
    pub window: usize,
    /// Factor of every score: 1 / sqrt(head_dim).
    pub scale: f32,
    /// One for each query head.
    pub sinks: *const f32,
    /// [tokens][heads][head_dim].
    pub outputs: *mut f32,
    /// Values from one token's outputs to the next one's.
    pub outputs_stride: usize,
}

impl Attend {
    /// The positions that a token sees.
    pub fn seen(&self, token: usize) -> Range<usize> {
        let end = self.end + token;
        end.saturating_sub(self.window)..end
    }
}
