//! Numbers that look for mistakes in kernels: the same on every run and every machine.

/// A sequence of pseudo-random numbers: SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
/// 2014).
#[derive(Debug, Clone)]
pub struct Numbers {
    state: u64,
}

/// Kinds of 32-bit floats, each hard on an arithmetic in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Standard normal.
    Normal,
    /// Normal, times powers of two over ten orders of magnitude: large terms hide the loss of small ones.
    MixedMagnitudes,
    /// Around 1e15, of both signs: sums of their products are finite, products of three are not.
    Large,
    /// Around 1e-15, of both signs: products of two are normal numbers, products of three are zero.
    Small,
    /// Below the smallest normal number, of both signs.
    Subnormal,
    /// All zeros, of both signs.
    Zeros,
    /// Normal, but nine in ten are zero.
    Sparse,
    /// Normal, with one value a thousand times larger: whatever scales by the largest is left with few bits.
    Outlier,
    /// 1 to 13 over and over: a prime length, so two places that are a power of two apart never hold the same value, and every
    /// sum of less than 10000 products is exact in any order.
    Pattern,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Normal,
        Self::MixedMagnitudes,
        Self::Large,
        Self::Small,
        Self::Subnormal,
        Self::Zeros,
        Self::Sparse,
        Self::Outlier,
        Self::Pattern,
    ];
}

impl Numbers {
    /// A sequence that depends on nothing but the seed.
    pub fn seeded(seed: u64) -> Self {
        Numbers { state: seed }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A whole number below `end`, which is not zero.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// At least 0, less than 1.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal: the sum of twelve uniform numbers has variance one. (The usual transformation needs a logarithm and a
    /// cosine, which differ in the last bit from machine to machine.)
    pub fn normal(&mut self) -> f32 {
        ((0..12).map(|_| self.uniform()).sum::<f64>() - 6.0) as f32
    }

    /// Random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.bits() as u8).collect()
    }

    /// Numbers of one kind.
    pub fn floats(&mut self, kind: Kind, len: usize) -> Vec<f32> {
        let outlier = if len > 0 { self.below(len) } else { 0 };
        let float = |index: usize| match kind {
            Kind::Normal => self.normal(),
            Kind::MixedMagnitudes => self.normal() * 2f32.powi(self.below(33) as i32 - 16),
            Kind::Large => self.normal() * 1e15,
            Kind::Small => self.normal() * 1e-15,
            Kind::Subnormal => f32::from_bits(self.bits() as u32 & 0x807f_ffff),
            Kind::Zeros => f32::from_bits(self.bits() as u32 & 0x8000_0000),
            Kind::Sparse if self.below(10) > 0 => 0.0,
            Kind::Outlier if index == outlier => 1000.0,
            Kind::Sparse | Kind::Outlier => self.normal(),
            Kind::Pattern => (index % 13 + 1) as f32,
        };
        (0..len).map(float).collect()
    }
}
