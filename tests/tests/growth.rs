//! A process that opens a model, answers, saves and closes over and over stays as large as it was.
//!
//! `OSSICLE_GENERATIONS=10000 cargo test -p ossicle-tests --test growth -- --nocapture` does so as often, and prints how much of the
//! process is resident.
#![cfg(target_os = "linux")]

use ossicle_core::generation::{Generation, Turn, TurnConfig};
use ossicle_core::harmony::conversation::Content;
use ossicle_core::harmony::history::History;
use ossicle_core::sampling::SamplerConfig;
use ossicle_core::transformer::SessionConfig;
use ossicle_host::Threads;
use ossicle_host::prefix_cache::PrefixCache;
use ossicle_tests::engine::{Exactness, fastest};
use ossicle_tests::turns::{self, SESSION, begin, user};

/// How much may come and go: what the allocator keeps, and stacks of threads.
const SLACK: usize = 2 << 20;

/// Bytes of the process in memory.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("a readable file");
    let pages: usize = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

/// A few tokens of an answer.
fn answer(generation: &mut Generation<'_, '_>, threads: &Threads, seed: u64) {
    let sampler = SamplerConfig { seed, ..SamplerConfig::default() };
    let config = TurnConfig { sampler, max_tokens: 10, ..TurnConfig::default() };
    let mut turn = Turn::new(generation, config).expect("a turn");
    turn.run(generation, threads, &mut |_| {}).expect("finite numbers");
}

/// A conversation, on from its snapshot in another session, with all that this takes made anew.
fn generate(prefixes: &mut PrefixCache, seed: u64) {
    let Exactness { precision, cache } = Exactness::ALL[seed as usize % Exactness::ALL.len()];
    let config = SessionConfig { precision, cache, ..SESSION };
    let threads = Threads::new(2);
    turns::with_generation((fastest(), &config), History::Documented, |generation| {
        begin(generation);
        let question = format!("What is {seed}?");
        generation.append(&[user(&[Content::Text(&question)])], &mut [0; 4096]).expect("room");
        let end = generation.tokens().len();
        prefixes.resume(generation);
        answer(generation, &threads, seed);
        prefixes.keep(generation, end);
        let mut bytes = Vec::new();
        generation.save(&mut |part| bytes.extend_from_slice(part));
        turns::with_generation((fastest(), &config), History::Documented, |other| {
            other.restore(&bytes).expect("its snapshot");
            other.append(&[user(&[Content::Text("And then?")])], &mut [0; 4096]).expect("room");
            answer(other, &threads, seed);
        });
    });
}

#[test]
fn generations_and_snapshots_leave_no_memory_behind() {
    let count = std::env::var("OSSICLE_GENERATIONS").map_or(300, |count| count.parse().expect("a number"));
    // Holds fewer than come.
    let mut prefixes = PrefixCache::in_memory(1 << 20);
    let mut sizes = Vec::new();
    for number in 0..count {
        generate(&mut prefixes, number);
        if (number + 1) % (count / 10) == 0 {
            sizes.push(resident());
            println!("{:6} generations: {} KiB resident", number + 1, resident() >> 10);
        }
    }
    let (first, most) = (sizes[0], *sizes.iter().max().expect("some"));
    assert!(most <= first + SLACK, "{sizes:?}");
}
