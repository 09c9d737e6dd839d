//! The kernel sets that this machine runs: what the operating system says of the processor.

use ossicle_core::kernels::{CpuFeatures, Kernels};

pub use ossicle_kernels_asm::sets;

/// Every set that this processor can run, the fastest first.
pub fn available() -> impl Iterator<Item = Kernels> {
    let features = features();
    // SAFETY: processor and operating system say so, and the sets are Ossicle's.
    sets().filter_map(move |set| unsafe { Kernels::with(set, features) })
}

/// The set of that name, if this processor can run it.
pub fn named(name: &str) -> Option<Kernels> {
    available().find(|kernels| kernels.name() == name)
}

/// The fastest set that this processor can run.
pub fn fastest() -> Kernels {
    available().next().unwrap_or(Kernels::portable())
}

/// What processor and operating system say that they support.
#[cfg(target_arch = "aarch64")]
pub fn features() -> CpuFeatures {
    use std::arch::is_aarch64_feature_detected;
    let mut features = CpuFeatures::detect();
    if is_aarch64_feature_detected!("dotprod") {
        features = features.and(CpuFeatures::DOTPROD);
        if is_aarch64_feature_detected!("i8mm") {
            features = features.and(CpuFeatures::I8MM);
        }
    }
    features
}

/// What processor and operating system say that they support.
#[cfg(not(target_arch = "aarch64"))]
pub fn features() -> CpuFeatures {
    CpuFeatures::detect()
}
