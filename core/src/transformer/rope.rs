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
        (pairs as f64 * libm::log(original / (f64::from(turns) * 2.0 * PI)) / libm::log(theta)) as f32
    };
    let (low, high) = (turning(rope.beta_fast), turning(rope.beta_slow));
    let ramp = ((pair as f32 - low) / (high - low)).clamp(0.0, 1.0);
    let keep = 1.0 - ramp;
    interpolated * (1.0 - keep) + extrapolated * keep
}
