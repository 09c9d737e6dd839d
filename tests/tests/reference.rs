//! The reference implementation agrees with independent ones: whole sequences, every intermediate, greedy continuations and
//! single operations. What these tests hold, the engine's own tests build on.

use std::collections::BTreeMap;
use std::path::Path;

use ossicle_tests::checkpoint::{Rope, Weights, mxfp4, q8_0};
use ossicle_tests::divergence::{Divergence, top1};
use ossicle_tests::fixtures::{Fixture, Greedy, Sequence, data};
use ossicle_tests::npy;
use ossicle_tests::reference::{self, LayerTrace, Reference, Trace};
use ossicle_tests::safetensors::Safetensors;

/// Largest difference in any logit. The fixtures were computed in 32-bit floats, this reference in 64-bit ones.
const LOGIT_TOLERANCE: f64 = 2e-4;
/// Largest mean KL, in nats. Only s5003, with its far positions, comes near.
const KL_TOLERANCE: f64 = 1e-10;

fn divergence(reference: &Reference, sequence: &Sequence) -> Divergence {
    let logits = reference.logits(&sequence.tokens);
    let at_positions: Vec<f64> = sequence.positions.iter().flat_map(|&position| logits[position].clone()).collect();
    Divergence::between(&sequence.logits, &at_positions, logits[0].len())
}

fn agrees(what: &str, reference: &Reference, sequence: &Sequence) {
    let divergence = divergence(reference, sequence);
    println!("{what} {}: {divergence}", sequence.name);
    assert!(divergence.max_logit_difference < LOGIT_TOLERANCE, "{what} {}: {divergence}", sequence.name);
    assert!(divergence.kl_mean < KL_TOLERANCE, "{what} {}: {divergence}", sequence.name);
    assert_eq!(divergence.top1_agreement, 1.0, "{what} {}: {divergence}", sequence.name);
}

#[test]
fn logits_agree_with_transformers_after_every_token() {
    for fixture in Fixture::all() {
        let reference = Reference::load(&fixture.original);
        for name in ["s1", "s7", "s64", "s300"] {
            agrees(&fixture.name, &reference, fixture.sequence(name));
        }
    }
}

#[test]
fn logits_agree_beyond_the_original_context() {
    for fixture in Fixture::all() {
        agrees(&fixture.name, &Reference::load(&fixture.original), fixture.sequence("s5003"));
    }
}

/// What is left at far positions is the last bit of two rotary frequencies: without it they agree as the near ones do.
#[test]
fn logits_beyond_the_original_context_differ_only_by_the_last_bit_of_frequencies() {
    let frequencies = operation("rope_yarn.safetensors").f32s("inv_freq");
    let fixture = Fixture::load("tiny-a");
    let reference = Reference::with_frequencies(Weights::load(&fixture.original), frequencies);
    let divergence = divergence(&reference, fixture.sequence("s5003"));
    println!("tiny-a s5003, frequencies of the fixture: {divergence}");
    assert!(divergence.max_logit_difference < 5e-5, "{divergence}");
    assert!(divergence.kl_mean < 1e-11, "{divergence}");
}

#[test]
fn logits_of_q8_0_matrices_agree() {
    let fixture = Fixture::load("tiny-a");
    let rounded = Reference::new(Weights::load(&fixture.original).rounded_to_q8_0());
    assert_eq!(fixture.sequences_q8_0.len(), 2);
    for sequence in &fixture.sequences_q8_0 {
        agrees("tiny-a-q8_0", &rounded, sequence);
    }
    assert_eq!(fixture.greedy_q8_0.len(), 1);
    continues(&rounded, &fixture.greedy_q8_0[0]);
}

#[test]
fn greedy_continuations_agree() {
    for fixture in Fixture::all() {
        let reference = Reference::load(&fixture.original);
        assert_eq!(fixture.greedy.len(), 2);
        fixture.greedy.iter().for_each(|greedy| continues(&reference, greedy));
    }
}

/// Every token of the continuation has the largest logit after the tokens before it, by the stated gap. All gaps in the
/// fixtures are larger than this reference's error, so no step has to be left out.
fn continues(reference: &Reference, greedy: &Greedy) {
    let logits = reference.logits(&[&greedy.prompt[..], &greedy.continuation].concat());
    for (step, (&token, &gap)) in greedy.continuation.iter().zip(&greedy.gaps).enumerate() {
        let row = &logits[greedy.prompt.len() - 1 + step];
        assert_eq!(top1(row), token as usize, "step {step}, gap {gap}");
        let others = row.iter().enumerate().filter(|&(index, _)| index != token as usize);
        let second = others.map(|(_, &logit)| logit).fold(f64::NEG_INFINITY, f64::max);
        let actual = row[token as usize] - second;
        assert!((actual - gap).abs() < 5e-5, "step {step}: gap {actual}, recorded {gap}");
    }
}

#[test]
fn every_intermediate_agrees_layer_by_layer() {
    for fixture in Fixture::all() {
        let reference = Reference::load(&fixture.original);
        for sequence in ["s7", "s64"] {
            let tokens = &fixture.sequence(sequence).tokens;
            let mut actual = by_name(&reference.forward(tokens));
            actual.insert("tokens".into(), tokens.iter().map(|&token| f64::from(token)).collect());
            let expected = Safetensors::open(&fixture.trace(sequence));
            for name in expected.names() {
                close(name, &actual[name], &expected.f64s(name), 5e-6);
            }
        }
    }
}

/// The intermediates under their names in the trace files.
fn by_name(trace: &Trace) -> BTreeMap<String, Vec<f64>> {
    let mut named = BTreeMap::from([
        ("embed".into(), trace.embedding.concat()),
        ("final_norm".into(), trace.final_norm.concat()),
        ("logits".into(), trace.logits.concat()),
    ]);
    for (index, layer) in trace.layers.iter().enumerate() {
        let mut insert = |name: &str, of_position: &dyn Fn(&LayerTrace) -> Vec<f64>| {
            named.insert(format!("L{index}.{name}"), layer.iter().flat_map(of_position).collect());
        };
        insert("attn_norm", &|position| position.attention_norm.clone());
        insert("q", &|position| position.q.clone());
        insert("q_rope", &|position| position.q_rope.clone());
        insert("k", &|position| position.k.clone());
        insert("k_rope", &|position| position.k_rope.clone());
        insert("v", &|position| position.v.clone());
        insert("attn_ctx", &|position| position.attention_context.clone());
        insert("attn_out", &|position| position.attention_output.clone());
        insert("resid_attn", &|position| position.residual_attention.clone());
        insert("mlp_norm", &|position| position.mlp_norm.clone());
        insert("router_logits", &|position| position.router_logits.clone());
        insert("router_index", &|position| position.router_index.iter().map(|&index| index as f64).collect());
        insert("router_weight", &|position| position.router_weight.clone());
        insert("expert_mlp1", &|position| position.expert_mlp1.concat());
        insert("expert_act", &|position| position.expert_activation.concat());
        insert("expert_out", &|position| position.expert_output.concat());
        insert("moe_out", &|position| position.moe_output.clone());
        insert("resid_out", &|position| position.residual_output.clone());
    }
    named
}

/// Panics unless no value differs by more than `tolerance` times the largest of the expected magnitudes.
fn close(what: &str, actual: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len(), "{what}: how many");
    let largest = expected.iter().fold(0f64, |largest, value| largest.max(value.abs()));
    for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        let within = (actual - expected).abs() <= tolerance * largest;
        assert!(within, "{what}[{index}]: {actual}, expected {expected}, with values up to {largest}");
    }
}

fn operation(name: &str) -> Safetensors {
    Safetensors::open(&data().join("ops").join(name))
}

#[test]
fn mxfp4_dequantizes_exactly() {
    let file = operation("mxfp4_dequant.safetensors");
    let expected = file.f32s("expected");
    // What is infinite in 32 bits is finite in 64: the scale is compared after rounding.
    let actual: Vec<f32> =
        mxfp4(file.u8s("blocks"), file.u8s("scales")).into_iter().map(|value| value as f32).collect();
    assert_eq!(actual, expected);
    assert!(expected.iter().any(|value| value.is_subnormal()));
    assert!(mxfp4(&[0x11; 16], &[255]).iter().all(|value| value.is_nan()));
}

#[test]
fn q8_0_dequantizes_exactly() {
    let file = operation("q8_0_dequant.safetensors");
    let (blocks, rest) = file.u8s("blocks").as_chunks::<34>();
    assert!(rest.is_empty());
    let actual: Vec<f64> = blocks.iter().flat_map(q8_0).collect();
    assert_eq!(actual, file.f64s("expected"));
}

#[test]
fn matrix_products_agree() {
    let mxfp4_file = operation("mxfp4_matvec.safetensors");
    let bf16_file = operation("bf16_matvec.safetensors");
    let mxfp4_values = mxfp4(mxfp4_file.u8s("blocks"), mxfp4_file.u8s("scales"));
    for (file, values) in [(&mxfp4_file, mxfp4_values), (&bf16_file, bf16_file.f64s("w"))] {
        let matrix = ossicle_tests::checkpoint::Matrix { columns: 2880, values };
        let products = reference::product(&matrix, &file.f64s("x"));
        let absolute_sums = file.f64s("abs_sum");
        for ((actual, expected), absolute_sum) in products.iter().zip(file.f64s("expected")).zip(absolute_sums) {
            // The expected value was itself rounded to 32 bits.
            let tolerance = expected.abs() * 6e-8 + absolute_sum * 1e-15;
            assert!((actual - expected).abs() <= tolerance, "{actual}, expected {expected}");
        }
    }
}

#[test]
fn rms_norm_agrees() {
    let file = operation("rmsnorm.safetensors");
    let weight = file.f64s("weight");
    let normalized: Vec<f64> = file.f64s("x").chunks(2880).flat_map(|row| reference::rms_norm(row, &weight)).collect();
    let rounded: Vec<f32> = normalized.iter().map(|&value| value as f32).collect();
    assert_eq!(rounded, file.f32s("expected_f64_rounded"));
    close("norm", &normalized, &file.f64s("expected"), 1e-6);
}

/// The published rotary embedding; both fixtures and both published models have it.
const ROPE: Rope =
    Rope { head_dim: 64, theta: 150_000.0, factor: 32.0, beta_fast: 32.0, beta_slow: 1.0, original_context: 4096.0 };

#[test]
fn yarn_frequencies_agree_to_a_unit_in_the_last_place() {
    let expected = operation("rope_yarn.safetensors").f32s("inv_freq");
    let actual = reference::yarn_frequencies(&ROPE);
    assert_eq!(actual.len(), expected.len());
    for (actual, expected) in actual.iter().zip(expected) {
        assert!(actual.to_bits().abs_diff(expected.to_bits()) <= 1, "{actual}, expected {expected}");
    }
}

#[test]
fn rotation_agrees_at_positions_up_to_131071() {
    let file = operation("rope_yarn.safetensors");
    // The fixture's own: a last bit of a frequency is 1e-3 radians at the farthest position.
    let frequencies = file.f32s("inv_freq");
    let concentration = reference::concentration(&ROPE);
    let positions = file.i32s("positions");
    assert_eq!(positions.iter().max(), Some(&131_071));

    let positions = || positions.iter().map(|&position| position as usize);
    let (cosines, sines): (Vec<f64>, Vec<f64>) =
        positions().flat_map(|position| reference::cosine_sine(position, &frequencies, concentration)).unzip();
    close("cosine", &cosines, &file.f64s("cos"), 2e-7);
    close("sine", &sines, &file.f64s("sin"), 2e-7);

    let queries = file.f64s("q");
    let rotated: Vec<f64> = positions()
        .zip(queries.chunks(3 * 64))
        .flat_map(|(position, heads)| reference::rotate(heads, position, &frequencies, concentration))
        .collect();
    close("rotated query", &rotated, &file.f64s("q_rotated"), 2e-7);
}

#[test]
fn swiglu_agrees() {
    let file = operation("swiglu.safetensors");
    close("activation", &reference::swiglu(&file.f64s("x"), 7.0), &file.f64s("expected"), 1e-6);
}

#[test]
fn softmax_with_sink_agrees() {
    let file = operation("softmax_sink.safetensors");
    let [logits, sinks, expected] = ["logits", "sink", "expected"].map(|name| file.f64s(name));
    let mut weights = Vec::new();
    let mut expected_of_visible = Vec::new();
    for (row, mask) in file.u8s("mask").chunks(300).enumerate() {
        let visible = || (0..300).filter(|&index| mask[index] == 1).map(|index| 300 * row + index);
        let scores: Vec<f64> = visible().map(|index| logits[index]).collect();
        weights.extend(reference::softmax_with_sink(&scores, sinks[row]));
        expected_of_visible.extend(visible().map(|index| expected[index]));
    }
    close("weight", &weights, &expected_of_visible, 1e-6);
}

#[test]
fn attention_agrees_with_and_without_a_window() {
    let file = operation("attention_sink.safetensors");
    let [q, k, v, sinks] = ["q", "k", "v", "sink"].map(|name| file.f64s(name));
    let queries: Vec<&[f64]> = q.chunks(8 * 64).collect();
    let keys: Vec<&[f64]> = k.chunks(2 * 64).collect();
    let values: Vec<&[f64]> = v.chunks(2 * 64).collect();
    for (window, name) in [(usize::MAX, "expected_window_0"), (8, "expected_window_8")] {
        let context: Vec<f64> = (0..queries.len())
            .flat_map(|t| {
                let visible = (t + 1).saturating_sub(window)..t + 1;
                reference::attention(queries[t], &keys[visible.clone()], &values[visible], &sinks, 64)
            })
            .collect();
        close(name, &context, &file.f64s(name), 2e-6);
    }
}

#[test]
fn routing_agrees_and_ties_go_to_the_lowest_index() {
    for (name, experts) in [("router_top4_32.safetensors", 32), ("router_top4_128.safetensors", 128)] {
        let file = operation(name);
        let routes: Vec<_> = file.f64s("logits").chunks(experts).map(|logits| reference::route(logits, 4)).collect();
        let index: Vec<i32> = routes.iter().flat_map(|(index, _)| index).map(|&index| index as i32).collect();
        assert_eq!(index, file.i32s("index"));
        let weights: Vec<f64> = routes.into_iter().flat_map(|(_, weights)| weights).collect();
        close("router weight", &weights, &file.f64s("weight"), 1e-6);
    }
    assert_eq!(reference::route(&[1.0, 2.0, 1.0, 2.0, 0.5, 1.0], 4).0, [1, 3, 0, 2]);
}

#[test]
fn divergence_gives_the_recorded_figures_of_a_bf16_run() {
    for fixture in Fixture::all() {
        let bf16 = npy::read_f32(&fixture.folder.join("ref/s64.logits_hf_bf16.npy"));
        let divergence = Divergence::between(&fixture.sequence("s64").logits, &bf16.values, fixture.vocabulary);
        let manifest = ossicle_tests::fixtures::json(&fixture.folder.join("ref/manifest.json"));
        let recorded = &manifest["sequences"]["s64"]["against_hf_f32"]["hf_bf16"];
        for (key, actual) in [
            ("kl_mean", divergence.kl_mean),
            ("kl_median", divergence.kl_median),
            ("kl_p95", divergence.kl_p95),
            ("kl_max", divergence.kl_max),
            ("max_abs_logit_diff", divergence.max_logit_difference),
            ("top1_agreement", divergence.top1_agreement),
        ] {
            // Recorded with four digits.
            let recorded = recorded[key].as_f64().expect("a number");
            assert!((actual - recorded).abs() <= 1e-3 * recorded, "{key}: {actual}, recorded {recorded}");
        }
    }
}

#[test]
fn divergence_of_a_run_with_a_missing_number_is_infinite() {
    let divergence = Divergence::between(&[0.0, 1.0], &[0.0, f64::NAN], 2);
    assert_eq!(divergence.kl_mean, f64::INFINITY);
    assert_eq!(divergence.max_logit_difference, f64::INFINITY);
}

#[test]
fn every_form_of_a_fixture_is_where_it_says() {
    for fixture in Fixture::all() {
        let exists = |path: &Path| assert!(path.exists(), "{}", path.display());
        exists(&fixture.hf.join("config.json"));
        exists(&fixture.original.join("config.json"));
        exists(&fixture.gguf);
        let names: Vec<&str> = fixture.sequences.iter().map(|sequence| sequence.name.as_str()).collect();
        assert_eq!(names, ["s1", "s7", "s64", "s300", "s5003"]);
    }
}
