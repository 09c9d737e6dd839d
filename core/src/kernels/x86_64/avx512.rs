//! AVX-512 without VNNI: Skylake-X.

use core::arch::x86_64::*;

use super::doubled;
use crate::kernels::lanes::{self, Lanes};
use crate::kernels::{CpuFeatures, KernelSet, arguments};

/// Exists only where the processor has AVX-512 F, BW, DQ and VL, and what the products want.
#[derive(Clone, Copy)]
pub struct Avx512<P>(pub P);

/// Products of integers, as [`Lanes`] says.
pub trait Products: Copy {
    /// What is added to the weights that [`Self::dot_blocks`] takes.
    const BIAS: i8;
    /// Four blocks of quantized activations.
    type Inputs: Copy;

    fn rearrange(self, blocks: [&[i16; 32]; 4]) -> Self::Inputs;
    fn dot_blocks(self, weights: [__m512i; 2], inputs: &Self::Inputs) -> __m512i;
    unsafe fn dot_pairs(self, sum: __m512i, pairs: __m512i, inputs: *const i16, pair: usize) -> __m512i;
}

/// Products in one instruction, sums in another.
#[derive(Clone, Copy)]
struct Words(());

entry_points! {
    Avx512(Words(())), "avx512-no-vnni", CpuFeatures::AVX512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c",
    float tokens 4, integer tokens 8, few tokens 2, heads 8
}

#[inline]
#[target_feature(enable = "avx512f")]
pub fn quarters(quarters: [__m128i; 4]) -> __m512i {
    let [a, b, c, d] = quarters;
    let low = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(a), b);
    let high = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(c), d);
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}

/// # Safety
/// Sixteen bytes are at each place.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_quarters(from: [*const u8; 4]) -> __m512i {
    let [a, b, c, d] = from;
    // SAFETY: our own contract.
    unsafe {
        quarters([
            _mm_loadu_si128(a.cast()),
            _mm_loadu_si128(b.cast()),
            _mm_loadu_si128(c.cast()),
            _mm_loadu_si128(d.cast()),
        ])
    }
}

#[inline]
#[target_feature(enable = "avx512bw")]
fn mxfp4_i8(codes: __m512i, halves: bool, bias: i8) -> [__m512i; 2] {
    let mask = _mm512_set1_epi8(15);
    let table = _mm512_broadcast_i32x4(_mm_add_epi8(doubled(), _mm_set1_epi8(bias)));
    let low = _mm512_shuffle_epi8(table, _mm512_and_si512(codes, mask));
    let high = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16::<4>(codes), mask));
    if halves { [low, high] } else { [_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)] }
}

#[inline]
#[target_feature(enable = "avx512bw")]
fn pairs_of_bytes(bytes: __m512i) -> [__m512i; 2] {
    // The bytes become the upper halves of words, and go down with their signs.
    let first = _mm_setr_epi8(-1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13);
    let second = _mm_setr_epi8(-1, 2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15);
    let first = _mm512_shuffle_epi8(bytes, _mm512_broadcast_i32x4(first));
    let second = _mm512_shuffle_epi8(bytes, _mm512_broadcast_i32x4(second));
    [_mm512_srai_epi16::<8>(first), _mm512_srai_epi16::<8>(second)]
}

/// Bytes with sign, in each quarter, to words: the first eight, the last eight.
#[inline]
#[target_feature(enable = "avx512bw")]
fn widen(bytes: __m512i) -> [__m512i; 2] {
    let zero = _mm512_setzero_si512();
    [
        _mm512_srai_epi16::<8>(_mm512_unpacklo_epi8(zero, bytes)),
        _mm512_srai_epi16::<8>(_mm512_unpackhi_epi8(zero, bytes)),
    ]
}

/// Elements 8 i to 8 i + 7 of all four blocks in `[i]`.
#[inline]
#[target_feature(enable = "avx512f")]
fn rearrange(blocks: [&[i16; 32]; 4]) -> [__m512i; 4] {
    let mut inputs = [_mm512_setzero_si512(); 4];
    for (part, inputs) in inputs.iter_mut().enumerate() {
        // SAFETY: eight elements are sixteen bytes.
        *inputs = unsafe { load_quarters(blocks.map(|block| block[8 * part..][..8].as_ptr().cast())) };
    }
    inputs
}

#[inline]
#[target_feature(enable = "avx512bw")]
fn dot_blocks(weights: [__m512i; 2], inputs: &[__m512i; 4]) -> __m512i {
    let ([a, b], [c, d]) = (widen(weights[0]), widen(weights[1]));
    let first = _mm512_add_epi32(_mm512_madd_epi16(a, inputs[0]), _mm512_madd_epi16(b, inputs[1]));
    let last = _mm512_add_epi32(_mm512_madd_epi16(c, inputs[2]), _mm512_madd_epi16(d, inputs[3]));
    _mm512_add_epi32(first, last)
}

impl Products for Words {
    const BIAS: i8 = 0;
    type Inputs = [__m512i; 4];

    operations! {
        fn rearrange(blocks: [&[i16; 32]; 4]) -> [__m512i; 4] = rearrange(blocks);
        fn dot_blocks(weights: [__m512i; 2], inputs: &[__m512i; 4]) -> __m512i = dot_blocks(weights, inputs);
        unsafe fn dot_pairs(sum: __m512i, pairs: __m512i, inputs: *const i16, pair: usize) -> __m512i = {
            let input = _mm512_set1_epi32(inputs.cast::<i32>().add(pair).read_unaligned());
            _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, input))
        };
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: [__m512i; 4]) -> [__m512i; 4] {
    let [a, b, c, d] = rows;
    let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab_low, cd_low),
        _mm512_unpackhi_epi64(ab_low, cd_low),
        _mm512_unpacklo_epi64(ab_high, cd_high),
        _mm512_unpackhi_epi64(ab_high, cd_high),
    ]
}

/// Half of the rows' sums meet in each register, then all of them.
#[inline]
#[target_feature(enable = "avx512f")]
fn sum_rows(rows: [__m512i; 4]) -> __m512i {
    let [a, b, c, d] = rows;
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
}

#[inline]
#[target_feature(enable = "avx512dq")]
fn sum(x: __m512) -> f32 {
    let eight = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
    super::sum(eight)
}

#[inline]
#[target_feature(enable = "ssse3,avx512f")]
fn floats_of_bytes(bytes: __m128i) -> __m512 {
    _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))
}

impl<P: Products> Lanes for Avx512<P> {
    type Floats = __m512;
    type Integers = __m512i;
    type Inputs = P::Inputs;

    operations! {
        fn splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        unsafe fn load(from: *const f32) -> __m512 = _mm512_loadu_ps(from);
        unsafe fn load_f16(from: *const u16) -> __m512 = _mm512_cvtph_ps(_mm256_loadu_si256(from.cast()));
        unsafe fn load_bf16(from: *const u16) -> __m512 =
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()))));
        unsafe fn load_i8(from: *const u8) -> __m512 = floats_of_bytes(_mm_loadu_si128(from.cast()));
        unsafe fn load_mxfp4(from: *const u8, halves: bool) -> [__m512; 2] = {
            let [first, second] = super::mxfp4_i8(_mm_loadu_si128(from.cast()), halves);
            [floats_of_bytes(first), floats_of_bytes(second)]
        };
        unsafe fn load_pairs(from: *const f32) -> [__m512; 2] = {
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
            let (a, b) = (_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16)));
            [_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b)]
        };
        unsafe fn store(to: *mut f32, x: __m512) -> () = _mm512_storeu_ps(to, x);
        unsafe fn store_i16(to: *mut i16, x: __m512) -> () =
            _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(x)));

        fn add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        fn sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        fn mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        fn div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        fn fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        fn larger(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        fn smaller(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        fn first(count: usize, a: __m512, b: __m512) -> __m512 =
            _mm512_mask_blend_ps(((1_u32 << count) - 1) as u16, b, a);
        fn sum(x: __m512) -> f32 = sum(x);

        fn splat_integer(x: i32) -> __m512i = _mm512_set1_epi32(x);
        unsafe fn load_u8(from: *const u8) -> __m512i = _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()));
        unsafe fn store_integers(to: *mut i32, x: __m512i) -> () = _mm512_storeu_si512(to.cast(), x);
        fn bits(x: __m512) -> __m512i = _mm512_castps_si512(x);
        fn floats_of_bits(x: __m512i) -> __m512 = _mm512_castsi512_ps(x);
        fn to_floats(x: __m512i) -> __m512 = _mm512_cvtepi32_ps(x);
        fn and(a: __m512i, b: __m512i) -> __m512i = _mm512_and_si512(a, b);
        fn add_integers(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi32(a, b);
        fn larger_integer(a: __m512i, b: __m512i) -> __m512i = _mm512_max_epi32(a, b);
        fn shift_left_23(x: __m512i) -> __m512i = _mm512_slli_epi32::<23>(x);
        fn transpose(rows: [__m512i; 4]) -> [__m512i; 4] = transpose(rows);
        fn sum_rows(rows: [__m512i; 4]) -> __m512i = sum_rows(rows);
        fn biased(bytes: __m512i) -> __m512i = _mm512_xor_si512(bytes, _mm512_set1_epi8(P::BIAS));
        unsafe fn load_quarters(from: [*const u8; 4]) -> __m512i = load_quarters(from);
        unsafe fn mxfp4_i8(from: [*const u8; 4], halves: bool, biased: bool) -> [__m512i; 2] =
            mxfp4_i8(load_quarters(from), halves, if biased { P::BIAS } else { 0 });
        fn pairs_of_bytes(bytes: __m512i) -> [__m512i; 2] = pairs_of_bytes(bytes);
        fn prefetch(from: *const u8) -> () = _mm_prefetch::<_MM_HINT_T0>(from.cast());
        fn prefetch_far(from: *const u8) -> () = _mm_prefetch::<_MM_HINT_T1>(from.cast());
    }

    #[inline(always)]
    fn rearrange(self, blocks: [&[i16; 32]; 4]) -> P::Inputs {
        self.0.rearrange(blocks)
    }

    #[inline(always)]
    fn dot_blocks(self, weights: [__m512i; 2], inputs: &P::Inputs) -> __m512i {
        self.0.dot_blocks(weights, inputs)
    }

    #[inline(always)]
    unsafe fn dot_pairs(self, sum: __m512i, pairs: __m512i, inputs: *const i16, pair: usize) -> __m512i {
        // SAFETY: our own contract.
        unsafe { self.0.dot_pairs(sum, pairs, inputs, pair) }
    }
}
