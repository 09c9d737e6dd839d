//! AVX2 with AVX-VNNI: Alder Lake and later, where AVX-512 is absent; also Zen 5.

use core::arch::x86_64::*;

use super::avx2::{Avx2, Products};
use crate::kernels::lanes;
use crate::kernels::{CpuFeatures, KernelSet, arguments};

/// Exists only where the processor has AVX-VNNI.
#[derive(Clone, Copy)]
struct AvxVnni(());

impl Products for AvxVnni {
    operations! {
        fn add_pairs(sum: __m256i, a: __m256i, b: __m256i) -> __m256i = _mm256_dpwssd_avx_epi32(sum, a, b);
    }
}

entry_points! {
    Avx2(AvxVnni(())), "avx-vnni", CpuFeatures::AVX_VNNI, "avx2,fma,f16c,avxvnni",
    float tokens 1, integer tokens 4, few tokens 2, heads 4
}
