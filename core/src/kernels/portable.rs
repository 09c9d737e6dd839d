//! The kernels that define every result, in plain Rust.
//!
//! Sums have sixteen lanes. Where activations are f32, element c of a row goes to lane c mod 16; where they are
//! quantized, block b goes to lane b mod 16, because the sum within a block is an exact integer. Each lane adds in
//! ascending order, with one rounding for each multiply-add, and [`sum`] folds the lanes. See `docs/numerics.md`.

use half::{bf16, f16};

use super::exponential::{exp, round};
use super::{ATTENTION_BLOCK, CpuFeatures, KEY_TILE, KernelSet, QUANTIZED_BLOCK, arguments};
use crate::format::mxfp4::{self, BLOCK_LEN, NibbleOrder};
use crate::format::{Matrix, Values, q8_0};

pub(super) const SET: KernelSet = KernelSet {
    name: "portable",
    requires: CpuFeatures::NONE,
    matmul_f32,
    matmul_f16,
    matmul_bf16,
    matmul_q8_0,
    matmul_mxfp4,
    matmul_q8_0_quantized,
    matmul_mxfp4_quantized,
    few_tokens: 0,
    matmul_q8_0_few: matmul_q8_0_quantized,
    matmul_mxfp4_few: matmul_mxfp4_quantized,
    quantize,
    swiglu,
    attend_f32: attend::<f32>,
    attend_f16: attend::<f16>,
    attend_bf16: attend::<bf16>,
    attend_int8: attend::<i8>,
};

const LANES: usize = 16;

/// a * b + c, rounded once.
#[inline(always)]
pub(super) fn fused(a: f32, b: f32, c: f32) -> f32 {
    // The product is exact in f64. Rounding the sum twice, to f64 and then to f32, goes wrong only if the first lands
    // exactly between two f32 (S. Boldo and G. Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
    let sum = f64::from(a) * f64::from(b) + f64::from(c);
    let bits = sum.to_bits();
    let between = bits & 0x1fff_ffff == 0x1000_0000;
    let subnormal = (bits >> 52 & 0x7ff) < 1023 - 126;
    if (between || subnormal) && sum != 0.0 { libm::fmaf(a, b, c) } else { sum as f32 }
}

/// Folds the lanes: the upper half onto the lower, four times.
#[inline(always)]
fn sum(mut lanes: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
    }
    lanes[0]
}

/// The row of activations that a token uses.
///
/// # Safety
/// The contract of [`arguments::Matmul`]; there is such a token.
#[inline(always)]
pub(super) unsafe fn input_row(arguments: &arguments::Matmul, token: usize) -> usize {
    // SAFETY: the index holds one entry for each token.
    if arguments.index.is_null() { token } else { unsafe { *arguments.index.add(token) as usize } }
}

/// The activations, indices and outputs of a matmul, token by token.
///
/// # Safety
/// The contract of [`arguments::Matmul`].
unsafe fn for_each_token<T>(
    arguments: &arguments::Matmul,
    inputs: *const T,
    mut token: impl FnMut(usize, usize, &[T]),
) {
    for t in 0..arguments.tokens {
        // SAFETY: our own contract.
        let row = unsafe { input_row(arguments, t) };
        // SAFETY: there is such a row of activations.
        token(t, row, unsafe { core::slice::from_raw_parts(inputs.add(row * arguments.columns), arguments.columns) });
    }
}

/// Rows of weights in any format times f32 activations; `values` makes a format of the bytes of all rows.
///
/// # Safety
/// The contract of [`arguments::Matmul`].
unsafe fn matmul<'w>(arguments: &arguments::Matmul, values: Values<'w>) {
    /// How many weights are made f32 at a time: whole blocks, and whole rounds of the lanes.
    const PIECE: usize = 256;
    let rows = Matrix::new(arguments.rows, arguments.columns, values).expect("the caller checked the lengths");
    let mut piece = [0.0; PIECE];
    for r in 0..arguments.rows {
        // SAFETY: our own contract.
        unsafe {
            for_each_token(arguments, arguments.inputs, |t, _, inputs| {
                let mut lanes = [0.0; LANES];
                for (p, inputs) in inputs.chunks(PIECE).enumerate() {
                    let weights = &mut piece[..inputs.len()];
                    rows.read(r, p * PIECE, weights);
                    let (weights, rest) = weights.as_chunks::<LANES>();
                    let (inputs, inputs_rest) = inputs.as_chunks::<LANES>();
                    for (weights, inputs) in weights.iter().zip(inputs) {
                        for lane in 0..LANES {
                            lanes[lane] = fused(weights[lane], inputs[lane], lanes[lane]);
                        }
                    }
                    for (lane, (weight, input)) in rest.iter().zip(inputs_rest).enumerate() {
                        lanes[lane] = fused(*weight, *input, lanes[lane]);
                    }
                }
                // SAFETY: the outputs hold `rows` elements for each token.
                *arguments.outputs.add(t * arguments.output_stride + r) = sum(lanes);
            });
        }
    }
}

/// Rows of weights in blocks of 32 integers times quantized activations; `block(row, b)` gives the integers of a block,
/// and the factor of its sum.
///
/// # Safety
/// The contract of [`arguments::Matmul`].
unsafe fn matmul_quantized(arguments: &arguments::Matmul, block: impl Fn(usize, usize) -> ([i8; BLOCK_LEN], f32)) {
    let blocks = arguments.columns / QUANTIZED_BLOCK;
    for r in 0..arguments.rows {
        // SAFETY: our own contract.
        unsafe {
            for_each_token(arguments, arguments.quantized, |t, row, inputs| {
                // SAFETY: there is one scale for each block of activations.
                let scales = core::slice::from_raw_parts(arguments.input_scales.add(row * blocks), blocks);
                let mut lanes = [0.0; LANES];
                for (b, (inputs, input_scale)) in inputs.as_chunks::<QUANTIZED_BLOCK>().0.iter().zip(scales).enumerate()
                {
                    let (weights, scale) = block(r, b);
                    let mut products = 0;
                    for i in 0..QUANTIZED_BLOCK {
                        products += i32::from(weights[i]) * i32::from(inputs[i]);
                    }
                    lanes[b % LANES] = fused(products as f32, scale * input_scale, lanes[b % LANES]);
                }
                // SAFETY: the outputs hold `rows` elements for each token.
                *arguments.outputs.add(t * arguments.output_stride + r) = sum(lanes);
            });
        }
    }
}

/// The bytes of all rows.
///
/// # Safety
/// The contract of [`arguments::Matmul`], for a format without separate scales.
unsafe fn bytes(arguments: &arguments::Matmul) -> &[u8] {
    // SAFETY: our own contract.
    unsafe { core::slice::from_raw_parts(arguments.weights, arguments.rows * arguments.row_size) }
}

/// The blocks of all rows.
///
/// # Safety
/// The contract of [`arguments::Matmul`], for MXFP4.
unsafe fn blocks(arguments: &arguments::Matmul) -> mxfp4::Blocks<'_> {
    let count = arguments.rows * (arguments.columns / BLOCK_LEN);
    let last = count.saturating_sub(1);
    mxfp4::Blocks {
        // SAFETY: the codes of the last block end there.
        codes: unsafe {
            core::slice::from_raw_parts(arguments.weights, last * arguments.code_stride + mxfp4::BLOCK_SIZE)
        },
        code_stride: arguments.code_stride,
        // SAFETY: the last scale is there.
        scales: unsafe { core::slice::from_raw_parts(arguments.scales, last * arguments.scale_stride + 1) },
        scale_stride: arguments.scale_stride,
        order: if arguments.order == NibbleOrder::Halves as usize {
            NibbleOrder::Halves
        } else {
            NibbleOrder::Adjacent
        },
    }
}

unsafe fn matmul_f32(arguments: &arguments::Matmul) {
    // SAFETY: our own contract.
    unsafe { matmul(arguments, Values::F32(bytes(arguments))) }
}

unsafe fn matmul_f16(arguments: &arguments::Matmul) {
    // SAFETY: our own contract.
    unsafe { matmul(arguments, Values::F16(bytes(arguments))) }
}

unsafe fn matmul_bf16(arguments: &arguments::Matmul) {
    // SAFETY: our own contract.
    unsafe { matmul(arguments, Values::Bf16(bytes(arguments))) }
}

unsafe fn matmul_q8_0(arguments: &arguments::Matmul) {
    // SAFETY: our own contract.
    unsafe { matmul(arguments, Values::Q8_0(bytes(arguments))) }
}

unsafe fn matmul_mxfp4(arguments: &arguments::Matmul) {
    // SAFETY: our own contract.
    unsafe { matmul(arguments, Values::Mxfp4(blocks(arguments))) }
}

unsafe fn matmul_q8_0_quantized(arguments: &arguments::Matmul) {
    // SAFETY: our own contract.
    let (rows, row_size) = (unsafe { bytes(arguments) }, arguments.row_size);
    let block = |r: usize, b: usize| {
        let (scale, quantized) = q8_0::get(&rows[r * row_size + b * q8_0::BLOCK_SIZE..]);
        (core::array::from_fn(|i| quantized[i] as i8), scale)
    };
    // SAFETY: our own contract.
    unsafe { matmul_quantized(arguments, block) }
}

/// # Safety
/// The contract of [`arguments::Matmul`].
pub(super) unsafe fn matmul_mxfp4_quantized(arguments: &arguments::Matmul) {
    let in_row = arguments.columns / BLOCK_LEN;
    // SAFETY: our own contract.
    let blocks = unsafe { blocks(arguments) };
    let block = |r: usize, b: usize| {
        let (doubled, scale) = blocks.get(r * in_row + b);
        // Half, for the doubled codes; multiplied by the activation's scale next, where that is exact.
        (doubled, 0.5 * mxfp4::scale(scale))
    };
    // SAFETY: our own contract.
    unsafe { matmul_quantized(arguments, block) }
}

/// Scales of 16-bit activations: the largest magnitude of a block becomes this. It is the largest that is a sum of 256
/// times a byte and a byte, both with sign, for either sign of its own.
pub(super) const LARGEST: f32 = 32639.0;

/// Blocks whose largest magnitude is below this become zeros: its reciprocal would overflow.
pub(super) const SMALLEST: f32 = f32::from_bits((127 - 100) << 23);

unsafe fn quantize(arguments: &arguments::Quantize) {
    // SAFETY: our own contract.
    let (values, quantized, scales) = unsafe {
        (
            core::slice::from_raw_parts(arguments.values, arguments.len),
            core::slice::from_raw_parts_mut(arguments.quantized, arguments.len),
            core::slice::from_raw_parts_mut(arguments.scales, arguments.len / QUANTIZED_BLOCK),
        )
    };
    let blocks = values.as_chunks::<QUANTIZED_BLOCK>().0.iter().zip(quantized.as_chunks_mut::<QUANTIZED_BLOCK>().0);
    for ((values, quantized), scale) in blocks.zip(scales) {
        // As integers, the bits of magnitudes are ordered like the magnitudes, with infinity and NaN above all.
        let largest = values.iter().fold(0, |largest, value| largest.max(value.to_bits() & 0x7fff_ffff));
        let largest = f32::from_bits(largest);
        if (SMALLEST..f32::INFINITY).contains(&largest) {
            *scale = largest / LARGEST;
            let inverse = LARGEST / largest;
            for (quantized, value) in quantized.iter_mut().zip(values) {
                *quantized = round(value * inverse) as i16;
            }
        } else {
            *scale = if largest < SMALLEST { 0.0 } else { f32::NAN };
            quantized.fill(0);
        }
    }
}

/// Gain of the sigmoid (gpt-oss model card, section 2.2).
pub(super) const SWIGLU_ALPHA: f32 = 1.702;

/// # Safety
/// The contract of [`arguments::Swiglu`].
pub(super) unsafe fn swiglu(arguments: &arguments::Swiglu) {
    for i in 0..arguments.len {
        // SAFETY: gates and linear parts hold `len` elements, `stride` apart.
        let (gate, linear) =
            unsafe { (*arguments.gates.add(i * arguments.stride), *arguments.linears.add(i * arguments.stride)) };
        let limit = arguments.limit;
        // Comparisons with NaN are false, so NaN passes.
        let gate = if gate > limit { limit } else { gate };
        #[allow(clippy::manual_clamp, reason = "clamp is not the two comparisons that vector code makes")]
        let linear = if linear > limit {
            limit
        } else if linear < -limit {
            -limit
        } else {
            linear
        };
        let sigmoid_gate = gate / (1.0 + exp(-(SWIGLU_ALPHA * gate)));
        // SAFETY: the outputs hold `len` elements.
        unsafe { *arguments.outputs.add(i) = sigmoid_gate * (linear + 1.0) };
    }
}

/// An element of the cache.
pub(super) trait Element: Copy {
    /// Whether the elements of a position have a scale.
    const SCALED: bool = false;

    /// As f32, without the scale.
    fn get(self) -> f32;
}

impl Element for f32 {
    #[inline(always)]
    fn get(self) -> f32 {
        self
    }
}

impl Element for f16 {
    #[inline(always)]
    fn get(self) -> f32 {
        // The bits of an f16, moved to where f32 has its exponent and fraction, are the number divided by 2^112.
        let bits = self.to_bits();
        let magnitude = u32::from(bits & 0x7fff);
        let finite = f32::from_bits(magnitude << 13) * f32::from_bits((127 + 112) << 23);
        let sign = u32::from(bits & 0x8000) << 16;
        f32::from_bits(sign | if magnitude < 0x7c00 { finite.to_bits() } else { magnitude << 13 | 0x7f80_0000 })
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn get(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

impl Element for i8 {
    const SCALED: bool = true;

    #[inline(always)]
    fn get(self) -> f32 {
        self.into()
    }
}

/// Softmax over the scores of the visible positions and the sink, as a running maximum with running sums (M. Milakov and
/// N. Gimelshein, "Online normalizer calculation for softmax", 2018), over blocks that start at multiples of
/// [`ATTENTION_BLOCK`]: a function of the positions seen, not of how they came into the cache.
///
/// # Safety
/// The contract of [`arguments::Attend`].
pub(super) unsafe fn attend<E: Element>(arguments: &arguments::Attend) {
    let (head_dim, capacity) = (arguments.head_dim, arguments.capacity);
    for (token, head) in (0..arguments.tokens).flat_map(|token| (0..arguments.heads).map(move |head| (token, head))) {
        let visible = arguments.seen(token);
        // SAFETY: queries, outputs and sinks hold `heads` heads of each token.
        let (query, out, sink) = unsafe {
            let query = arguments.queries.add(token * arguments.queries_stride + head * head_dim);
            let out = arguments.outputs.add(token * arguments.outputs_stride + head * head_dim);
            (
                core::slice::from_raw_parts(query, head_dim),
                core::slice::from_raw_parts_mut(out, head_dim),
                *arguments.sinks.add(head),
            )
        };
        // The sink is the first to be counted: its weight is exp(0), and it has no value.
        let mut maximum = sink;
        let mut weights_sum = [0.0; LANES];
        weights_sum[0] = 1.0;
        out.fill(0.0);
        for block in visible.start / ATTENTION_BLOCK..visible.end.div_ceil(ATTENTION_BLOCK) {
            let begin = block * ATTENTION_BLOCK;
            let seen = visible.start.max(begin) - begin..(visible.end - begin).min(ATTENTION_BLOCK);
            // The capacity is a multiple of the block, so a block lies in one piece.
            let slot = begin % capacity;
            let mut scores = [0.0; ATTENTION_BLOCK];
            for tile in seen.start / KEY_TILE..seen.end.div_ceil(KEY_TILE) {
                // SAFETY: the cache is there up to the tile of the last visible position.
                let keys = unsafe {
                    let at = (slot + tile * KEY_TILE) * head_dim;
                    core::slice::from_raw_parts(arguments.keys.cast::<E>().add(at), head_dim * KEY_TILE)
                };
                let mut tile_scores = [0.0; KEY_TILE];
                for (q, keys) in query.iter().zip(keys.as_chunks::<KEY_TILE>().0) {
                    for (score, key) in tile_scores.iter_mut().zip(keys) {
                        *score = fused(*q, key.get(), *score);
                    }
                }
                if E::SCALED {
                    for (i, score) in tile_scores.iter_mut().enumerate() {
                        // SAFETY: there are scales for each tile of the cache.
                        *score *= unsafe { *arguments.scales.add(2 * (slot + tile * KEY_TILE) + i) };
                    }
                }
                scores[tile * KEY_TILE..][..KEY_TILE].copy_from_slice(&tile_scores);
            }
            let scores = &mut scores[seen.clone()];
            scores.iter_mut().for_each(|score| *score *= arguments.scale);
            let block_maximum = scores.iter().fold(maximum, |most, score| if *score > most { *score } else { most });
            if block_maximum > maximum {
                let shrink = exp(maximum - block_maximum);
                maximum = block_maximum;
                weights_sum.iter_mut().for_each(|lane| *lane *= shrink);
                out.iter_mut().for_each(|out| *out *= shrink);
            }
            for (score, position) in scores.iter().zip(seen) {
                let mut weight = exp(score - maximum);
                weights_sum[position % LANES] += weight;
                if E::SCALED {
                    let tile = (slot + position) / KEY_TILE;
                    // SAFETY: there are scales for each tile of the cache, those of values behind those of keys.
                    weight *= unsafe { *arguments.scales.add((2 * tile + 1) * KEY_TILE + position % KEY_TILE) };
                }
                // SAFETY: every visible position is in the cache.
                let value = unsafe {
                    let at = (slot + position) * head_dim;
                    core::slice::from_raw_parts(arguments.values.cast::<E>().add(at), head_dim)
                };
                for (out, value) in out.iter_mut().zip(value) {
                    *out = fused(weight, value.get(), *out);
                }
            }
        }
        let inverse = 1.0 / sum(weights_sum);
        out.iter_mut().for_each(|out| *out *= inverse);
    }
}
