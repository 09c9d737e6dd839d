//! The kernels over registers, written once for all instruction sets.
//!
//! A sum has sixteen lanes (`docs/numerics.md`), so the unit here is sixteen numbers: one register or several, as
//! [`Lanes`] says. All functions are inlined into entry points that enable the instructions. Closures and what takes them
//! need not be, so they stay away from registers: a build with many codegen units would call a function for each
//! instruction.

#[macro_use]
mod entry_points;

mod activation;
mod attention;
mod float;
mod panel;
mod quantized;

pub(super) use activation::{quantize, swiglu};
pub(super) use attention::attend;
pub(super) use float::{Bf16, F16, F32, Mxfp4, Q8_0, matmul};
pub(super) use quantized::{
    matmul_mxfp4 as matmul_mxfp4_quantized, matmul_mxfp4_few, matmul_q8_0 as matmul_q8_0_quantized, matmul_q8_0_few,
};

/// The numbers that a sum is made of before it is folded.
const LANES: usize = 16;

/// The operations of an instruction set on sixteen f32, and on integers in the same registers. A value of the type
/// exists only where the processor has these instructions.
///
/// # Safety
/// Functions that take pointers read or write sixteen elements of any alignment there, unless they say otherwise.
pub(super) trait Lanes: Copy {
    /// Sixteen f32.
    type Floats: Copy;
    /// Sixteen i32, or 32 i16, or 64 i8.
    type Integers: Copy;
    /// Four blocks of quantized activations.
    type Inputs: Copy;

    fn splat(self, x: f32) -> Self::Floats;
    unsafe fn load(self, from: *const f32) -> Self::Floats;
    unsafe fn load_f16(self, from: *const u16) -> Self::Floats;
    unsafe fn load_bf16(self, from: *const u16) -> Self::Floats;
    unsafe fn load_i8(self, from: *const u8) -> Self::Floats;
    /// The doubled values of the 32 codes in 16 bytes; `halves` tells the order.
    unsafe fn load_mxfp4(self, from: *const u8, halves: bool) -> [Self::Floats; 2];
    /// Of 32 f32, those at even places and those at odd ones.
    unsafe fn load_pairs(self, from: *const f32) -> [Self::Floats; 2];
    unsafe fn store(self, to: *mut f32, x: Self::Floats);
    /// Stores integers of at most 15 bits, given as floats.
    unsafe fn store_i16(self, to: *mut i16, x: Self::Floats);

    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn div(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a * b + c, rounded once.
    fn fma(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// a > b ? a : b
    fn larger(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a < b ? a : b
    fn smaller(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The first `count` lanes of `a`, the others of `b`.
    fn first(self, count: usize, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// Lane i takes lane i + 8, then i + 4, i + 2, i + 1.
    fn sum(self, x: Self::Floats) -> f32;

    fn splat_integer(self, x: i32) -> Self::Integers;
    /// Bytes, without sign.
    unsafe fn load_u8(self, from: *const u8) -> Self::Integers;
    unsafe fn store_integers(self, to: *mut i32, x: Self::Integers);
    fn bits(self, x: Self::Floats) -> Self::Integers;
    fn floats_of_bits(self, x: Self::Integers) -> Self::Floats;
    fn to_floats(self, x: Self::Integers) -> Self::Floats;
    fn and(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;
    fn add_integers(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;
    fn larger_integer(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;
    fn shift_left_23(self, x: Self::Integers) -> Self::Integers;
    /// Adds to each i32 the products of a pair of i16 with one and the same pair: that of number `pair` in `inputs`.
    unsafe fn dot_pairs(
        self,
        sum: Self::Integers,
        pairs: Self::Integers,
        inputs: *const i16,
        pair: usize,
    ) -> Self::Integers;
    /// Asks for what will be read; nothing need be there.
    fn prefetch(self, from: *const u8);
    /// The same, for later: what is read until then would push it out of the nearest cache.
    fn prefetch_far(self, from: *const u8);
    /// In each quarter of the registers, which is four i32 of each, exchanges rows and columns.
    fn transpose(self, rows: [Self::Integers; 4]) -> [Self::Integers; 4];
    /// The sum of each row in each quarter.
    fn sum_rows(self, rows: [Self::Integers; 4]) -> Self::Integers;
    /// The sixteen bytes at each of four places.
    unsafe fn load_quarters(self, from: [*const u8; 4]) -> Self::Integers;
    /// The doubled values of the sixteen bytes of codes at each of four places, as i8: elements 0 to 15, and 16 to 31;
    /// `biased` where `dot_blocks` wants them.
    unsafe fn mxfp4_i8(self, from: [*const u8; 4], halves: bool, biased: bool) -> [Self::Integers; 2];
    /// Bytes with sign as `dot_blocks` wants them.
    #[inline(always)]
    fn biased(self, bytes: Self::Integers) -> Self::Integers {
        bytes
    }
    /// Of each four i8, the first two as i16, and the other two, as `dot_pairs` wants them.
    fn pairs_of_bytes(self, bytes: Self::Integers) -> [Self::Integers; 2];
    /// Four blocks of activations in the order that `dot_blocks` wants.
    fn rearrange(self, blocks: [&[i16; 32]; 4]) -> Self::Inputs;
    /// Products with four blocks of biased bytes, elements 0 to 15 and 16 to 31. The four i32 of a quarter add up to the sum
    /// of a block.
    fn dot_blocks(self, weights: [Self::Integers; 2], inputs: &Self::Inputs) -> Self::Integers;
}
