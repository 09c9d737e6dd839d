//! Kernel sets whose inner loops are assembly, because stable Rust lacks their instructions: so far the products of bytes
//! on AArch64, `sdot` and `smmla`.
//!
//! A body is an `.S` file, which the compiler itself assembles, inside a naked function. It takes one pointer to an
//! argument block, computes exact integers and adds them up in the order of `docs/numerics.md`, so that its set equals the
//! portable one bit for bit. All else is Rust, and every kernel without a body is that of `ossicle-core`.
#![no_std]

#[cfg(test)]
extern crate std;

#[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
mod aarch64;

use ossicle_core::kernels::{self, KernelSet};

#[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
const SETS: &[&KernelSet] = &[&aarch64::I8MM, &aarch64::DOTPROD];
#[cfg(not(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little")))]
const SETS: &[&KernelSet] = &[];

/// All kernel sets for this architecture, those of the core included, the fastest first.
pub fn sets() -> impl Iterator<Item = &'static KernelSet> {
    SETS.iter().chain(kernels::SETS).copied()
}
