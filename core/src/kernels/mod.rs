//! The arithmetic, in as many versions as there are instruction sets.
//!
//! A [`KernelSet`] is plain data: a name and one function for each kernel. [`Kernels`] is a handle on a set that this
//! processor can run; its methods are safe, because they check every length before the one unsafe call.
//!
//! The portable kernels define every result, order of additions included (`docs/numerics.md`); all others equal them bit
//! for bit.

pub mod arguments;
pub mod ascii;
mod exponential;
mod features;
mod portable;
mod prefetch;

// Not where floats are kept out of vector registers, as in operating-system kernels.
#[cfg(any(
    all(target_arch = "x86_64", target_feature = "sse2"),
    all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"),
    all(target_arch = "wasm32", target_feature = "simd128")
))]
#[macro_use]
mod lanes;

#[cfg_attr(all(target_arch = "x86_64", target_feature = "sse2"), path = "x86_64/mod.rs")]
#[cfg_attr(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"), path = "aarch64/mod.rs")]
#[cfg_attr(all(target_arch = "wasm32", target_feature = "simd128"), path = "wasm32/mod.rs")]
mod architecture;

use core::fmt;

use crate::format::{Matrix, Values, mxfp4};
use crate::parallel::Tile;

pub use architecture::SETS;
#[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
pub use architecture::neon::SET as NEON;
pub use exponential::exp;
pub use features::CpuFeatures;
pub use prefetch::prefetch;

/// Activations are quantized in blocks of this many.
pub const QUANTIZED_BLOCK: usize = 32;

/// The most columns that kernels for few tokens take.
pub const FEW_TOKENS_COLUMNS: usize = 8192;

/// Cached keys are laid out in tiles of this many positions.
pub const KEY_TILE: usize = 16;

/// Attention goes over the cache in blocks of this many positions, counted from position 0.
pub const ATTENTION_BLOCK: usize = 64;

/// So many tokens go over the cache together: what they see is read once for all of them.
pub const ATTENTION_TOKENS: usize = 8;

/// One function for each kernel. The contract of each is that of the argument block it takes: pointers valid for the
/// lengths given there, outputs exclusive.
#[derive(Clone, Copy)]
pub struct KernelSet {
    /// As `--kernels` spells it.
    pub name: &'static str,
    /// What the processor must have.
    pub requires: CpuFeatures,
    /// F32 weights, f32 activations.
    pub matmul_f32: unsafe fn(&arguments::Matmul),
    /// F16 weights, f32 activations.
    pub matmul_f16: unsafe fn(&arguments::Matmul),
    /// BF16 weights, f32 activations.
    pub matmul_bf16: unsafe fn(&arguments::Matmul),
    /// Q8_0 weights, f32 activations.
    pub matmul_q8_0: unsafe fn(&arguments::Matmul),
    /// MXFP4 weights, f32 activations.
    pub matmul_mxfp4: unsafe fn(&arguments::Matmul),
    /// Q8_0 weights, quantized activations.
    pub matmul_q8_0_quantized: unsafe fn(&arguments::Matmul),
    /// MXFP4 weights, quantized activations.
    pub matmul_mxfp4_quantized: unsafe fn(&arguments::Matmul),
    /// Up to so many tokens, the next two kernels are faster than the two before.
    pub few_tokens: usize,
    /// Q8_0 weights, quantized activations, at most [`FEW_TOKENS_COLUMNS`] columns.
    pub matmul_q8_0_few: unsafe fn(&arguments::Matmul),
    /// MXFP4 weights, the same.
    pub matmul_mxfp4_few: unsafe fn(&arguments::Matmul),
    /// Quantizes activations.
    pub quantize: unsafe fn(&arguments::Quantize),
    /// The gated activation.
    pub swiglu: unsafe fn(&arguments::Swiglu),
    /// Attention over a cache of f32.
    pub attend_f32: unsafe fn(&arguments::Attend),
    /// Attention over a cache of f16.
    pub attend_f16: unsafe fn(&arguments::Attend),
    /// Attention over a cache of bf16.
    pub attend_bf16: unsafe fn(&arguments::Attend),
    /// Attention over a cache of signed bytes with scales.
    pub attend_int8: unsafe fn(&arguments::Attend),
}

/// A kernel set that this processor can run.
#[derive(Clone, Copy)]
pub struct Kernels {
    set: &'static KernelSet,
}

impl fmt::Debug for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.set.name)
    }
}

/// Rows of activations: as f32 and, unless the mode is precise, quantized.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// [rows][columns].
    pub values: &'a [f32],
    /// [rows][columns], or empty.
    pub quantized: &'a [i16],
    /// [rows][columns / 32], or empty.
    pub scales: &'a [f32],
    /// Values in a row.
    pub columns: usize,
}

/// The cached keys and values of one key-value head.
#[derive(Clone, Copy)]
pub enum Cached<'a> {
    /// Single precision.
    F32 {
        /// [positions / 16][head_dim][16].
        keys: &'a [f32],
        /// [positions][head_dim].
        values: &'a [f32],
    },
    /// Half precision, as bits.
    F16 {
        /// [positions / 16][head_dim][16].
        keys: &'a [u16],
        /// [positions][head_dim].
        values: &'a [u16],
    },
    /// The upper half of single precision.
    Bf16 {
        /// [positions / 16][head_dim][16].
        keys: &'a [u16],
        /// [positions][head_dim].
        values: &'a [u16],
    },
    /// Signed bytes, to be multiplied by their position's scale.
    Int8 {
        /// [positions / 16][head_dim][16].
        keys: &'a [i8],
        /// [positions][head_dim].
        values: &'a [i8],
        /// [positions / 16][2][16]: of keys, and of values.
        scales: &'a [f32],
    },
}

/// Which positions of a cache tokens see that follow one another, and how long the cache is.
#[derive(Clone, Copy, Debug)]
pub struct Visible {
    /// One past the last position that the first token sees; the next token sees one more.
    pub end: usize,
    /// How many positions a token sees at most, those before its end.
    pub window: usize,
    /// Positions in the ring, a multiple of [`ATTENTION_BLOCK`].
    pub capacity: usize,
}

impl Kernels {
    /// The set that defines every result and runs everywhere.
    pub fn portable() -> Self {
        Self { set: &portable::SET }
    }

    /// Every one of [`SETS`] that this processor can run, the fastest first.
    pub fn available() -> impl Iterator<Item = Self> {
        let features = CpuFeatures::detect();
        // SAFETY: the processor says so itself, and the sets are ours.
        SETS.iter().filter_map(move |set| unsafe { Self::with(set, features) })
    }

    /// A set from anywhere, if those features are enough.
    ///
    /// # Safety
    /// The processor has these features. On every processor that has what the set requires, each of its kernels keeps the
    /// contract of its argument block, and gives the same bits as the portable one.
    pub unsafe fn with(set: &'static KernelSet, features: CpuFeatures) -> Option<Self> {
        features.contains(set.requires).then_some(Self { set })
    }

    /// As `--kernels` spells it.
    pub fn name(&self) -> &'static str {
        self.set.name
    }

    /// out[t][r] = sum over c of matrix[r][c] * inputs[index[t]][c], for each row t of `out` and each of its columns r.
    /// Without an index, t itself.
    ///
    /// # Panics
    /// If the shapes disagree or an index is out of range.
    pub fn matmul(&self, matrix: &Matrix<'_>, inputs: &Inputs<'_>, index: Option<&[u32]>, out: &mut Tile<'_>) {
        let (rows, columns, tokens) = (matrix.rows(), matrix.columns(), out.rows());
        assert_eq!(rows, out.columns());
        assert_eq!(columns, inputs.columns);
        if rows == 0 || tokens == 0 {
            return;
        }
        let input_rows = match index {
            Some(index) => {
                assert_eq!(index.len(), tokens);
                index.iter().max().map_or(0, |last| (*last as usize).saturating_add(1))
            }
            None => tokens,
        };
        let len = input_rows.checked_mul(columns).expect("no more activations than there is memory");
        assert!(len <= inputs.values.len());
        if columns == 0 {
            return (0..tokens).for_each(|token| out.row(token).fill(0.0));
        }
        let quantized = !inputs.quantized.is_empty() && matches!(matrix.values(), Values::Q8_0(_) | Values::Mxfp4(_));
        if quantized {
            assert!(columns.is_multiple_of(QUANTIZED_BLOCK));
            assert!(len <= inputs.quantized.len() && len / QUANTIZED_BLOCK <= inputs.scales.len());
        }
        let set = self.set;
        let few = tokens <= set.few_tokens && columns <= FEW_TOKENS_COLUMNS;
        let (kernel, weights, blocks) = match matrix.values() {
            Values::F32(data) => (set.matmul_f32, data, None),
            Values::F16(data) => (set.matmul_f16, data, None),
            Values::Bf16(data) => (set.matmul_bf16, data, None),
            Values::Q8_0(data) if quantized && few => (set.matmul_q8_0_few, data, None),
            Values::Q8_0(data) if quantized => (set.matmul_q8_0_quantized, data, None),
            Values::Q8_0(data) => (set.matmul_q8_0, data, None),
            Values::Mxfp4(blocks) if quantized && few => (set.matmul_mxfp4_few, blocks.codes, Some(blocks)),
            Values::Mxfp4(blocks) if quantized => (set.matmul_mxfp4_quantized, blocks.codes, Some(blocks)),
            Values::Mxfp4(blocks) => (set.matmul_mxfp4, blocks.codes, Some(blocks)),
        };
        let in_row = columns / mxfp4::BLOCK_LEN;
        let arguments = arguments::Matmul {
            weights: weights.as_ptr(),
            row_size: blocks.map_or(matrix.row_size(), |blocks| in_row * blocks.code_stride),
            scales: blocks.map_or(core::ptr::null(), |blocks| blocks.scales.as_ptr()),
            scales_row_size: blocks.map_or(0, |blocks| in_row * blocks.scale_stride),
            code_stride: blocks.map_or(0, |blocks| blocks.code_stride),
            scale_stride: blocks.map_or(0, |blocks| blocks.scale_stride),
            order: blocks.map_or(0, |blocks| blocks.order as usize),
            rows,
            columns,
            inputs: inputs.values.as_ptr(),
            quantized: inputs.quantized.as_ptr(),
            input_scales: inputs.scales.as_ptr(),
            index: index.map_or(core::ptr::null(), <[u32]>::as_ptr),
            tokens,
            outputs: out.as_mut_ptr(),
            output_stride: out.stride(),
        };
        // SAFETY: a matrix holds all bytes of its rows; the assertions above cover the activations that `index` or
        // `tokens` can reach; the tile is an exclusive view of `tokens` rows of `rows` outputs; this handle exists only
        // where the set can run.
        unsafe { kernel(&arguments) }
    }

    /// Quantizes blocks of 32 values to 16 bits.
    ///
    /// # Panics
    /// If the lengths disagree.
    pub fn quantize(&self, values: &[f32], quantized: &mut [i16], scales: &mut [f32]) {
        assert!(values.len().is_multiple_of(QUANTIZED_BLOCK));
        assert!(quantized.len() == values.len() && scales.len() == values.len() / QUANTIZED_BLOCK);
        let arguments = arguments::Quantize {
            values: values.as_ptr(),
            len: values.len(),
            quantized: quantized.as_mut_ptr(),
            scales: scales.as_mut_ptr(),
        };
        // SAFETY: the lengths are checked above; the outputs are exclusive borrows; the set can run here.
        unsafe { (self.set.quantize)(&arguments) }
    }

    /// min(g, limit) * sigmoid(1.702 min(g, limit)) * (clamp(l, -limit, limit) + 1) for each gate g and linear part l of
    /// `hidden`: interleaved pairs, or all gates and then all linear parts.
    ///
    /// # Panics
    /// If `hidden` is not twice as long as `out`.
    pub fn swiglu(&self, hidden: &[f32], interleaved: bool, limit: f32, out: &mut [f32]) {
        assert_eq!(hidden.len(), 2 * out.len());
        let (stride, linear) = if interleaved { (2, 1.min(hidden.len())) } else { (1, out.len()) };
        let arguments = arguments::Swiglu {
            gates: hidden.as_ptr(),
            linears: hidden[linear..].as_ptr(),
            stride,
            len: out.len(),
            limit,
            outputs: out.as_mut_ptr(),
        };
        // SAFETY: the lengths are checked above; `out` is an exclusive borrow; the set can run here.
        unsafe { (self.set.swiglu)(&arguments) }
    }

    /// Attention of the query heads that share one key-value head, for a token in each row of `out`.
    ///
    /// `out` is [tokens][heads * head_dim], and so are `queries`, with a number of values from one token to the next;
    /// `sinks` is [heads]. Keys and values of the visible positions are in the cache.
    ///
    /// # Panics
    /// If the shapes disagree, if nothing is visible, or if a visible position is not in the cache.
    pub fn attend(
        &self,
        (queries, queries_stride): (&[f32], usize),
        cached: Cached<'_>,
        visible: Visible,
        sinks: &[f32],
        out: &mut Tile<'_>,
    ) {
        let Visible { end, window, capacity } = visible;
        let (heads, tokens) = (sinks.len(), out.rows());
        assert!(heads > 0 && out.columns().is_multiple_of(heads) && end > 0 && window > 0);
        let head_dim = out.columns() / heads;
        let Some(last) = tokens.checked_sub(1) else { return };
        let queries_len = last.checked_mul(queries_stride).and_then(|start| start.checked_add(out.columns()));
        assert!(queries_len.is_some_and(|len| len <= queries.len()));
        let last_end = end.checked_add(last).expect("a position");
        let seen = last_end - end.saturating_sub(window);
        assert!(seen <= capacity && capacity.is_multiple_of(ATTENTION_BLOCK));
        // The cache grows with the highest position, so a ring that has wrapped is there as a whole.
        let positions = last_end.min(capacity);
        let keys_len = positions.next_multiple_of(KEY_TILE).checked_mul(head_dim);
        let keys_len = keys_len.expect("no more keys than there is memory");
        let values_len = positions * head_dim;
        let (kernel, keys, values, scales): (_, _, _, &[f32]) = match cached {
            Cached::F32 { keys, values } => {
                assert!(keys_len <= keys.len() && values_len <= values.len());
                (self.set.attend_f32, keys.as_ptr().cast(), values.as_ptr().cast(), &[])
            }
            Cached::F16 { keys, values } => {
                assert!(keys_len <= keys.len() && values_len <= values.len());
                (self.set.attend_f16, keys.as_ptr().cast(), values.as_ptr().cast(), &[])
            }
            Cached::Bf16 { keys, values } => {
                assert!(keys_len <= keys.len() && values_len <= values.len());
                (self.set.attend_bf16, keys.as_ptr().cast(), values.as_ptr().cast(), &[])
            }
            Cached::Int8 { keys, values, scales } => {
                assert!(keys_len <= keys.len() && values_len <= values.len());
                assert!(positions.div_ceil(KEY_TILE) <= scales.len() / (2 * KEY_TILE));
                (self.set.attend_int8, keys.as_ptr().cast(), values.as_ptr().cast(), scales)
            }
        };
        let arguments = arguments::Attend {
            queries: queries.as_ptr(),
            queries_stride,
            tokens,
            heads,
            head_dim,
            keys,
            values,
            scales: scales.as_ptr(),
            capacity,
            end,
            window,
            scale: 1.0 / libm::sqrtf(head_dim as f32),
            sinks: sinks.as_ptr(),
            outputs: out.as_mut_ptr(),
            outputs_stride: out.stride(),
        };
        // SAFETY: every position that a token sees, modulo the capacity, lies below `positions`, for which the cache was
        // checked above; queries, sinks and outputs have the lengths given; the set can run here.
        unsafe { kernel(&arguments) }
    }
}
