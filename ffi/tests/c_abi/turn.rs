//! A turn told in C is the turn of the Rust interface, whoever lends the threads and the time.

use std::fmt::Write;
use std::process::Command;

use ossicle_core::generation::{Event, Generation, GenerationConfig, MessageKind, StopReason, Turn, TurnConfig};
use ossicle_core::harmony::conversation::{Content, Message, Role, SystemContent};
use ossicle_core::kernels::Kernels;
use ossicle_core::model::Model;
use ossicle_core::parallel::Alone;
use ossicle_core::tokenizer::Tokenizer;
use ossicle_core::transformer::{Session, SessionConfig};
use ossicle_host::kernels::available;
use ossicle_host::{Checkpoint, Memory, vocabulary};

use crate::programs::*;

fn memory(layout: ossicle_core::error::Result<ossicle_core::region::Layout>) -> Memory {
    Memory::new(layout.expect("a layout")).expect("memory")
}

/// The turn of `tests/c/check.h`, by the Rust interface, in the words of `print_event`.
fn expected_turn() -> String {
    let checkpoint = Checkpoint::open(&model()).expect("the fixture");
    let bytes = checkpoint.bytes();
    let files = checkpoint.files(&bytes).expect("the fixture");
    let mut model_memory = memory(Model::layout(&files));
    let model = Model::new(model_memory.region(), &files).expect("a model");
    let (tokens, types) = files.vocabulary().expect("a vocabulary");
    let source = vocabulary::gguf(tokens, types.expect("types"));
    let mut tokenizer_memory = memory(Tokenizer::layout(&source));
    let tokenizer = Tokenizer::new(&source, tokenizer_memory.region()).expect("a tokenizer");
    let config =
        SessionConfig { context_tokens: 1500, batch_tokens: 32, rewind_tokens: 300, ..SessionConfig::default() };
    let mut session_memory = memory(Session::layout(&model, &config));
    let session = Session::new(session_memory.region(), &model, Kernels::portable(), &config).expect("a session");
    let config = GenerationConfig::default();
    let mut memory = memory(Generation::layout(&tokenizer, 1500, &config));
    let mut generation = Generation::new(memory.region(), session, tokenizer, &config).expect("a generation");
    let (system, user) = ([Content::System(SystemContent::default())], [Content::Text("What is an ossicle?")]);
    let messages = [Message::new(Role::System, &system), Message::new(Role::User, &user)];
    generation.append(&messages, &mut [0; 4096]).expect("messages");

    let config =
        TurnConfig { max_tokens: 60, reasoning_tokens: Some(20), log_probabilities: Some(2), ..TurnConfig::default() };
    let kind = |kind| match kind {
        MessageKind::Reasoning => 1,
        MessageKind::Preamble => 2,
        MessageKind::Answer => 3,
        MessageKind::ToolCall => 4,
    };
    let (mut text, mut in_text) = (String::new(), false);
    let mut turn = Turn::new(&mut generation, config).expect("a turn");
    let mut print = |event: Event<'_>| {
        if matches!(event, Event::Token { .. }) {
            return;
        }
        let is_delta = matches!(event, Event::Delta { .. });
        if in_text && !is_delta {
            text.push('\n');
        }
        in_text = is_delta;
        match event {
            Event::MessageBegin { kind: message, header } => {
                let (channel, recipient) = (header.channel.unwrap_or(""), header.recipient.unwrap_or(""));
                writeln!(text, "begin {} role 3 channel {channel} to {recipient}", kind(message))
            }
            Event::Delta { text: delta, .. } => write!(text, "{delta}"),
            Event::MessageEnd { kind: message, tokens } => {
                writeln!(text, "end {} tokens {}..{}", kind(message), tokens.start, tokens.end)
            }
            Event::Stop { reason, usage } => {
                assert_eq!(reason, StopReason::MaxTokens);
                writeln!(
                    text,
                    "stop 4 input {} cached {} output {} reasoning {}",
                    usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.reasoning_tokens
                )
            }
            event => panic!("{event:?}"),
        }
        .expect("a string takes all");
    };
    turn.run(&mut generation, &Alone, &mut print).expect("a turn");
    text
}

#[test]
fn a_turn_in_c_has_the_events_of_the_rust_interface_however_it_is_run() {
    let expected = expected_turn();
    assert!(expected.lines().count() > 3, "{expected}");
    let program = compile("tests/c/turn.c");
    for way in ["next", "units", "clock", "run", "threads", "pak"] {
        let output = run(Command::new(&program).arg(model()).arg(way));
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{way}");
    }
    let output = run(Command::new(&program).arg(model()).arg("drafts"));
    let output = String::from_utf8_lossy(&output.stdout);
    let steps: Vec<u32> = output.split(' ').filter_map(|word| word.parse().ok()).collect();
    // The portable kernels would only lose by it.
    let has_others = available().any(|kernels| kernels.name() != Kernels::portable().name());
    assert_eq!(steps[1] < steps[0], has_others, "{output}");
    let output = run(Command::new(compile("tests/c/turn.cpp")).arg(model()));
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "C++");
}
