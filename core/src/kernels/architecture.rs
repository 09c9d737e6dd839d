//! Architectures without kernels of their own.

use super::{CpuFeatures, KernelSet, portable};

/// All sets of this architecture.
pub const SETS: &[&KernelSet] = &[&portable::SET];

/// Nothing is known of the processor.
pub fn detect() -> CpuFeatures {
    CpuFeatures::NONE
}
