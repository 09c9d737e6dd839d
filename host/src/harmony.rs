//! Conversations and messages as JSON, in the form that the official library reads and writes.
//!
//! A conversation is `{"messages": [...]}`. A message has a `role`, may have a `name`, `recipient`, `channel` and
//! `content_type`, and has a `content`: a string, or a list of `{"type": "text", "text": ...}`,
//! `{"type": "system_content", ...}` and `{"type": "developer_content", ...}`. Beyond the library, a message may have
//! `own_tokens` (a list of ids) with `after_role`, and a developer content may have `response_formats`.

use bumpalo::Bump;
use ossicle_core::error::Error;
use ossicle_core::harmony::conversation::{
    Content, ContentType, DeveloperContent, Effort, Message, Namespace, OwnTokens, ResponseFormat, Role, SystemContent,
    Tool,
};
use ossicle_core::harmony::history::History;
use ossicle_core::harmony::parse::{Event, Parser};
use ossicle_core::harmony::render::{Ending, Form, RenderError, Renderer};
use ossicle_core::harmony::{SpecialTokens, Vocabulary};
use serde_json::{Map, Value, json};

/// What the library writes before the content type of a constrained message.
const CONSTRAIN: &str = "<|constrain|>";

/// What is wrong with JSON that should be a conversation.
pub type Malformed = String;

/// Renders `{"conversation": ..., "auto_drop_analysis": ..., "next_role": ...}`. With `next_role`, the prompt ends with the
/// beginning of that role's message. `auto_drop_analysis` chooses between the default history (true, as without it) and
/// keeping everything. In the form of the library, errors have the library's texts.
///
/// # Errors
/// If the request is malformed or the conversation cannot be rendered.
pub fn render_request(
    request: &Value,
    form: Form,
    vocabulary: &impl Vocabulary,
    special: SpecialTokens,
) -> Result<Vec<u32>, String> {
    let arena = Bump::new();
    let messages = conversation(&arena, request.get("conversation").unwrap_or(&Value::Null))?;
    let ending = match string(request, "next_role")? {
        Some(role) => Ending::NextMessage(role_of(role)?),
        None => Ending::Nothing,
    };
    let mut renderer = Renderer::new(vocabulary, special);
    renderer.form = form;
    renderer.history = match (request.get("auto_drop_analysis").and_then(Value::as_bool), form) {
        (Some(false), _) => History::KeepAll,
        (_, Form::Library) => History::Library,
        (_, Form::Trained) => History::Documented,
    };
    render(&renderer, messages, ending).map_err(|error| match form {
        Form::Library => library_text(&error),
        Form::Trained => error.to_string(),
    })
}

/// Renders messages, with scratch memory of the size that they take.
///
/// # Errors
/// If they cannot be rendered.
pub fn render<V: Vocabulary>(renderer: &Renderer<V>, messages: &[Message], ending: Ending) -> Result<Vec<u32>, Error> {
    let mut scratch = vec![0; renderer.scratch_size(messages)?];
    let mut ids = Vec::new();
    renderer.render(messages, ending, &mut scratch, &mut |id| ids.push(id))?;
    Ok(ids)
}

/// Tokens as text, special ones by their names, for reading only.
pub fn text(ids: &[u32], vocabulary: &impl Vocabulary, special: SpecialTokens) -> String {
    let names = special.names();
    let mut bytes = Vec::new();
    for &id in ids {
        match (names.iter().find(|&&(token, _)| token == id), vocabulary.token_bytes(id)) {
            (Some((_, name)), _) => bytes.extend_from_slice(name.as_bytes()),
            (None, Some(token)) => bytes.extend_from_slice(token),
            (None, None) => bytes.extend_from_slice("\u{fffd}".as_bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Parses `{"ids": [...], "role": ...}` into `{"messages": [...], "diagnostics": [...]}`.
///
/// # Errors
/// If the request is malformed. No list of ids is refused.
pub fn parse_request(
    request: &Value,
    vocabulary: &impl Vocabulary,
    special: SpecialTokens,
) -> Result<Value, Malformed> {
    let role = string(request, "role")?.map(role_of).transpose()?;
    Ok(parse(&ids(request.get("ids"))?, role, vocabulary, special))
}

/// Parses tokens into `{"messages": [...], "diagnostics": [...]}`.
pub fn parse(ids: &[u32], role: Option<Role>, vocabulary: &impl Vocabulary, special: SpecialTokens) -> Value {
    let mut messages = Vec::new();
    let mut diagnostics = Vec::new();
    let mut content = String::new();
    let mut collect = |event: Event| match event {
        Event::Header(header) => {
            let mut message = Map::new();
            message.insert("role".into(), header.role.name().into());
            let mut add = |key: &str, value: Option<&str>| {
                if let Some(value) = value {
                    message.insert(key.into(), value.into());
                }
            };
            add("name", header.name);
            add("recipient", header.recipient);
            add("channel", header.channel);
            add("content_type", header.content_type.map(ContentType::name));
            messages.push(message);
            content.clear();
        }
        Event::Content(text) => content.push_str(text),
        Event::End(_) => {
            if let Some(message) = messages.last_mut() {
                message.insert("content".into(), content.as_str().into());
            }
        }
        Event::Diagnostic(diagnostic) => {
            diagnostics.push(json!({"problem": format!("{:?}", diagnostic.problem), "position": diagnostic.position}))
        }
    };
    let mut parser = Parser::new(special, role);
    for &id in ids {
        parser.push(id, vocabulary, &mut collect);
    }
    parser.finish(&mut collect);
    json!({"messages": messages, "diagnostics": diagnostics})
}

/// The messages of `{"messages": [...]}`, held by `arena`.
///
/// # Errors
/// If the JSON has another form.
pub fn conversation<'a>(arena: &'a Bump, value: &'a Value) -> Result<&'a [Message<'a>], Malformed> {
    slice(arena, value.get("messages"), "messages", |value| message(arena, value))
}

/// Reads the text of `{"messages": [...]}` and lends the messages to `work`.
///
/// # Errors
/// If it is not JSON, or has another form.
pub fn with_conversation<T>(text: &[u8], work: impl FnOnce(&[Message]) -> T) -> Result<T, Malformed> {
    let value: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let arena = Bump::new();
    Ok(work(conversation(&arena, &value)?))
}

/// One message, held by `arena`.
///
/// # Errors
/// If the JSON has another form.
pub fn message<'a>(arena: &'a Bump, value: &'a Value) -> Result<Message<'a>, Malformed> {
    let content = match value.get("content") {
        Some(Value::String(text)) => &*arena.alloc_slice_copy(&[Content::Text(text)]),
        parts => slice(arena, parts, "content", |part| content(arena, part))?,
    };
    let own_tokens = match value.get("own_tokens") {
        None => None,
        tokens => Some(OwnTokens {
            tokens: arena.alloc_slice_copy(&ids(tokens)?),
            after_role: value.get("after_role").and_then(Value::as_bool).unwrap_or(false),
        }),
    };
    Ok(Message {
        role: role_of(required(value, "role")?)?,
        name: string(value, "name")?,
        recipient: string(value, "recipient")?,
        channel: string(value, "channel")?,
        content_type: string(value, "content_type")?.map(|text| match text.strip_prefix(CONSTRAIN) {
            Some(name) => ContentType::Constrained(name),
            None => ContentType::Plain(text),
        }),
        content,
        own_tokens,
    })
}

fn content<'a>(arena: &'a Bump, value: &'a Value) -> Result<Content<'a>, Malformed> {
    match required(value, "type")? {
        "text" => Ok(Content::Text(required(value, "text")?)),
        "system_content" => {
            let config = value.get("channel_config").unwrap_or(&Value::Null);
            Ok(Content::System(SystemContent {
                identity: string(value, "model_identity")?,
                knowledge_cutoff: string(value, "knowledge_cutoff")?,
                current_date: string(value, "conversation_start_date")?,
                effort: string(value, "reasoning_effort")?.map(effort_of).transpose()?,
                tools: namespaces(arena, value)?,
                channels: slice(arena, config.get("valid_channels"), "valid_channels", |channel| {
                    channel.as_str().ok_or_else(|| "a channel should be a string".into())
                })?,
                channel_required: config.get("channel_required").and_then(Value::as_bool).unwrap_or(false),
            }))
        }
        "developer_content" => Ok(Content::Developer(DeveloperContent {
            instructions: string(value, "instructions")?,
            tools: namespaces(arena, value)?,
            response_formats: slice(arena, value.get("response_formats"), "response_formats", |format| {
                let schema = format.get("schema").unwrap_or(&Value::Null);
                Ok(ResponseFormat {
                    name: required(format, "name")?,
                    description: string(format, "description")?,
                    schema: arena.alloc_str(&schema.to_string()),
                })
            })?,
        })),
        other => Err(format!("unknown type of content: {other:?}")),
    }
}

/// The namespaces by the order of their keys.
fn namespaces<'a>(arena: &'a Bump, value: &'a Value) -> Result<&'a [Namespace<'a>], Malformed> {
    let Some(map) = value.get("tools").and_then(Value::as_object) else { return Ok(&[]) };
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|&(key, _)| key);
    let namespaces = entries.into_iter().map(|(_, value)| {
        Ok(Namespace {
            name: required(value, "name")?,
            description: string(value, "description")?,
            tools: slice(arena, value.get("tools"), "tools", |tool| {
                let parameters = tool.get("parameters").filter(|schema| !schema.is_null());
                Ok(Tool {
                    name: required(tool, "name")?,
                    description: required(tool, "description")?,
                    parameters: parameters.map(|schema| &*arena.alloc_str(&schema.to_string())),
                })
            })?,
        })
    });
    Ok(arena.alloc_slice_copy(&namespaces.collect::<Result<Vec<_>, Malformed>>()?))
}

fn slice<'a, T: Copy>(
    arena: &'a Bump,
    list: Option<&'a Value>,
    name: &str,
    mut read: impl FnMut(&'a Value) -> Result<T, Malformed>,
) -> Result<&'a [T], Malformed> {
    match list {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(values)) => {
            let items = values.iter().map(&mut read).collect::<Result<Vec<T>, _>>()?;
            Ok(arena.alloc_slice_copy(&items))
        }
        Some(_) => Err(format!("`{name}` should be a list")),
    }
}

fn ids(list: Option<&Value>) -> Result<Vec<u32>, Malformed> {
    let malformed = || Malformed::from("token ids should be a list of numbers below 2^32");
    let list = list.and_then(Value::as_array).ok_or_else(malformed)?;
    list.iter().map(|id| id.as_u64().and_then(|id| id.try_into().ok()).ok_or_else(malformed)).collect()
}

fn string<'a>(value: &'a Value, key: &str) -> Result<Option<&'a str>, Malformed> {
    match value.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{key}` should be a string")),
    }
}

fn required<'a>(value: &'a Value, key: &str) -> Result<&'a str, Malformed> {
    string(value, key)?.ok_or_else(|| format!("`{key}` is missing"))
}

fn role_of(name: &str) -> Result<Role, Malformed> {
    Role::from_name(name).ok_or_else(|| format!("unknown role: {name:?}"))
}

fn effort_of(name: &str) -> Result<Effort, Malformed> {
    let efforts = [Effort::Low, Effort::Medium, Effort::High];
    let effort = efforts.into_iter().find(|effort| effort.name().eq_ignore_ascii_case(name));
    effort.ok_or_else(|| format!("unknown effort: {name:?}"))
}

/// What the official library says.
fn library_text(error: &Error) -> String {
    match error {
        Error::Render(RenderError::ToolWithoutName { .. }) => "Tools should have a name!".into(),
        Error::Render(RenderError::SystemContent { role, .. }) => {
            format!("SystemContent may only appear in system messages, found in {role:?}")
        }
        Error::Render(RenderError::DeveloperContent { role, .. }) => {
            format!("DeveloperContent may only appear in developer messages, found in {role:?}")
        }
        other => other.to_string(),
    }
}
