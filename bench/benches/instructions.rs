//! Counts the instructions of pieces of work and compares with the counts of `bench/instructions-ARCHITECTURE.txt`: a machine that
//! is busy with other things slows time down, but not these. `-- --write` writes the file anew.
//!
//! Needs valgrind, whose processors have AVX2 but not AVX-512; for AArch64 QEMU 7.2 and gcc. The counts hold for one compiler,
//! which the file names: with another, differences are shown, and nothing fails.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use ossicle_bench::conversation::{many_tools, parse, render, renderer, text};
use ossicle_bench::kernels::{Size, cases};
use ossicle_bench::model::{Geometry, open, session};
use ossicle_core::parallel::Alone;
use ossicle_core::sampling::{Sampler, SamplerConfig};
use ossicle_core::tokenizer::Specials;
use ossicle_core::transformer::Logits;
use ossicle_host::kernels::available;
use ossicle_host::vocabulary::o200k_harmony;
use ossicle_tests::numbers::{Kind, Numbers};

/// How far a count may be from the one in the file.
const TOLERANCE: f64 = 0.03;

/// What counts.
const COUNTER: &str = if cfg!(target_arch = "aarch64") { "qemu-aarch64" } else { "valgrind" };

/// Valgrind counts in here only. It knows the function by its name.
#[inline(never)]
#[unsafe(no_mangle)]
fn ossicle_counted(work: &mut dyn FnMut()) {
    work();
}

/// QEMU counts until here.
#[inline(never)]
#[unsafe(no_mangle)]
fn ossicle_count_ends() {
    black_box(());
}

/// Does a piece of work twice, of which the second is counted: what happens only once is not of interest.
fn count<T>(name: &str, mut work: impl FnMut() -> T) {
    let mut work = || drop(black_box(work()));
    work();
    ossicle_counted(&mut work);
    ossicle_count_ends();
    println!("{name}");
}

/// All pieces of work.
fn count_all() {
    for case in cases(Size::Small) {
        for kernels in available() {
            let mut output = case.output();
            count(&format!("{}, {}", kernels.name(), case.name), || case.run(kernels, &mut output));
        }
    }

    let tokenizer = o200k_harmony();
    let text = text();
    let mut ids = vec![0; text.len()];
    let mut len = 0;
    count("encode 16 KB", || len = tokenizer.encode_into(&text, Specials::None, &mut ids).expect("room for all"));
    let mut bytes = vec![0; text.len()];
    count("decode 16 KB", || tokenizer.decode_into(&ids[..len], &mut bytes).expect("room for all"));

    let (messages, _) = many_tools();
    let renderer = renderer(&tokenizer);
    let mut scratch = vec![0; renderer.scratch_size(messages).expect("a size")];
    let mut ids = Vec::new();
    count("render", || render(&renderer, messages, &mut scratch, &mut ids));
    count("parse", || parse(&tokenizer, &ids));

    let logits = Numbers::seeded(0).floats(Kind::Normal, 16_384);
    for (name, temperature, top_p) in [("greedy", 0.0, 1.0), ("all", 1.0, 1.0), ("top-p 0.95", 1.0, 0.95)] {
        let config = SamplerConfig { temperature, top_p, ..SamplerConfig::default() };
        let mut sampler = Sampler::new(config).expect("settings in range");
        count(&format!("sample {name}"), || sampler.sample(&logits, |_| true).expect("a token"));
    }

    let model = open(&Geometry::TINY);
    for kernels in available().filter(|kernels| kernels.name() != "portable") {
        let mut session = session(model, kernels);
        count(&format!("{}, a token of a tiny model", kernels.name()), || {
            session.rewind(0).expect("a position it has reached");
            session.start(&[7], Logits::Last).expect("room for it");
            session.run(&Alone).expect("finite numbers");
        });
    }
}

/// The standard output of a command that has to succeed.
fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Runs this program under valgrind, which writes files into the folder; the counts by name, in the order of the work.
#[cfg(not(target_arch = "aarch64"))]
fn counts(program: &Path, folder: &Path) -> Result<Vec<(String, u64)>, String> {
    let mut command = Command::new(COUNTER);
    command.args(["--tool=callgrind", "--toggle-collect=ossicle_counted", "--dump-after=ossicle_counted"]);
    command.arg(format!("--callgrind-out-file={}", folder.join("counts").display()));
    let names = output(command.arg(program).arg("--count"))?;
    let count = |number: usize| {
        let dump = std::fs::read_to_string(folder.join(format!("counts.{number}"))).ok()?;
        dump.lines().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
    };
    let counts = (1..).zip(names.lines()).map(|(number, name)| {
        let count = count(number).ok_or_else(|| format!("no count for {name}"))?;
        Ok((name.to_owned(), count))
    });
    counts.collect()
}

/// Runs this program under QEMU, with a plugin that is built in the folder and prints a count in front of each name. Valgrind
/// does not have all instructions.
#[cfg(target_arch = "aarch64")]
fn counts(program: &Path, folder: &Path) -> Result<Vec<(String, u64)>, String> {
    let plugin = folder.join("counter.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("qemu_counter.c");
    output(Command::new("gcc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&plugin).arg(source))?;
    let mut command = Command::new(COUNTER);
    command.args(["-cpu", "max", "-plugin"]).arg(plugin).arg(program).arg("--count");
    let counts = output(&mut command)?;
    counts.lines().map(|line| parse_line(line).ok_or_else(|| format!("no count: {line}"))).collect()
}

/// A name with its count, as the file has it.
fn parse_line(line: &str) -> Option<(String, u64)> {
    let (count, name) = line.trim().split_once(' ')?;
    Some((name.to_owned(), count.parse().ok()?))
}

/// The first line of the file: counts under another compiler, or for another processor, are not comparable.
fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output();
    let version =
        output.map_or_else(|_| "unknown".into(), |output| String::from_utf8_lossy(&output.stdout).into_owned());
    format!("# {}, {}", version.trim(), std::env::consts::ARCH)
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("instructions-{}.txt", std::env::consts::ARCH))
}

fn write(counts: &[(String, u64)]) -> Result<ExitCode, String> {
    let mut text = compiler() + "\n# Instructions; bench/README.md says how they are counted.\n";
    for (name, count) in counts {
        writeln!(text, "{count:>12} {name}").map_err(|error| error.to_string())?;
    }
    std::fs::write(file(), text).map_err(|error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn compare(counts: &[(String, u64)]) -> Result<ExitCode, String> {
    let text = std::fs::read_to_string(file()).map_err(|error| format!("{}: {error}", file().display()))?;
    let (head, lines) = text.split_once('\n').unwrap_or_default();
    let known: BTreeMap<String, u64> = lines.lines().filter_map(parse_line).collect();
    let mut costs_more = false;
    for (name, count) in counts {
        match known.get(name) {
            None => println!("{name}: {count}, not in the file"),
            Some(known) => {
                let change = *count as f64 / *known as f64 - 1.0;
                if change.abs() > TOLERANCE {
                    println!("{name}: {known} -> {count} ({:+.1} %)", 100.0 * change);
                }
                costs_more |= change > TOLERANCE;
            }
        }
    }
    for name in known.keys().filter(|name| counts.iter().all(|(counted, _)| counted != *name)) {
        println!("{name}: not counted here");
    }
    println!("{} counts compared", counts.len());
    let same_compiler = head == compiler();
    if !same_compiler {
        println!("the counts of the file come from another compiler: {head}");
    }
    Ok(if costs_more && same_compiler { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn main() -> ExitCode {
    let has = |flag| std::env::args().any(|argument| argument == flag);
    if has("--count") {
        count_all();
        return ExitCode::SUCCESS;
    }
    if Command::new(COUNTER).arg("--version").output().is_err() {
        println!("instructions: skipped, {COUNTER} is not there");
        return ExitCode::SUCCESS;
    }
    if !has("--write") && !file().exists() {
        eprintln!("instructions: nothing to compare with, there is no {}; `-- --write` makes it", file().display());
        return ExitCode::FAILURE;
    }
    let folder = std::env::temp_dir().join(format!("ossicle-instructions-{}", std::process::id()));
    let counts = std::fs::create_dir_all(&folder)
        .and_then(|()| std::env::current_exe())
        .map_err(|error| error.to_string())
        .and_then(|program| counts(&program, &folder));
    // Of no use to anybody, and no harm if it stays.
    let _ = std::fs::remove_dir_all(&folder);
    let result = counts.and_then(|counts| if has("--write") { write(&counts) } else { compare(&counts) });
    result.unwrap_or_else(|error| {
        eprintln!("instructions: {error}");
        ExitCode::FAILURE
    })
}
