//! What the header promises, held against programs in C and C++.
//!
//! The programs are in `tests/c`; gcc and g++ have to be there.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use ossicle_core::generation::{Event, Generation, GenerationConfig, MessageKind, StopReason, Turn, TurnConfig};
use ossicle_core::harmony::conversation::{Content, Message, Role, SystemContent};
use ossicle_core::kernels::Kernels;
use ossicle_core::model::Model;
use ossicle_core::parallel::Alone;
use ossicle_core::tokenizer::Tokenizer;
use ossicle_core::transformer::{Session, SessionConfig};
use ossicle_host::{Checkpoint, Memory, vocabulary};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn model() -> PathBuf {
    root().join("tests/data/tiny-a/gguf/tiny-a.gguf")
}

/// The folder of everything that is built: this program is in `TARGET/PROFILE/deps`.
fn target() -> PathBuf {
    let program = std::env::current_exe().expect("a path");
    program.ancestors().nth(3).expect("a target folder").to_owned()
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn cargo(arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO"));
    run(command.current_dir(root()).args(arguments).arg("--target-dir").arg(target()));
}

/// The library with `host`: the static one and the shared one.
fn library() -> &'static (PathBuf, PathBuf) {
    static BUILT: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    BUILT.get_or_init(|| {
        cargo(&["build", "-p", "ossicle-ffi"]);
        (target().join("debug/libossicle.a"), target().join("debug/libossicle.so"))
    })
}

/// The library without `host`.
fn freestanding_library() -> PathBuf {
    let arguments = ["rustc", "-p", "ossicle-ffi", "--no-default-features", "--profile", "freestanding"];
    cargo(&[&arguments[..], &["--crate-type", "staticlib"]].concat());
    target().join("freestanding/libossicle.a")
}

const WARNINGS: [&str; 5] = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"];

/// Compiles a program of `tests/c` or `examples/c` and returns its path.
fn compile(source: &str) -> PathBuf {
    let folder = target().join("c");
    std::fs::create_dir_all(&folder).expect("a folder");
    let program = folder.join(source.replace(['/', '.'], "_"));
    let (compiler, standard) = if source.ends_with(".cpp") { ("g++", "-std=c++17") } else { ("gcc", "-std=c99") };
    let mut command = Command::new(compiler);
    command.arg(standard).args(WARNINGS).arg("-I").arg(root().join("include"));
    command.arg(root().join(source)).arg(&library().0).args(["-lm", "-lpthread", "-ldl", "-o"]).arg(&program);
    run(&mut command);
    program
}

fn symbols(arguments: &[&str], file: &Path) -> BTreeSet<String> {
    let output = run(Command::new("nm").args(arguments).arg(file));
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().filter_map(|line| line.split_whitespace().last()).map(str::to_owned).collect()
}

/// The functions that the header declares, but those that the embedder is to define.
fn declared() -> BTreeSet<String> {
    let header = std::fs::read_to_string(root().join("include/ossicle.h")).expect("the header");
    let lines = header.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()));
    let functions = lines
        .filter(|line| !line.starts_with("typedef") && !line.starts_with("extern"))
        .filter_map(|line| line.split_once('('));
    functions.filter_map(|(before, _)| before.rsplit([' ', '*']).next()).map(str::to_owned).collect()
}

/// The turn of `tests/c/check.h`, by the Rust interface, in the words of `print_event`.
fn expected_turn() -> String {
    let checkpoint = Checkpoint::open(&model()).expect("the fixture");
    let bytes = checkpoint.bytes();
    let files = checkpoint.files(&bytes).expect("the fixture");
    let mut model_memory = Memory::new(Model::layout(&files).expect("a layout"));
    let model = Model::new(model_memory.region(), &files).expect("a model");
    let (tokens, types) = files.vocabulary().expect("a vocabulary");
    let source = vocabulary::gguf(tokens, types.expect("types"));
    let mut tokenizer_memory = Memory::new(Tokenizer::layout(&source).expect("a layout"));
    let tokenizer = Tokenizer::new(&source, tokenizer_memory.region()).expect("a tokenizer");
    let config =
        SessionConfig { context_tokens: 1500, batch_tokens: 32, rewind_tokens: 300, ..SessionConfig::default() };
    let mut session_memory = Memory::new(Session::layout(&model, &config).expect("a layout"));
    let session = Session::new(session_memory.region(), &model, Kernels::portable(), &config).expect("a session");
    let config = GenerationConfig::default();
    let mut memory = Memory::new(Generation::layout(&tokenizer, 1500, &config).expect("a layout"));
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
    let output = run(Command::new(compile("tests/c/turn.cpp")).arg(model()));
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "C++");
}

#[test]
fn misuse_is_refused_and_leaves_objects_as_they_were() {
    run(Command::new(compile("tests/c/misuse.c")).arg(model()));
}

#[test]
fn the_conveniences_of_an_operating_system_work() {
    run(Command::new(compile("tests/c/system.c")).arg(model()).arg(root().join("tests/data/tiny-a/hf")));
}

#[test]
fn ten_lines_of_c_answer() {
    let output = run(Command::new(compile("examples/c/hello.c")).arg(model()).arg("Hello?"));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let failed = Command::new(compile("examples/c/hello.c")).arg("/none/such.gguf").output().expect("a program");
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("/none/such.gguf"));
}

#[test]
fn the_shared_library_exports_what_the_header_declares_and_nothing_else() {
    let exported = symbols(&["-D", "--defined-only"], &library().1);
    assert_eq!(exported, declared());
}

#[test]
fn every_function_is_called_from_some_program_in_c() {
    let mut programs = String::new();
    for folder in ["tests/c", "examples/c"] {
        for entry in std::fs::read_dir(root().join(folder)).expect("a folder").flatten() {
            programs += &std::fs::read_to_string(entry.path()).expect("a program");
        }
    }
    let missing: Vec<_> = declared().into_iter().filter(|name| !programs.contains(&format!("{name}("))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Five memory functions, and one to call on a defect, are all that it asks for: no allocator, no unwinder, no sockets.
#[test]
fn the_freestanding_library_answers_without_a_c_library() {
    let library = freestanding_library();
    let program = target().join("c/freestanding");
    std::fs::create_dir_all(target().join("c")).expect("a folder");
    let mut command = Command::new("gcc");
    command.arg("-std=c11").args(WARNINGS).args(["-O1", "-ffreestanding", "-fno-builtin", "-fno-stack-protector"]);
    command.args(["-nostdlib", "-static", "-I"]).arg(root().join("include"));
    command.arg(format!("-DMODEL=\"{}\"", model().display()));
    command.arg(root().join("tests/c/freestanding.c")).arg(&library).arg("-o").arg(&program);
    run(&mut command);
    run(&mut Command::new(&program));

    // All of the library in one object: what it still wants.
    let object = target().join("c/freestanding.o");
    let wanted = declared().into_iter().map(|name| format!("--undefined={name}"));
    let mut command = Command::new("ld");
    command.args(["-r", "--gc-sections", "--entry=0"]).args(wanted).arg(&library).arg("-o").arg(&object);
    run(&mut command);
    let allowed = ["bcmp", "memcmp", "memcpy", "memmove", "memset", "ossicle_panic"];
    let host: BTreeSet<String> = declared().difference(&symbols(&["--defined-only"], &object)).cloned().collect();
    let undefined: Vec<String> = symbols(&["-u"], &object).difference(&host).cloned().collect();
    assert_eq!(undefined, allowed);
    assert!(host.iter().all(|name| !name.contains("turn") && !name.contains("session")), "{host:?}");
}
