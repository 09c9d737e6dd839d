//! Encoding and decoding beside other implementations of o200k, in one run.
//!
//! The texts are those of the test vectors; with `OSSICLE_BENCH_TEXTS=<folder>` they are `english.txt`, `code.txt` and
//! `multilingual.txt` there. They are encoded in chunks of 16 KB. Every encoder must give the ids of the others.
//!
//! What is measured is cold: a text that the encoder has not seen, with its tables ready. Some implementations, Ossicle among
//! them, remember words, each for one encoder or one thread. So each pass over a text has both anew. Within a pass, what an
//! implementation learns from the chunks before is its own merit. There are three readings of it:
//!
//! * `encode`: the pass begins with a sentence that is not counted, for what is set up once for each thread: fastokens copies a
//!   table of all tokens (32 MB). Goals are stated in this reading.
//! * `encode, fresh`: the text is the first thing that the thread sees, and all counts.
//! * `encode, new instance`: as `encode`, but the pass has its own tokenizer, built from the rank file before the sentence, so that
//!   nothing can be left of an earlier pass, neither in the tokenizer nor in the processor's caches. Ossicle and fastokens.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use ossicle_core::tokenizer::{Encoder, Harmony, RankFile, Specials, Tokenizer};
use ossicle_host::vocabulary::o200k_harmony;

/// Makes an encoder for one pass, in memory lent for it.
type Encode = Box<dyn for<'m> Fn(&'m mut [MaybeUninit<u8>]) -> Box<dyn FnMut(&str) -> Vec<u32> + 'm> + Sync>;

/// Pieces that Ossicle's encoder may remember.
const PIECES: usize = 8192;

/// What an encoder begins with.
const SENTENCE: &str = "This is one sentence.";

/// The texts by name, in chunks.
fn texts() -> Vec<(&'static str, Vec<String>)> {
    let mut texts = BTreeMap::new();
    if let Some(folder) = std::env::var_os("OSSICLE_BENCH_TEXTS") {
        for name in ["english", "code", "multilingual"] {
            let path = Path::new(&folder).join(name).with_extension("txt");
            texts.insert(name, std::fs::read_to_string(path).expect("a text to encode"));
        }
    } else {
        let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/tokenizer/encode_files.jsonl");
        for line in std::fs::read_to_string(vectors).expect("the test vectors").lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let name = match line["tag"].as_str().expect("a tag") {
                "debian doc" | "perl pod" | "man page en" | "markdown" | "debian common licence" => "english",
                "rust crate source" | "python stdlib" | "c header" | "perl module" | "javascript/typescript" => "code",
                tag if tag.starts_with("man page") => "multilingual",
                _ => continue,
            };
            texts.entry(name).or_insert_with(String::new).push_str(line["text"].as_str().expect("a text"));
        }
    }
    let long = 100_000;
    let mut state = 1u32;
    let mut letter = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + (state >> 24) as u8 % 26)
    };
    let mut texts: Vec<_> = texts.into_iter().map(|(name, text)| (name, chunks(&text))).collect();
    texts.push(("aaaa", vec!["a".repeat(long)]));
    texts.push(("random", vec![(0..long).map(|_| letter()).collect()]));
    texts
}

fn chunks(mut text: &str) -> Vec<String> {
    let mut chunks = Vec::new();
    while !text.is_empty() {
        let (chunk, rest) = text.split_at(text.floor_char_boundary(16 << 10));
        chunks.push(chunk.to_owned());
        text = rest;
    }
    chunks
}

/// The rank file, written from the bundled vocabulary.
fn rank_file() -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let tokenizer = o200k_harmony();
    let mut file = String::new();
    for id in 0..199_998 {
        for chunk in tokenizer.token_bytes(id).expect("a token").chunks(3) {
            let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for digit in 0..4 {
                let letter = alphabet[(bits >> (18 - 6 * digit)) as usize % 64];
                file.push(if digit > chunk.len() { '=' } else { letter as char });
            }
        }
        writeln!(file, " {id}").expect("memory");
    }
    file
}

fn ossicle(text: &str) -> Vec<u32> {
    let mut ids = vec![0; text.len()];
    let len = o200k_harmony().encode_into(text, Specials::None, &mut ids).expect("room for all");
    ids.truncate(len);
    ids
}

fn remembering<'m>(tokenizer: Tokenizer<'m>, memory: &'m mut [MaybeUninit<u8>]) -> impl FnMut(&str) -> Vec<u32> + 'm {
    let mut encoder = Encoder::new(tokenizer, PIECES, aligned(memory)).expect("room for it");
    move |text| {
        let mut ids = vec![0; text.len()];
        let len = encoder.encode_into(text, Specials::None, &mut ids).expect("room for all");
        ids.truncate(len);
        ids
    }
}

fn aligned(memory: &mut [MaybeUninit<u8>]) -> &mut [MaybeUninit<u8>] {
    let start = memory.as_ptr().align_offset(64);
    &mut memory[start..]
}

/// The memory that an encoder needs, wherever it starts.
fn encoder_size() -> usize {
    let layout = Encoder::layout(PIECES).expect("a size");
    layout.size + layout.align
}

fn encode(criterion: &mut Criterion) {
    let ranks: &'static str = rank_file().leak();
    let source = Harmony(RankFile(ranks.as_bytes()));
    let layout = Tokenizer::layout(&source).expect("the rank file");
    let size = encoder_size() + layout.size + layout.align;
    let new_fast = || {
        let config = fastokens::TiktokenConfig::o200k_base();
        let fast = fastokens::Tokenizer::from_tiktoken_str(ranks, config).expect("the rank file");
        move |text: &str| fast.encode_ordinary(text).expect("ids")
    };
    let fast = &*Box::leak(Box::new(new_fast()));
    let peers: [(&str, Encode); 5] = [
        ("ossicle", Box::new(|memory| Box::new(remembering(o200k_harmony(), memory)))),
        ("ossicle, nothing remembered", Box::new(|_| Box::new(ossicle))),
        ("fastokens", Box::new(move |_| Box::new(fast))),
        ("bpe-openai", Box::new(|_| Box::new(|text| bpe_openai::o200k_base().encode(text)))),
        ("tiktoken-rs", Box::new(|_| Box::new(|text| tiktoken_rs::o200k_base_singleton().encode_ordinary(text)))),
    ];
    let new: [(&str, Encode); 2] = [
        (
            "ossicle",
            Box::new(move |memory| {
                let (memory, index) = memory.split_at_mut(encoder_size());
                let tokenizer = Tokenizer::new(&source, aligned(index)).expect("room for it");
                Box::new(remembering(tokenizer, memory))
            }),
        ),
        ("fastokens", Box::new(move |_| Box::new(new_fast()))),
    ];
    let memory = || vec![MaybeUninit::uninit(); size];
    for (name, chunks) in texts() {
        for (peer, encode) in &peers {
            let mut memory = memory();
            let mut encoder = encode(&mut memory);
            for chunk in &chunks {
                assert!(encoder(chunk) == ossicle(chunk), "{peer} gives other ids");
            }
        }
        for (kind, peers, before) in [
            ("encode", &peers[..], Some(SENTENCE)),
            ("encode, fresh", &peers, None),
            ("encode, new instance", &new, Some(SENTENCE)),
        ] {
            let mut group = criterion.benchmark_group(format!("{kind}/{name}"));
            group.throughput(Throughput::Bytes(chunks.iter().map(|chunk| chunk.len() as u64).sum()));
            group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
            if kind == "encode, new instance" {
                // A pass takes seconds, of which milliseconds are measured: one pass a sample.
                group.sampling_mode(SamplingMode::Flat);
                group.warm_up_time(Duration::from_nanos(1)).measurement_time(Duration::from_nanos(1));
            }
            for (peer, encode) in peers {
                group.bench_function(BenchmarkId::from_parameter(peer), |bencher| {
                    let pass = |_| first_pass(encode, memory(), before, &chunks);
                    bencher.iter_custom(|passes| (0..passes).map(pass).sum());
                });
            }
            group.finish();
        }
    }
}

/// The time of one pass over all chunks in a new thread, which may encode something else before.
fn first_pass(encode: &Encode, mut memory: Vec<MaybeUninit<u8>>, before: Option<&str>, chunks: &[String]) -> Duration {
    let pass = || {
        let mut encoder = encode(&mut memory);
        if let Some(before) = before {
            black_box(encoder(before));
        }
        let start = Instant::now();
        for chunk in chunks {
            black_box(encoder(chunk));
        }
        start.elapsed()
    };
    std::thread::scope(|scope| scope.spawn(pass).join().expect("a pass"))
}

fn decode(criterion: &mut Criterion) {
    let tokenizer = o200k_harmony();
    for (name, chunks) in texts() {
        let chunks: Vec<Vec<u32>> = chunks.iter().map(|chunk| ossicle(chunk)).collect();
        let mut size = 0;
        chunks.iter().for_each(|ids| tokenizer.decode(ids, |bytes| size += bytes.len()));
        let mut group = criterion.benchmark_group(format!("decode/{name}"));
        group.throughput(Throughput::Bytes(size as u64));
        group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        group.bench_function("ossicle", |bencher| {
            let mut text = vec![0; size];
            bencher.iter(|| {
                let mut at = 0;
                for ids in &chunks {
                    at += tokenizer.decode_into(ids, &mut text[at..]).expect("room for all");
                }
            });
        });
        group.bench_function("bpe-openai", |bencher| {
            let peer = &bpe_openai::o200k_base().bpe;
            bencher.iter(|| chunks.iter().for_each(|ids| drop(black_box(peer.decode_tokens(ids)))));
        });
        group.bench_function("tiktoken-rs", |bencher| {
            let peer = tiktoken_rs::o200k_base_singleton();
            bencher.iter(|| chunks.iter().for_each(|ids| drop(black_box(peer.decode_bytes(ids)))));
        });
        group.finish();
    }
}

fn ready(criterion: &mut Criterion) {
    criterion.bench_function("ready/ossicle", |bencher| bencher.iter(o200k_harmony));
}

criterion_group!(benches, ready, encode, decode);
criterion_main!(benches);
