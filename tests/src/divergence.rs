//! How far one model's predictions are from another's.

use std::fmt;

/// The distance between two sets of logits over the same positions.
///
/// KL is the Kullback-Leibler divergence of the other's distribution from the reference's, in nats, one value per position.
#[derive(Debug, Clone, PartialEq)]
pub struct Divergence {
    /// How many positions were compared.
    pub positions: usize,
    /// Mean of KL.
    pub kl_mean: f64,
    /// Median of KL.
    pub kl_median: f64,
    /// 95th percentile of KL, interpolated between the two neighbours.
    pub kl_p95: f64,
    /// Largest KL.
    pub kl_max: f64,
    /// Largest difference between two logits.
    pub max_logit_difference: f64,
    /// Median difference between two logits.
    pub median_logit_difference: f64,
    /// Share of positions where both have the same largest logit.
    pub top1_agreement: f64,
}

impl Divergence {
    /// Compares `[positions, vocabulary]` logits. A position whose other logits are not all numbers is infinitely far.
    ///
    /// Panics if the two differ in length, are empty or are not whole rows.
    pub fn between<R, O>(reference: &[R], other: &[O], vocabulary: usize) -> Self
    where
        R: Copy + Into<f64>,
        O: Copy + Into<f64>,
    {
        assert_eq!(reference.len(), other.len(), "as many logits in both");
        assert!(
            !reference.is_empty() && reference.len().is_multiple_of(vocabulary),
            "whole rows of {vocabulary} logits"
        );
        let mut divergences = Vec::new();
        let mut differences = Vec::new();
        let mut agreements = 0;
        for (reference, other) in reference.chunks(vocabulary).zip(other.chunks(vocabulary)) {
            let reference: Vec<f64> = reference.iter().map(|&logit| logit.into()).collect();
            let other: Vec<f64> = other.iter().map(|&logit| logit.into()).collect();
            divergences.push(kl(&reference, &other));
            for (reference, other) in reference.iter().zip(&other) {
                let difference = (reference - other).abs();
                differences.push(if difference.is_nan() { f64::INFINITY } else { difference });
            }
            agreements += usize::from(top1(&reference) == top1(&other));
        }
        divergences.sort_by(f64::total_cmp);
        differences.sort_by(f64::total_cmp);
        let positions = divergences.len();
        Divergence {
            positions,
            kl_mean: divergences.iter().sum::<f64>() / positions as f64,
            kl_median: percentile(&divergences, 0.50),
            kl_p95: percentile(&divergences, 0.95),
            kl_max: divergences[positions - 1],
            max_logit_difference: percentile(&differences, 1.0),
            median_logit_difference: percentile(&differences, 0.50),
            top1_agreement: agreements as f64 / positions as f64,
        }
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, line: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            line,
            "{} positions: KL mean {:.2e} median {:.2e} p95 {:.2e} max {:.2e}; logits within {:.2e}, median {:.2e}; same top token {:.2} %",
            self.positions,
            self.kl_mean,
            self.kl_median,
            self.kl_p95,
            self.kl_max,
            self.max_logit_difference,
            self.median_logit_difference,
            100.0 * self.top1_agreement
        )
    }
}

/// KL(reference || other) of the two softmax distributions, in nats; infinite if `other` holds something that is not a number.
pub fn kl(reference: &[f64], other: &[f64]) -> f64 {
    let reference_total = log_sum_exp(reference);
    let other_total = log_sum_exp(other);
    // With d = ln p - ln q: sum p d = sum p (d + q/p - 1), because p and q both sum to one. Written so, no term is negative
    // and a tiny divergence is not lost among larger terms of both signs.
    let term = |(reference, other): (&f64, &f64)| {
        let log_p = reference - reference_total;
        let difference = log_p - (other - other_total);
        log_p.exp() * (difference + (-difference).exp_m1())
    };
    let divergence: f64 = reference.iter().zip(other).map(term).sum();
    if divergence.is_nan() { f64::INFINITY } else { divergence.max(0.0) }
}

/// The index of the largest logit, the lowest one among equals.
pub fn top1(logits: &[f64]) -> usize {
    let mut best = 0;
    for (index, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = index;
        }
    }
    best
}

fn log_sum_exp(logits: &[f64]) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest + logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln()
}

/// As NumPy's default: straight between the two neighbours in sorted order.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = sorted[place.floor() as usize];
    let above = sorted[place.ceil() as usize];
    // Equal neighbours are returned as they are, so that two infinities do not become "not a number".
    if below == above { below } else { below + (above - below) * place.fract() }
}
