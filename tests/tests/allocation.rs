//! The core allocates nothing: not while it opens files, not while it builds a model or a session, not while it computes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ossicle_core::file::gguf::Gguf;
use ossicle_core::file::safetensors::Safetensors;
use ossicle_core::generation::{Generation, GenerationConfig, Turn, TurnConfig};
use ossicle_core::harmony::conversation::{Content, Message, Role};
use ossicle_core::kernels::Kernels;
use ossicle_core::model::{Files, Model};
use ossicle_core::parallel::Alone;
use ossicle_core::sampling::SamplerConfig;
use ossicle_core::tokenizer::Tokenizer;
use ossicle_core::transformer::{Logits, Precision, Progress, Session};
use ossicle_host::{Memory, kernels, vocabulary};
use ossicle_tests::engine::config;
use ossicle_tests::fixtures::Fixture;

/// The system's allocator, with a count of the calls on each thread.
struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    CALLS.with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: everything is passed on to the system's allocator; the count is a constant-initialized cell without a destructor,
// so reaching it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: our own contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        count();
        // SAFETY: our own contract.
        unsafe { System.dealloc(start, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: our own contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: our own contract.
        unsafe { System.realloc(start, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` returns; panics if it called the allocator.
fn without_allocation<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let before = CALLS.get();
    let result = work();
    let calls = CALLS.get() - before;
    assert_eq!(calls, 0, "{what} called the allocator");
    result
}

#[test]
fn an_allocation_is_counted() {
    let before = CALLS.get();
    drop(Box::new(1));
    assert_eq!(CALLS.get() - before, 2);
}

#[test]
fn opening_building_and_running_a_model_allocate_nothing() {
    for fixture in Fixture::all() {
        let bytes = std::fs::read(&fixture.gguf).expect("the fixture");
        let tokens = &fixture.sequence("s64").tokens;
        without_allocation("Gguf::open", || Gguf::open(&bytes, 0, |_| Ok(())).is_ok());
        let parts = [&bytes[..]];
        let files = without_allocation("Files::gguf", || Files::gguf(&parts).expect("the fixture"));
        run(&files, tokens);
    }
    let fixture = Fixture::load("tiny-a");
    for folder in [fixture.hf, fixture.original] {
        let bytes = std::fs::read(folder.join("model.safetensors")).expect("the fixture");
        let json = std::fs::read(folder.join("config.json")).expect("the fixture");
        without_allocation("Safetensors::open", || Safetensors::open(&bytes, 0).is_ok());
        let parts = [&bytes[..]];
        let files =
            without_allocation("Files::safetensors", || Files::safetensors(&parts, &json).expect("the fixture"));
        run(&files, &[1, 2, 3, 4, 5, 6, 7]);
    }
}

fn run(files: &Files<'_>, tokens: &[u32]) {
    let layout = without_allocation("Model::layout", || Model::layout(files).expect("a layout"));
    let mut memory = Memory::new(layout).expect("memory");
    let model = without_allocation("Model::new", || Model::new(memory.region(), files).expect("a model"));
    without_allocation("Model::check_values", || model.check_values().expect("finite weights"));
    for (kernels, precision) in
        kernels::available().flat_map(|set| [(set, Precision::Standard), (set, Precision::Precise)])
    {
        let config = config(200, 16, precision);
        let layout = without_allocation("Session::layout", || Session::layout(&model, &config).expect("a layout"));
        let mut memory = Memory::new(layout).expect("memory");
        without_allocation("a session", || {
            let mut session = Session::new(memory.region(), &model, kernels, &config).expect("a session");
            session.run_all(tokens, &Alone).expect("room for the tokens");
            for token in 0..40 {
                session.start(&[token], Logits::Last).expect("room for a token");
                while session.step(&Alone).expect("finite numbers") == Progress::More {}
                assert!(session.logits()[0].is_finite());
            }
            session.rewind(session.position() - 10).expect("no farther than the configuration says");
            session.start(&[1, 2, 3], Logits::All).expect("room for tokens");
            session.step(&Alone).expect("finite numbers");
            session.cancel();
            session.start(&[1, 2, u32::MAX], Logits::All).expect_err("no such token");
            session.rewind(0).expect("the start is always there");
            session.run_all(&tokens[..1], &Alone).expect("room for the token");
        });
    }
}

#[test]
fn a_conversation_allocates_nothing() {
    let fixture = Fixture::load("tiny-a");
    let bytes = std::fs::read(&fixture.gguf).expect("the fixture");
    let parts = [&bytes[..]];
    let files = Files::gguf(&parts).expect("the fixture");
    let mut memory = Memory::new(Model::layout(&files).expect("a layout")).expect("memory");
    let model = Model::new(memory.region(), &files).expect("a model");
    let (tokens, types) = files.vocabulary().expect("a vocabulary");
    let source = vocabulary::gguf(tokens, types.expect("types"));
    let layout = without_allocation("Tokenizer::layout", || Tokenizer::layout(&source).expect("a layout"));
    let mut memory = Memory::new(layout).expect("memory");
    let tokenizer = without_allocation("Tokenizer::new", || Tokenizer::new(&source, memory.region()).expect("one"));
    let config = config(1000, 32, Precision::Standard);
    let mut session_memory = Memory::new(Session::layout(&model, &config).expect("a layout")).expect("memory");
    let session = Session::new(session_memory.region(), &model, Kernels::portable(), &config).expect("a session");
    let generation_config = GenerationConfig::default();
    let layout = Generation::layout(&tokenizer, 1000, &generation_config).expect("a layout");
    let mut memory = Memory::new(layout).expect("memory");
    let mut scratch = [0; 4096];
    without_allocation("a conversation", || {
        let mut generation =
            Generation::new(memory.region(), session, tokenizer, &generation_config).expect("a generation");
        for seed in 0..6 {
            let content = [Content::Text("Look it up, please.")];
            generation.append(&[Message::new(Role::User, &content)], &mut scratch).expect("room");
            let config = TurnConfig {
                sampler: SamplerConfig { seed, top_p: 0.9, top_k: 100, ..SamplerConfig::default() },
                max_tokens: 40,
                reasoning_tokens: Some(10),
                stop: &["zz"],
                recipients: &["functions.look"],
                log_probabilities: Some(3),
                ..TurnConfig::default()
            };
            let mut turn = Turn::new(&mut generation, config).expect("a turn");
            turn.run(&mut generation, &Alone, &mut |_| {}).expect("finite numbers");
        }
    });
}
