//! What the header declares is what the library has, and all that it asks for.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;

use ossicle_host::python::Sandbox;

use crate::programs::*;

#[test]
fn misuse_is_refused_and_leaves_objects_as_they_were() {
    run(Command::new(compile("tests/c/misuse.c")).arg(model()));
}

#[test]
fn the_conveniences_of_an_operating_system_work() {
    run(Command::new(compile("tests/c/system.c")).arg(model()).arg(root().join("tests/data/tiny-a/hf")));
}

#[test]
fn policies_and_tools_of_a_host_are_asked_and_obeyed() {
    run(Command::new(compile("tests/c/chat_host.c")).arg(root().join("cli/data/toy.gguf")));
}

/// Whether code can be run in a box. If not, that is said even in a run that passes.
fn has_box() -> bool {
    match Sandbox::check() {
        Ok(()) => true,
        Err(error) if std::env::var_os("OSSICLE_REQUIRE_SANDBOX").is_some() => panic!("{error}"),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "skipped: {error}");
            false
        }
    }
}

#[test]
fn a_chat_runs_python_in_its_box_until_it_is_told_to_stop() {
    let program = compile("tests/c/chat_tools.c");
    run(Command::new(&program).env("PATH", "/nonexistent").arg(model()).arg("none"));
    if !has_box() {
        return;
    }
    run(Command::new(&program).arg(model()).arg("python"));
    let toy = root().join("cli/data/toy.gguf");
    // What Rust knows of a thread that it did not start is held by a pointer into its middle: "possibly lost".
    let definite = "--errors-for-leak-kinds=definite --show-leak-kinds=definite";
    let output = run(checked(&compile("examples/c/python.c")).env("VALGRIND_OPTS", definite).arg(toy));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("sum(") && said.ends_with("= 7257\n"), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("7257"), "{output:?}");
}

#[test]
fn a_chat_searches_where_it_is_told_to() {
    let engine = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", engine.local_addr().expect("an address"));
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = engine.accept().expect("a search");
        let mut lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
        let first = lines.next().expect("a request").expect("text");
        assert!(lines.any(|line| line.expect("text").is_empty()));
        let found = r#"{"results":[{"url":"http://harbour.example/","title":"Harbour","content":"boats leave"}]}"#;
        let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json";
        write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{found}", found.len()).expect("a listener");
        first
    });
    run(Command::new(compile("tests/c/chat_tools.c")).arg(model()).arg("browser").arg(address));
    assert_eq!(asked.join().expect("a search"), "GET /search?q=boats&format=json HTTP/1.1");
}

#[test]
fn nulls_are_refused_by_every_function() {
    let program = text_of("tests/c/nulls.c");
    let missing: Vec<_> = declared().into_iter().filter(|name| !program.contains(&format!("{name}("))).collect();
    assert!(missing.is_empty(), "tests/c/nulls.c does not call {missing:?}");
    run(checked(&compile("tests/c/nulls.c")).arg(model()));
}

#[test]
fn a_host_that_fails_at_any_call_costs_an_error_and_no_more() {
    run(Command::new(compile("tests/c/faults.c")).arg(model()));
}

#[test]
fn a_model_in_an_encrypted_store_says_the_same_with_a_part_of_its_experts_in_memory() {
    run(Command::new(compile("tests/c/offload.c")).arg(model()));
}

#[test]
fn calls_take_no_more_stack_than_the_header_says() {
    run(Command::new(compile("tests/c/stack.c")).arg(model()));
}

#[test]
fn answers_and_arguments_keep_to_schemas_and_masks() {
    let other = root().join("tests/data/tiny-b/gguf/tiny-b.gguf");
    run(Command::new(compile("tests/c/structured.c")).arg(model()).arg(other));
    run(Command::new(compile("tests/c/structured.cpp")).arg(model()));
}

#[test]
fn adapters_are_characters_of_one_model() {
    let [gguf, weights, config] =
        ["everything.gguf", "everything/adapter_model.safetensors", "everything/adapter_config.json"]
            .map(|name| root().join("tests/data/adapters").join(name));
    run(checked(&compile("tests/c/adapters.c")).arg(model()).args([&gguf, &weights, &config]));
    run(Command::new(compile("tests/c/adapters.cpp")).arg(model()).arg(gguf));
}

#[test]
fn engines_side_by_side_and_sessions_between_threads_say_the_same() {
    let other = root().join("tests/data/tiny-b/gguf/tiny-b.gguf");
    run(Command::new(compile("tests/c/neighbours.c")).arg(model()).arg(other));
}

#[test]
fn a_program_for_openais_interface_runs() {
    let source = "tests/c/gptoss.c";
    run(checked(&compile_by("gcc", source, &library().0, &["compat/gptoss_compat.c"])).arg(model()));
}

#[test]
fn the_shared_library_exports_what_the_header_declares_and_nothing_else() {
    let exported = symbols(&["-D", "--defined-only"], &library().1);
    assert_eq!(exported, declared());
}

#[test]
fn every_function_is_called_from_some_program_in_c() {
    let mut programs = String::new();
    for path in ["tests/c", "examples/c"] {
        for entry in std::fs::read_dir(root().join(path)).expect("a folder").flatten() {
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
    let program = folder("freestanding").join("program");
    let mut command = Command::new("gcc");
    command.arg("-std=c11").args(WARNINGS).args(["-O1", "-ffreestanding", "-fno-builtin", "-fno-stack-protector"]);
    command.args(["-nostdlib", "-static", "-I"]).arg(root().join("include"));
    command.arg(format!("-DMODEL=\"{}\"", model().display()));
    command.arg(root().join("tests/c/freestanding.c")).arg(library).arg("-o").arg(&program);
    run(&mut command);
    run(&mut Command::new(&program));

    // All of the library in one object: what it still wants.
    let object = folder("freestanding").join("library.o");
    let wanted = declared().into_iter().map(|name| format!("--undefined={name}"));
    let mut command = Command::new("ld");
    command.args(["-r", "--gc-sections", "--entry=0"]).args(wanted).arg(library).arg("-o").arg(&object);
    run(&mut command);
    let allowed = ["bcmp", "memcmp", "memcpy", "memmove", "memset", "ossicle_panic"];
    let host: BTreeSet<String> = declared().difference(&symbols(&["--defined-only"], &object)).cloned().collect();
    let undefined: Vec<String> = symbols(&["-u"], &object).difference(&host).cloned().collect();
    assert_eq!(undefined, allowed);
    assert!(host.iter().all(|name| !name.contains("turn") && !name.contains("session")), "{host:?}");
}
