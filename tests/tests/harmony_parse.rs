//! Whatever a model writes becomes messages, and the right ones.

use std::fs;

use ossicle_core::harmony::SpecialTokens;
use ossicle_core::harmony::conversation::Role;
use ossicle_host::harmony::parse;
use ossicle_tests::harmony::O200K_HARMONY;
use serde_json::{Value, json};

const SPECIAL: SpecialTokens = SpecialTokens::O200K_HARMONY;

fn path(name: &str) -> String {
    format!("{}/data/harmony/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn vectors(name: &str) -> Vec<Value> {
    let text = fs::read_to_string(path(name)).expect(name);
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    let list = value.as_array().expect("a list of ids");
    list.iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

fn role(vector: &Value) -> Option<Role> {
    vector["role"].as_str().and_then(Role::from_name)
}

/// The messages of the official parser, with the marker told apart from the content type.
fn reference(vector: &Value) -> Value {
    let mut strict = vector["strict"].clone();
    for message in strict["messages"].as_array_mut().into_iter().flatten() {
        if let Some(name) = message["content_type"].as_str().and_then(|name| name.strip_prefix("<|constrain|>")) {
            message["content_type"] = name.into();
            message["constrained"] = true.into();
        }
    }
    strict
}

/// All vectors are listed for which Ossicle returns something else than the official parser, with what it returns. To write
/// the list anew, set `OSSICLE_WRITE_DEVIATIONS`; then read it.
#[test]
fn messages_are_those_of_the_official_parser_but_for_the_listed_ones() {
    let vectors = vectors("parse.jsonl");
    assert_eq!(vectors.len(), 488);
    let mut found = Vec::new();
    for vector in &vectors {
        let ossicle = parse(&ids(&vector["ids"]), role(vector), &*O200K_HARMONY, SPECIAL);
        let reference = reference(vector);
        if reference["messages"] != ossicle["messages"] {
            let name = &vector["name"];
            found.push(json!({"name": name, "class": vector["class"], "text": vector["text"], "reference": reference, "ossicle": ossicle}));
        }
    }
    if std::env::var_os("OSSICLE_WRITE_DEVIATIONS").is_some() {
        let lines: String = found.iter().map(|line| format!("{line}\n")).collect();
        fs::write(path("parse-deviations.jsonl"), lines).expect("the list can be written");
    }
    let listed = self::vectors("parse-deviations.jsonl");
    for (found, listed) in found.iter().zip(&listed) {
        assert_eq!(found, listed, "{}", found["name"]);
    }
    assert_eq!(found.len(), listed.len());
}
