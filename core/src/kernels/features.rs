/// Instruction set extensions, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuFeatures(u32);

impl CpuFeatures {
    /// What every processor has.
    pub const NONE: Self = Self(0);
    /// x86: AVX2, FMA and F16C, which came together.
    pub const AVX2: Self = Self(1);
    /// x86: AVX-512 F, BW, DQ, VL and VNNI, and what [`Self::AVX2`] says.
    pub const AVX512: Self = Self(2 | Self::AVX2.0);

    /// Whether these are all among `self`.
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// What this processor and its operating system support, as far as it can be asked without the latter.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        return super::x86_64::detect();
        #[cfg(not(target_arch = "x86_64"))]
        return Self::NONE;
    }
}
