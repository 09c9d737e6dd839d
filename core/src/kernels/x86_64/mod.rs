//! Kernels for x86-64, and which of them this machine can run.

pub mod avx2;
pub mod avx512;
pub mod avx512_vnni;
pub mod avx_vnni;

use core::arch::x86_64::*;

use super::{CpuFeatures, KernelSet, portable};
use crate::format::mxfp4::DOUBLED;

/// All sets of this architecture, the fastest first.
pub const SETS: &[&KernelSet] = &[&avx512_vnni::SET, &avx512::SET, &avx_vnni::SET, &avx2::SET, &portable::SET];

/// Asks the processor for its instructions, and whether the operating system saves their registers (Intel 64 and IA-32
/// Architectures Software Developer's Manual, volume 1, sections 14.3 and 15.2).
pub fn detect() -> CpuFeatures {
    const OSXSAVE_FMA_F16C: u32 = 1 << 27 | 1 << 12 | 1 << 29;
    const AVX2: u32 = 1 << 5;
    const F_DQ_BW_VL: u32 = 1 << 16 | 1 << 17 | 1 << 30 | 1 << 31;
    const AVX512_VNNI: u32 = 1 << 11;
    const AVX_VNNI: u32 = 1 << 4;
    const YMM: u64 = 1 << 1 | 1 << 2;
    const ZMM: u64 = YMM | 1 << 5 | 1 << 6 | 1 << 7;

    let has = |register: u32, bits: u32| register & bits == bits;
    if __cpuid(0).eax < 7 || !has(__cpuid(1).ecx, OSXSAVE_FMA_F16C) {
        return CpuFeatures::NONE;
    }
    // SAFETY: the OSXSAVE bit says that the instruction is there.
    let saved = unsafe { xgetbv() };
    let extended = __cpuid_count(7, 0);
    if !has(extended.ebx, AVX2) || saved & YMM != YMM {
        return CpuFeatures::NONE;
    }
    let mut features = CpuFeatures::AVX2;
    if extended.eax >= 1 && has(__cpuid_count(7, 1).eax, AVX_VNNI) {
        features = features.and(CpuFeatures::AVX_VNNI);
    }
    if has(extended.ebx, F_DQ_BW_VL) && saved & ZMM == ZMM {
        features = features.and(CpuFeatures::AVX512);
        if has(extended.ecx, AVX512_VNNI) {
            features = features.and(CpuFeatures::AVX512_VNNI);
        }
    }
    features
}

/// Which registers the operating system saves.
///
/// # Safety
/// The processor has the instruction, and the operating system allows it.
#[target_feature(enable = "xsave")]
unsafe fn xgetbv() -> u64 {
    // SAFETY: our own contract.
    unsafe { _xgetbv(0) }
}

/// The values of MXFP4 codes, doubled, as a table for byte shuffles.
#[inline]
#[target_feature(enable = "sse2")]
fn doubled() -> __m128i {
    // SAFETY: sixteen bytes.
    unsafe { _mm_loadu_si128(DOUBLED.as_ptr().cast()) }
}

/// The doubled values of the codes in sixteen bytes, in order.
#[inline]
#[target_feature(enable = "ssse3")]
fn mxfp4_i8(codes: __m128i, halves: bool) -> [__m128i; 2] {
    let mask = _mm_set1_epi8(15);
    let low = _mm_shuffle_epi8(doubled(), _mm_and_si128(codes, mask));
    let high = _mm_shuffle_epi8(doubled(), _mm_and_si128(_mm_srli_epi16::<4>(codes), mask));
    if halves { [low, high] } else { [_mm_unpacklo_epi8(low, high), _mm_unpackhi_epi8(low, high)] }
}

/// Lane i takes lane i + 4, then i + 2, i + 1.
#[inline]
#[target_feature(enable = "avx")]
fn sum(x: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}
