//! The sampler draws from the distribution that its settings describe.

use ossicle_core::error::Error;
use ossicle_core::sampling::{LogProbability, Sampler, SamplerConfig, log_sum_exp, top_log_probabilities};
use ossicle_tests::numbers::Numbers;

fn logits(len: usize, seed: u64) -> Vec<f32> {
    let mut numbers = Numbers::seeded(seed);
    (0..len).map(|_| 2.0 * numbers.normal()).collect()
}

/// The tokens that settings leave, computed by sorting, and their probabilities.
fn expected(logits: &[f32], config: &SamplerConfig<'_>) -> Vec<(u32, f64)> {
    let mut scores: Vec<(u32, f64)> = logits.iter().enumerate().map(|(i, l)| (i as u32, f64::from(*l))).collect();
    for (token, bias) in config.logit_bias {
        scores[*token as usize].1 += f64::from(*bias);
    }
    scores.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let most = scores[0].1;
    let mut kept: Vec<(u32, f64)> =
        scores.iter().map(|(t, s)| (*t, ((s - most) / f64::from(config.temperature)).exp())).collect();
    if config.top_k > 0 {
        kept.truncate(config.top_k as usize);
    }
    let share = f64::from(config.top_p) * kept.iter().map(|(_, w)| w).sum::<f64>();
    let mut sum = 0.0;
    let mut enough = kept.len();
    for (i, (_, weight)) in kept.iter().enumerate() {
        sum += weight;
        if config.top_p < 1.0 && sum >= share {
            enough = i + 1;
            break;
        }
    }
    kept.truncate(enough);
    kept.retain(|(_, weight)| *weight >= f64::from(config.min_p));
    let total: f64 = kept.iter().map(|(_, w)| w).sum();
    kept.into_iter().map(|(token, weight)| (token, weight / total)).collect()
}

#[test]
fn draws_follow_the_distribution_that_the_settings_describe() {
    let logits = logits(50, 1);
    let base = SamplerConfig::default();
    let settings = [
        base,
        SamplerConfig { temperature: 0.5, ..base },
        SamplerConfig { top_k: 7, ..base },
        SamplerConfig { top_p: 0.8, ..base },
        SamplerConfig { min_p: 0.1, ..base },
        SamplerConfig { temperature: 1.5, top_k: 20, top_p: 0.9, min_p: 0.02, ..base },
        SamplerConfig { logit_bias: &[(3, 4.0), (9, f32::NEG_INFINITY), (20, -1.5)], ..base },
    ];
    for config in settings {
        let expected = expected(&logits, &config);
        let mut sampler = Sampler::new(config).unwrap();
        let mut counts = vec![0_u32; logits.len()];
        let draws = 40_000;
        for _ in 0..draws {
            counts[sampler.sample(&logits, |_| true).unwrap() as usize] += 1;
        }
        for (token, count) in counts.iter().enumerate() {
            let probability = expected.iter().find(|(t, _)| *t == token as u32).map_or(0.0, |(_, p)| *p);
            let deviation = (probability * (1.0 - probability) / f64::from(draws)).sqrt();
            let found = f64::from(*count) / f64::from(draws);
            assert!((found - probability).abs() <= 5.0 * deviation, "{config:?}: {token}: {found}, not {probability}");
        }
    }
}

#[test]
fn cuts_among_equal_logits_keep_the_lowest_tokens() {
    let config = SamplerConfig { top_k: 3, ..SamplerConfig::default() };
    let mut sampler = Sampler::new(config).unwrap();
    for _ in 0..1000 {
        assert!(sampler.sample(&[1.0; 200], |_| true).unwrap() < 3);
    }
}

#[test]
fn temperature_zero_takes_the_likeliest_and_the_lowest_among_equals() {
    let mut sampler = Sampler::new(SamplerConfig { temperature: 0.0, ..SamplerConfig::default() }).unwrap();
    assert_eq!(sampler.sample(&[0.0, 2.0, 2.0, 1.0], |_| true), Ok(1));
    assert_eq!(sampler.sample(&[0.0, 2.0, 2.0, 1.0], |token| token != 1), Ok(2));
    let config = SamplerConfig { temperature: 0.0, logit_bias: &[(0, 3.0)], ..SamplerConfig::default() };
    assert_eq!(Sampler::new(config).unwrap().sample(&[0.0, 2.0, 2.0, 1.0], |_| true), Ok(0));
}

#[test]
fn only_allowed_tokens_are_drawn_and_none_allowed_is_an_error() {
    let logits = logits(1000, 2);
    let mut sampler = Sampler::new(SamplerConfig { top_p: 0.5, ..SamplerConfig::default() }).unwrap();
    for _ in 0..200 {
        assert_eq!(sampler.sample(&logits, |token| token % 7 == 3).unwrap() % 7, 3);
    }
    assert!(matches!(sampler.sample(&logits, |_| false), Err(Error::State(_))));
}

#[test]
fn the_same_seed_gives_these_tokens_on_every_machine() {
    let logits = logits(500, 3);
    let draw = |seed| {
        let mut sampler = Sampler::new(SamplerConfig { seed, ..SamplerConfig::default() }).unwrap();
        let first: Vec<u32> = (0..4).map(|_| sampler.sample(&logits, |_| true).unwrap()).collect();
        let mut copy = sampler;
        let rest: Vec<u32> = (0..4).map(|_| sampler.sample(&logits, |_| true).unwrap()).collect();
        assert!(rest.iter().all(|token| copy.sample(&logits, |_| true) == Ok(*token)));
        [first, rest].concat()
    };
    assert_eq!(draw(7), SEED_7);
    assert_ne!(draw(8), SEED_7);
}

#[test]
fn a_temperature_near_zero_takes_the_likeliest() {
    for temperature in [1e-6, 1e-30, f32::from_bits(1)] {
        let mut sampler = Sampler::new(SamplerConfig { temperature, ..SamplerConfig::default() }).unwrap();
        assert_eq!(sampler.sample(&[0.0, 2.0, 1.0], |_| true), Ok(1));
    }
    let mut sampler = Sampler::new(SamplerConfig::default()).unwrap();
    assert!(matches!(sampler.sample(&[0.0, f32::INFINITY], |_| true), Err(Error::State(_))));
}

const SEED_7: [u32; 8] = [206, 33, 466, 206, 206, 206, 206, 206];

#[test]
fn log_probabilities_are_those_of_the_model() {
    let logits = logits(2000, 4);
    let exact = logits.iter().map(|l| f64::from(*l).exp()).sum::<f64>().ln();
    assert!((f64::from(log_sum_exp(&logits)) - exact).abs() < 1e-5);
    let mut top = [LogProbability::default(); 20];
    assert_eq!(top_log_probabilities(&logits, &mut top), 20);
    let mut sorted: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    for (found, (token, logit)) in top.iter().zip(sorted) {
        assert_eq!(found.token, token);
        assert!((f64::from(found.value) - (f64::from(logit) - exact)).abs() < 1e-5);
    }
    assert_eq!(top_log_probabilities(&logits[..3], &mut top), 3);
}

#[test]
fn settings_outside_their_range_are_refused_by_name() {
    let base = SamplerConfig::default();
    let refused = |config: SamplerConfig<'static>| match Sampler::new(config) {
        Err(Error::Setting { name, .. }) => name,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(SamplerConfig { temperature: -0.1, ..base }), "temperature");
    assert_eq!(refused(SamplerConfig { temperature: f32::NAN, ..base }), "temperature");
    assert_eq!(refused(SamplerConfig { top_p: 0.0, ..base }), "top_p");
    assert_eq!(refused(SamplerConfig { min_p: 1.5, ..base }), "min_p");
    assert_eq!(refused(SamplerConfig { logit_bias: &[(2, 1.0), (1, 1.0)], ..base }), "logit_bias");
}
