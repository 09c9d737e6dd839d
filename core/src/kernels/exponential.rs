//! The one exponential function of the engine: every kernel set computes these operations in this order.

/// 1.5 * 2^23: in f32, adding and subtracting it rounds to an integer, ties to even.
pub(super) const ROUND: f32 = 12_582_912.0;

/// Beyond, the result would not be a normal number.
pub(super) const RANGE: (f32, f32) = (-87.0, 88.0);

/// ln 2 = high + low; few bits of the first, so that its products are exact.
pub(super) const LN_2_HIGH: f32 = 355.0 / 512.0;
pub(super) const LN_2_LOW: f32 = -2.121_944_4e-4;

/// The highest power first.
pub(super) const POLYNOMIAL: [f32; 6] =
    [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];

/// The nearest integer, ties to even, for magnitudes below 2^22.
pub(super) fn round(x: f32) -> f32 {
    (x + ROUND) - ROUND
}

/// e^x to within 2 units in the last place, for x clamped to -87 ..= 88; NaN stays NaN.
///
/// Method and coefficients of `expf` in the Cephes library (S. Moshier, 1992): x = n ln 2 + r, a polynomial in r, times
/// 2^n. No operation is fused.
#[inline]
pub fn exp(x: f32) -> f32 {
    #[allow(clippy::manual_clamp, reason = "clamp is not the two comparisons that vector code makes")]
    let x = if x < RANGE.0 {
        RANGE.0
    } else if x > RANGE.1 {
        RANGE.1
    } else {
        x
    };
    let shifted = x * core::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let p = POLYNOMIAL[1..].iter().fold(POLYNOMIAL[0], |p, coefficient| p * r + coefficient);
    let power = f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    ((p * (r * r) + r) + 1.0) * power
}
