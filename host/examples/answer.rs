//! Lets a model answer conversations, one in each line of standard input as `{"messages": [...]}`, the likeliest token each time
//! and without any mask. Gives for each a line with the prompt's tokens, the model's, why it stopped, and the messages and
//! diagnostics that the parser makes of them.

use std::io::{BufRead, Write};
use std::path::Path;

use bumpalo::Bump;
use ossicle_core::generation::{Event, Generation, GenerationConfig, Turn, TurnConfig};
use ossicle_core::harmony::SpecialTokens;
use ossicle_core::harmony::render::Renderer;
use ossicle_core::kernels::Kernels;
use ossicle_core::model::Model;
use ossicle_core::sampling::SamplerConfig;
use ossicle_core::tokenizer::Tokenizer;
use ossicle_core::transformer::{Session, SessionConfig};
use ossicle_host::harmony::{conversation, parse_request};
use ossicle_host::{Checkpoint, Memory, Threads, vocabulary};
use serde_json::{Value, json};

const CONTEXT_TOKENS: usize = 1024;
const ANSWER_TOKENS_MAX: usize = 300;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: answer MODEL.gguf < CONVERSATIONS")?;
    let checkpoint = Checkpoint::open(Path::new(&path))?;
    let bytes = checkpoint.bytes();
    let files = checkpoint.files(&bytes)?;
    let mut memory = Memory::new(Model::layout(&files)?)?;
    let model = Model::new(memory.region(), &files)?;
    let (tokens, types) = files.vocabulary().ok_or("a GGUF file with a vocabulary")?;
    let source = vocabulary::gguf(tokens, types.ok_or("the types of its tokens")?);
    let mut memory = Memory::new(Tokenizer::layout(&source)?)?;
    let tokenizer = Tokenizer::new(&source, memory.region())?;
    let special = SpecialTokens::of(&tokenizer)?;

    let config = SessionConfig { context_tokens: CONTEXT_TOKENS, ..SessionConfig::within(model.config()) };
    let kernels = Kernels::available().next().unwrap_or(Kernels::portable());
    let mut memory = Memory::new(Session::layout(&model, &config)?)?;
    let session = Session::new(memory.region(), &model, kernels, &config)?;
    let generation_config = GenerationConfig::default();
    let mut memory = Memory::new(Generation::layout(&tokenizer, CONTEXT_TOKENS, &generation_config)?)?;
    let mut generation = Generation::new(memory.region(), session, tokenizer, &generation_config)?;
    let threads = Threads::new(1);

    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let arena = Bump::new();
        let messages = conversation(&arena, &request)?;
        let mut scratch = vec![0; Renderer::new(&tokenizer, special).scratch_size(messages)?];
        generation.replace(messages, &mut scratch)?;
        let turn_config = TurnConfig {
            sampler: SamplerConfig { temperature: 0.0, ..SamplerConfig::default() },
            max_tokens: ANSWER_TOKENS_MAX,
            constrain_headers: false,
            ..TurnConfig::default()
        };
        let mut turn = Turn::new(&mut generation, turn_config)?;
        let prompt = generation.tokens().to_vec();
        let mut stop = None;
        turn.run(&mut generation, &threads, &mut |event| {
            if let Event::Stop { reason, .. } = event {
                stop = Some(format!("{reason:?}"));
            }
        })?;
        let ids = generation.tokens()[prompt.len()..].to_vec();
        let parsed = parse_request(&json!({ "ids": ids, "role": "assistant" }), &tokenizer, special)?;
        writeln!(output, "{}", json!({ "prompt": prompt, "ids": ids, "stop": stop, "parsed": parsed }))?;
    }
    Ok(output.flush()?)
}
