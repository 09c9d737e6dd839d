//! Rotary position embedding.

use core::f64::consts::PI;

use crate::error::Result;
use crate::model::{Config, Rope};
use crate::region::Carver;

/// Cosines and sines for the tokens of a batch.
pub(super) struct Rotations<'r> {
    /// By how much each pair turns from one position to the next, [head_dim / 2].
    frequencies: &'r [f32],
    /// Factor of both cosine and sine.
    concentration: f32,
    /// [tokens][head_dim / 2].
    cosines: &'r mut [f32],
    /// [tokens][head_dim / 2].
    sines: &'r mut [f32],
}

impl<'r> Rotations<'r> {
    pub fn carve(carver: &mut Carver<'r>, config: &Config, batch_tokens: usize) -> Result<Self> {
        let pairs = config.head_dim / 2;
        Ok(Self {
            frequencies: carver.try_from_fn(pairs, |pair| Ok(frequency(&config.rope, pair, pairs)))?,
            concentration: (0.1 * libm::log(f64::from(config.rope.factor)) + 1.0) as f32,
            cosines: carver.filled([batch_tokens, pairs], 0.0)?,
            sines: carver.filled([batch_tokens, pairs], 0.0)?,
        })
    }

    /// Prepares the tokens at `positions`.
    pub fn prepare(&mut self, positions: core::ops::Range<usize>) {
        let pairs = self.frequencies.len();
        let rows = self.cosines.chunks_mut(pairs).zip(self.sines.chunks_mut(pairs));
        for (position, (cosines, sines)) in positions.zip(rows) {
            for ((cosine, sine), frequency) in cosines.iter_mut().zip(sines).zip(self.frequencies) {
                // The reference rounds the angle to f32, and so did training; at far positions that is visible.
                let angle = f64::from(position as f32 * frequency);
                *cosine = libm::cos(angle) as f32 * self.concentration;
                *sine = libm::sin(angle) as f32 * self.concentration;
            }
        }
    }

    /// Turns one head of the batch's token `token`: pair i is elements i and i + head_dim / 2.
    pub fn rotate(&self, token: usize, head: &mut [f32]) {
        let pairs = self.frequencies.len();
        let (first, second) = head.split_at_mut(pairs);
        let cosines = &self.cosines[token * pairs..][..pairs];
        let sines = &self.sines[token * pairs..][..pairs];
        for (((a, b), cosine), sine) in first.iter_mut().zip(second).zip(cosines).zip(sines) {
            (*a, *b) = (*a * cosine - *b * sine, *b * cosine + *a * sine);
        }
    }
}

/// YaRN by parts: fast pairs keep their frequency, slow ones are divided by the factor, and between the pairs that turn
/// `beta_fast` and `beta_slow` times in the original context a linear ramp leads from one to the other. Each step is
/// rounded to f32 in the order of OpenAI's `gpt_oss/torch/model.py`, whose numbers the models were trained with.
fn frequency(rope: &Rope, pair: usize, pairs: usize) -> f32 {
    let theta = f64::from(rope.theta);
    let exponent = 2.0 * pair as f32 / (2 * pairs) as f32;
    let wavelength = libm::pow(theta, f64::from(exponent)) as f32;
    let interpolated = 1.0 / (rope.factor * wavelength);
    let extrapolated = 1.0 / wavelength;
    if rope.factor <= 1.0 {
        return extrapolated;
    }
    let turning = |turns: f32| {
        let original = f64::from(rope.original_context);
        pairs as f64 * libm::log(original / (f64::from(turns) * 2.0 * PI)) / libm::log(theta)
    };
    let (low, high) = (turning(rope.beta_fast), turning(rope.beta_slow));
    let ramp = ((pair as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
    let keep = 1.0 - ramp;
    interpolated * (1.0 - keep) + extrapolated * keep
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cosines, then sines, of the published models' pairs at position 131,071: `tests/data/ops/rope_yarn.safetensors`.
    const FARTHEST: [[f32; 32]; 2] = [
        [
            -1.101475,
            0.9582033,
            0.11006536,
            -1.3005536,
            -0.820_876_9,
            0.9211241,
            -1.1214238,
            -0.8294723,
            1.34597,
            -1.0882152,
            -0.71908486,
            0.55082697,
            -0.026102966,
            -1.3236646,
            -0.5904028,
            1.2997602,
            -1.3331074,
            -0.43485624,
            0.4092261,
            -1.2789679,
            -0.9782418,
            -0.09668168,
            0.57225883,
            0.9573885,
            1.1567721,
            1.2553089,
            1.3029815,
            1.3258177,
            1.3367058,
            1.3418855,
            1.3443471,
            1.3455163,
        ],
        [
            -0.7746053,
            -0.94610083,
            1.3420678,
            0.34902868,
            1.0674369,
            0.9822377,
            -0.7454322,
            1.0607715,
            -0.040312056,
            0.79312557,
            1.1384978,
            -1.2287597,
            -1.3463206,
            -0.24733077,
            -1.2102417,
            -0.3519715,
            -0.18996088,
            -1.2744255,
            -1.2828852,
            -0.4213096,
            0.92536664,
            1.3430983,
            1.2189258,
            0.94692546,
            0.6893031,
            0.48729873,
            0.33985248,
            0.23551592,
            0.16272123,
            0.11226636,
            0.0774037,
            0.05335003,
        ],
    ];

    #[test]
    fn the_farthest_position_is_turned_as_in_the_reference() {
        let rope = Rope { theta: 150_000.0, factor: 32.0, beta_fast: 32.0, beta_slow: 1.0, original_context: 4096.0 };
        let frequencies: [f32; 32] = core::array::from_fn(|pair| frequency(&rope, pair, 32));
        let (mut cosines, mut sines) = ([0.0; 32], [0.0; 32]);
        let mut rotations = Rotations {
            frequencies: &frequencies,
            concentration: 1.346_573_6,
            cosines: &mut cosines,
            sines: &mut sines,
        };
        rotations.prepare(131_071..131_072);
        for pair in 0..32 {
            // The reference's own power function may be off by 2 units in the last place of a frequency.
            let tolerance = 2e-6 + 131_071.0 * frequencies[pair] * 2.0 * f32::EPSILON;
            let (cosine, sine) = (rotations.cosines[pair], rotations.sines[pair]);
            assert!((cosine - FARTHEST[0][pair]).abs() < tolerance, "{pair}: {cosine}");
            assert!((sine - FARTHEST[1][pair]).abs() < tolerance, "{pair}: {sine}");
        }
    }
}
