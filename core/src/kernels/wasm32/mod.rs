//! Kernels for WebAssembly, where a module either has vector instructions or is refused as a whole.

pub mod simd128;

use super::{CpuFeatures, KernelSet, portable};

/// All sets of this architecture, the fastest first.
pub const SETS: &[&KernelSet] = &[&simd128::SET, &portable::SET];

/// What the module was compiled for: no other code could run here.
pub fn detect() -> CpuFeatures {
    CpuFeatures::SIMD128
}
