//! The residual stream agrees with independent implementations after every layer: where it first does not is where a
//! mistake is.

use ossicle_core::kernels::Kernels;
use ossicle_core::parallel::Alone;
use ossicle_core::transformer::{Logits, Precision, Progress};
use ossicle_tests::engine::{config, with_model, with_session};
use ossicle_tests::fixtures::Fixture;
use ossicle_tests::reference::Reference;
use ossicle_tests::safetensors::Safetensors;

/// The embeddings, then the residual stream after each layer: [1 + layers][tokens * hidden].
fn residuals(fixture: &Fixture, tokens: &[u32]) -> Vec<Vec<f32>> {
    with_model(&fixture.gguf, |model| {
        let config = config(tokens.len(), tokens.len(), Precision::Precise);
        with_session(model, Kernels::portable(), &config, |session| {
            assert!(session.residual().is_empty(), "no batch is under way");
            session.start(tokens, Logits::None).expect("room for the tokens");
            let mut residuals = vec![session.residual().to_vec()];
            while session.step(&Alone).expect("finite numbers") == Progress::More {
                residuals.push(session.residual().to_vec());
            }
            assert!(session.residual().is_empty(), "the batch is done");
            residuals
        })
    })
}

/// Panics unless no value differs by more than 1e-4 of the largest.
fn assert_close(what: &str, found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0f64, |largest, value| largest.max(value.abs()));
    let difference = found.iter().zip(expected).map(|(found, expected)| (f64::from(*found) - expected).abs());
    let worst = difference.fold(0.0, f64::max) / largest;
    println!("{what}: {worst:.1e}");
    assert!(worst < 1e-4, "{what}: {worst}");
}

#[test]
fn the_residual_stream_is_that_of_the_traces_after_every_layer() {
    for fixture in Fixture::all() {
        for sequence in ["s7", "s64"] {
            let trace = Safetensors::open(&fixture.trace(sequence));
            let residuals = residuals(&fixture, &fixture.sequence(sequence).tokens);
            for (layers, found) in residuals.iter().enumerate() {
                let name = if layers == 0 { "embed".into() } else { format!("L{}.resid_out", layers - 1) };
                if layers > 0 || sequence == "s7" {
                    assert_close(&format!("{} {sequence} {name}", fixture.name), found, &trace.f64s(&name));
                }
            }
        }
    }
}

#[test]
fn the_residual_stream_is_that_of_the_reference_after_every_layer() {
    for fixture in Fixture::all() {
        let tokens = &fixture.sequence("s300").tokens;
        let trace = Reference::load(&fixture.original).forward(tokens);
        let residuals = residuals(&fixture, tokens);
        assert_eq!(residuals.len(), 1 + trace.layers.len());
        assert_close("embedding", &residuals[0], &trace.embedding.concat());
        for (number, (found, layer)) in residuals[1..].iter().zip(&trace.layers).enumerate() {
            let expected: Vec<f64> = layer.iter().flat_map(|token| token.residual_output.clone()).collect();
            assert_close(&format!("{} layer {number}", fixture.name), found, &expected);
        }
    }
}
