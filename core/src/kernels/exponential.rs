//! The one exponential function of the engine: every kernel set computes these operations in this order.

/// 1.5 * 2^23: in f32, adding and subtracting it rounds to an integer, ties to even.
const ROUND: f32 = 12_582_912.0;

/// The nearest integer, ties to even, for magnitudes below 2^22.
pub(super) fn round(x: f32) -> f32 {
    (x + ROUND) - ROUND
}

/// e^x to within 2 units in the last place, for x clamped to -87 ..= 88; NaN stays NaN.
///
/// Method and coefficients of `expf` in the Cephes library (S. Moshier, 1992): x = n ln 2 + r, a polynomial in r, times
/// 2^n. No operation is fused.
pub fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    #[allow(clippy::manual_clamp, reason = "clamp is not the two comparisons that vector code makes")]
    let x = if x < -87.0 {
        -87.0
    } else if x > 88.0 {
        88.0
    } else {
        x
    };
    let shifted = x * core::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let power = f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    ((p * (r * r) + r) + 1.0) * power
}
