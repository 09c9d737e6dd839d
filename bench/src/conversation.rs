//! A conversation to render and parse, a text to encode.

use std::path::Path;

use bumpalo::Bump;
use ossicle_core::harmony::SpecialTokens;
use ossicle_core::harmony::conversation::Message;
use ossicle_core::harmony::history::History;
use ossicle_core::harmony::parse::{Event, Parser};
use ossicle_core::harmony::render::{Ending, Form, Renderer};
use ossicle_core::tokenizer::Tokenizer;
use ossicle_host::harmony::conversation;
use serde_json::Value;

fn lines(file: &str) -> impl Iterator<Item = Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(file);
    let text = std::fs::read_to_string(path).expect("the test vectors");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<_>>().into_iter()
}

/// A conversation with many tools, and the tokens that OpenAI's library makes of it: the longest of the test vectors.
pub fn many_tools() -> (&'static [Message<'static>], Vec<u32>) {
    let vector = lines("harmony/render.jsonl").find(|vector| vector["name"] == "many tools").expect("that vector");
    let arena: &'static Bump = Box::leak(Box::new(Bump::new()));
    let vector: &'static Value = Box::leak(Box::new(vector));
    let messages = conversation(arena, &vector["conversation"]).expect("a conversation");
    let ids = vector["ids"].as_array().expect("tokens").iter().map(|id| id.as_u64().expect("an id") as u32).collect();
    (messages, ids)
}

/// 16 KB of English.
pub fn text() -> String {
    let documents = lines("tokenizer/encode_files.jsonl").filter(|line| line["tag"] == "debian doc");
    let mut text: String = documents.map(|line| line["text"].as_str().expect("a text").to_owned()).collect();
    text.truncate(text.floor_char_boundary(16 << 10));
    text
}

/// Renders as OpenAI's library does.
pub fn renderer<'t>(tokenizer: &'t Tokenizer<'static>) -> Renderer<'t, Tokenizer<'static>> {
    let default = Renderer::new(tokenizer, SpecialTokens::O200K_HARMONY);
    Renderer { form: Form::Library, history: History::Library, ..default }
}

/// The tokens of a conversation, put into `ids`, which is emptied first.
pub fn render(
    renderer: &Renderer<'_, Tokenizer<'static>>,
    messages: &[Message<'_>],
    scratch: &mut [u8],
    ids: &mut Vec<u32>,
) {
    ids.clear();
    renderer.render(messages, Ending::Nothing, scratch, &mut |id| ids.push(id)).expect("a conversation");
}

/// Parses tokens; how many bytes of content they have.
pub fn parse(tokenizer: &Tokenizer<'_>, ids: &[u32]) -> usize {
    let mut size = 0;
    let mut measure = |event: Event<'_>| {
        if let Event::Content(text) = event {
            size += text.len();
        }
    };
    let mut parser = Parser::new(SpecialTokens::O200K_HARMONY, None);
    ids.iter().for_each(|id| parser.push(*id, tokenizer, &mut measure));
    parser.finish(&mut measure);
    size
}
