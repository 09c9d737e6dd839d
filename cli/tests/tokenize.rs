//! `ossicle tokenize` answers each line as the vectors do.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::{Value, json};

fn vectors(name: &str) -> Vec<Value> {
    let path = format!("{}/../tests/data/tokenizer/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(&path).expect(&path);
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn tokenize(arguments: &[&str], input: impl Into<Vec<u8>>) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ossicle"));
    command.arg("tokenize").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the command");
    let (mut stdin, input) = (child.stdin.take().expect("a pipe"), input.into());
    let writer = thread::spawn(move || stdin.write_all(&input).expect("the command reads its input"));
    let output = child.wait_with_output().expect("output");
    writer.join().expect("input");
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn answers(arguments: &[&str], requests: impl Iterator<Item = Value>) -> Vec<Value> {
    let input: String = requests.map(|request| format!("{request}\n")).collect();
    let output = tokenize(arguments, input);
    output.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[test]
fn text_becomes_the_ids_of_the_vectors() {
    for name in ["encode_basic.jsonl", "encode_unicode.jsonl", "encode_random.jsonl", "encode_files.jsonl"] {
        let vectors = vectors(name);
        let answers = answers(&["--jsonl"], vectors.iter().map(|vector| json!({ "text": vector["text"] })));
        assert_eq!(answers.len(), vectors.len());
        for (answer, vector) in answers.iter().zip(&vectors) {
            assert_eq!(answer["ids"], vector["ids"], "{name}: {}", vector["text"]);
        }
    }
}

#[test]
fn special_tokens_are_those_that_are_allowed() {
    let vectors = vectors("special.jsonl");
    let requests = vectors.iter().map(|vector| json!({ "text": vector["text"], "allowed": vector["allowed"] }));
    for (answer, vector) in answers(&["--jsonl"], requests).iter().zip(&vectors) {
        assert_eq!(answer["ids"], vector["ids"], "{vector}");
    }
}

#[test]
fn bytes_that_are_no_text_are_replaced_first() {
    let vectors = vectors("bytes.jsonl");
    let requests = vectors.iter().map(|vector| json!({ "bytes_hex": vector["bytes_hex"] }));
    for (answer, vector) in answers(&["--jsonl"], requests).iter().zip(&vectors) {
        assert_eq!(answer["ids"], vector["ids_lossy"], "{vector}");
    }
}

#[test]
fn ids_become_the_bytes_of_the_vectors() {
    let vectors = vectors("decode.jsonl");
    let requests = vectors.iter().map(|vector| json!({ "ids": vector["ids"] }));
    for (answer, vector) in answers(&["--jsonl", "--decode"], requests).iter().zip(&vectors) {
        assert_eq!(answer["bytes_hex"], vector["bytes_hex"], "{vector}");
        assert_eq!(answer["text"], vector["lossy"], "{vector}");
    }
}

#[test]
fn plain_text_goes_there_and_back() {
    let text = "नमस्ते, world! <|end|>\n";
    let ids = tokenize(&[], text);
    assert_eq!(tokenize(&["--decode"], ids), text);
}

#[test]
fn a_model_and_its_tokenizer_json_give_the_same_ids() {
    let data = |path: &str| format!("{}/../tests/data/{path}", env!("CARGO_MANIFEST_DIR"));
    let from = |arguments: [&str; 2]| tokenize(&arguments, "Hello there, 1234");
    let expected = from(["--model", &data("tiny-a/gguf/tiny-a.gguf")]);
    assert_eq!(expected, from(["--model", &data("tiny-a/hf")]));
    assert_eq!(expected, from(["--vocab", &data("tiny-a/hf/tokenizer.json")]));
}

#[test]
fn what_is_no_request_is_answered_with_an_error() {
    let requests =
        ["{", "3", "{\"text\": 3}", "{\"bytes_hex\": \"zz\"}", "{\"text\": \"\", \"allowed\": [\"<|no|>\"]}"];
    let output = tokenize(&["--jsonl"], requests.join("\n"));
    assert_eq!(output.lines().filter(|line| line.contains("\"error\"")).count(), requests.len(), "{output}");
    let output = tokenize(&["--jsonl"], b"{\"text\": \"\xff\"}\n\xff\n{\"text\": \"\"}\r\n");
    let answers: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(answers[..2].iter().all(|answer| answer["error"].is_string()), "{output}");
    assert_eq!(answers[2..], [json!({ "ids": [] })]);
}
