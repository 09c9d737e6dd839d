//! The sampler draws from the distribution that its settings describe.

use ossicle_core::error::Error;
use ossicle_core::kernels::exp;
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

/// The token that is drawn with a number from 0 to below 1, by computing every weight and sorting them.
fn drawn(logits: &[f32], config: &SamplerConfig<'_>, allowed: impl Fn(u32) -> bool, random: f64) -> u32 {
    let mut scores: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    for (token, bias) in config.logit_bias.iter().filter(|(token, _)| (*token as usize) < logits.len()) {
        scores[*token as usize].1 += bias;
    }
    scores.retain(|(token, score)| *score > f32::NEG_INFINITY && allowed(*token));
    let most = scores.iter().fold(f32::NEG_INFINITY, |most, (_, score)| most.max(*score));
    let mut kept: Vec<(u32, f32)> =
        scores.iter().map(|(token, score)| (*token, exp((score - most) / config.temperature))).collect();
    let sum = |kept: &[(u32, f32)]| kept.iter().map(|(_, weight)| f64::from(*weight)).sum::<f64>();
    if config.top_k > 0 {
        kept.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        kept.truncate(config.top_k as usize);
        kept.sort_by_key(|(token, _)| *token);
    }
    if config.top_p < 1.0 {
        let share = f64::from(config.top_p) * sum(&kept);
        kept.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let mut above = 0.0;
        let enough = kept.iter().position(|(_, weight)| {
            above += f64::from(*weight);
            above >= share
        });
        kept.truncate(enough.map_or(kept.len(), |last| last + 1));
        kept.sort_by_key(|(token, _)| *token);
    }
    kept.retain(|(_, weight)| *weight >= config.min_p);
    let mut left = random * sum(&kept);
    let fallen = kept.iter().find(|(_, weight)| {
        left -= f64::from(*weight);
        left < 0.0
    });
    fallen.or(kept.last()).expect("the likeliest at least").0
}

/// The numbers that a sampler with this seed draws by.
fn random_numbers(seed: u64) -> impl Iterator<Item = f64> {
    (1_u64..).map(move |number| {
        let mut bits = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    })
}

#[test]
fn whatever_is_left_out_draws_are_those_of_a_sort() {
    let mut numbers = Numbers::seeded(5);
    for round in 0..1500 {
        let len = [1, 2, 63, 64, 65, 129, 1000, 5000][numbers.below(8)];
        let (spread, shift) = ([0.0, 0.5, 3.0, 20.0, 1e3][numbers.below(5)], [0.0, -50.0, 1e5][numbers.below(3)]);
        let is_tied = numbers.below(3) == 0;
        let logits: Vec<f32> = (0..len)
            .map(|_| match numbers.below(40) {
                0 => f32::NEG_INFINITY,
                1 => f32::NAN,
                _ if is_tied => shift + (spread * numbers.normal()).round(),
                _ => shift + spread * numbers.normal(),
            })
            .collect();
        let mut biased: Vec<u32> = (0..numbers.below(6)).map(|_| numbers.below(len + 70) as u32).collect();
        biased.sort_unstable();
        biased.dedup();
        let biases: Vec<(u32, f32)> =
            biased.into_iter().map(|token| (token, [4.0, -1.5, 0.25, f32::NEG_INFINITY][numbers.below(4)])).collect();
        let config = SamplerConfig {
            temperature: [1.0, 1.0, 0.7, 2.0, 1e-3, 1e4][numbers.below(6)],
            top_k: [0, 0, 1, 7, 50, 300][numbers.below(6)],
            top_p: [1.0, 0.95, 0.8, 0.3, 1e-6][numbers.below(5)],
            min_p: [0.0, 0.0, 0.05, 1.0][numbers.below(4)],
            seed: round,
            logit_bias: &biases,
        };
        let divisor = 1 + numbers.below(3) as u32;
        let allowed = |token: u32| token.is_multiple_of(divisor);
        let mut sampler = Sampler::new(config).expect("settings in range");
        for random in random_numbers(round).take(4) {
            let found = sampler.sample(&logits, allowed);
            if found == Err(Error::State("at least one allowed token")) {
                break;
            }
            assert_eq!(found, Ok(drawn(&logits, &config, allowed, random)), "{len} {spread} {shift} {config:?}");
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
