//! Conversations become exactly the tokens that the official library makes of them.

use std::fs;

use ossicle_core::harmony::SpecialTokens;
use ossicle_core::harmony::render::{Form, Renderer};
use ossicle_host::harmony::{message, render_request};
use ossicle_tests::harmony::O200K_HARMONY;
use serde_json::{Value, json};

const SPECIAL: SpecialTokens = SpecialTokens::O200K_HARMONY;

fn vectors(name: &str) -> Vec<Value> {
    let path = format!("{}/data/harmony/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(&path).expect(&path);
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    let list = value.as_array().expect("a list of ids");
    list.iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

#[test]
fn in_compat_mode_every_conversation_is_rendered_as_the_official_library_does() {
    let vectors = vectors("render.jsonl");
    assert_eq!(vectors.len(), 290);
    let mut wrong = Vec::new();
    for vector in &vectors {
        let mut expected = Ok(());
        let mut request = json!({
            "conversation": vector["conversation"],
            "auto_drop_analysis": vector["auto_drop_analysis"],
        });
        let rendered = render_request(&request, Form::Library, &*O200K_HARMONY, SPECIAL);
        request["next_role"] = vector["next_role"].clone();
        let prompt = render_request(&request, Form::Library, &*O200K_HARMONY, SPECIAL);
        if let Some(error) = vector.get("error") {
            expected = Err(error.as_str().expect("a text").to_owned());
            if rendered.map(drop) != expected || prompt.map(drop) != expected {
                wrong.push(vector["name"].clone());
            }
            continue;
        }
        assert!(expected.is_ok());
        let suffix = ids(&vector["completion_suffix_ids"]);
        let expected = ids(&vector["ids"]);
        if rendered.as_ref() != Ok(&expected) || prompt != Ok([expected, suffix].concat()) {
            wrong.push(vector["name"].clone());
            if wrong.len() < 4 {
                eprintln!("{}\n{:?}\n{:?}", vector["name"], vector["text"], rendered.map(|ids| text(&ids)));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}: {wrong:?}", wrong.len(), vectors.len());
}

fn text(ids: &[u32]) -> String {
    use ossicle_core::harmony::Vocabulary;
    let mut bytes = Vec::new();
    for &id in ids {
        match O200K_HARMONY.token_bytes(id) {
            Some(token) => bytes.extend_from_slice(token),
            None => bytes.extend_from_slice(format!("<{id}>").as_bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn single_messages_are_rendered_as_the_official_library_does() {
    for vector in vectors("render_message.jsonl") {
        let arena = bumpalo::Bump::new();
        let message = message(&arena, &vector["message"]).expect("a message");
        let function_tools = vector["conversation_has_function_tools"] == true;
        let mut renderer = Renderer::new(&*O200K_HARMONY, SPECIAL);
        renderer.form = Form::Library;
        let mut rendered = Vec::new();
        let result = renderer.render_message(&message, function_tools, &mut [0; 4096], &mut |id| rendered.push(id));
        assert_eq!(result, Ok(()), "{}", vector["name"]);
        assert_eq!(rendered, ids(&vector["ids"]), "{}", vector["name"]);
    }
}
