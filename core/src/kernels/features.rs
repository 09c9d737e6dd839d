/// Instruction set extensions, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuFeatures(u32);

impl CpuFeatures {
    /// What every processor has.
    pub const NONE: Self = Self(0);
    /// x86: AVX2, FMA and F16C, which came together.
    pub const AVX2: Self = Self(1);
    /// x86: sums of products of pairs of words in 256 bits (AVX-VNNI), and what [`Self::AVX2`] says.
    pub const AVX_VNNI: Self = Self(1 << 1 | Self::AVX2.0);
    /// x86: AVX-512 F, BW, DQ and VL, and what [`Self::AVX2`] says.
    pub const AVX512: Self = Self(1 << 2 | Self::AVX2.0);
    /// x86: the same sums in 512 bits (AVX-512 VNNI), and what [`Self::AVX512`] says.
    pub const AVX512_VNNI: Self = Self(1 << 3 | Self::AVX512.0);
    /// AArch64: the vector instructions that nearly all of them have.
    pub const NEON: Self = Self(1 << 8);
    /// AArch64: sums of products of four bytes (FEAT_DotProd), and NEON.
    pub const DOTPROD: Self = Self(1 << 9 | Self::NEON.0);
    /// AArch64: products of matrices of bytes (FEAT_I8MM), and what [`Self::DOTPROD`] says.
    pub const I8MM: Self = Self(1 << 10 | Self::DOTPROD.0);
    /// WebAssembly: vectors of 128 bits.
    pub const SIMD128: Self = Self(1 << 16);

    /// Whether these are all among `self`.
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// These and those.
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// What this processor and its operating system support, as far as it can be asked without the latter: on AArch64 and
    /// WebAssembly only what the library was built for.
    pub fn detect() -> Self {
        super::architecture::detect()
    }
}
