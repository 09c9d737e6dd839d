use crate::kernels::exp;

/// A token and the natural logarithm of its probability under the model, before temperature, bias and cuts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LogProbability {
    /// The token.
    pub token: u32,
    /// At most 0.
    pub value: f32,
}

/// The logarithm of the sum of the exponentials: a logit less this is the logarithm of its probability.
pub fn log_sum_exp(logits: &[f32]) -> f32 {
    let most = logits.iter().fold(f32::NEG_INFINITY, |most, logit| most.max(*logit));
    let sum = logits.iter().map(|logit| f64::from(exp(logit - most))).sum::<f64>();
    (f64::from(most) + libm::log(sum)) as f32
}

/// Fills `out` with the likeliest tokens, the best first and the lowest id first among equals. Returns how many there are:
/// fewer than `out` holds only if the vocabulary is smaller.
pub fn top_log_probabilities(logits: &[f32], out: &mut [LogProbability]) -> usize {
    let total = log_sum_exp(logits);
    let mut found = 0;
    for (token, logit) in logits.iter().enumerate() {
        let candidate = LogProbability { token: token as u32, value: logit - total };
        let place = out[..found].iter().rposition(|better| better.value >= candidate.value).map_or(0, |last| last + 1);
        if place < out.len() {
            found = (found + 1).min(out.len());
            out[place..found].rotate_right(1);
            out[place] = candidate;
        }
    }
    found
}
