//! The examples do what their first comment says, in every compiler, and touch no memory that is not theirs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::programs::*;

/// Builds an example with every compiler, and runs it under valgrind.
fn run_example(source: &str, library: &Path, arguments: &[&str], input: &str) -> Output {
    let mut program = PathBuf::new();
    for compiler in compilers(source) {
        program = compile_by(compiler, source, library, &[]);
    }
    let mut command = checked(&program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("a program");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("a pipe");
    let output = child.wait_with_output().expect("a program");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{source}: {}\n{said}", output.status);
    output
}

/// A question that the random model answers within the first tokens; most others leave it thinking.
const QUESTION: &str = "Who are you?";

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn ten_lines_of_c_answer() {
    let output = run_example("examples/c/hello.c", &library().0, &[short_model(), QUESTION], "");
    assert!(output.stderr.is_empty() && !output.stdout.is_empty(), "{}", said(&output));
    let failed = Command::new(compile("examples/c/hello.c")).arg("/none/such.gguf").output().expect("a program");
    assert_eq!(failed.status.code(), Some(1));
    assert!(said(&failed).contains("/none/such.gguf"));
}

#[test]
fn the_program_in_the_documentation_is_the_one_that_is_tested() {
    let example = text_of("examples/c/hello.c");
    let (_, program) = example.split_once("*/\n").expect("a comment first");
    assert!(text_of("docs/c.md").contains(program), "docs/c.md differs from examples/c/hello.c");
    let (_, body) = program.split_once("{\n").expect("a function");
    let lines = body.lines().filter_map(|line| line.strip_prefix("    ")).map(|line| format!("{line}\n"));
    assert!(text_of("README.md").contains(&lines.collect::<String>()), "README.md differs from examples/c/hello.c");
}

#[test]
fn a_frame_gives_the_model_a_slice_of_its_time() {
    let output = run_example("examples/c/frame_budget.c", &library().0, &[short_model(), QUESTION], "");
    let said = said(&output);
    let frames = said.lines().last().and_then(|line| line.split_once(" frames, the worst slice "));
    assert!(frames.is_some_and(|(frames, _)| frames.parse::<u32>().is_ok_and(|frames| frames > 0)), "{said}");
}

#[test]
fn a_static_arena_is_enough_without_a_heap() {
    let source = "examples/c/static_arena.c";
    let output = run_example(source, freestanding_library(), &[short_model(), QUESTION], "");
    assert!(output.stderr.is_empty() && !output.stdout.is_empty(), "{}", said(&output));
    let wanted = symbols(&["-D", "-u"], &compile_by("gcc", source, freestanding_library(), &[]));
    let heap = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "mmap", "brk", "sbrk"];
    assert!(heap.iter().all(|name| !wanted.iter().any(|symbol| symbol.split('@').next() == Some(name))), "{wanted:?}");
    let failed = Command::new(compile_by("gcc", source, freestanding_library(), &[])).arg("/none").output();
    assert!(said(&failed.expect("a program")).contains("the operating system refused a file"));
}

#[test]
fn a_saved_game_remembers_and_a_damaged_one_is_refused() {
    let file = std::env::temp_dir().join(format!("ossicle-save-game-{}", std::process::id()));
    let path = file.to_str().expect("a path in UTF-8");
    // Random models talk until their context is full.
    let toy = root().join("cli/data/toy.gguf");
    let arguments = [toy.to_str().expect("a path in UTF-8"), path, QUESTION];
    let first = said(&run_example("examples/c/save_game.c", &library().0, &arguments, ""));
    assert!(first.contains("0 tokens remembered"), "{first}");
    let second = said(&run(Command::new(compile("examples/c/save_game.c")).args(arguments)));
    let remembered = second.split_once(" tokens").and_then(|(count, _)| count.parse::<u32>().ok());
    assert!(remembered.is_some_and(|count| count > 0), "{second}");
    let mut bytes = std::fs::read(&file).expect("a saved game");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).expect("room");
    let third = Command::new(compile("examples/c/save_game.c")).args(arguments).output().expect("a program");
    std::fs::remove_file(&file).expect("a file");
    assert!(third.status.code() == Some(1) && said(&third).contains("checksum"), "{}", said(&third));
}

#[test]
fn a_job_system_of_the_program_does_the_work() {
    let output = run_example("examples/c/own_threads.c", &library().0, &[short_model(), QUESTION], "");
    let said = said(&output);
    let jobs = said.lines().last().and_then(|line| line.strip_suffix(" jobs on 4 threads"));
    assert!(jobs.is_some_and(|jobs| jobs.parse::<u32>().is_ok_and(|jobs| jobs > 100)), "{said}");
    // The threads change nothing in what is said.
    let alone = run(Command::new(compile("examples/c/frame_budget.c")).args([short_model(), QUESTION]));
    assert_eq!(output.stdout, alone.stdout);
    assert!(!alone.stdout.is_empty());
}

#[test]
fn weights_come_through_a_cipher_from_an_archive() {
    let pak = folder("pak").join("model.pak");
    let source = "examples/c/pak_file.c";
    run(Command::new(compile_by("gcc", source, &library().0, &[])).arg("--pack").arg(short_model()).arg(&pak));
    let bytes = std::fs::read(&pak).expect("a pak file");
    assert_eq!(bytes.len() as u64, std::fs::metadata(short_model()).expect("a model").len());
    assert_ne!(&bytes[..4], b"GGUF");
    let output = run_example(source, &library().0, &[pak.to_str().expect("a path in UTF-8"), "Two"], "");
    assert!(said(&output).contains("100 %") && !output.stdout.is_empty());
    // Without the cipher it is no model.
    let plain =
        Command::new(compile_by("gcc", source, &library().0, &[])).arg(short_model()).output().expect("a program");
    assert!(!plain.status.success());
}

/// The random model calls nothing by itself: `tests/c/tools_led.c` is the example with a sampler that is led to call.
#[test]
fn a_tool_is_called_and_its_result_taken_up() {
    for compiler in compilers("examples/c/tools.c") {
        run(Command::new(compile_by(compiler, "examples/c/tools.c", &library().0, &[])).arg(short_model()));
    }
    let path = model();
    let path = path.to_str().expect("a path in UTF-8");
    let output = run_example("tests/c/tools_led.c", &library().0, &[path], "");
    let said = said(&output);
    assert_eq!(said.matches("temperature() = {\"error\": \"no such place\"}").count(), 5, "{said}");
}

#[test]
fn a_policy_sees_what_passes_and_a_tool_is_called_by_the_library() {
    let toy = root().join("cli/data/toy.gguf");
    let toy = toy.to_str().expect("a path in UTF-8");
    let output = run_example("examples/c/policy.c", &library().0, &[toy], "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Done: I opened the green gate.", "{}", said(&output));
    let judged = ["prompt: ", "tool call: {", "tool result: {\"ok\":true}", "answer: Done"];
    assert!(judged.iter().all(|subject| said(&output).contains(&format!("judged: {subject}"))), "{}", said(&output));
    let stopped = run(Command::new(compile("examples/c/policy.c")).args([toy, "Open the red gate."]));
    assert_eq!((&*stopped.stdout, said(&stopped).lines().last()), (&b""[..], Some("stopped: the red gate stays shut")));
}

#[test]
fn an_answer_is_json_that_meets_its_schema() {
    let toy = root().join("cli/data/toy.gguf");
    let output = run_example("examples/c/structured.c", &library().0, &[toy.to_str().expect("a path in UTF-8")], "");
    let said = said(&output);
    assert!(said.contains("refused: ") && said.contains("#/properties/count/not"), "{said}");
    let answer = String::from_utf8_lossy(&output.stdout);
    assert_eq!(answer.split_whitespace().collect::<String>(), r#"{"item":"apples","count":42}"#, "{said}");
}

#[test]
fn a_chat_in_cpp_answers_line_by_line() {
    let path = model();
    let path = path.to_str().expect("a path in UTF-8");
    let output = run_example("examples/cpp/chat.cpp", &library().0, &[path], "Who are you?\n");
    assert!(output.stderr.is_empty(), "{}", said(&output));
    assert!(String::from_utf8_lossy(&output.stdout).split("> ").nth(1).is_some_and(|answer| answer.len() > 20));
}
