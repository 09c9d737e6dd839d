//! AVX2 with FMA and F16C: Haswell, Zen and later. Sixteen numbers are two registers.

use core::arch::x86_64::*;

use super::doubled;
use crate::kernels::lanes::{self, Lanes};
use crate::kernels::{CpuFeatures, KernelSet, arguments};

/// Exists only where the processor has AVX2, FMA and F16C, and what the products want.
#[derive(Clone, Copy)]
pub struct Avx2<P>(pub P);

/// Products in one instruction, sums in another.
#[derive(Clone, Copy)]
struct Words(());

/// Products of words.
pub trait Products: Copy {
    /// Adds the sum of the products of a pair of words to each i32.
    fn add_pairs(self, sum: __m256i, a: __m256i, b: __m256i) -> __m256i;
}

impl Products for Words {
    operations! {
        fn add_pairs(sum: __m256i, a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
    }
}

entry_points! {
    Avx2(Words(())), "avx2", CpuFeatures::AVX2, "avx2,fma,f16c",
    float tokens 1, integer tokens 4, few tokens 2, heads 4
}

/// # Safety
/// Sixteen bytes are at each place.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_quarters(from: [*const u8; 4]) -> [__m256i; 2] {
    let [a, b, c, d] = from;
    // SAFETY: our own contract.
    unsafe { [_mm256_loadu2_m128i(b.cast(), a.cast()), _mm256_loadu2_m128i(d.cast(), c.cast())] }
}

/// Bytes with sign, in each half, to words: the first eight, the last eight.
#[inline]
#[target_feature(enable = "avx2")]
fn widen(bytes: __m256i) -> [__m256i; 2] {
    let zero = _mm256_setzero_si256();
    [
        _mm256_srai_epi16::<8>(_mm256_unpacklo_epi8(zero, bytes)),
        _mm256_srai_epi16::<8>(_mm256_unpackhi_epi8(zero, bytes)),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn mxfp4_i8(codes: __m256i, halves: bool) -> [__m256i; 2] {
    let (mask, table) = (_mm256_set1_epi8(15), _mm256_broadcastsi128_si256(doubled()));
    let low = _mm256_shuffle_epi8(table, _mm256_and_si256(codes, mask));
    let high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16::<4>(codes), mask));
    if halves { [low, high] } else { [_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)] }
}

#[inline]
#[target_feature(enable = "avx2")]
fn pairs_of_bytes(bytes: __m256i) -> [__m256i; 2] {
    // The bytes become the upper halves of words, and go down with their signs.
    let first = _mm_setr_epi8(-1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13);
    let second = _mm_setr_epi8(-1, 2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15);
    let first = _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(first));
    let second = _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(second));
    [_mm256_srai_epi16::<8>(first), _mm256_srai_epi16::<8>(second)]
}

/// Four blocks of activations: the elements 8 i to 8 i + 7 of all four in `[i]`, two blocks in a register.
pub type Inputs = [[__m256i; 2]; 4];

#[inline]
#[target_feature(enable = "avx2")]
fn rearrange(blocks: [&[i16; 32]; 4]) -> Inputs {
    let mut inputs = [[_mm256_setzero_si256(); 2]; 4];
    for (part, inputs) in inputs.iter_mut().enumerate() {
        let [a, b, c, d] = blocks.map(|block| block[8 * part..].as_ptr().cast());
        // SAFETY: eight elements are there.
        *inputs = unsafe { [_mm256_loadu2_m128i(b, a), _mm256_loadu2_m128i(d, c)] };
    }
    inputs
}

#[inline]
#[target_feature(enable = "avx2")]
fn transpose(rows: [__m256i; 4]) -> [__m256i; 4] {
    let [a, b, c, d] = rows;
    let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    [
        _mm256_unpacklo_epi64(ab_low, cd_low),
        _mm256_unpackhi_epi64(ab_low, cd_low),
        _mm256_unpacklo_epi64(ab_high, cd_high),
        _mm256_unpackhi_epi64(ab_high, cd_high),
    ]
}

/// Half of the rows' sums meet in each register, then all of them.
#[inline]
#[target_feature(enable = "avx2")]
fn sum_rows(a: __m256i, b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d))
}

/// All ones in the lanes below `count`.
#[inline]
#[target_feature(enable = "avx2")]
fn below(count: usize) -> [__m256; 2] {
    let count = _mm256_set1_epi32(count as i32);
    let low = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    let high = _mm256_add_epi32(low, _mm256_set1_epi32(8));
    [_mm256_castsi256_ps(_mm256_cmpgt_epi32(count, low)), _mm256_castsi256_ps(_mm256_cmpgt_epi32(count, high))]
}

/// The numbers at even places of sixteen, and those at odd ones.
#[inline]
#[target_feature(enable = "avx2")]
fn pairs(a: __m256, b: __m256) -> [__m256; 2] {
    let even = _mm256_castps_pd(_mm256_shuffle_ps::<0b10_00_10_00>(a, b));
    let odd = _mm256_castps_pd(_mm256_shuffle_ps::<0b11_01_11_01>(a, b));
    [
        _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(even)),
        _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(odd)),
    ]
}

/// # Safety
/// Eight elements are there.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn load_f16(from: *const u16) -> __m256 {
    // SAFETY: our own contract.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(from.cast()) })
}

/// # Safety
/// Eight elements are there.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_bf16(from: *const u16) -> __m256 {
    // SAFETY: our own contract.
    let bits = unsafe { _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast())) };
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
}

#[inline]
#[target_feature(enable = "avx2")]
fn floats_of_bytes(bytes: __m128i) -> [__m256; 2] {
    [
        _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
        _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128::<8>(bytes))),
    ]
}

impl<P: Products> Lanes for Avx2<P> {
    type Floats = [__m256; 2];
    type Integers = [__m256i; 2];
    type Inputs = Inputs;

    operations! {
        fn splat(x: f32) -> [__m256; 2] = [_mm256_set1_ps(x); 2];
        unsafe fn load(from: *const f32) -> [__m256; 2] = [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))];
        unsafe fn load_f16(from: *const u16) -> [__m256; 2] =
            [load_f16(from), load_f16(from.add(8))];
        unsafe fn load_bf16(from: *const u16) -> [__m256; 2] = [load_bf16(from), load_bf16(from.add(8))];
        unsafe fn load_i8(from: *const u8) -> [__m256; 2] = floats_of_bytes(_mm_loadu_si128(from.cast()));
        unsafe fn load_mxfp4(from: *const u8, halves: bool) -> [[__m256; 2]; 2] = {
            let [first, second] = super::mxfp4_i8(_mm_loadu_si128(from.cast()), halves);
            [floats_of_bytes(first), floats_of_bytes(second)]
        };
        unsafe fn load_pairs(from: *const f32) -> [[__m256; 2]; 2] = {
            let a = pairs(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8)));
            let b = pairs(_mm256_loadu_ps(from.add(16)), _mm256_loadu_ps(from.add(24)));
            [[a[0], b[0]], [a[1], b[1]]]
        };
        unsafe fn store(to: *mut f32, x: [__m256; 2]) -> () = {
            _mm256_storeu_ps(to, x[0]);
            _mm256_storeu_ps(to.add(8), x[1]);
        };
        unsafe fn store_i16(to: *mut i16, x: [__m256; 2]) -> () = {
            let packed = _mm256_packs_epi32(_mm256_cvtps_epi32(x[0]), _mm256_cvtps_epi32(x[1]));
            _mm256_storeu_si256(to.cast(), _mm256_permute4x64_epi64::<0b11_01_10_00>(packed));
        };

        fn add(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] = [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])];
        fn sub(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] = [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])];
        fn mul(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] = [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])];
        fn div(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] = [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])];
        fn fma(a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] =
            [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])];
        fn larger(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] =
            [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])];
        fn smaller(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] =
            [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])];
        fn first(count: usize, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] = {
            let below = below(count);
            [_mm256_blendv_ps(b[0], a[0], below[0]), _mm256_blendv_ps(b[1], a[1], below[1])]
        };
        fn sum(x: [__m256; 2]) -> f32 = super::sum(_mm256_add_ps(x[0], x[1]));

        fn splat_integer(x: i32) -> [__m256i; 2] = [_mm256_set1_epi32(x); 2];
        unsafe fn load_u8(from: *const u8) -> [__m256i; 2] =
            [_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())), _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.add(8).cast()))];
        unsafe fn store_integers(to: *mut i32, x: [__m256i; 2]) -> () = {
            _mm256_storeu_si256(to.cast(), x[0]);
            _mm256_storeu_si256(to.add(8).cast(), x[1]);
        };
        fn bits(x: [__m256; 2]) -> [__m256i; 2] = [_mm256_castps_si256(x[0]), _mm256_castps_si256(x[1])];
        fn floats_of_bits(x: [__m256i; 2]) -> [__m256; 2] = [_mm256_castsi256_ps(x[0]), _mm256_castsi256_ps(x[1])];
        fn to_floats(x: [__m256i; 2]) -> [__m256; 2] = [_mm256_cvtepi32_ps(x[0]), _mm256_cvtepi32_ps(x[1])];
        fn and(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] =
            [_mm256_and_si256(a[0], b[0]), _mm256_and_si256(a[1], b[1])];
        fn add_integers(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] =
            [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])];
        fn larger_integer(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] =
            [_mm256_max_epi32(a[0], b[0]), _mm256_max_epi32(a[1], b[1])];
        fn shift_left_23(x: [__m256i; 2]) -> [__m256i; 2] =
            [_mm256_slli_epi32::<23>(x[0]), _mm256_slli_epi32::<23>(x[1])];
        fn transpose(rows: [[__m256i; 2]; 4]) -> [[__m256i; 2]; 4] = {
            let [a, b, c, d] = rows;
            let low = transpose([a[0], b[0], c[0], d[0]]);
            let high = transpose([a[1], b[1], c[1], d[1]]);
            [[low[0], high[0]], [low[1], high[1]], [low[2], high[2]], [low[3], high[3]]]
        };
        fn sum_rows(rows: [[__m256i; 2]; 4]) -> [__m256i; 2] = {
            let [a, b, c, d] = rows;
            [sum_rows(a[0], b[0], c[0], d[0]), sum_rows(a[1], b[1], c[1], d[1])]
        };
        unsafe fn load_quarters(from: [*const u8; 4]) -> [__m256i; 2] = load_quarters(from);
        unsafe fn mxfp4_i8(from: [*const u8; 4], halves: bool, _biased: bool) -> [[__m256i; 2]; 2] = {
            let codes = load_quarters(from);
            let (a, b) = (mxfp4_i8(codes[0], halves), mxfp4_i8(codes[1], halves));
            [[a[0], b[0]], [a[1], b[1]]]
        };
        fn pairs_of_bytes(bytes: [__m256i; 2]) -> [[__m256i; 2]; 2] = {
            let (a, b) = (pairs_of_bytes(bytes[0]), pairs_of_bytes(bytes[1]));
            [[a[0], b[0]], [a[1], b[1]]]
        };
        fn prefetch(from: *const u8) -> () = _mm_prefetch::<_MM_HINT_T0>(from.cast());
        fn prefetch_far(from: *const u8) -> () = _mm_prefetch::<_MM_HINT_T1>(from.cast());
        fn rearrange(blocks: [&[i16; 32]; 4]) -> Inputs = rearrange(blocks);
    }

    #[inline(always)]
    fn dot_blocks(self, weights: [[__m256i; 2]; 2], inputs: &Inputs) -> [__m256i; 2] {
        let mut sums = self.splat_integer(0);
        for (half, weights) in weights.into_iter().enumerate() {
            for (two, sum) in sums.iter_mut().enumerate() {
                // SAFETY: `self` exists only where the processor has these instructions.
                let words = unsafe { widen(weights[two]) };
                *sum = self.0.add_pairs(*sum, words[0], inputs[2 * half][two]);
                *sum = self.0.add_pairs(*sum, words[1], inputs[2 * half + 1][two]);
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn dot_pairs(self, sum: [__m256i; 2], pairs: [__m256i; 2], inputs: *const i16, pair: usize) -> [__m256i; 2] {
        // SAFETY: `self` exists only where the processor has these instructions; the caller vouches for the pointer.
        let input = unsafe { _mm256_set1_epi32(inputs.cast::<i32>().add(pair).read_unaligned()) };
        [self.0.add_pairs(sum[0], pairs[0], input), self.0.add_pairs(sum[1], pairs[1], input)]
    }
}
