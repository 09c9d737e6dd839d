//! The core allocates nothing: not while it opens files, not while it builds a model or a session, not while it computes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ossicle_core::file::gguf::Gguf;
use ossicle_core::file::safetensors::Safetensors;
use ossicle_core::kernels::Kernels;
use ossicle_core::model::{Files, Model};
use ossicle_core::parallel::Alone;
use ossicle_core::transformer::{Logits, Precision, Progress, Session};
use ossicle_host::Memory;
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
        Kernels::available().flat_map(|set| [(set, Precision::Standard), (set, Precision::Precise)])
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
