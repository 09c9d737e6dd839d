//! Kernels for AArch64. The crate `ossicle-kernels-asm` has more.

pub mod neon;

use super::{CpuFeatures, KernelSet, portable};

/// All sets of this architecture, the fastest first.
pub const SETS: &[&KernelSet] = &[&neon::SET, &portable::SET];

/// What the code was compiled for: other features only an operating system can tell.
pub fn detect() -> CpuFeatures {
    CpuFeatures::NEON
}
