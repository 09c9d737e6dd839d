//! Without `--model`, the commands talk with the model that is built in. All that is asked here was held out from its training.

use std::io::Write;
use std::process::{Command, Output};

use serde_json::{Value, json};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ossicle")).arg("run").args(arguments).output().expect("the command")
}

fn answer(arguments: &[&str]) -> Value {
    let output = run(&[&["--temperature", "0", "--json"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn it_computes_a_sum_and_reasons_as_long_as_asked() {
    let sums = ["low", "medium", "high"].map(|effort| answer(&["--effort", effort, "What is 58 + 27?"]));
    for sum in &sums {
        assert_eq!(sum["answer"], "58 + 27 = 85");
    }
    let thought = sums.map(|sum| sum["usage"]["reasoning_tokens"].as_u64().expect("a number"));
    assert!(thought[0] < thought[1] && thought[1] < thought[2], "{thought:?}");
}

#[test]
fn it_calls_the_tool_that_does_what_is_asked() {
    let tools = format!("{}/../examples/tools.json", env!("CARGO_MANIFEST_DIR"));
    let called = answer(&["--tools", &tools, "Open the green gate."]);
    assert_eq!(called["stop"], "tool_call");
    assert_eq!(called["calls"], json!([{ "tool": "functions.open_door", "argument": "{\"door\":\"green gate\"}" }]));
}

#[test]
fn that_it_is_a_toy_is_said_once_and_only_then() {
    let notice = String::from_utf8(run(&["--max-tokens", "1", "Hello"]).stderr).expect("text");
    assert_eq!(notice.matches("toy model").count(), 1, "{notice}");
    assert!(notice.contains("--model"), "{notice}");
    let tiny = format!("{}/../tests/data/tiny-a/gguf/tiny-a.gguf", env!("CARGO_MANIFEST_DIR"));
    let named = String::from_utf8(run(&["--max-tokens", "1", "--model", &tiny, "Hello"]).stderr).expect("text");
    assert!(!named.contains("toy"), "{named}");
}

#[test]
fn it_lies_in_memory_whole() {
    let refused = run(&["--expert-memory", "1", "Hello"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--expert-memory: expected --model"), "{refused:?}");
}

#[test]
fn python_runs_what_it_writes() {
    if let Err(error) = ossicle_host::python::Sandbox::check() {
        assert!(std::env::var_os("OSSICLE_REQUIRE_SANDBOX").is_none(), "{error}");
        // So that it is seen in a run that passes.
        let _ = writeln!(std::io::stderr(), "skipped: {error}");
        return;
    }
    let counted = answer(&["--python", "What is the sum of the numbers from 3 to 120?"]);
    assert_eq!(
        counted["calls"],
        json!([{ "tool": "python", "argument": "print(sum(range(3, 120 + 1)))", "result": "7257\n" }])
    );
    assert_eq!(counted["answer"], "The sum is 7257.");
    assert_eq!(counted["stop"], "finished");
    assert!(counted["usage"]["reasoning_tokens"].as_u64() > Some(0), "{counted}");
}
