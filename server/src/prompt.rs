//! The prompt of a task: what of a conversation is told, and its tokens.

use bumpalo::Bump;
use ossicle_core::harmony::SpecialTokens;
use ossicle_core::harmony::conversation::Role;
use ossicle_core::harmony::render::{Ending, Renderer};
use ossicle_core::tokenizer::vocabulary::TOKEN_BYTES_MAX;
use ossicle_host::harmony;

use crate::conversation::{leading, messages};
use crate::error::ApiError;
use crate::request::{Format, Item, Task};
use crate::worker::Engine;

/// The task without the items that its prompt has no room for.
///
/// # Errors
/// If it cannot fit.
pub fn consider(engine: &Engine<'_>, mut task: Task) -> Result<Task, ApiError> {
    let (_, from) = prompt(engine, &task)?;
    task.items.drain(leading(&task)..from);
    Ok(task)
}

/// The tokens of a prompt, and how many items are left out of it.
pub fn prompt(engine: &Engine<'_>, task: &Task) -> Result<(Vec<u32>, usize), ApiError> {
    let special = SpecialTokens::of(&engine.tokenizer);
    let special = special.map_err(|error| ApiError::server(error.to_string()))?;
    let renderer = Renderer::new(&engine.tokenizer, special);
    let most = most_tokens(engine);
    let date = today();
    let encode = |from| {
        let arena = Bump::new();
        let messages = messages(&arena, task, &date, from);
        harmony::render(&renderer, messages, Ending::NextMessage(Role::Assistant))
            .map_err(|error| ApiError::invalid("input", format!("The conversation cannot be rendered: {error}")))
    };
    let last = last_item(task);
    let mut from = first_item(engine, task)?;
    let (mut fixed, mut attempts) = (None, 0);
    loop {
        let tokens = encode(from)?;
        if tokens.len() <= most {
            return Ok((tokens, from));
        }
        if !task.settings.may_truncate || from >= last {
            return Err(too_long(most, &tokens.len().to_string()));
        }
        // The rest should have the share of the bytes that there is room for, and somewhat less. Where that is wrong again and
        // again, the others that wait for the model come first.
        let fixed = match fixed {
            Some(fixed) => fixed,
            None => *fixed.insert(encode(task.items.len())?.len()),
        };
        let room = most.saturating_sub(fixed) as f64 / (tokens.len() - fixed.min(most)) as f64;
        let weight = |item: &Item| size(item) + 16;
        let mut rest: usize = task.items[from..].iter().map(weight).sum();
        attempts += 1;
        let wanted = if attempts < MOST_ATTEMPTS { (rest as f64 * room * 0.875) as usize } else { 0 };
        while from < last && rest > wanted {
            rest -= weight(&task.items[from]);
            from += 1;
        }
        from = whole(task, from, last);
    }
}

/// Tokens of a prompt, so that there is room for one to write and the one that ends its message.
fn most_tokens(engine: &Engine<'_>) -> usize {
    engine.session.context_tokens.saturating_sub(2)
}

fn too_long(most: usize, length: &str) -> ApiError {
    ApiError {
        code: Some("context_length_exceeded"),
        ..ApiError::invalid("input", format!("The context holds {most} tokens of input, and this input has {length}."))
    }
}

/// The first item that may be told, as far as can be known without the tokens.
fn first_item(engine: &Engine<'_>, task: &Task) -> Result<usize, ApiError> {
    let (most, first, last) = (most_tokens(engine), leading(task), last_item(task));
    let begin = may_begin(task, most).filter(|begin| *begin == first || task.settings.may_truncate && *begin <= last);
    Ok(whole(task, begin.ok_or_else(|| too_long(most, "more"))?, last))
}

/// The last item that may be the first to be told.
fn last_item(task: &Task) -> usize {
    last(task).max(leading(task))
}

/// Most messages of a conversation, and those of them that are left to a turn.
pub const MESSAGES: usize = 4096;
const MESSAGES_OF_A_TURN: usize = 64;
/// Tokens of the shortest message: its beginning, its role, the beginning and the end of its content.
const MESSAGE_TOKENS: usize = 4;
/// How often a prompt is cut before its last item has to be enough.
const MOST_ATTEMPTS: usize = 6;

/// The first item with which the prompt may fit, if any may. With those before it there surely are too many messages or more
/// than `most` tokens, and that is not encoded: it would keep the model from others.
fn may_begin(task: &Task, most: usize) -> Option<usize> {
    let first = leading(task);
    let mut tokens = fixed_size(task) / TOKEN_BYTES_MAX;
    if tokens > most {
        return None;
    }
    let mut from = task.items.len();
    // The developer's message and that of the system come before.
    let longest = MESSAGES - MESSAGES_OF_A_TURN - 3;
    while from > first && task.items.len() - from < longest && tokens <= most {
        tokens += match &task.items[from - 1] {
            // Past reasoning is not told.
            Item::Reasoning(_) => 0,
            item => MESSAGE_TOKENS + size(item) / TOKEN_BYTES_MAX,
        };
        from -= usize::from(tokens <= most);
    }
    Some(from)
}

/// Bytes that stand in every prompt of the task, wherever it begins. Of what a tool takes the model is told in fewer words, but
/// not in so many fewer as bytes are in a token.
fn fixed_size(task: &Task) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let tools = task.tools.list.iter();
    let tools: usize = tools.map(|tool| tool.name.len() + tool.description.len() + text(&tool.parameters)).sum();
    let format = match &task.settings.format {
        Format::JsonSchema { description, schema, .. } => schema.len() + text(description),
        Format::Text | Format::JsonObject => 0,
    };
    let developer: usize = task.items[..leading(task)].iter().map(size).sum();
    text(&task.instructions) + tools + format + developer
}

/// Bytes of an item.
fn size(item: &Item) -> usize {
    match item {
        Item::Message { parts, .. } | Item::Reasoning(parts) | Item::CallOutput { parts, .. } => {
            parts.iter().map(String::len).sum()
        }
        Item::Call { argument, .. } => argument.len(),
    }
}

/// The last item, which is what is asked; if it is what a tool answered, the call.
fn last(task: &Task) -> usize {
    let mut last = task.items.len().saturating_sub(1);
    while last > 0 && matches!(task.items[last], Item::CallOutput { .. }) {
        last -= 1;
    }
    while last > 0 && is_cut(&task.items, last) {
        last -= 1;
    }
    last
}

/// The next item from which on no output lacks its call.
fn whole(task: &Task, mut from: usize, last: usize) -> usize {
    while from < last && is_cut(&task.items, from) {
        from += 1;
    }
    from
}

/// Whether a conversation that begins with this item has an output without its call.
fn is_cut(items: &[Item], from: usize) -> bool {
    let is_call = |index: usize| matches!(items.get(index), Some(Item::Call { .. }));
    // Calls that stand together are answered together.
    matches!(items.get(from), Some(Item::CallOutput { .. })) || from > 0 && is_call(from - 1) && is_call(from)
}

/// Today, as the model is told it.
pub fn today() -> String {
    time::OffsetDateTime::now_utc().date().to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{MESSAGES, last, may_begin, whole};
    use crate::request::{Context, Request, Task};
    use crate::seal::Seal;

    fn task(body: Value) -> Task {
        Request::read(&body, &Context::alone(&Seal::random())).expect("a request").task
    }

    #[test]
    fn what_cannot_fit_is_known_without_its_tokens() {
        let say = |text: &str| json!({ "role": "user", "content": text });
        let (tiny, large) = (say(""), say(&"x".repeat(256 * 100)));
        let many = task(json!({ "input": vec![&tiny; 10_000] }));
        assert_eq!(may_begin(&many, 400), Some(10_000 - 100));
        let begin = may_begin(&many, 1_000_000).expect("some fit");
        assert!((MESSAGES - 100..MESSAGES).contains(&(10_000 - begin)), "{begin}");
        assert_eq!(may_begin(&task(json!({ "input": [large, tiny, large] })), 120), Some(1));
        assert_eq!(may_begin(&task(json!({ "input": [large, tiny, large] })), 90), Some(3));
        let long = "x".repeat(256 * 100);
        let tool = json!({ "type": "custom", "name": "f", "description": long });
        let format = json!({ "format": { "type": "json_schema", "name": "f", "schema": { "description": long } } });
        for body in [
            json!({ "input": "", "instructions": long }),
            json!({ "input": "", "tools": [tool] }),
            json!({ "input": "", "text": format }),
            json!({ "input": [{ "role": "developer", "content": long }] }),
        ] {
            assert_eq!(may_begin(&task(body.clone()), 90), None);
            assert!(may_begin(&task(body), 120).is_some());
        }
    }

    #[test]
    fn a_conversation_is_not_cut_between_a_call_and_its_output() {
        let say = json!({ "role": "user", "content": "?" });
        let call = |id: &str| json!({ "type": "function_call", "call_id": id, "name": "f", "arguments": "{}" });
        let output = |id: &str| json!({ "type": "function_call_output", "call_id": id, "output": "" });
        let mut input = vec![say.clone(), call("a"), call("b"), output("a"), output("b")];
        assert_eq!(last(&task(json!({ "input": input }))), 1);
        input.push(say);
        let between = task(json!({ "input": input }));
        let cuts: Vec<_> = (0..6).map(|from| whole(&between, from, last(&between))).collect();
        assert_eq!(cuts, [0, 1, 5, 5, 5, 5]);
    }
}
