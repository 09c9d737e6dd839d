use core::ops::ControlFlow;

use crate::error::{Error, Result};
use crate::kernels::exp;

/// How tokens are drawn. What is applied, in this order: bias, temperature, top-k, top-p, min-p, the draw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplerConfig<'a> {
    /// Divides the logits; 0 takes the likeliest token, the lowest id among equals.
    pub temperature: f32,
    /// Only so many of the likeliest tokens are drawn from; 0 for all.
    pub top_k: u32,
    /// Only the fewest of the likeliest tokens that together have this probability; 1 for all.
    pub top_p: f32,
    /// Only tokens with at least this share of the likeliest one's probability; 0 for all.
    pub min_p: f32,
    /// Where the random numbers start.
    pub seed: u64,
    /// What to add to the logits of some tokens, by ascending token; negative infinity bans one. Tokens that the
    /// vocabulary does not have are passed over.
    pub logit_bias: &'a [(u32, f32)],
}

impl Default for SamplerConfig<'_> {
    /// What OpenAI recommends for these models: the model's own distribution.
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 0, logit_bias: &[] }
    }
}

/// Draws tokens. It is a plain value: a copy draws the same tokens, on every machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler<'a> {
    config: SamplerConfig<'a>,
    random: u64,
}

impl<'a> Sampler<'a> {
    /// A sampler at the start of its random numbers.
    ///
    /// # Errors
    /// [`Error::Setting`] if a number is outside its range, or the biases are not sorted.
    pub fn new(config: SamplerConfig<'a>) -> Result<Self> {
        let demand = |holds: bool, name, expected| if holds { Ok(()) } else { Err(Error::Setting { name, expected }) };
        demand((0.0..=1e4).contains(&config.temperature), "temperature", "a number from 0 to 10000")?;
        demand(config.top_p > 0.0 && config.top_p <= 1.0, "top_p", "a number above 0, and at most 1")?;
        demand((0.0..=1.0).contains(&config.min_p), "min_p", "a number from 0 to 1")?;
        let sorted = config.logit_bias.is_sorted_by(|(a, _), (b, _)| a < b);
        let numbers = config.logit_bias.iter().all(|(_, bias)| bias.is_finite() || *bias == f32::NEG_INFINITY);
        demand(sorted && numbers, "logit_bias", "tokens in ascending order, each with a number")?;
        Ok(Self { config, random: config.seed })
    }

    /// Goes on as if a token had been drawn, where only one was allowed: then there is nothing to draw, and no need of logits.
    pub fn pass_over(&mut self) {
        if self.config.temperature != 0.0 {
            next_random(&mut self.random);
        }
    }

    /// Draws a token among those for which `allowed` holds.
    ///
    /// # Errors
    /// [`Error::State`] if none is allowed, or if the largest logit is infinite.
    pub fn sample(&mut self, logits: &[f32], allowed: impl Fn(u32) -> bool) -> Result<u32> {
        let SamplerConfig { temperature, top_k, top_p, min_p, logit_bias, .. } = self.config;
        let scores = Scores { logits, biases: logit_bias, allowed };
        let (likeliest, most) = scores.likeliest().ok_or(Error::State("at least one allowed token"))?;
        if !most.is_finite() {
            return Err(Error::State("logits that are finite numbers"));
        }
        if temperature == 0.0 {
            return Ok(likeliest);
        }

        let weights = Weights { scores, most, temperature };
        let mut cut = Cut::NOTHING;
        if top_k > 0 {
            cut = cut.after(&weights, |_| f64::from(top_k), |_| 1.0);
        }
        if top_p < 1.0 {
            cut = cut.after(&weights, |total| f64::from(top_p) * total, f64::from);
        }
        let for_kept = |take: &mut dyn FnMut(u32, &[f32; TOGETHER]) -> ControlFlow<()>| {
            let mut cut = cut;
            weights.for_some((cut.weight.max(min_p), f32::INFINITY), |first, weights| {
                cut.apply(weights);
                take(first, weights)
            });
        };
        let mut total = 0.0;
        for_kept(&mut |_, weights| {
            total = weights.iter().fold(total, |total, weight| total + f64::from(*weight));
            ControlFlow::Continue(())
        });
        let mut left = next_random(&mut self.random) * total;
        let mut drawn = likeliest;
        for_kept(&mut |first, weights| {
            let left_before = left;
            left = weights.iter().fold(left, |left, weight| left - f64::from(*weight));
            if left >= 0.0 {
                return ControlFlow::Continue(());
            }
            let mut left = left_before;
            let fallen = weights.iter().position(|weight| {
                left -= f64::from(*weight);
                left < 0.0
            });
            drawn = first + fallen.unwrap_or(0) as u32;
            ControlFlow::Break(())
        });
        if left >= 0.0 {
            // By roundings nothing has fallen, so it is the last.
            for_kept(&mut |first, weights| {
                let last = weights.iter().rposition(|weight| *weight > 0.0);
                drawn = last.map_or(drawn, |last| first + last as u32);
                ControlFlow::Continue(())
            });
        }
        Ok(drawn)
    }
}

/// So many tokens are looked at together, by a few registers that hold several.
const TOGETHER: usize = 64;

/// Logits with their biases.
struct Scores<'s, A> {
    logits: &'s [f32],
    biases: &'s [(u32, f32)],
    allowed: A,
}

impl<A: Fn(u32) -> bool> Scores<'_, A> {
    /// Calls `take` with some tokens at a time, the first of them and the scores of all, until it breaks. Whether they are
    /// allowed is left to it.
    fn for_some(&self, mut take: impl FnMut(u32, &[f32]) -> ControlFlow<()>) {
        let mut biases = self.biases;
        for (first, logits) in (0..).step_by(TOGETHER).zip(self.logits.chunks(TOGETHER)) {
            let here = biases.iter().take_while(|(token, _)| *token - first < TOGETHER as u32).count();
            let mut biased = [0.0; TOGETHER];
            let scores = if here > 0 {
                let scores = &mut biased[..logits.len()];
                scores.copy_from_slice(logits);
                for (token, bias) in &biases[..here] {
                    if let Some(score) = scores.get_mut((token - first) as usize) {
                        *score += bias;
                    }
                }
                biases = &biases[here..];
                scores
            } else {
                logits
            };
            if take(first, scores).is_break() {
                break;
            }
        }
    }

    /// The allowed token with the highest score, the lowest among equals.
    fn likeliest(&self) -> Option<(u32, f32)> {
        let (mut likeliest, mut most) = (None, f32::NEG_INFINITY);
        self.for_some(|first, scores| {
            // Few hold one that is higher than all before.
            if scores.iter().fold(false, |any, score| any | (*score > most)) {
                for (token, score) in (first..).zip(scores) {
                    if *score > most && (self.allowed)(token) {
                        (likeliest, most) = (Some((token, *score)), *score);
                    }
                }
            }
            ControlFlow::Continue(())
        });
        likeliest
    }
}

/// What the draw is by: exponentials of scores, 1 for the likeliest token.
struct Weights<'s, A> {
    scores: Scores<'s, A>,
    /// The highest score.
    most: f32,
    temperature: f32,
}

impl<A: Fn(u32) -> bool> Weights<'_, A> {
    /// Calls `take` with some tokens at a time, the first of them and the weights of all, until it breaks: 0 for those that
    /// are not allowed, or have less than the first of these weights, or more than the second. Where that leaves none, it may
    /// not be called.
    fn for_some(&self, range: (f32, f32), mut take: impl FnMut(u32, &mut [f32; TOGETHER]) -> ControlFlow<()>) {
        // Most exponentials need not be computed, once the range is small.
        let (lowest, highest) = (self.lowest_score(range.0), self.highest_score(range.1));
        self.scores.for_some(|first, scores| {
            if !scores.iter().fold(false, |any, score| any | (*score >= lowest) & (*score <= highest)) {
                return ControlFlow::Continue(());
            }
            let mut weights = [0.0; TOGETHER];
            for (weight, score) in weights.iter_mut().zip(scores) {
                let exponential = exp((score - self.most) / self.temperature);
                *weight = if *score >= lowest { exponential } else { 0.0 };
            }
            for (token, weight) in (first..).zip(&mut weights) {
                let stays = (*weight >= range.0) & (*weight <= range.1) & (self.scores.allowed)(token);
                *weight = if stays { *weight } else { 0.0 };
            }
            take(first, &mut weights)
        });
    }

    /// No score below this has such a weight; it is above negative infinity.
    fn lowest_score(&self, weight: f32) -> f32 {
        // However low a score, its weight is at least this.
        if weight <= exp(f32::NEG_INFINITY) {
            return f32::MIN;
        }
        self.score(libm::log(f64::from(weight)) - MARGIN).next_down().max(f32::MIN)
    }

    /// No score above this has such a weight.
    fn highest_score(&self, weight: f32) -> f32 {
        self.score(libm::log(f64::from(weight)) + MARGIN).next_up()
    }

    /// Whose weight has about this logarithm.
    fn score(&self, logarithm: f64) -> f32 {
        (f64::from(self.most) + f64::from(self.temperature) * logarithm) as f32
    }
}

/// By more than this, roundings do not change the logarithm of a weight.
const MARGIN: f64 = 1e-3;

/// The least likely tokens left out: those with less than a weight, and all but the first few with exactly that weight.
#[derive(Clone, Copy)]
struct Cut {
    weight: f32,
    at_weight: usize,
}

impl Cut {
    const NOTHING: Self = Self { weight: 0.0, at_weight: usize::MAX };

    /// Makes the next weights 0, if they are left out.
    fn apply(&mut self, weights: &mut [f32]) {
        let is_cut = |any, weight: &f32| any | (*weight <= self.weight) & (*weight > 0.0);
        if !weights.iter().fold(false, is_cut) {
            return;
        }
        for weight in weights {
            if *weight == self.weight && self.at_weight > 0 {
                self.at_weight -= 1;
            } else if *weight <= self.weight {
                *weight = 0.0;
            }
        }
    }

    /// The cut that leaves the fewest of the largest weights whose measures add up to `enough`, which it is told the sum of
    /// all measures for; this cut where all of them together do not.
    ///
    /// The weight at which it falls is found a byte at a time, from the top: positive floats are ordered like their bits.
    /// That takes four passes over the weights, of which the later ones need few, and no memory for candidates.
    fn after<A: Fn(u32) -> bool>(
        self,
        weights: &Weights<'_, A>,
        enough: impl Fn(f64) -> f64,
        measure: impl Fn(f32) -> f64,
    ) -> Self {
        let (mut above, mut total) = (0.0, 0.0);
        let mut prefix = 0_u32;
        for shift in [24, 16, 8, 0] {
            let mut bins = [0.0_f64; 256];
            let mut cut = self;
            let last = f32::from_bits(prefix | u32::MAX.unbounded_shr(24 - shift)).min(f32::INFINITY);
            weights.for_some((cut.weight.max(f32::from_bits(prefix)), last), |_, weights| {
                cut.apply(weights);
                for weight in &*weights {
                    let measure = if *weight > 0.0 { measure(*weight) } else { 0.0 };
                    bins[(weight.to_bits() >> shift & 255) as usize] += measure;
                    total += if shift == 24 { measure } else { 0.0 };
                }
                ControlFlow::Continue(())
            });
            let enough = enough(total);
            let fallen = (0..256).rev().find(|bin| {
                let reached = above + bins[*bin] >= enough;
                above += if reached { 0.0 } else { bins[*bin] };
                reached
            });
            let bin = match fallen {
                Some(bin) => bin,
                None if shift == 24 => return self,
                // Added up in another order, the parts of a bin may come to a little less than the bin.
                None => bins.iter().position(|bin| *bin > 0.0).unwrap_or(0),
            };
            prefix |= (bin as u32) << shift;
        }
        let weight = f32::from_bits(prefix);
        let each = measure(weight);
        let at_weight = if each > 0.0 { libm::ceil((enough(total) - above) / each).max(1.0) as usize } else { 1 };
        Self { weight, at_weight }
    }
}

/// A number from 0 to below 1. The generator is SplitMix64 (G. Steele, D. Lea and C. Flood, 2014).
fn next_random(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}
