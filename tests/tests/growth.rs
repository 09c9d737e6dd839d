//! A process that opens a model, answers, saves and closes over and over stays as large as it was.
//!
//! `OSSICLE_GENERATIONS=10000 cargo test -p ossicle-tests --test growth -- --nocapture` does so as often, and prints how much of the
//! process is resident.
#![cfg(target_os = "linux")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use ossicle_core::generation::{Generation, Turn, TurnConfig};
use ossicle_core::harmony::conversation::Content;
use ossicle_core::harmony::history::History;
use ossicle_core::parallel::{Alone, Parallel};
use ossicle_core::sampling::SamplerConfig;
use ossicle_core::transformer::SessionConfig;
use ossicle_host::Threads;
use ossicle_host::prefix_cache::PrefixCache;
use ossicle_tests::engine::{Exactness, fastest};
use ossicle_tests::fixtures::data;
use ossicle_tests::turns::{self, SESSION, user};

/// The system's allocator, with a count of the bytes that are in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Relaxed);
        // SAFETY: our own contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: our own contract.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// KiB of the process in memory, files aside, whose pages the system takes and brings back as it likes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("a readable file");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a kernel that tells");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// A few tokens of an answer.
fn answer(generation: &mut Generation<'_, '_>, parallel: &dyn Parallel, seed: u64) {
    let sampler = SamplerConfig { seed, ..SamplerConfig::default() };
    let config = TurnConfig { sampler, max_tokens: 5, ..TurnConfig::default() };
    let mut turn = Turn::new(generation, config).expect("a turn");
    turn.run(generation, parallel, &mut |_| {}).expect("finite numbers");
}

/// A conversation, on from its snapshot in another session, with all that this takes made anew.
fn generate(prefixes: &mut PrefixCache, seed: u64) {
    let Exactness { precision, cache } = Exactness::ALL[seed as usize % Exactness::ALL.len()];
    let config = SessionConfig { precision, cache, ..SESSION };
    // Threads wait for each other, which takes long on a busy machine.
    let threads = seed.is_multiple_of(16).then(|| Threads::new(2));
    let parallel: &dyn Parallel = threads.as_ref().map_or(&Alone, |threads| threads);
    let path = data().join("tiny-a/gguf/tiny-a.gguf");
    turns::with_generation_of(&path, (fastest(), &config), History::Documented, |generation| {
        let question = format!("What is {seed}? ").repeat(8);
        generation.append(&[user(&[Content::Text(&question)])], &mut [0; 4096]).expect("room");
        let end = generation.tokens().len();
        prefixes.resume(generation);
        answer(generation, parallel, seed);
        prefixes.keep(generation, end);
        let mut bytes = Vec::new();
        generation.save(&mut |part| bytes.extend_from_slice(part));
        turns::with_generation_of(&path, (fastest(), &config), History::Documented, |other| {
            other.restore(&bytes).expect("its snapshot");
            other.append(&[user(&[Content::Text("And then?")])], &mut [0; 4096]).expect("room");
            answer(other, parallel, seed);
        });
    });
}

#[test]
fn generations_and_snapshots_leave_no_memory_behind() {
    let count: u64 = std::env::var("OSSICLE_GENERATIONS").map_or(300, |count| count.parse().expect("a number"));
    assert!(count >= 10, "a tenth has to be something");
    let tenth = |first: u64| {
        // Holds fewer than come.
        let mut prefixes = PrefixCache::in_memory(1 << 20);
        (first..first + count / 10).for_each(|seed| generate(&mut prefixes, seed));
    };
    let sizes: [(usize, usize); 10] = std::array::from_fn(|number| {
        tenth(number as u64 * count / 10);
        (IN_USE.load(Relaxed), resident())
    });
    println!("bytes in use and KiB resident, after each tenth of {count} generations: {sizes:?}");
    assert!(sizes.iter().all(|(in_use, _)| *in_use == sizes[0].0), "{sizes:?}");
    // The allocator keeps more or less of what was freed.
    assert!(sizes.iter().all(|(_, resident)| *resident < sizes[0].1 + (16 << 10)), "{sizes:?}");
}
