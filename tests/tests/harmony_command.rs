//! `ossicle harmony` answers each line with what the official library gives.

use std::fs;

use ossicle_core::harmony::SpecialTokens;
use ossicle_core::harmony::render::Form;
use ossicle_tests::harmony::O200K_HARMONY;
use serde_json::{Value, json};

#[path = "../../cli/src/harmony.rs"]
mod harmony;

const SPECIAL: SpecialTokens = SpecialTokens::O200K_HARMONY;

fn lines(name: &str) -> (String, Vec<Value>) {
    let path = format!("{}/data/harmony/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(&path).expect(&path);
    let values = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    (text, values)
}

fn values(output: Vec<u8>) -> Vec<Value> {
    let text = String::from_utf8(output).expect("JSON");
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[test]
fn render_compat_is_the_official_library_on_every_line() {
    let (input, vectors) = lines("render.jsonl");
    let mut output = Vec::new();
    harmony::render(input.as_bytes(), &mut output, true, Form::Library, &*O200K_HARMONY, SPECIAL).expect("answers");
    let answers = values(output);
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
    let (input, vectors) = lines("parse.jsonl");
    let mut output = Vec::new();
    harmony::parse(input.as_bytes(), &mut output, true, &*O200K_HARMONY, SPECIAL).expect("answers");
    let answers = values(output);
    assert_eq!(answers.len(), vectors.len());
    assert!(answers.iter().all(|answer| answer.get("error").is_none()));
}

#[test]
fn what_is_no_request_is_answered_with_an_error() {
    for input in
        ["{", "3", "{\"conversation\": {\"messages\": 3}}", "{\"conversation\": {\"messages\": [{\"role\": \"x\"}]}}"]
    {
        let mut output = Vec::new();
        harmony::render(input.as_bytes(), &mut output, false, Form::Trained, &*O200K_HARMONY, SPECIAL)
            .expect("answers");
        assert_eq!(values(output).len(), 1, "{input}");
    }
    let mut output = Vec::new();
    let input = "{\"ids\": [-1]}\n{\"ids\": [200005], \"role\": \"assistant\"}\n";
    harmony::parse(input.as_bytes(), &mut output, true, &*O200K_HARMONY, SPECIAL).expect("answers");
    let answers = values(output);
    assert!(answers[0].get("error").is_some() && answers[1].get("messages").is_some(), "{answers:?}");
}
