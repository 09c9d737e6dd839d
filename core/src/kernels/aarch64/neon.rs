//! NEON, which nearly every AArch64 processor has. Sixteen numbers are four registers.

use core::arch::aarch64::*;
use core::arch::asm;
use core::array;

use crate::format::mxfp4::DOUBLED;
use crate::kernels::lanes::{self, Lanes};
use crate::kernels::{CpuFeatures, KernelSet, arguments};

/// Exists only where the processor has NEON.
#[derive(Clone, Copy)]
struct Neon(());

entry_points! {
    Neon(()), "neon", CpuFeatures::NEON, "neon",
    float tokens 1, integer tokens 4, few tokens 2, heads 4
}

/// Sixteen f32.
type Floats = [float32x4_t; 4];

/// Sixteen i32, or what the operations agree on.
type Integers = [int32x4_t; 4];

/// Four blocks of activations, eight elements in a register.
type Inputs = [[int16x8_t; 4]; 4];

/// The doubled values of the codes in sixteen bytes, in order.
#[inline(always)]
fn mxfp4_i8(codes: uint8x16_t, halves: bool) -> [int8x16_t; 2] {
    // SAFETY: the table is sixteen bytes; all else is arithmetic.
    unsafe {
        let table = vld1q_s8(DOUBLED.as_ptr());
        let low = vqtbl1q_s8(table, vandq_u8(codes, vdupq_n_u8(15)));
        let high = vqtbl1q_s8(table, vshrq_n_u8::<4>(codes));
        if halves { [low, high] } else { [vzip1q_s8(low, high), vzip2q_s8(low, high)] }
    }
}

/// Sixteen bytes with sign as f32.
#[inline(always)]
fn floats_of_bytes(bytes: int8x16_t) -> Floats {
    // SAFETY: arithmetic.
    unsafe {
        let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
        [vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)]
            .map(|integers| vcvtq_f32_s32(integers))
    }
}

/// Exchanges rows and columns.
#[inline(always)]
fn transpose(rows: [int32x4_t; 4]) -> [int32x4_t; 4] {
    // SAFETY: arithmetic.
    unsafe {
        let [a, b, c, d] = rows;
        let pairs = [vtrn1q_s32(a, b), vtrn2q_s32(a, b), vtrn1q_s32(c, d), vtrn2q_s32(c, d)];
        let [ab_even, ab_odd, cd_even, cd_odd] = pairs.map(|pairs| vreinterpretq_s64_s32(pairs));
        [
            vtrn1q_s64(ab_even, cd_even),
            vtrn1q_s64(ab_odd, cd_odd),
            vtrn2q_s64(ab_even, cd_even),
            vtrn2q_s64(ab_odd, cd_odd),
        ]
        .map(|rows| vreinterpretq_s32_s64(rows))
    }
}

/// The sum of the products of a block with the i16 of its activations, in four parts.
#[inline(always)]
fn dot_block(weights: [int8x16_t; 2], inputs: &[int16x8_t; 4]) -> int32x4_t {
    // SAFETY: arithmetic.
    unsafe {
        let mut sum = vdupq_n_s32(0);
        for (weights, inputs) in weights.into_iter().zip(inputs.as_chunks::<2>().0) {
            let halves = [vmovl_s8(vget_low_s8(weights)), vmovl_high_s8(weights)];
            for (weights, inputs) in halves.into_iter().zip(inputs) {
                sum = vmlal_s16(sum, vget_low_s16(weights), vget_low_s16(*inputs));
                sum = vmlal_high_s16(sum, weights, *inputs);
            }
        }
        sum
    }
}

/// Of each four i8 in sixteen rows, two columns as i16: one in two registers, then the other.
#[inline(always)]
fn columns(rows: [int8x16_t; 4], first: i8) -> Integers {
    // SAFETY: arithmetic.
    unsafe {
        let order = [0, 4, 8, 12, 16, 20, 24, 28].map(|row| row + first);
        let order = vld1_s8(order.as_ptr());
        let order = vcombine_u8(vreinterpret_u8_s8(order), vreinterpret_u8_s8(vadd_s8(order, vdup_n_s8(1))));
        let [a, b] = [[rows[0], rows[1]], [rows[2], rows[3]]].map(|[a, b]| vqtbl2q_s8(int8x16x2_t(a, b), order));
        [vmovl_s8(vget_low_s8(a)), vmovl_s8(vget_low_s8(b)), vmovl_high_s8(a), vmovl_high_s8(b)]
            .map(|column| vreinterpretq_s32_s16(column))
    }
}

impl Lanes for Neon {
    type Floats = Floats;
    type Integers = Integers;
    type Inputs = Inputs;

    operations! {
        fn splat(x: f32) -> Floats = [vdupq_n_f32(x); 4];
        unsafe fn load(from: *const f32) -> Floats = array::from_fn(|i| vld1q_f32(from.add(4 * i)));
        unsafe fn load_f16(from: *const u16) -> Floats =
            array::from_fn(|i| vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from.add(4 * i)))));
        unsafe fn load_bf16(from: *const u16) -> Floats =
            array::from_fn(|i| vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.add(4 * i)))));
        unsafe fn load_i8(from: *const u8) -> Floats = floats_of_bytes(vld1q_s8(from.cast()));
        unsafe fn load_mxfp4(from: *const u8, halves: bool) -> [Floats; 2] =
            mxfp4_i8(vld1q_u8(from), halves).map(floats_of_bytes);
        unsafe fn load_pairs(from: *const f32) -> [Floats; 2] = {
            let pairs: [float32x4x2_t; 4] = array::from_fn(|i| vld2q_f32(from.add(8 * i)));
            [pairs.map(|pairs| pairs.0), pairs.map(|pairs| pairs.1)]
        };
        unsafe fn store(to: *mut f32, x: Floats) -> () = (0..4).for_each(|i| vst1q_f32(to.add(4 * i), x[i]));
        unsafe fn store_i16(to: *mut i16, x: Floats) -> () =
            (0..4).for_each(|i| vst1_s16(to.add(4 * i), vmovn_s32(vcvtnq_s32_f32(x[i]))));

        fn add(a: Floats, b: Floats) -> Floats = array::from_fn(|i| vaddq_f32(a[i], b[i]));
        fn sub(a: Floats, b: Floats) -> Floats = array::from_fn(|i| vsubq_f32(a[i], b[i]));
        fn mul(a: Floats, b: Floats) -> Floats = array::from_fn(|i| vmulq_f32(a[i], b[i]));
        fn div(a: Floats, b: Floats) -> Floats = array::from_fn(|i| vdivq_f32(a[i], b[i]));
        fn fma(a: Floats, b: Floats, c: Floats) -> Floats = array::from_fn(|i| vfmaq_f32(c[i], a[i], b[i]));
        fn larger(a: Floats, b: Floats) -> Floats = array::from_fn(|i| vbslq_f32(vcgtq_f32(a[i], b[i]), a[i], b[i]));
        fn smaller(a: Floats, b: Floats) -> Floats = array::from_fn(|i| vbslq_f32(vcltq_f32(a[i], b[i]), a[i], b[i]));
        fn first(count: usize, a: Floats, b: Floats) -> Floats = array::from_fn(|i| {
            let lanes = array::from_fn::<u32, 4, _>(|lane| (4 * i + lane) as u32);
            vbslq_f32(vcltq_u32(vld1q_u32(lanes.as_ptr()), vdupq_n_u32(count as u32)), a[i], b[i])
        });
        fn sum(x: Floats) -> f32 = {
            let four = vaddq_f32(vaddq_f32(x[0], x[2]), vaddq_f32(x[1], x[3]));
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vpadds_f32(two)
        };

        fn splat_integer(x: i32) -> Integers = [vdupq_n_s32(x); 4];
        unsafe fn load_u8(from: *const u8) -> Integers = {
            let bytes = vld1q_u8(from);
            let (low, high) = (vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes));
            [vmovl_u16(vget_low_u16(low)), vmovl_high_u16(low), vmovl_u16(vget_low_u16(high)), vmovl_high_u16(high)]
                .map(|integers| vreinterpretq_s32_u32(integers))
        };
        unsafe fn store_integers(to: *mut i32, x: Integers) -> () =
            (0..4).for_each(|i| vst1q_s32(to.add(4 * i), x[i]));
        fn bits(x: Floats) -> Integers = x.map(|x| vreinterpretq_s32_f32(x));
        fn floats_of_bits(x: Integers) -> Floats = x.map(|x| vreinterpretq_f32_s32(x));
        fn to_floats(x: Integers) -> Floats = x.map(|x| vcvtq_f32_s32(x));
        fn and(a: Integers, b: Integers) -> Integers = array::from_fn(|i| vandq_s32(a[i], b[i]));
        fn add_integers(a: Integers, b: Integers) -> Integers = array::from_fn(|i| vaddq_s32(a[i], b[i]));
        fn larger_integer(a: Integers, b: Integers) -> Integers = array::from_fn(|i| vmaxq_s32(a[i], b[i]));
        fn shift_left_23(x: Integers) -> Integers = x.map(|x| vshlq_n_s32::<23>(x));
        unsafe fn dot_pairs(sum: Integers, pairs: Integers, inputs: *const i16, pair: usize) -> Integers = {
            let mut sum = sum;
            for (column, rows) in pairs.as_chunks::<2>().0.iter().enumerate() {
                let input = vld1q_dup_s16(inputs.add(2 * pair + column));
                for (rows, sums) in rows.map(|rows| vreinterpretq_s16_s32(rows)).iter().zip(sum.as_chunks_mut::<2>().0) {
                    sums[0] = vmlal_s16(sums[0], vget_low_s16(*rows), vget_low_s16(input));
                    sums[1] = vmlal_high_s16(sums[1], *rows, input);
                }
            }
            sum
        };
        fn prefetch(from: *const u8) -> () =
            asm!("prfm pldl1keep, [{}]", in(reg) from, options(readonly, nostack, preserves_flags));
        fn prefetch_far(from: *const u8) -> () =
            asm!("prfm pldl2keep, [{}]", in(reg) from, options(readonly, nostack, preserves_flags));
        fn transpose(rows: [Integers; 4]) -> [Integers; 4] = {
            let quarters: [_; 4] = array::from_fn(|quarter| transpose(rows.map(|row| row[quarter])));
            array::from_fn(|row| quarters.map(|rows| rows[row]))
        };
        unsafe fn load_quarters(from: [*const u8; 4]) -> Integers = from.map(|from| vreinterpretq_s32_u8(vld1q_u8(from)));
        fn sum_rows(rows: [Integers; 4]) -> Integers = {
            let [a, b, c, d] = rows;
            array::from_fn(|quarter| {
                let (ab, cd) = (vpaddq_s32(a[quarter], b[quarter]), vpaddq_s32(c[quarter], d[quarter]));
                vpaddq_s32(ab, cd)
            })
        };
        unsafe fn mxfp4_i8(from: [*const u8; 4], halves: bool, _biased: bool) -> [Integers; 2] = {
            let quarters = from.map(|from| mxfp4_i8(vld1q_u8(from), halves));
            array::from_fn(|half| quarters.map(|quarter| vreinterpretq_s32_s8(quarter[half])))
        };
        fn pairs_of_bytes(bytes: Integers) -> [Integers; 2] = {
            let rows = bytes.map(|bytes| vreinterpretq_s8_s32(bytes));
            [columns(rows, 0), columns(rows, 2)]
        };
        fn rearrange(blocks: [&[i16; 32]; 4]) -> Inputs =
            blocks.map(|block| array::from_fn(|part| vld1q_s16(block[8 * part..].as_ptr())));
        fn dot_blocks(weights: [Integers; 2], inputs: &Inputs) -> Integers = array::from_fn(|quarter| {
            dot_block(weights.map(|half| vreinterpretq_s8_s32(half[quarter])), &inputs[quarter])
        });
    }
}
