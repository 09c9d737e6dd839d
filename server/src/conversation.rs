//! A task as the messages of a prompt.

use bumpalo::Bump;
use ossicle_core::harmony::builtin::{BROWSER, PYTHON};
use ossicle_core::harmony::conversation::{
    ANALYSIS, Content, ContentType, DeveloperContent, FUNCTIONS, Message, Namespace, ResponseFormat, Role,
    SystemContent, Tool,
};

use crate::request::{Format, Item, Task, ToolKind, Tools};

/// The messages of `task`, from the item with index `from` on, held by `arena`. What developers say before anybody else
/// does stands together with the tools in one message, as the model was trained; `from` leaves that in.
pub fn messages<'a>(arena: &'a Bump, task: &'a Task, date: &'a str, from: usize) -> &'a [Message<'a>] {
    let mut messages = Vec::new();
    let built_in = [(ToolKind::Browser, BROWSER), (ToolKind::Code, PYTHON)];
    let built_in = built_in.into_iter().filter(|(kind, _)| task.tools.has(*kind)).map(|(_, tool)| tool);
    let system = SystemContent {
        current_date: Some(date),
        effort: Some(task.effort),
        tools: arena.alloc_slice_copy(&built_in.collect::<Vec<_>>()),
        ..SystemContent::default()
    };
    messages.push(Message::new(Role::System, arena.alloc_slice_copy(&[Content::System(system)])));

    let leading = leading(task);
    let mut instructions: Vec<&str> = task.instructions.iter().map(String::as_str).collect();
    instructions.extend(task.items[..leading].iter().flat_map(|item| match item {
        Item::Message { parts, .. } => parts.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    }));
    let instructions = (!instructions.is_empty()).then(|| &*arena.alloc_str(&instructions.join("\n\n")));
    let tools = namespaces(arena, &task.tools);
    let response_formats = match &task.settings.format {
        Format::JsonSchema { name, description, schema, .. } => {
            let format = ResponseFormat { name, description: description.as_deref(), schema };
            &*arena.alloc_slice_copy(&[format])
        }
        Format::Text | Format::JsonObject => &[],
    };
    if instructions.is_some() || !tools.is_empty() || !response_formats.is_empty() {
        messages.push(developer(arena, DeveloperContent { instructions, tools, response_formats }));
    }
    messages.extend(task.items.iter().skip(leading.max(from)).map(|item| message(arena, item)));
    arena.alloc_slice_copy(&messages)
}

/// How many of the first items are the developer's.
pub fn leading(task: &Task) -> usize {
    let is_developer = |item: &&Item| matches!(item, Item::Message { role: Role::Developer, .. });
    task.items.iter().take_while(is_developer).count()
}

fn developer<'a>(arena: &'a Bump, content: DeveloperContent<'a>) -> Message<'a> {
    Message::new(Role::Developer, arena.alloc_slice_copy(&[Content::Developer(content)]))
}

fn message<'a>(arena: &'a Bump, item: &'a Item) -> Message<'a> {
    let texts = |parts: &'a [String]| &*arena.alloc_slice_fill_iter(parts.iter().map(|part| Content::Text(part)));
    match item {
        Item::Message { role: Role::Developer, parts, .. } => {
            let instructions = Some(&*arena.alloc_str(&parts.join("\n\n")));
            developer(arena, DeveloperContent { instructions, ..DeveloperContent::default() })
        }
        Item::Message { role, channel, parts } => Message { channel: *channel, ..Message::new(*role, texts(parts)) },
        Item::Reasoning(parts) => Message { channel: Some(ANALYSIS), ..Message::new(Role::Assistant, texts(parts)) },
        Item::Call { recipient, kind, argument, .. } => Message {
            recipient: Some(recipient),
            channel: item.channel(),
            // As the model writes it, so that what was computed then is found again.
            content_type: match kind {
                ToolKind::Function => Some(ContentType::Constrained("json")),
                ToolKind::Custom => None,
                ToolKind::Code | ToolKind::Browser => Some(ContentType::Plain("code")),
            },
            ..Message::new(Role::Assistant, arena.alloc_slice_copy(&[Content::Text(argument)]))
        },
        Item::CallOutput { recipient, parts } => Message {
            name: Some(recipient),
            recipient: Some(Role::Assistant.name()),
            channel: item.channel(),
            ..Message::new(Role::Tool, texts(parts))
        },
    }
}

/// The namespaces by their names; in each, the tools as the request has them.
fn namespaces<'a>(arena: &'a Bump, tools: &'a Tools) -> &'a [Namespace<'a>] {
    let described = tools.list.iter().filter(|tool| !tool.kind.is_built_in());
    let mut names: Vec<&str> = described.map(|tool| &*tool.namespace).collect();
    names.sort_unstable();
    names.dedup();
    let namespaces = names.into_iter().map(|name| {
        let described = tools.descriptions.iter().find(|(described, _)| described == name);
        let list: Vec<_> = (tools.list.iter().filter(|tool| tool.namespace == name))
            .map(|tool| Tool {
                name: &tool.name,
                description: &tool.description,
                parameters: tool.parameters.as_deref(),
            })
            .collect();
        Namespace {
            name,
            description: described.filter(|_| name != FUNCTIONS).map(|(_, description)| &**description),
            tools: arena.alloc_slice_copy(&list),
        }
    });
    arena.alloc_slice_copy(&namespaces.collect::<Vec<_>>())
}
