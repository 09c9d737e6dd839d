//! Turns whose tokens are given: what becomes of them is known to the letter.

use ossicle_core::error::Error;
use ossicle_core::generation::{Generation, TurnConfig};
use ossicle_core::harmony::conversation::{Content, Message, Role};
use ossicle_core::harmony::history::History;
use ossicle_core::harmony::render::RenderError;
use ossicle_core::tokenizer::Specials;
use ossicle_core::transformer::SessionConfig;
use ossicle_tests::engine::fastest;
use ossicle_tests::turns::{self, SESSION, Told, turn, user};

fn with_generation<T>(context_tokens: usize, work: impl FnOnce(&mut Generation<'_, '_>) -> T) -> T {
    let session = SessionConfig { context_tokens, ..SESSION };
    turns::with_generation((fastest(), &session), History::Documented, work)
}

/// What the model is made to write; the names of special tokens in it are these.
fn script(generation: &Generation<'_, '_>, text: &str) -> Vec<u32> {
    let mut tokens = Vec::new();
    generation.tokenizer().encode(text, Specials::All, |token| tokens.push(token));
    tokens
}

/// A turn in which the model writes this and no more.
fn write(generation: &mut Generation<'_, '_>, text: &str, config: TurnConfig<'_>) -> Told {
    let tokens = script(generation, text);
    turn(generation, TurnConfig { beginning: &tokens, max_tokens: tokens.len(), ..config })
}

fn free() -> TurnConfig<'static> {
    TurnConfig { constrain_headers: false, ..TurnConfig::default() }
}

fn text_of(generation: &Generation<'_, '_>, tokens: &[u32]) -> String {
    let mut bytes = Vec::new();
    generation.tokenizer().decode(tokens, |part| bytes.extend_from_slice(part));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn what_cannot_be_rendered_is_named_by_its_number() {
    with_generation(1500, |generation| {
        let content = [Content::Text("a")];
        let messages = [user(&content), user(&content), Message::new(Role::Tool, &content)];
        let expected = Err(Error::Render(RenderError::ToolWithoutName { message: 2 }));
        assert_eq!(generation.append(&messages, &mut [0; 64]), expected);
        assert_eq!(generation.replace(&messages, &mut [0; 64]), expected);
    });
}

