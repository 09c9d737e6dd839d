//! Q8_0: blocks of 32 signed bytes that share one f16 scale, as GGUF files keep dense matrices.

use half::f16;

/// Values that share a scale.
pub const BLOCK_LEN: usize = 32;

/// Bytes of a block: the scale, little-endian f16, then the values.
pub const BLOCK_SIZE: usize = 34;

/// The scale and the 32 values of the block that `bytes` starts with.
pub fn get(bytes: &[u8]) -> (f32, &[u8]) {
    let scale = f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
    (scale, &bytes[2..BLOCK_SIZE])
}
