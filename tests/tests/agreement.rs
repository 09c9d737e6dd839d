//! The engine computes what independent implementations compute.

use std::path::Path;

use ossicle_core::kernels::Kernels;
use ossicle_core::transformer::Precision;
use ossicle_host::Threads;
use ossicle_tests::divergence::Divergence;
use ossicle_tests::engine::{all_logits, config, with_model, with_session};
use ossicle_tests::fixtures::{Fixture, Sequence};

/// The engine's logits at the positions for which a sequence has expected ones.
fn logits(path: &Path, sequence: &Sequence, precision: Precision) -> Vec<f32> {
    let threads = Threads::new(Threads::available());
    with_model(path, |model| {
        let config = config(sequence.tokens.len(), sequence.tokens.len().min(100), precision);
        let all = with_session(model, Kernels::portable(), &config, |session| {
            all_logits(session, &sequence.tokens, &threads)
        });
        let vocabulary = model.config().vocabulary;
        sequence.positions.iter().flat_map(|position| all[position * vocabulary..][..vocabulary].to_vec()).collect()
    })
}

#[test]
fn precise_logits_are_those_of_the_reference_to_a_thousandth() {
    for fixture in Fixture::all() {
        for sequence in &fixture.sequences {
            let engine = logits(&fixture.gguf, sequence, Precision::Precise);
            let distance = Divergence::between(&sequence.logits, &engine, fixture.vocabulary);
            println!("{} {} precise: {distance}", fixture.name, sequence.name);
            assert!(distance.max_logit_difference < 1e-3, "{} {}: {distance}", fixture.name, sequence.name);
            assert!(distance.kl_mean < 1e-8, "{} {}: {distance}", fixture.name, sequence.name);
        }
    }
}

#[test]
fn standard_logits_are_closer_to_the_reference_than_those_of_llama_cpp() {
    for fixture in Fixture::all() {
        for sequence in &fixture.sequences {
            let engine = logits(&fixture.gguf, sequence, Precision::Standard);
            let distance = Divergence::between(&sequence.logits, &engine, fixture.vocabulary);
            println!("{} {} standard: {distance}", fixture.name, sequence.name);
            let bar = sequence.llama_cpp;
            assert!(distance.kl_mean < bar.mean, "{} {}: {distance}, {bar:?}", fixture.name, sequence.name);
            assert!(distance.kl_median < bar.median, "{} {}: {distance}, {bar:?}", fixture.name, sequence.name);
        }
    }
}
