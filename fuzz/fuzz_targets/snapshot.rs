//! A snapshot is refused and changes nothing, or the conversation goes on from it; whatever its numbers are, since the checksum
//! is made right here.
#![no_main]

use std::cell::RefCell;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use ossicle_core::file::snapshot::Checksum;
use ossicle_core::generation::{Generation, GenerationConfig, Turn, TurnConfig};
use ossicle_core::kernels::Kernels;
use ossicle_core::model::Model;
use ossicle_core::parallel::Alone;
use ossicle_core::tokenizer::Tokenizer;
use ossicle_core::transformer::{Session, SessionConfig};
use ossicle_host::{Checkpoint, Memory, vocabulary};

fn memory(layout: ossicle_core::error::Result<ossicle_core::region::Layout>) -> &'static mut Memory {
    Box::leak(Box::new(Memory::new(layout.expect("a layout")).expect("memory")))
}

/// A conversation on tiny-a that lives as long as the program.
fn generation() -> Generation<'static, 'static> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/tiny-a/gguf/tiny-a.gguf");
    let checkpoint = Box::leak(Box::new(Checkpoint::open(&path).expect("the fixture")));
    let bytes = Box::leak(Box::new(checkpoint.bytes()));
    let files = Box::leak(Box::new(checkpoint.files(bytes).expect("the fixture")));
    let model = Model::new(memory(Model::layout(files)).region(), files).expect("a model");
    let model = Box::leak(Box::new(model));
    let (tokens, types) = files.vocabulary().expect("a vocabulary");
    let source = vocabulary::gguf(tokens, types.expect("types"));
    let tokenizer = Tokenizer::new(&source, memory(Tokenizer::layout(&source)).region()).expect("a tokenizer");
    let config =
        SessionConfig { context_tokens: 40, batch_tokens: 8, logits_rows: 2, rewind_tokens: 2, ..SessionConfig::default() };
    let session = memory(Session::layout(model, &config)).region();
    let session = Session::new(session, model, Kernels::portable(), &config).expect("a session");
    let config = GenerationConfig { messages: 8, ..GenerationConfig::default() };
    let region = memory(Generation::layout(&tokenizer, 40, &config)).region();
    Generation::new(region, session, tokenizer, &config).expect("a generation")
}

fn saved(generation: &Generation<'_, '_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    generation.save(&mut |part| bytes.extend_from_slice(part));
    bytes
}

thread_local! {
    static GENERATION: RefCell<Generation<'static, 'static>> = RefCell::new(generation());
}

fuzz_target!(|bytes: &[u8]| {
    let words = bytes.as_chunks().0;
    let mut sum = Checksum::EMPTY;
    words.iter().for_each(|word| sum.add(u64::from_le_bytes(*word)));
    let snapshot = [words.as_flattened(), &sum.value().to_le_bytes()].concat();
    GENERATION.with_borrow_mut(|generation| {
        let before = saved(generation);
        if generation.restore(&snapshot).is_err() {
            assert!(saved(generation) == before);
            return;
        }
        assert!(saved(generation).len() <= snapshot.len());
        // Keys and values may be anything; then the numbers are not finite.
        if let Ok(mut turn) = Turn::new(generation, TurnConfig { max_tokens: 3, ..TurnConfig::default() }) {
            let _ = turn.run(generation, &Alone, &mut |_| {});
        }
    });
});
