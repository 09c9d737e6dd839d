//! The items of a conversation.

use std::collections::HashMap;

use ossicle_core::harmony::builtin::{BROWSER, PYTHON};
use ossicle_core::harmony::conversation::{ANALYSIS, COMMENTARY, FINAL, Role};

use super::Warnings;
use super::field::Field;
use super::tools::{ToolKind, recipient};
use crate::error::ApiError;
use crate::seal::Seal;

/// An item of the conversation, as the model is told it.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// Somebody says something.
    Message {
        /// Who: the developer, the user or the assistant.
        role: Role,
        /// Of the assistant's messages: the channel.
        channel: Option<&'static str>,
        /// The texts.
        parts: Vec<String>,
    },
    /// The model thought something.
    Reasoning(Vec<String>),
    /// The model called a tool.
    Call {
        /// What the answer refers to.
        call_id: String,
        /// The tool, by the name by which the model calls it.
        recipient: String,
        /// What it takes.
        kind: ToolKind,
        /// With what.
        argument: String,
    },
    /// The tool answered.
    CallOutput {
        /// The tool.
        recipient: String,
        /// With what.
        parts: Vec<String>,
    },
}

/// Reads items. `seal` opens the reasoning that this server once encrypted for `owner`. Calls that were cut off are left out.
pub fn read(
    fields: &[Field<'_>],
    (seal, owner): (&Seal, &str),
    warnings: &mut Warnings,
) -> Result<Vec<Item>, ApiError> {
    let mut items: Vec<Item> = Vec::new();
    let mut calls = Calls::new();
    for field in fields {
        let item = match field.get("type").text()?.unwrap_or("message") {
            "message" => message(field)?,
            "reasoning" => match reasoning(field, seal, owner)? {
                Some(item) => item,
                None => continue,
            },
            "function_call" | "custom_tool_call" => match call(field, &mut calls)? {
                Some(item) => item,
                None => continue,
            },
            "code_interpreter_call" => {
                // Code that was not run, or whose outputs are not told, would have to be answered with something invented.
                let Some(parts) = printed(field)? else { continue };
                items.push(code(field)?);
                Item::CallOutput { recipient: PYTHON.name.into(), parts }
            }
            "web_search_call" => {
                // What was found is in no field of the API; without it nothing is told.
                let Some((call, output)) = searched(field)? else { continue };
                items.push(call);
                output
            }
            "function_call_output" | "custom_tool_call_output" => match output(field, &calls)? {
                Some(item) => item,
                None => continue,
            },
            other => {
                warnings.add(format!("input: items of type {other:?} are unknown and were left out"));
                continue;
            }
        };
        items.push(item);
    }
    Ok(items)
}

fn message(field: &Field<'_>) -> Result<Item, ApiError> {
    let roles = [
        ("user", Role::User),
        ("assistant", Role::Assistant),
        ("developer", Role::Developer),
        ("system", Role::Developer),
    ];
    let role = field.get("role");
    let role = role.choice(&roles)?.ok_or_else(|| role.refuse("user, assistant, developer or system"))?;
    let channel = match role {
        Role::Assistant => {
            field.get("phase").choice(&[("commentary", COMMENTARY), ("final_answer", FINAL)])?.or(Some(FINAL))
        }
        _ => None,
    };
    Ok(Item::Message { role, channel, parts: texts(&field.get("content"))? })
}

fn reasoning(field: &Field<'_>, seal: &Seal, owner: &str) -> Result<Option<Item>, ApiError> {
    let content = field.get("content");
    let parts = if content.value().is_some() { texts(&content)? } else { Vec::new() };
    if !parts.is_empty() {
        return Ok(Some(Item::Reasoning(parts)));
    }
    let encrypted = field.get("encrypted_content");
    let Some(text) = encrypted.text()? else { return Ok(None) };
    match seal.open(owner, text) {
        Some(text) => Ok(Some(Item::Reasoning(vec![text]))),
        None => Err(ApiError {
            code: Some("invalid_encrypted_content"),
            ..ApiError::invalid(encrypted.path(), "The encrypted content was not made by this server for this client.")
        }),
    }
}

/// Whom the calls so far went to, by their ids; nobody, if a call was cut off.
pub type Calls = HashMap<String, Option<String>>;

fn call(field: &Field<'_>, calls: &mut Calls) -> Result<Option<Item>, ApiError> {
    let (kind, argument) = match field.get("type").text()? {
        Some("custom_tool_call") => (ToolKind::Custom, "input"),
        _ => (ToolKind::Function, "arguments"),
    };
    let call_id = field.get("call_id").required_text()?.to_owned();
    let recipient = recipient(field.get("namespace").text()?, field.get("name").required_text()?);
    let argument = field.get(argument).required_text()?.to_owned();
    let is_cut = field.get("status").text()? == Some("incomplete");
    calls.insert(call_id.clone(), (!is_cut).then(|| recipient.clone()));
    Ok((!is_cut).then_some(Item::Call { call_id, recipient, kind, argument }))
}

/// What the model gave Python.
fn code(field: &Field<'_>) -> Result<Item, ApiError> {
    Ok(Item::Call {
        call_id: field.get("id").text()?.unwrap_or_default().to_owned(),
        recipient: PYTHON.name.into(),
        kind: ToolKind::Code,
        argument: field.get("code").text()?.unwrap_or_default().to_owned(),
    })
}

/// What the model asked of the browser, and what it saw.
fn searched(field: &Field<'_>) -> Result<Option<(Item, Item)>, ApiError> {
    let results = field.get("results").list()?.unwrap_or_default();
    let Some(result) = results.first() else { return Ok(None) };
    let name = result.get("name");
    let recipient = name.required_text()?.to_owned();
    if !is_built_in(&recipient) || recipient == PYTHON.name {
        return Err(name.refuse("a function of the browser"));
    }
    let call = Item::Call {
        call_id: String::new(),
        recipient: recipient.clone(),
        kind: ToolKind::Browser,
        argument: result.get("arguments").required_text()?.to_owned(),
    };
    Ok(Some((call, Item::CallOutput { recipient, parts: vec![result.get("output").required_text()?.to_owned()] })))
}

/// What Python printed, if that is told.
fn printed(field: &Field<'_>) -> Result<Option<Vec<String>>, ApiError> {
    let Some(outputs) = field.get("outputs").list()? else { return Ok(None) };
    let logs = outputs.iter().filter_map(|output| output.get("logs").text().transpose());
    logs.map(|text| text.map(str::to_owned)).collect::<Result<_, _>>().map(Some)
}

fn output(field: &Field<'_>, calls: &Calls) -> Result<Option<Item>, ApiError> {
    let id = field.get("call_id");
    let called = calls.get(id.required_text()?).ok_or_else(|| id.refuse("the call_id of a call before it"))?;
    let Some(recipient) = called.clone() else { return Ok(None) };
    Ok(Some(Item::CallOutput { recipient, parts: texts(&field.get("output"))? }))
}

/// A string, or a list of parts with texts.
pub fn texts(field: &Field<'_>) -> Result<Vec<String>, ApiError> {
    if let Some(text) = field.value().and_then(|value| value.as_str()) {
        return Ok(vec![text.to_owned()]);
    }
    let parts = field.list()?.ok_or_else(|| field.refuse("a string or a list of parts"))?;
    let text = |part: &Field<'_>| {
        let kind = part.get("type");
        match kind.text()?.unwrap_or("text") {
            "text" | "input_text" | "output_text" | "reasoning_text" | "summary_text" => {
                Ok(part.get("text").required_text()?.to_owned())
            }
            "refusal" => Ok(part.get("refusal").required_text()?.to_owned()),
            other => Err(kind.unsupported(&format!("the model reads text only, not {other:?}"))),
        }
    };
    parts.iter().map(text).collect()
}

/// Whether the server carries out calls by this name.
fn is_built_in(recipient: &str) -> bool {
    let function = recipient.strip_prefix(BROWSER.name).and_then(|rest| rest.strip_prefix('.'));
    recipient == PYTHON.name || BROWSER.tools.iter().any(|tool| Some(tool.name) == function)
}

impl Item {
    /// The channel on which the assistant's item stands.
    pub fn channel(&self) -> Option<&'static str> {
        match self {
            Self::Message { channel, .. } => *channel,
            Self::Reasoning(_) => Some(ANALYSIS),
            Self::Call { kind, .. } if kind.is_built_in() => Some(ANALYSIS),
            Self::CallOutput { recipient, .. } if is_built_in(recipient) => Some(ANALYSIS),
            Self::Call { .. } | Self::CallOutput { .. } => Some(COMMENTARY),
        }
    }
}
