//! Answers follow a grammar, and one that is none is refused.
#![cfg(feature = "grammar")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).expect("a file");
    path
}

fn run(grammar: &PathBuf, question: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ossicle"));
    command.args(["run", "--temperature", "0", "--grammar"]).arg(grammar).arg(question);
    command.output().expect("the command")
}

fn answer(grammar: &PathBuf, question: &str) -> String {
    let output = run(grammar, question);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn an_answer_follows_rules_and_expressions() {
    // Left to itself, the model answers `58 + 27 = 85`.
    let rules = file("sum.lark", "start: \"The sum is \" NUMBER \".\"\nNUMBER: /[1-9][0-9]?/\n");
    let sum = answer(&rules, "What is 58 + 27?");
    let number = sum.strip_prefix("The sum is ").and_then(|rest| rest.strip_suffix(".\n"));
    assert!(number.is_some_and(|number| number.parse().is_ok_and(|number: u8| (1..100).contains(&number))), "{sum}");
    let expression = file("sum.regex", "[0-9]{2}!\n");
    let sum = answer(&expression, "What is 58 + 27?");
    let number = sum.strip_suffix("!\n");
    assert!(number.is_some_and(|number| number.len() == 2 && number.parse::<u8>().is_ok()), "{sum}");
}

#[test]
fn what_is_no_grammar_is_refused_with_its_file_and_place() {
    for (name, text, expected) in [
        ("unknown.lark", "start: \"a\" other\n", "other"),
        ("unfinished.lark", "start: \"a\"\nb: (\n", "2"),
        ("group.regex", "(a", "unclosed group"),
        ("grammar.txt", "start: \"a\"", ".lark or .regex"),
    ] {
        let output = run(&file(name, text), "Hello");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains(name) && said.contains(expected) && !said.contains("panicked"), "{name}: {said}");
    }
}
