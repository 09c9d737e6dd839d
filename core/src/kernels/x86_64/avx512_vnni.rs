//! AVX-512 with VNNI: Cascade Lake, Ice Lake, Zen 4 and later.

use core::arch::asm;
use core::arch::x86_64::*;

use super::avx512::{Avx512, Products, quarters};
use crate::kernels::lanes;
use crate::kernels::{CpuFeatures, KernelSet, arguments};

/// Exists only where the processor has AVX-512 VNNI.
#[derive(Clone, Copy)]
struct Vnni(());

entry_points! {
    Avx512(Vnni(())), "avx512", CpuFeatures::AVX512_VNNI,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c",
    float tokens 4, integer tokens 8, heads 8
}

/// # Safety
/// There is such a pair.
#[inline]
#[target_feature(enable = "avx512vnni")]
unsafe fn dot_pairs(sum: __m512i, pairs: __m512i, inputs: *const i16, pair: usize) -> __m512i {
    let mut sum = sum;
    // Of the intrinsic, LLVM would make two instructions, and a third of the load.
    // SAFETY: the instruction is enabled, reads the pair and changes no other register.
    unsafe {
        asm!(
            "vpdpwssd {}, {}, dword ptr [{} + 4 * {}]{{1to16}}",
            inout(zmm_reg) sum,
            in(zmm_reg) pairs,
            in(reg) inputs,
            in(reg) pair,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    sum
}

/// Four blocks of activations: what has to be added for the bias of weights, then bytes, the lower ones without sign.
#[derive(Clone, Copy)]
pub struct Inputs {
    correction: __m512i,
    low: [__m512i; 2],
    high: [__m512i; 2],
}

#[inline]
#[target_feature(enable = "avx512bw,avx512vnni")]
fn rearrange(blocks: [&[i16; 32]; 4]) -> Inputs {
    // SAFETY: a block is as long as a register.
    let words = blocks.map(|block| unsafe { _mm512_loadu_si512(block.as_ptr().cast()) });
    let low = halves(words.map(|words| _mm512_cvtepi16_epi8(words)));
    let high = halves(words.map(|words| _mm512_cvtepi16_epi8(_mm512_srli_epi16::<8>(words))));
    let (zero, ones) = (_mm512_setzero_si512(), _mm512_set1_epi8(1));
    let sum = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(zero, ones, high[0]), ones, high[1]);
    Inputs { correction: _mm512_sub_epi32(zero, _mm512_slli_epi32::<{ 7 + 8 }>(sum)), low, high }
}

/// The first sixteen bytes of all four, and the last.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves(bytes: [__m256i; 4]) -> [__m512i; 2] {
    [
        quarters(bytes.map(|bytes| _mm256_castsi256_si128(bytes))),
        quarters(bytes.map(|bytes| _mm256_extracti128_si256::<1>(bytes))),
    ]
}

/// The instruction multiplies bytes without sign by bytes with sign: the lower bytes of activations by weights, and biased
/// weights by the upper bytes.
#[inline]
#[target_feature(enable = "avx512bw,avx512vnni")]
fn dot_blocks(weights: [__m512i; 2], inputs: &Inputs) -> __m512i {
    // 2^7 more, and no sign.
    let bias = _mm512_set1_epi8(-128);
    let (mut low, mut high) = (inputs.correction, _mm512_setzero_si512());
    for ((weights, low_inputs), high_inputs) in weights.into_iter().zip(inputs.low).zip(inputs.high) {
        low = _mm512_dpbusd_epi32(low, low_inputs, weights);
        high = _mm512_dpbusd_epi32(high, _mm512_xor_si512(weights, bias), high_inputs);
    }
    _mm512_add_epi32(low, _mm512_slli_epi32::<8>(high))
}

impl Products for Vnni {
    type Inputs = Inputs;

    operations! {
        fn rearrange(blocks: [&[i16; 32]; 4]) -> Inputs = rearrange(blocks);
        fn dot_blocks(weights: [__m512i; 2], inputs: &Inputs) -> __m512i = dot_blocks(weights, inputs);
        unsafe fn dot_pairs(sum: __m512i, pairs: __m512i, inputs: *const i16, pair: usize) -> __m512i =
            dot_pairs(sum, pairs, inputs, pair);
    }
}
