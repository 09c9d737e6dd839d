//! What the cache keeps keys and values in changes logits by as much as `docs/numerics.md` says, and by no more.

use std::path::Path;

use ossicle_core::parallel::Alone;
use ossicle_core::transformer::{CacheFormat, Precision, Session, SessionConfig};
use ossicle_host::Threads;
use ossicle_tests::divergence::Divergence;
use ossicle_tests::engine::{all_logits, config, fastest, with_model, with_session};
use ossicle_tests::fixtures::{Fixture, data};

const FORMATS: [CacheFormat; 4] = [CacheFormat::F32, CacheFormat::F16, CacheFormat::Bf16, CacheFormat::Int8];

/// The logits at some positions, with activations as always.
fn logits(path: &Path, tokens: &[u32], positions: &[usize], cache: CacheFormat) -> Vec<f32> {
    let threads = Threads::new(Threads::available());
    with_model(path, |model| {
        let config = config(tokens.len(), tokens.len().min(100), cache);
        let all = with_session(model, fastest(), &config, |session| all_logits(session, tokens, &threads));
        let vocabulary = model.config().vocabulary;
        positions.iter().flat_map(|position| all[position * vocabulary..][..vocabulary].to_vec()).collect()
    })
}

/// How far f16, bf16 and int8 are from f32 at most: mean and median KL in nats, and in how many of a hundred positions at least
/// the top token is the same.
const STATED: [(f64, f64, f64); 3] = [(1e-4, 2e-6, 0.99), (5e-3, 4e-4, 0.97), (1e-2, 1e-3, 0.93)];

fn assert_as_stated(what: &str, path: &Path, tokens: &[u32], positions: &[usize]) {
    let [expected, found @ ..] = FORMATS.map(|format| logits(path, tokens, positions, format));
    for ((found, format), (mean, median, same)) in found.iter().zip(&FORMATS[1..]).zip(STATED) {
        let divergence = Divergence::between(&expected, found, expected.len() / positions.len());
        println!("{what} {format:?}: {divergence}");
        assert!(divergence.kl_mean < mean && divergence.kl_median < median, "{what} {format:?}: {divergence}");
        assert!(divergence.top1_agreement >= same, "{what} {format:?}: {divergence}");
    }
}

#[test]
fn logits_are_as_far_from_those_of_f32_as_is_stated() {
    for fixture in Fixture::all() {
        for sequence in ["s300", "s5003"].map(|name| fixture.sequence(name)) {
            let what = format!("{} {}", fixture.name, sequence.name);
            assert_as_stated(&what, &fixture.gguf, &sequence.tokens, &sequence.positions);
        }
    }
    let tokens = std::fs::read(data().join("toy/tokens.json")).expect("the fixture");
    let tokens: Vec<u32> = serde_json::from_slice(&tokens).expect("a list of token ids");
    let positions: Vec<usize> = (0..tokens.len()).collect();
    assert_as_stated("toy", &data().join("../../cli/data/toy.gguf"), &tokens, &positions);
}

/// The keys and values of the first layer's first head, [positions][head_dim] each, as a snapshot has them.
fn first_head(bytes: &[u8], cache: CacheFormat, positions: usize, head_dim: usize) -> Vec<Vec<f32>> {
    const HEADER: usize = 8 * 8;
    let rows = bytes[HEADER..].chunks(cache.row_size(head_dim)).take(2 * positions);
    let words = |row: &[u8]| row.as_chunks().0.iter().map(|word| u16::from_le_bytes(*word)).collect::<Vec<_>>();
    rows.map(|row| match cache {
        CacheFormat::F32 => row.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        CacheFormat::F16 => words(row).into_iter().map(|word| half::f16::from_bits(word).to_f32()).collect(),
        CacheFormat::Bf16 => words(row).into_iter().map(|word| half::bf16::from_bits(word).to_f32()).collect(),
        CacheFormat::Int8 => {
            let (numbers, scale) = row.split_at(head_dim);
            let scale = f32::from_le_bytes(*scale.first_chunk().expect("a scale"));
            numbers.iter().map(|number| f32::from(*number as i8) * scale).collect()
        }
    })
    .collect()
}

#[test]
fn what_is_cached_is_the_nearest_that_the_format_has() {
    for fixture in Fixture::all() {
        let tokens = &fixture.sequence("s64").tokens;
        with_model(&fixture.gguf, |model| {
            let head_dim = model.config().head_dim;
            let [exact, found @ ..] = FORMATS.map(|cache| {
                with_session(model, fastest(), &config(tokens.len(), tokens.len(), cache), |session| {
                    session.run_all(tokens, &Alone).expect("room");
                    let mut bytes = Vec::new();
                    session.save(&mut |part| bytes.extend_from_slice(part));
                    first_head(&bytes, cache, tokens.len().min(model.config().window), head_dim)
                })
            });
            for (found, cache) in found.iter().zip(&FORMATS[1..]) {
                for (exact, found) in exact.iter().zip(found) {
                    let largest = exact.iter().fold(0f32, |largest, x| largest.max(x.abs()));
                    for (exact, found) in exact.iter().zip(found) {
                        let bound = match cache {
                            CacheFormat::F32 => 0.0,
                            // Half a unit in the last of 11 bits and of 8; below 2^-14, f16 has fewer.
                            CacheFormat::F16 => exact.abs().max(2f32.powi(-14)) * 2f32.powi(-11),
                            CacheFormat::Bf16 => exact.abs() * 2f32.powi(-8),
                            // Half a step, and a little for the rounding of the quotient.
                            CacheFormat::Int8 => largest * (0.5001 / 127.0),
                        };
                        assert!((exact - found).abs() <= bound, "{cache:?}: {found} for {exact}");
                    }
                }
            }
        });
    }
}

#[test]
fn without_a_format_the_cache_is_as_exact_as_the_arithmetic() {
    for (precision, format) in [(Precision::Standard, CacheFormat::F16), (Precision::Precise, CacheFormat::F32)] {
        let config = SessionConfig { precision, ..SessionConfig::default() };
        assert_eq!(config.cache_format(), format);
        let other = SessionConfig { cache: Some(CacheFormat::Int8), ..config };
        assert_eq!(other.cache_format(), CacheFormat::Int8);
    }
}

#[test]
fn bytes_take_little_more_than_half_of_f16() {
    let fixture = Fixture::load("tiny-a");
    with_model(&fixture.gguf, |model| {
        let [f32, f16, bf16, int8] = FORMATS.map(|cache| {
            // Much of a cache, so that nothing else counts.
            Session::layout(model, &config(model.config().context_tokens, 1, cache)).expect("a layout").size as f64
        });
        assert!((0.49..0.51).contains(&(f16 / f32)) && bf16 == f16, "{f16} {f32} {bf16}");
        assert!((68.0 / 128.0 - 0.01..68.0 / 128.0 + 0.01).contains(&(int8 / f16)), "{int8} {f16}");
    });
}
