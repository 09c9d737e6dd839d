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

/// The block whose values are nearest to `values` at the scale that makes the largest 127, as ggml computes it, bit for bit: halves
/// go away from zero, and the scale is rounded to f16 last. `None` if a value is not finite, or too large for such a scale.
pub fn quantize(values: &[f32; BLOCK_LEN]) -> Option<[u8; BLOCK_SIZE]> {
    let largest = values.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
    let scale = largest / 127.0;
    let stored = f16::from_f32(scale);
    if values.iter().any(|value| value.is_nan()) || !stored.is_finite() {
        return None;
    }
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let mut block = [0; BLOCK_SIZE];
    block[..2].copy_from_slice(&stored.to_le_bytes());
    for (byte, value) in block[2..].iter_mut().zip(values) {
        *byte = libm::roundf(value * inverse) as i8 as u8;
    }
    Some(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_value_is_127_and_halves_go_away_from_zero() {
        let mut values = [0.0; BLOCK_LEN];
        values[..5].copy_from_slice(&[127.0, 0.5, -0.5, 2.4, -127.0]);
        let block = quantize(&values).unwrap();
        let (scale, quantized) = get(&block);
        assert_eq!(scale, 1.0);
        assert_eq!(quantized[..6], [127, 1, -1, 2, -127, 0].map(|value: i8| value as u8));
        assert_eq!(quantize(&[0.0; BLOCK_LEN]), Some([0; BLOCK_SIZE]));
    }

    #[test]
    fn what_has_no_finite_scale_is_refused() {
        for wrong in [f32::NAN, f32::INFINITY, f32::MAX] {
            let mut values = [1.0; BLOCK_LEN];
            values[31] = wrong;
            assert_eq!(quantize(&values), None);
        }
    }
}
