//! `ossicle harmony` answers each line with what the official library gives.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::{Value, json};

fn vectors(name: &str) -> (String, Vec<Value>) {
    let path = format!("{}/../tests/data/harmony/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(&path).expect(&path);
    let values = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    (text, values)
}

/// Runs the command on this input and gives its answers.
fn harmony(arguments: &[&str], input: impl Into<Vec<u8>>) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ossicle"));
    command.arg("harmony").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the command");
    let (mut stdin, input) = (child.stdin.take().expect("a pipe"), input.into());
    let writer = thread::spawn(move || stdin.write_all(&input).expect("the command reads its input"));
    let output = child.wait_with_output().expect("output");
    writer.join().expect("input");
    assert!(output.status.success(), "{arguments:?}: {}", output.status);
    let text = String::from_utf8(output.stdout).expect("JSON");
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[test]
fn render_compat_is_the_official_library_on_every_line() {
    let (input, vectors) = vectors("render.jsonl");
    let answers = harmony(&["render", "--compat", "--jsonl"], input);
    assert_eq!(answers.len(), vectors.len());
    for (answer, vector) in answers.iter().zip(&vectors) {
        match vector.get("error") {
            Some(error) => assert_eq!(answer, &json!({ "error": error })),
            None => {
                let suffix = vector["completion_suffix_ids"].as_array().expect("ids");
                let ids = [vector["ids"].as_array().expect("ids").as_slice(), suffix].concat();
                assert_eq!(answer["ids"], Value::Array(ids), "{}", vector["name"]);
                let text = format!(
                    "{}<|start|>{}",
                    vector["text"].as_str().expect("text"),
                    vector["next_role"].as_str().expect("role")
                );
                assert_eq!(answer["text"], text, "{}", vector["name"]);
            }
        }
    }
}

#[test]
fn parse_answers_every_line() {
    let (input, vectors) = vectors("parse.jsonl");
    let answers = harmony(&["parse", "--jsonl"], input);
    assert_eq!(answers.len(), vectors.len());
    assert!(answers.iter().all(|answer| answer.get("error").is_none()));
}

#[test]
fn what_is_no_request_is_answered_with_an_error() {
    for input in
        ["{", "3", "{\"conversation\": {\"messages\": 3}}", "{\"conversation\": {\"messages\": [{\"role\": \"x\"}]}}"]
    {
        assert_eq!(harmony(&["render"], input).len(), 1, "{input}");
    }
    let input = b"{\"ids\": [-1]}\n\xff\n{\"ids\": [200005], \"role\": \"assistant\"}\r\n";
    let answers = harmony(&["parse", "--jsonl"], input);
    assert!(answers[..2].iter().all(|answer| answer["error"].is_string()), "{answers:?}");
    assert!(answers.len() == 3 && answers[2].get("messages").is_some(), "{answers:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn an_output_that_cannot_be_written_is_an_error() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("a device");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ossicle"));
    command.args(["harmony", "render"]).stdin(Stdio::null()).stdout(full).stderr(Stdio::piped());
    let output = command.output().expect("the command");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
}
