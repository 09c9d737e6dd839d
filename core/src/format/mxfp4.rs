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
        let bytes = &self.codes[block * self.code_stride..][..BLOCK_SIZE];
        let mut doubled = [0; BLOCK_LEN];
        for (j, byte) in bytes.iter().enumerate() {
            let (low, high) = match self.order {
                NibbleOrder::Adjacent => (2 * j, 2 * j + 1),
                NibbleOrder::Halves => (j, j + BLOCK_SIZE),
            };
            doubled[low] = DOUBLED[usize::from(byte & 15)];
            doubled[high] = DOUBLED[usize::from(byte >> 4)];
        }
        (doubled, self.scales[block * self.scale_stride])
    }
}

/// 2^(byte - 127), exactly, subnormal 2^-127 included. 255 means NaN in the standard; it gives infinity here, which no
/// product or sum turns back into a finite number.
pub fn scale(byte: u8) -> f32 {
    f32::from_bits((u32::from(byte) << 23).max(0x0040_0000))
}
