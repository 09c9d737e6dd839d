//! MXFP4: blocks of 32 four-bit floating-point codes (E2M1) that share one power of two (E8M0).
//!
//! Format: OCP Microscaling Formats (MX) v1.0, sections 5.2 and 5.3.

/// Values that share a scale.
pub const BLOCK_LEN: usize = 32;

/// Bytes that the codes of a block take.
pub const BLOCK_SIZE: usize = 16;

/// The sixteen values a code can have, doubled, so that they are integers.
pub const DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Which elements the two codes of a byte are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum NibbleOrder {
    /// Byte j holds elements 2j (low half) and 2j + 1: the published safetensors files.
    Adjacent = 0,
    /// Byte j holds elements j (low half) and j + 16: GGUF.
    Halves = 1,
}

impl NibbleOrder {
    /// Which elements byte `j` holds: in its low half, in its high half.
    fn elements(self, j: usize) -> [usize; 2] {
        match self {
            Self::Adjacent => [2 * j, 2 * j + 1],
            Self::Halves => [j, j + BLOCK_SIZE],
        }
    }
}

/// The rows of an MXFP4 matrix, wherever its file puts codes and scales.
///
/// Block b of the matrix (row-major) has its codes at `codes[b * code_stride..][..16]` and its scale at
/// `scales[b * scale_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Blocks<'w> {
    /// The codes, from those of the first block on.
    pub codes: &'w [u8],
    /// Bytes from the codes of one block to those of the next.
    pub code_stride: usize,
    /// The scales, from that of the first block on.
    pub scales: &'w [u8],
    /// Bytes from one scale to the next.
    pub scale_stride: usize,
    /// Which elements the two codes of a byte are.
    pub order: NibbleOrder,
}

/// Bytes of a GGUF block: the scale, then the codes.
const GGUF_BLOCK_SIZE: usize = 1 + BLOCK_SIZE;

impl<'w> Blocks<'w> {
    /// Blocks as GGUF interleaves them: scale byte, 16 code bytes. None if `data` is not `count` such blocks.
    pub fn interleaved(data: &'w [u8], count: usize) -> Option<Self> {
        if count.checked_mul(GGUF_BLOCK_SIZE)? != data.len() {
            return None;
        }
        let codes = data.get(1..).unwrap_or(&[]);
        Some(Self {
            codes,
            code_stride: GGUF_BLOCK_SIZE,
            scales: data,
            scale_stride: GGUF_BLOCK_SIZE,
            order: NibbleOrder::Halves,
        })
    }

    /// Blocks as safetensors checkpoints keep them: all codes, and elsewhere all scales. None if either is not `count` long.
    pub fn separate(codes: &'w [u8], scales: &'w [u8], count: usize) -> Option<Self> {
        if count.checked_mul(BLOCK_SIZE)? != codes.len() || scales.len() != count {
            return None;
        }
        Some(Self { codes, code_stride: BLOCK_SIZE, scales, scale_stride: 1, order: NibbleOrder::Adjacent })
    }

    /// The blocks from `block` on.
    pub fn skip(&self, block: usize) -> Self {
        Self {
            codes: &self.codes[block * self.code_stride..],
            scales: &self.scales[block * self.scale_stride..],
            ..*self
        }
    }

    /// The doubled codes of one block, in the order of its elements, and its scale byte.
    pub fn get(&self, block: usize) -> ([i8; BLOCK_LEN], u8) {
        let (codes, scale) = self.codes(block);
        (codes.map(|code| DOUBLED[usize::from(code)]), scale)
    }

    /// The codes of one block, in the order of its elements, and its scale byte.
    pub fn codes(&self, block: usize) -> ([u8; BLOCK_LEN], u8) {
        let bytes = &self.codes[block * self.code_stride..][..BLOCK_SIZE];
        let mut codes = [0; BLOCK_LEN];
        for (j, byte) in bytes.iter().enumerate() {
            let [low, high] = self.order.elements(j);
            codes[low] = byte & 15;
            codes[high] = byte >> 4;
        }
        (codes, self.scales[block * self.scale_stride])
    }
}

/// The bytes that hold the codes of a block in this order.
pub fn pack(codes: &[u8; BLOCK_LEN], order: NibbleOrder) -> [u8; BLOCK_SIZE] {
    core::array::from_fn(|j| {
        let [low, high] = order.elements(j);
        codes[low] | codes[high] << 4
    })
}

/// The codes and the scale byte whose values are nearest to `values`, by the sum of squared differences. `None` if a value is not
/// finite.
///
/// The standard's scale (section 6.3) is the largest at which the largest value is not below 4: values above 6 become 6 then. Here
/// the scale above, which cuts nothing off, and the one below, which is finer, are tried as well; of equals the standard's is
/// taken, so values that came from a block whose largest code is 4 or 6 become that block again. Values halfway between two codes
/// go to the even one.
pub fn quantize(values: &[f32; BLOCK_LEN]) -> Option<([u8; BLOCK_LEN], u8)> {
    if values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let largest = values.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
    // The exponents of f32 and of scales have the same bias.
    let standard = ((largest.to_bits() >> 23) as u8).saturating_sub(2);
    let mut best = quantize_at(values, standard);
    for scale in [standard + 1, standard.saturating_sub(1)] {
        let other = quantize_at(values, scale);
        if other.error < best.error {
            best = other;
        }
    }
    Some((best.codes, best.scale))
}

struct Quantized {
    codes: [u8; BLOCK_LEN],
    scale: u8,
    /// Sum of squared differences.
    error: f64,
}

fn quantize_at(values: &[f32; BLOCK_LEN], scale: u8) -> Quantized {
    let half = f64::from(self::scale(scale)) / 2.0;
    let (mut codes, mut error) = ([0; BLOCK_LEN], 0.0);
    for (code, value) in codes.iter_mut().zip(values) {
        let value_doubled = f64::from(value.abs()) / half;
        // One more for each middle between neighbours that the value is beyond, at every other one from the middle itself on.
        let middles = [0.5, 1.5, 2.5, 3.5, 5.0, 7.0, 10.0];
        let beyond = |(number, middle): (usize, f64)| {
            u8::from(value_doubled > middle) | u8::from(number % 2 == 1 && value_doubled == middle)
        };
        let magnitude: u8 = middles.into_iter().enumerate().map(beyond).sum();
        *code = magnitude | u8::from(value.is_sign_negative()) << 3;
        let difference = (value_doubled - f64::from(DOUBLED[usize::from(magnitude)])) * half;
        error += difference * difference;
    }
    Quantized { codes, scale, error }
}

/// 2^(byte - 127), exactly, subnormal 2^-127 included. 255 means NaN in the standard; it gives infinity here, which no
/// product or sum turns back into a finite number.
pub fn scale(byte: u8) -> f32 {
    f32::from_bits((u32::from(byte) << 23).max(0x0040_0000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(codes: &[u8; BLOCK_LEN], scale_byte: u8) -> [f32; BLOCK_LEN] {
        codes.map(|code| {
            let magnitude = 0.5 * f32::from(DOUBLED[usize::from(code & 7)]) * scale(scale_byte);
            if code & 8 == 0 { magnitude } else { -magnitude }
        })
    }

    /// Sum of squared differences.
    fn error(of: &[f32; BLOCK_LEN], codes: &[u8; BLOCK_LEN], scale: u8) -> f64 {
        of.iter().zip(values(codes, scale)).map(|(a, b)| libm::pow(f64::from(*a) - f64::from(b), 2.0)).sum()
    }

    /// Sums of uniform numbers: bell-shaped, the same at each run.
    fn bell(state: &mut u64) -> f32 {
        let mut uniform = || {
            *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (*state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..12).map(|_| uniform()).sum()
    }

    #[test]
    fn a_block_in_which_the_standard_scale_is_found_again_comes_back_as_it_was() {
        let all: [u8; BLOCK_LEN] = core::array::from_fn(|i| (i % 16) as u8);
        for scale in 0..=252 {
            assert_eq!(quantize(&values(&all, scale)), Some((all, scale)));
        }
        for order in [NibbleOrder::Adjacent, NibbleOrder::Halves] {
            let codes = pack(&all, order);
            let blocks = Blocks { codes: &codes, code_stride: 16, scales: &[120], scale_stride: 1, order };
            assert_eq!(blocks.codes(0), (all, 120));
        }
    }

    #[test]
    fn whatever_mxfp4_holds_is_found_exactly() {
        for largest in 0..8 {
            let codes: [u8; BLOCK_LEN] = core::array::from_fn(|i| (i as u8 * 7 % 16) & 8 | (i as u8 % (largest + 1)));
            for scale in [0, 1, 2, 127, 253, 254] {
                let exact = values(&codes, scale);
                if exact.iter().all(|value| value.is_finite()) {
                    let (codes, found) = quantize(&exact).unwrap();
                    assert_eq!(error(&exact, &codes, found), 0.0, "{largest} at {scale}");
                }
            }
        }
    }

    #[test]
    fn the_error_is_never_above_that_of_the_standard_scale_and_four_hundredths_below_it_for_bell_shaped_weights() {
        let mut state = 1;
        let (mut sum, mut standard_sum) = (0.0, 0.0);
        for _ in 0..10_000 {
            let block = core::array::from_fn(|_| bell(&mut state) * 0.02);
            let largest = block.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
            let standard = quantize_at(&block, (libm::ilogbf(largest) - 2 + 127) as u8);
            let (codes, scale) = quantize(&block).unwrap();
            let ours = error(&block, &codes, scale);
            let theirs = error(&block, &standard.codes, standard.scale);
            assert!(ours <= theirs);
            sum += ours;
            standard_sum += theirs;
        }
        let ratio = sum / standard_sum;
        assert!(ratio < 0.96, "{ratio}");
    }

    #[test]
    fn halves_go_to_the_even_code_and_zeros_take_no_scale() {
        let mut block = [0.0; BLOCK_LEN];
        assert_eq!(quantize(&block), Some(([0; BLOCK_LEN], 0)));
        block[..8].copy_from_slice(&[6.0, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, -5.0]);
        let (codes, scale) = quantize(&block).unwrap();
        assert_eq!((&codes[..8], scale), (&[7, 0, 2, 2, 4, 4, 6, 14][..], 127));
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut block = [1.0; BLOCK_LEN];
            block[31] = wrong;
            assert_eq!(quantize(&block), None);
        }
        assert!(quantize(&[f32::MAX; BLOCK_LEN]).is_some());
    }
}
