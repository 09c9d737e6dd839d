//! Programs in C and C++: built with every compiler there is, and run.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, OnceLock, PoisonError};

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub fn model() -> PathBuf {
    root().join("tests/data/tiny-a/gguf/tiny-a.gguf")
}

/// The same model, made for so few tokens that a program which answers until the context is full ends soon: the model is random,
/// and seldom comes to an end by itself.
pub fn short_model() -> &'static str {
    static MADE: OnceLock<String> = OnceLock::new();
    MADE.get_or_init(|| {
        let mut bytes = std::fs::read(model()).expect("the fixture");
        let key = b"gpt-oss.context_length";
        let value = bytes.windows(key.len()).position(|found| found == key).expect("the key") + key.len() + 4;
        bytes[value..value + 4].copy_from_slice(&400_u32.to_le_bytes());
        let path = folder("models").join("short.gguf");
        std::fs::write(&path, bytes).expect("a file");
        path.to_str().expect("a path in UTF-8").to_owned()
    })
}

/// The text of a file of this repository.
pub fn text_of(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The folder of everything that is built: this program is in `TARGET/PROFILE/deps`.
pub fn target() -> PathBuf {
    let program = std::env::current_exe().expect("a path");
    program.ancestors().nth(3).expect("a target folder").to_owned()
}

/// A folder for what one test makes.
pub fn folder(name: &str) -> PathBuf {
    let folder = target().join("c").join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

pub fn run(command: &mut Command) -> Output {
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

/// Whether a tool is on this machine. If not, that is said even in a run that passes.
pub fn has(tool: &str) -> bool {
    let there = Command::new(tool).arg("--version").output().is_ok();
    if !there {
        // Not by `eprintln`, which tests that pass are not heard through.
        let _ = writeln!(std::io::stderr(), "skipped: {tool} is not installed");
    }
    there
}

fn cargo(arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO"));
    run(command.current_dir(root()).args(arguments).arg("--target-dir").arg(target()));
}

/// The library with `host`: the static one and the shared one.
pub fn library() -> &'static (PathBuf, PathBuf) {
    static BUILT: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    BUILT.get_or_init(|| {
        cargo(&["build", "-p", "ossicle-ffi"]);
        (target().join("debug/libossicle.a"), target().join("debug/libossicle.so"))
    })
}

/// The library without `host`.
pub fn freestanding_library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let arguments = ["rustc", "-p", "ossicle-ffi", "--no-default-features", "--profile", "freestanding"];
        cargo(&[&arguments[..], &["--crate-type", "staticlib"]].concat());
        target().join("freestanding/libossicle.a")
    })
}

pub const WARNINGS: [&str; 5] = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"];

/// The compilers for a program: those that are there.
pub fn compilers(source: &str) -> impl Iterator<Item = &'static str> {
    let both = if source.ends_with(".cpp") { ["g++", "clang++"] } else { ["gcc", "clang"] };
    both.into_iter().filter(|compiler| has(compiler))
}

/// Compiles a program against a library, once, and returns its path; `others` are further sources.
pub fn compile_by(compiler: &str, source: &str, library: &Path, others: &[&str]) -> PathBuf {
    static BUILT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let program = folder(compiler).join(source.replace(['/', '.'], "_"));
    if !built.contains(&program) {
        let standard = if source.ends_with(".cpp") { "-std=c++17" } else { "-std=c99" };
        let mut command = Command::new(compiler);
        command.arg(standard).args(WARNINGS).arg("-gdwarf-4").arg("-I").arg(root().join("include"));
        command.arg(root().join(source)).args(others.iter().map(|other| root().join(other))).arg(library);
        run(command.args(["-lm", "-lpthread", "-ldl", "-o"]).arg(&program));
        built.insert(program.clone());
    }
    program
}

/// Compiles a program of this repository with the default compiler.
pub fn compile(source: &str) -> PathBuf {
    compile_by(if source.ends_with(".cpp") { "g++" } else { "gcc" }, source, &library().0, &[])
}

/// A command under valgrind, where an access outside of memory or to memory that was never written ends it with 99; or the
/// command itself.
pub fn checked(program: &Path) -> Command {
    if !has("valgrind") {
        return Command::new(program);
    }
    // On one core, where pools have no threads of their own: they would look for work, and valgrind runs one thread at a time.
    let mut command = Command::new("taskset");
    command.args(["-c", "0", "valgrind", "--quiet", "--error-exitcode=99", "--leak-check=full"]).arg(program);
    command
}

pub fn symbols(arguments: &[&str], file: &Path) -> BTreeSet<String> {
    let output = run(Command::new("nm").args(arguments).arg(file));
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().filter_map(|line| line.split_whitespace().last()).map(str::to_owned).collect()
}

/// The functions that the header declares, but those that the embedder is to define.
pub fn declared() -> BTreeSet<String> {
    let header = text_of("include/ossicle.h");
    let lines = header.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()));
    let functions = lines
        .filter(|line| !line.starts_with("typedef") && !line.starts_with("extern"))
        .filter_map(|line| line.split_once('('));
    functions.filter_map(|(before, _)| before.rsplit([' ', '*']).next()).map(str::to_owned).collect()
}
