//! The model that the command line brings along, through the whole engine: what PyTorch and transformers compute from it is what
//! the engine computes, and its conversations are the same text, with every kernel set.
//!
//! `train/` makes the model and these expectations.

use std::fs;
use std::path::PathBuf;

use bumpalo::Bump;
use ossicle_core::generation::{Generation, Turn, TurnConfig};
use ossicle_core::harmony::history::History;
use ossicle_core::harmony::render::Renderer;
use ossicle_core::parallel::Alone;
use ossicle_core::sampling::SamplerConfig;
use ossicle_core::transformer::{Precision, SessionConfig};
use ossicle_host::harmony::conversation;
use ossicle_host::kernels;
use ossicle_tests::divergence::Divergence;
use ossicle_tests::fixtures::data;
use ossicle_tests::{engine, npy, turns};
use serde_json::Value;

/// Largest difference of a logit from transformers' in f32, in precise sessions.
const LOGIT_TOLERANCE: f64 = 2e-4;
/// Largest mean KL to it, in standard sessions, in nats.
const KL_TOLERANCE: f64 = 1e-5;

fn model() -> PathBuf {
    data().join("../../cli/data/toy.gguf")
}

#[test]
fn logits_agree_with_transformers() {
    let tokens = fs::read(data().join("toy/tokens.json")).expect("the fixture");
    let tokens: Vec<u32> = serde_json::from_slice(&tokens).expect("a list of token ids");
    let positions = npy::read_i32(&data().join("toy/positions.npy")).values;
    let expected = npy::read_f32(&data().join("toy/logits.npy"));
    let vocabulary = expected.shape[1];
    for kernels in kernels::available() {
        for precision in [Precision::Precise, Precision::Standard] {
            let found = engine::with_model(&model(), |model| {
                let config = engine::config(tokens.len(), 64, precision);
                engine::with_session(model, kernels, &config, |session| engine::all_logits(session, &tokens, &Alone))
            });
            let at_positions: Vec<f32> = positions
                .iter()
                .flat_map(|&position| &found[position as usize * vocabulary..][..vocabulary])
                .copied()
                .collect();
            let divergence = Divergence::between(&expected.values, &at_positions, vocabulary);
            println!("{} {precision:?}: {divergence}", kernels.name());
            assert_eq!(divergence.top1_agreement, 1.0, "{} {precision:?}: {divergence}", kernels.name());
            match precision {
                Precision::Precise => assert!(divergence.max_logit_difference < LOGIT_TOLERANCE, "{divergence}"),
                Precision::Standard => assert!(divergence.kl_mean < KL_TOLERANCE, "{divergence}"),
            }
        }
    }
}

#[test]
fn conversations_are_those_of_pytorch() {
    let conversations = fs::read_to_string(data().join("toy/conversations.jsonl")).expect("the fixture");
    let session = SessionConfig { context_tokens: 1024, ..turns::SESSION };
    for kernels in kernels::available() {
        turns::with_generation_of(&model(), (kernels, &session), History::default(), |generation| {
            for line in conversations.lines() {
                let expected: Value = serde_json::from_str(line).expect("JSON");
                let answer = answer_to(generation, &expected);
                assert_eq!(answer, expected["text"].as_str().expect("text"), "{}", kernels.name());
            }
        });
    }
}

/// What the model writes, control tokens by their names.
fn answer_to(generation: &mut Generation<'_, '_>, request: &Value) -> String {
    let arena = Bump::new();
    let messages = conversation(&arena, request).expect("a conversation");
    let renderer = Renderer::new(generation.tokenizer(), *generation.special());
    let mut scratch = vec![0; renderer.scratch_size(messages).expect("a size")];
    generation.replace(messages, &mut scratch).expect("room");
    let config = TurnConfig {
        sampler: SamplerConfig { temperature: 0.0, ..SamplerConfig::default() },
        max_tokens: 300,
        constrain_headers: false,
        ..TurnConfig::default()
    };
    let mut turn = Turn::new(generation, config).expect("a turn");
    let said = generation.tokens().len();
    turn.run(generation, &Alone, &mut |_| {}).expect("finite numbers");
    let bytes: Vec<u8> = generation.tokens()[said..]
        .iter()
        .flat_map(|&token| generation.tokenizer().token_bytes(token).expect("a token").to_vec())
        .collect();
    String::from_utf8(bytes).expect("text")
}
