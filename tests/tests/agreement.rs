//! The engine computes what independent implementations compute.

use std::path::Path;

use ossicle_core::kernels::Kernels;
use ossicle_core::parallel::Alone;
use ossicle_core::transformer::Precision;
use ossicle_host::Threads;
use ossicle_tests::checkpoint::Weights;
use ossicle_tests::divergence::{Divergence, top1};
use ossicle_tests::engine::{all_logits, config, fastest, with_model, with_session};
use ossicle_tests::fixtures::{Fixture, Greedy, Sequence};
use ossicle_tests::reference::Reference;

/// The engine's logits at the positions for which a sequence has expected ones.
fn logits(path: &Path, sequence: &Sequence, precision: Precision) -> Vec<f32> {
    let threads = Threads::new(Threads::available());
    with_model(path, |model| {
        let config = config(sequence.tokens.len(), sequence.tokens.len().min(100), precision);
        // The kernels that define the result, but for the long sequences, which would take them minutes.
        let kernels = if sequence.tokens.len() < 1000 { Kernels::portable() } else { fastest() };
        let all = with_session(model, kernels, &config, |session| all_logits(session, &sequence.tokens, &threads));
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

#[test]
fn logits_of_q8_0_matrices_are_those_of_the_reference() {
    let fixture = Fixture::load("tiny-a");
    let file = fixture.gguf_q8_0.as_ref().expect("tiny-a comes as Q8_0 too");
    assert_eq!(fixture.sequences_q8_0.len(), 2);
    for sequence in &fixture.sequences_q8_0 {
        let between = |precision| {
            let engine = logits(file, sequence, precision);
            let distance = Divergence::between(&sequence.logits, &engine, fixture.vocabulary);
            println!("{} q8_0 {} {precision:?}: {distance}", fixture.name, sequence.name);
            distance
        };
        let precise = between(Precision::Precise);
        assert!(precise.max_logit_difference < 1e-3 && precise.kl_mean < 1e-8, "{}: {precise}", sequence.name);
        let (standard, bar) = (between(Precision::Standard), sequence.llama_cpp);
        assert!(standard.kl_mean < bar.mean && standard.kl_median < bar.median, "{standard}, {bar:?}");
    }
}

/// The tokens that the engine takes for the best, one at a time.
fn continuation(path: &Path, prompt: &[u32], len: usize, precision: Precision) -> Vec<u32> {
    with_model(path, |model| {
        let config = config(prompt.len() + len, prompt.len(), precision);
        with_session(model, Kernels::portable(), &config, |session| {
            session.run_all(prompt, &Alone).expect("room for the prompt");
            let mut tokens = Vec::new();
            while tokens.len() < len {
                let logits: Vec<f64> = session.logits().iter().copied().map(f64::from).collect();
                tokens.push(top1(&logits) as u32);
                session.run_all(&tokens[tokens.len() - 1..], &Alone).expect("room for a token");
            }
            tokens
        })
    })
}

/// Holds the engine's continuation against the recorded one, up to the first token at which the best two logits are closer
/// than the engine's errors there: then either may win. `expected` are the reference's logits after every token.
fn assert_continues(path: &Path, greedy: &Greedy, expected: &[Vec<f64>], precision: Precision) -> usize {
    let tokens = [&greedy.prompt[..], &greedy.continuation].concat();
    let logits = with_model(path, |model| {
        let config = config(tokens.len(), tokens.len(), precision);
        with_session(model, Kernels::portable(), &config, |session| all_logits(session, &tokens, &Alone))
    });
    let rows = expected.iter().zip(logits.chunks(expected[0].len())).skip(greedy.prompt.len() - 1);
    let is_sure = |((expected, engine), gap): &((&Vec<f64>, &[f32]), &f64)| {
        **gap > 2.0 * Divergence::between(expected, engine, expected.len()).max_logit_difference
    };
    let sure = rows.zip(&greedy.gaps).take_while(is_sure).count();
    let found = continuation(path, &greedy.prompt, greedy.continuation.len(), precision);
    assert_eq!(found[..sure], greedy.continuation[..sure], "{}: {precision:?}", path.display());
    println!("{}: {precision:?}: {sure} tokens", path.display());
    sure
}

#[test]
fn greedy_continuations_are_those_of_the_reference_up_to_near_ties() {
    for fixture in Fixture::all() {
        let weights = || Weights::load(&fixture.original);
        let reference = Reference::new(weights());
        let rounded = Reference::new(weights().rounded_to_q8_0());
        let whole = fixture.greedy.iter().map(|greedy| (greedy, &fixture.gguf, &reference));
        let rounded = fixture.greedy_q8_0.iter().zip(&fixture.gguf_q8_0).map(|(greedy, path)| (greedy, path, &rounded));
        let (mut precise, mut standard) = (0, 0);
        for (greedy, path, reference) in whole.chain(rounded) {
            let expected = reference.logits(&[&greedy.prompt[..], &greedy.continuation].concat());
            precise += assert_continues(path, greedy, &expected, Precision::Precise);
            standard += assert_continues(path, greedy, &expected, Precision::Standard);
        }
        let all: usize = fixture.greedy.iter().chain(&fixture.greedy_q8_0).map(|greedy| greedy.gaps.len()).sum();
        assert_eq!(precise, all, "no gap is as small as the error of a precise session");
        assert!(standard >= all / 4, "{standard} of {all} tokens are compared");
    }
}
