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

    /// Draws a token among those for which `allowed` holds.
    ///
    /// # Errors
    /// [`Error::State`] if none is allowed, or if the largest logit is infinite.
    pub fn sample(&mut self, logits: &[f32], allowed: impl Fn(u32) -> bool) -> Result<u32> {
        let scores = || {
            let mut biases = self.config.logit_bias.iter().peekable();
            (0..).zip(logits).filter_map(move |(token, logit)| {
                let bias = biases.next_if(|(biased, _)| *biased == token).map_or(0.0, |(_, bias)| *bias);
                let score = logit + bias;
                (score > f32::NEG_INFINITY).then_some((token, score))
            })
        };
        let scores = || scores().filter(|(token, _)| allowed(*token));
        let (likeliest, most) = scores()
            .reduce(|best, candidate| if candidate.1 > best.1 { candidate } else { best })
            .ok_or(Error::State("at least one allowed token"))?;
        if !most.is_finite() {
            return Err(Error::State("logits that are finite numbers"));
        }
        let temperature = self.config.temperature;
        if temperature == 0.0 {
            return Ok(likeliest);
        }

        // The weight of the likeliest token is 1.
        let weights = || scores().map(|(token, score)| (token, exp((score - most) / temperature)));
        let mut cut = Cut::NOTHING;
        if self.config.top_k > 0 {
            cut = cut.after(weights, f64::from(self.config.top_k), |_| 1.0);
        }
        if self.config.top_p < 1.0 {
            let total: f64 = cut.keep(weights()).map(|(_, weight)| f64::from(weight)).sum();
            let share = f64::from(self.config.top_p) * total;
            cut = cut.after(|| cut.keep(weights()), share, f64::from);
        }
        let min_p = self.config.min_p;
        let kept = || cut.keep(weights()).filter(|(_, weight)| *weight >= min_p);

        let total: f64 = kept().map(|(_, weight)| f64::from(weight)).sum();
        let mut left = next_random(&mut self.random) * total;
        let mut drawn = likeliest;
        for (token, weight) in kept() {
            drawn = token;
            left -= f64::from(weight);
            if left < 0.0 {
                break;
            }
        }
        Ok(drawn)
    }
}

/// The least likely tokens left out: those with less than a weight, and all but the first few with exactly that weight.
#[derive(Clone, Copy)]
struct Cut {
    weight: f32,
    at_weight: usize,
}

impl Cut {
    const NOTHING: Self = Self { weight: 0.0, at_weight: usize::MAX };

    fn keep(self, weights: impl Iterator<Item = (u32, f32)>) -> impl Iterator<Item = (u32, f32)> {
        let mut at_weight = self.at_weight;
        weights.filter(move |(_, weight)| {
            if *weight != self.weight {
                return *weight > self.weight;
            }
            let keeps = at_weight > 0;
            at_weight = at_weight.saturating_sub(1);
            keeps
        })
    }

    /// The cut that leaves the fewest of the largest weights whose measures add up to `enough`; this cut where all of
    /// them together do not.
    ///
    /// The weight at which it falls is found a byte at a time, from the top: positive floats are ordered like their bits.
    /// That takes four passes over the weights, and no memory for candidates.
    fn after<W: Iterator<Item = (u32, f32)>>(
        self,
        weights: impl Fn() -> W,
        enough: f64,
        measure: impl Fn(f32) -> f64,
    ) -> Self {
        let mut above = 0.0;
        let mut prefix = 0_u32;
        for shift in [24, 16, 8, 0] {
            let mut bins = [0.0_f64; 256];
            for (_, weight) in weights() {
                let bits = weight.to_bits();
                if u64::from(bits) >> (shift + 8) == u64::from(prefix) >> (shift + 8) {
                    bins[(bits >> shift & 255) as usize] += measure(weight);
                }
            }
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
        let at_weight = if each > 0.0 { libm::ceil((enough - above) / each).max(1.0) as usize } else { 1 };
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
