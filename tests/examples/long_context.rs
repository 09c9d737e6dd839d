//! A session at the end of a long context, without the hours that it would take to get there: its cache is filled from a snapshot
//! whose keys and values are made up. Says how much memory that takes, and how long a token.
//!
//! `cargo run --release -p ossicle-tests --example long_context -- MODEL.gguf TOKENS FORMAT FOLDER`: the format of the cache is f32,
//! f16, bf16 or int8; the folder gets the snapshot for as long as it takes.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use memmap2::Mmap;
use ossicle_core::file::snapshot::Writer;
use ossicle_core::model::Model;
use ossicle_core::transformer::{CacheFormat, Logits, Session, SessionConfig};
use ossicle_host::{Checkpoint, Memory, Threads};
use ossicle_tests::engine::fastest;
use ossicle_tests::numbers::{Kind, Numbers};

/// Tokens generated at the end.
const TOKENS: usize = 8;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, context_tokens, format, folder] = &arguments[..] else {
        panic!("expected a model, a number of tokens, a format and a folder");
    };
    let format = match &format[..] {
        "f32" => CacheFormat::F32,
        "f16" => CacheFormat::F16,
        "bf16" => CacheFormat::Bf16,
        "int8" => CacheFormat::Int8,
        other => panic!("{other}: expected f32, f16, bf16 or int8"),
    };
    let checkpoint = Checkpoint::open(Path::new(model)).unwrap_or_else(|error| panic!("{error}"));
    let bytes = checkpoint.bytes();
    let files = checkpoint.files(&bytes).unwrap_or_else(|error| panic!("{error}"));
    let mut memory = Memory::new(Model::layout(&files).expect("a layout")).expect("memory");
    let model = Model::new(memory.region(), &files).unwrap_or_else(|error| panic!("{error}"));

    let context_tokens = context_tokens.parse().expect("a number of tokens");
    let config = SessionConfig { context_tokens, cache: Some(format), ..SessionConfig::default() };
    let layout = Session::layout(&model, &config).unwrap_or_else(|error| panic!("{error}"));
    let mut memory = Memory::new(layout).expect("memory");
    let mut session = Session::new(memory.region(), &model, fastest(), &config).expect("a session");
    println!("{format:?}, {context_tokens} tokens: a session of {} MiB", layout.size >> 20);

    let path = Path::new(folder).join(format!("long-context-{}.snapshot", std::process::id()));
    let position = context_tokens - TOKENS;
    write(&path, &model, session.fingerprint(), format, position);
    let file = File::open(&path).expect("the snapshot");
    // SAFETY: nobody else knows the file.
    let snapshot = unsafe { Mmap::map(&file) }.expect("the snapshot");
    let started = Instant::now();
    session.restore(&snapshot).unwrap_or_else(|error| panic!("{error}"));
    println!("{position} tokens restored in {:.1} s", started.elapsed().as_secs_f64());
    drop(snapshot);
    std::fs::remove_file(&path).expect("the snapshot");

    let threads = Threads::new(Threads::available());
    let mut token = 0;
    for _ in 0..TOKENS {
        let started = Instant::now();
        session.start(&[token], Logits::Last).expect("room");
        session.run(&threads).unwrap_or_else(|error| panic!("{error}"));
        let best = session.logits().iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
        token = best.expect("logits").0 as u32;
        println!("position {}: token {token} in {:.2} s", session.position(), started.elapsed().as_secs_f64());
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for line in status.lines().filter(|line| ["VmHWM", "RssAnon", "RssFile"].iter().any(|name| line.starts_with(name)))
    {
        println!("{line}");
    }
}

/// A snapshot of a session of this model at this position, in standard precision.
fn write(path: &Path, model: &Model<'_, '_>, fingerprint: u64, format: CacheFormat, position: usize) {
    /// Rows that repeat; a prime number, so that heads and layers differ.
    const ROWS: usize = 4093;
    let config = model.config();
    let mut numbers = Numbers::seeded(1);
    let mut row = || -> Vec<u8> {
        let normal = numbers.floats(Kind::Normal, config.head_dim);
        match format {
            CacheFormat::F32 => normal.iter().flat_map(|x| x.to_le_bytes()).collect(),
            CacheFormat::F16 => normal.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect(),
            CacheFormat::Bf16 => normal.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect(),
            CacheFormat::Int8 => {
                let bytes = normal.iter().map(|x| (32.0 * x) as i8 as u8);
                bytes.chain((1.0f32 / 32.0).to_le_bytes()).collect()
            }
        }
    };
    let rows: Vec<u8> = (0..ROWS).flat_map(|_| row()).collect();
    let words = rows.as_chunks::<4>().0;

    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).expect("a new file"));
    let mut write = |bytes: &[u8]| file.write_all(bytes).expect("room on the disk");
    let mut writer = Writer::new(*b"session\0", &mut write);
    let first = (position + 1).saturating_sub(config.window);
    let number = match format {
        CacheFormat::F32 => 1,
        CacheFormat::F16 => 2,
        CacheFormat::Bf16 => 3,
        CacheFormat::Int8 => 4,
    };
    writer.words([fingerprint, 0, number, position as u64, first as u64]);
    let mut all = words.iter().copied().cycle();
    for layer in 0..config.layers {
        let positions = if config.is_windowed(layer) { position - first } else { position };
        let size = 2 * config.kv_heads * positions * format.row_size(config.head_dim);
        writer.bytes(all.by_ref().take(size / 4));
    }
    writer.align();
    writer.finish();
    file.flush().expect("room on the disk");
}
