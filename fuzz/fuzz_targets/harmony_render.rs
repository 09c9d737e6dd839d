//! Any texts, schemas among them, are rendered or refused, and become special tokens nowhere.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ossicle_core::error::Error;
use ossicle_core::harmony::conversation::{
    Content, ContentType, DeveloperContent, Message, Namespace, ResponseFormat, Role, SystemContent, Tool,
};
use ossicle_core::harmony::history::History;
use ossicle_core::harmony::render::{Ending, Form, RenderError, Renderer};
use ossicle_fuzz::{Bytes, SPECIAL};

fuzz_target!(|bytes: &[u8]| {
    let (&choice, bytes) = bytes.split_first().unwrap_or((&0, &[]));
    let text = String::from_utf8_lossy(bytes);
    let mut texts = text.split('\0').chain(std::iter::repeat(""));
    let mut next = || texts.next().expect("no end");
    let mut maybe = || Some(next()).filter(|text| !text.is_empty());

    let tool = |parameters| Tool { name: "f", description: "one\ntwo", parameters };
    let tools = [tool(maybe()), tool(maybe())];
    let namespaces = [
        Namespace { name: "functions", description: maybe(), tools: &tools },
        Namespace { name: "python", description: maybe(), tools: &[] },
    ];
    let formats = [ResponseFormat { name: "list", description: maybe(), schema: maybe().unwrap_or("{}") }];
    let system = [Content::System(SystemContent { identity: maybe(), current_date: maybe(), ..Default::default() })];
    let developer = [Content::Developer(DeveloperContent {
        instructions: maybe(),
        tools: &namespaces,
        response_formats: &formats[..usize::from(choice & 1)],
    })];
    let said = [Content::Text(maybe().unwrap_or("")), Content::Text(maybe().unwrap_or(""))];
    let role = Role::ALL[usize::from(choice) % 5];
    let messages = [
        Message::new(Role::System, &system),
        Message::new(Role::Developer, &developer),
        Message {
            name: maybe(),
            recipient: maybe(),
            channel: maybe(),
            content_type: maybe().map(ContentType::Constrained),
            ..Message::new(role, &said)
        },
        Message {
            channel: maybe(),
            content_type: maybe().map(ContentType::Plain),
            ..Message::new(Role::Assistant, &said)
        },
    ];
    let form = if choice & 2 == 0 { Form::Trained } else { Form::Library };
    let history = [History::Documented, History::Library, History::KeepAll][usize::from(choice) % 3];
    let renderer = Renderer { vocabulary: &Bytes, special: SPECIAL, form, history };
    let size = match renderer.scratch_size(&messages) {
        Ok(size) => size,
        Err(error) => {
            assert!(matches!(error, Error::Render(RenderError::Schema { .. } | RenderError::ToolWithoutName { .. })));
            return;
        }
    };
    let mut scratch = vec![0; size];
    let mut starts = 0;
    let mut ends = 0;
    renderer
        .render(&messages, Ending::NextMessage(Role::Assistant), &mut scratch, &mut |token| {
            starts += usize::from(token == SPECIAL.start);
            ends += usize::from(token == SPECIAL.end || token == SPECIAL.call);
        })
        .expect("scratch memory of the size that was told");
    assert!(starts == ends + 1 && ends <= messages.len());
});
