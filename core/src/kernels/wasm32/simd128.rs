//! The vector instructions of WebAssembly. Sixteen numbers are four registers.

use core::arch::wasm32::*;
use core::array;

use crate::format::mxfp4::DOUBLED;
use crate::kernels::lanes::{self, Lanes};
use crate::kernels::{CpuFeatures, KernelSet, arguments, portable};

/// Exists only where the module was compiled for these instructions.
#[derive(Clone, Copy)]
struct Simd128(());

entry_points! {
    Simd128(()), "simd128", CpuFeatures::SIMD128, "simd128",
    float tokens 1, integer tokens 4, few tokens 2, heads 4
}

/// Sixteen numbers of four bytes, or what the operations agree on.
type Registers = [v128; 4];

/// Four blocks of activations, eight elements in a register.
type Inputs = [Registers; 4];

/// Sixteen bytes, at any alignment.
///
/// # Safety
/// They are there.
#[inline(always)]
unsafe fn load<T>(from: *const T) -> v128 {
    // SAFETY: our own contract.
    unsafe { v128_load(from.cast()) }
}

/// Sixteen elements of four bytes, at any alignment.
///
/// # Safety
/// They are there.
#[inline(always)]
unsafe fn load_four<T>(from: *const T) -> Registers {
    // SAFETY: our own contract.
    array::from_fn(|i| unsafe { load(from.add(4 * i)) })
}

/// Stores sixteen elements of four bytes, at any alignment.
///
/// # Safety
/// There is room for them.
#[inline(always)]
unsafe fn store<T>(to: *mut T, x: Registers) {
    for (i, x) in x.into_iter().enumerate() {
        // SAFETY: our own contract.
        unsafe { v128_store(to.add(4 * i).cast(), x) };
    }
}

/// Sixteen elements of two bytes, without sign.
///
/// # Safety
/// They are there.
#[inline(always)]
unsafe fn load_u16(from: *const u16) -> Registers {
    // SAFETY: our own contract.
    array::from_fn(|i| u32x4_extend_low_u16x8(unsafe { v128_load64_zero(from.add(4 * i).cast()) }))
}

/// The f32 of a half, whose bits are in the lower part of each element.
#[inline(always)]
fn float_of_half(half: v128) -> v128 {
    // With the exponent of an f32 in the same place the number is 2^112 times too small, subnormal ones too. What has the
    // largest exponent is not finite, and stays so.
    let magnitude = i32x4_shl(v128_and(half, i32x4_splat(0x7fff)), 13);
    let scaled = f32x4_mul(magnitude, f32x4_splat(f32::from_bits((112 + 127) << 23)));
    let not_finite = i32x4_gt(magnitude, i32x4_splat((0x7c00 << 13) - 1));
    let exponent = v128_and(not_finite, i32x4_splat(f32::INFINITY.to_bits() as i32));
    let sign = i32x4_shl(v128_and(half, i32x4_splat(0x8000)), 16);
    v128_or(v128_or(scaled, exponent), sign)
}

/// The doubled values of the codes in sixteen bytes, in order.
#[inline(always)]
fn mxfp4_i8(codes: v128, halves: bool) -> [v128; 2] {
    // SAFETY: sixteen bytes.
    let table = unsafe { load(DOUBLED.as_ptr()) };
    let low = i8x16_swizzle(table, v128_and(codes, u8x16_splat(15)));
    let high = i8x16_swizzle(table, u8x16_shr(codes, 4));
    if halves {
        return [low, high];
    }
    [
        i8x16_shuffle::<0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23>(low, high),
        i8x16_shuffle::<8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31>(low, high),
    ]
}

/// Sixteen bytes with sign as f32.
#[inline(always)]
fn floats_of_bytes(bytes: v128) -> Registers {
    let (low, high) = (i16x8_extend_low_i8x16(bytes), i16x8_extend_high_i8x16(bytes));
    [
        i32x4_extend_low_i16x8(low),
        i32x4_extend_high_i16x8(low),
        i32x4_extend_low_i16x8(high),
        i32x4_extend_high_i16x8(high),
    ]
    .map(|integers| f32x4_convert_i32x4(integers))
}

/// The numbers at even places of two registers, and those at odd ones.
#[inline(always)]
fn pairs(a: v128, b: v128) -> [v128; 2] {
    [i32x4_shuffle::<0, 2, 4, 6>(a, b), i32x4_shuffle::<1, 3, 5, 7>(a, b)]
}

/// Exchanges rows and columns.
#[inline(always)]
fn transpose(rows: [v128; 4]) -> [v128; 4] {
    let [a, b, c, d] = rows;
    let (ab_low, ab_high) = (i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<2, 6, 3, 7>(a, b));
    let (cd_low, cd_high) = (i32x4_shuffle::<0, 4, 1, 5>(c, d), i32x4_shuffle::<2, 6, 3, 7>(c, d));
    [
        i64x2_shuffle::<0, 2>(ab_low, cd_low),
        i64x2_shuffle::<1, 3>(ab_low, cd_low),
        i64x2_shuffle::<0, 2>(ab_high, cd_high),
        i64x2_shuffle::<1, 3>(ab_high, cd_high),
    ]
}

/// Each four f32 as f64: the first two, the last two.
#[inline(always)]
fn doubles(x: v128) -> [v128; 2] {
    [f64x2_promote_low_f32x4(x), f64x2_promote_low_f32x4(i64x2_shuffle::<1, 0>(x, x))]
}

/// a * b + c, rounded once: the method of [`portable::fused`], whose doubtful cases are left to it.
#[inline(always)]
fn fma(a: Registers, b: Registers, c: Registers) -> Registers {
    let sums: [[v128; 2]; 4] = array::from_fn(|i| {
        let (a, b, c) = (doubles(a[i]), doubles(b[i]), doubles(c[i]));
        array::from_fn(|half| f64x2_add(f64x2_mul(a[half], b[half]), c[half]))
    });
    let mut in_doubt = i64x2_splat(0);
    for sum in sums.as_flattened() {
        let between = i64x2_eq(v128_and(*sum, i64x2_splat(0x1fff_ffff)), i64x2_splat(0x1000_0000));
        let magnitude = f64x2_abs(*sum);
        let subnormal =
            v128_and(f64x2_lt(magnitude, f64x2_splat(f32::MIN_POSITIVE as f64)), f64x2_gt(magnitude, f64x2_splat(0.0)));
        in_doubt = v128_or(in_doubt, v128_or(between, subnormal));
    }
    if v128_any_true(in_doubt) {
        return fused(a, b, c);
    }
    sums.map(|[low, high]| i64x2_shuffle::<0, 2>(f32x4_demote_f64x2_zero(low), f32x4_demote_f64x2_zero(high)))
}

/// [`portable::fused`] of each lane.
#[cold]
fn fused(a: Registers, b: Registers, c: Registers) -> Registers {
    let mut lanes = [[0.0f32; 16]; 3];
    for (lanes, registers) in lanes.iter_mut().zip([a, b, c]) {
        // SAFETY: sixteen elements.
        unsafe { store(lanes.as_mut_ptr(), registers) };
    }
    let [a, b, c] = lanes;
    let fused: [f32; 16] = array::from_fn(|lane| portable::fused(a[lane], b[lane], c[lane]));
    // SAFETY: sixteen elements.
    unsafe { load_four(fused.as_ptr()) }
}

impl Lanes for Simd128 {
    type Floats = Registers;
    type Integers = Registers;
    type Inputs = Inputs;

    operations! {
        fn splat(x: f32) -> Registers = [f32x4_splat(x); 4];
        unsafe fn load(from: *const f32) -> Registers = load_four(from);
        unsafe fn load_f16(from: *const u16) -> Registers = load_u16(from).map(float_of_half);
        unsafe fn load_bf16(from: *const u16) -> Registers = load_u16(from).map(|bits| i32x4_shl(bits, 16));
        unsafe fn load_i8(from: *const u8) -> Registers = floats_of_bytes(load(from));
        unsafe fn load_mxfp4(from: *const u8, halves: bool) -> [Registers; 2] =
            mxfp4_i8(load(from), halves).map(floats_of_bytes);
        unsafe fn load_pairs(from: *const f32) -> [Registers; 2] = {
            let pairs: [[v128; 2]; 4] = array::from_fn(|i| pairs(load(from.add(8 * i)), load(from.add(8 * i + 4))));
            [pairs.map(|pairs| pairs[0]), pairs.map(|pairs| pairs[1])]
        };
        unsafe fn store(to: *mut f32, x: Registers) -> () = store(to, x);
        unsafe fn store_i16(to: *mut i16, x: Registers) -> () = {
            let [a, b, c, d] = x.map(|x| i32x4_trunc_sat_f32x4(x));
            v128_store(to.cast(), i16x8_narrow_i32x4(a, b));
            v128_store(to.add(8).cast(), i16x8_narrow_i32x4(c, d));
        };

        fn add(a: Registers, b: Registers) -> Registers = array::from_fn(|i| f32x4_add(a[i], b[i]));
        fn sub(a: Registers, b: Registers) -> Registers = array::from_fn(|i| f32x4_sub(a[i], b[i]));
        fn mul(a: Registers, b: Registers) -> Registers = array::from_fn(|i| f32x4_mul(a[i], b[i]));
        fn div(a: Registers, b: Registers) -> Registers = array::from_fn(|i| f32x4_div(a[i], b[i]));
        fn fma(a: Registers, b: Registers, c: Registers) -> Registers = fma(a, b, c);
        // pmax(b, a) is b < a ? a : b, and pmin(b, a) is a < b ? a : b.
        fn larger(a: Registers, b: Registers) -> Registers = array::from_fn(|i| f32x4_pmax(b[i], a[i]));
        fn smaller(a: Registers, b: Registers) -> Registers = array::from_fn(|i| f32x4_pmin(b[i], a[i]));
        fn first(count: usize, a: Registers, b: Registers) -> Registers = array::from_fn(|i| {
            let lanes = i32x4_add(i32x4(0, 1, 2, 3), i32x4_splat(4 * i as i32));
            v128_bitselect(a[i], b[i], i32x4_lt(lanes, i32x4_splat(count as i32)))
        });
        fn sum(x: Registers) -> f32 = {
            let four = f32x4_add(f32x4_add(x[0], x[2]), f32x4_add(x[1], x[3]));
            let two = f32x4_add(four, i64x2_shuffle::<1, 0>(four, four));
            f32x4_extract_lane::<0>(two) + f32x4_extract_lane::<1>(two)
        };

        fn splat_integer(x: i32) -> Registers = [i32x4_splat(x); 4];
        unsafe fn load_u8(from: *const u8) -> Registers = {
            let bytes = load(from);
            let (low, high) = (u16x8_extend_low_u8x16(bytes), u16x8_extend_high_u8x16(bytes));
            [
                u32x4_extend_low_u16x8(low),
                u32x4_extend_high_u16x8(low),
                u32x4_extend_low_u16x8(high),
                u32x4_extend_high_u16x8(high),
            ]
        };
        unsafe fn store_integers(to: *mut i32, x: Registers) -> () = store(to, x);
        fn bits(x: Registers) -> Registers = x;
        fn floats_of_bits(x: Registers) -> Registers = x;
        fn to_floats(x: Registers) -> Registers = x.map(|x| f32x4_convert_i32x4(x));
        fn and(a: Registers, b: Registers) -> Registers = array::from_fn(|i| v128_and(a[i], b[i]));
        fn add_integers(a: Registers, b: Registers) -> Registers = array::from_fn(|i| i32x4_add(a[i], b[i]));
        fn larger_integer(a: Registers, b: Registers) -> Registers = array::from_fn(|i| i32x4_max(a[i], b[i]));
        fn shift_left_23(x: Registers) -> Registers = x.map(|x| i32x4_shl(x, 23));
        unsafe fn dot_pairs(sum: Registers, pairs: Registers, inputs: *const i16, pair: usize) -> Registers = {
            let input = v128_load32_splat(inputs.add(2 * pair).cast());
            array::from_fn(|i| i32x4_add(sum[i], i32x4_dot_i16x8(pairs[i], input)))
        };
        // There is no instruction for these two.
        fn prefetch(_from: *const u8) -> () = ();
        fn prefetch_far(_from: *const u8) -> () = ();
        fn transpose(rows: [Registers; 4]) -> [Registers; 4] = {
            let quarters: [_; 4] = array::from_fn(|quarter| transpose(rows.map(|row| row[quarter])));
            array::from_fn(|row| quarters.map(|rows| rows[row]))
        };
        fn sum_rows(rows: [Registers; 4]) -> Registers = array::from_fn(|quarter| {
            let [a, b, c, d] = transpose(rows.map(|row| row[quarter]));
            i32x4_add(i32x4_add(a, b), i32x4_add(c, d))
        });
        unsafe fn load_quarters(from: [*const u8; 4]) -> Registers = array::from_fn(|i| load(from[i]));
        unsafe fn mxfp4_i8(from: [*const u8; 4], halves: bool, _biased: bool) -> [Registers; 2] = {
            let quarters: [_; 4] = array::from_fn(|i| mxfp4_i8(load(from[i]), halves));
            [quarters.map(|quarter| quarter[0]), quarters.map(|quarter| quarter[1])]
        };
        fn pairs_of_bytes(bytes: Registers) -> [Registers; 2] = {
            let apart = bytes.map(|bytes| {
                i8x16_shuffle::<0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15>(bytes, bytes)
            });
            [apart.map(|bytes| i16x8_extend_low_i8x16(bytes)), apart.map(|bytes| i16x8_extend_high_i8x16(bytes))]
        };
        fn rearrange(blocks: [&[i16; 32]; 4]) -> Inputs =
            blocks.map(|block| array::from_fn(|part| load(block[8 * part..].as_ptr())));
        fn dot_blocks(weights: [Registers; 2], inputs: &Inputs) -> Registers = array::from_fn(|quarter| {
            let inputs = &inputs[quarter];
            let mut sum = i32x4_splat(0);
            for (half, weights) in weights.into_iter().enumerate() {
                let bytes = weights[quarter];
                sum = i32x4_add(sum, i32x4_dot_i16x8(i16x8_extend_low_i8x16(bytes), inputs[2 * half]));
                sum = i32x4_add(sum, i32x4_dot_i16x8(i16x8_extend_high_i8x16(bytes), inputs[2 * half + 1]));
            }
            sum
        });
    }
}
