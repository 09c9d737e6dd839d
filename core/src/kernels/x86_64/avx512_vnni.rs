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
    float tokens 4, integer tokens 8, few tokens 5, heads 8
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

/// Four blocks of activations: what has to be added for the bias of weights, then bytes with sign, of which the lower and
/// 256 times the upper add up to an activation.
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
    let (mut low, mut high) = ([_mm256_setzero_si256(); 4], [_mm256_setzero_si256(); 4]);
    for i in 0..4 {
        // SAFETY: a block is as long as a register.
        let words = unsafe { _mm512_loadu_si512(blocks[i].as_ptr().cast()) };
        low[i] = _mm512_cvtepi16_epi8(words);
        // Rounded, for the sign of the lower bytes.
        high[i] = _mm512_cvtepi16_epi8(_mm512_srai_epi16::<8>(_mm512_add_epi16(words, _mm512_set1_epi16(128))));
    }
    let (low, high) = (halves(low), halves(high));
    let bias = _mm512_set1_epi8(Vnni::BIAS);
    let zero = _mm512_setzero_si512();
    let sum = dot_blocks([bias; 2], &Inputs { correction: zero, low, high });
    Inputs { correction: _mm512_sub_epi32(zero, sum), low, high }
}

/// The first sixteen bytes of all four, and the last.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves(bytes: [__m256i; 4]) -> [__m512i; 2] {
    let (mut first, mut last) = ([_mm_setzero_si128(); 4], [_mm_setzero_si128(); 4]);
    for i in 0..4 {
        first[i] = _mm256_castsi256_si128(bytes[i]);
        last[i] = _mm256_extracti128_si256::<1>(bytes[i]);
    }
    [quarters(first), quarters(last)]
}

/// The instruction multiplies bytes without sign, here the biased weights, by bytes with sign.
#[inline]
#[target_feature(enable = "avx512bw,avx512vnni")]
fn dot_blocks(weights: [__m512i; 2], inputs: &Inputs) -> __m512i {
    let zero = _mm512_setzero_si512();
    let low = _mm512_dpbusd_epi32(
        _mm512_dpbusd_epi32(inputs.correction, weights[0], inputs.low[0]),
        weights[1],
        inputs.low[1],
    );
    let high = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(zero, weights[0], inputs.high[0]), weights[1], inputs.high[1]);
    _mm512_add_epi32(low, _mm512_slli_epi32::<8>(high))
}

impl Products for Vnni {
    const BIAS: i8 = i8::MIN;
    type Inputs = Inputs;

    operations! {
        fn rearrange(blocks: [&[i16; 32]; 4]) -> Inputs = rearrange(blocks);
        fn dot_blocks(weights: [__m512i; 2], inputs: &Inputs) -> __m512i = dot_blocks(weights, inputs);
        unsafe fn dot_pairs(sum: __m512i, pairs: __m512i, inputs: *const i16, pair: usize) -> __m512i =
            dot_pairs(sum, pairs, inputs, pair);
    }
}
