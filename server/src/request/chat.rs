//! Requests to `POST /v1/chat/completions`.

use ossicle_core::harmony::conversation::{COMMENTARY, FINAL, FUNCTIONS, Role};
use serde_json::Value;

use super::items::{Calls, texts};
use super::tools::recipient;
use super::{Field, Format, Item, LONGEST_LIST, Settings, Task, ToolChoice, ToolKind, Tools, Warnings, effort, top_p};
use crate::error::ApiError;

/// A request to `POST /v1/chat/completions`.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    /// What it asks of the model.
    pub task: Task,
    /// Whether the answer comes as events.
    pub stream: bool,
    /// Whether the last event tells the tokens used.
    pub stream_usage: bool,
    /// Whether the reasoning is left out.
    pub exclude_reasoning: bool,
    /// What is not quite as asked for.
    pub warnings: Warnings,
}

impl ChatRequest {
    /// Reads the body of a request.
    pub fn read(body: &Value) -> Result<Self, ApiError> {
        let root = Field::root(body);
        root.object()?;
        root.get("model").text()?;
        let mut warnings = Warnings::default();
        if root.get("n").integer(1..=128)?.unwrap_or(1) != 1 {
            return Err(root.get("n").unsupported("one choice at a time"));
        }
        for key in ["presence_penalty", "frequency_penalty"] {
            if root.get(key).number(-2.0..=2.0)?.unwrap_or(0.0) != 0.0 {
                warnings.add(format!("{key}: has no effect here"));
            }
        }
        let mut tools = Tools::default();
        for field in root.get("tools").list()?.unwrap_or_default() {
            let kind = field.get("type");
            match kind.required_text()? {
                "function" => tools.add_as(&field.get("function"), ToolKind::Function, FUNCTIONS, &mut warnings)?,
                "custom" => tools.add_as(&field.get("custom"), ToolKind::Custom, FUNCTIONS, &mut warnings)?,
                other => warnings.add(format!("tools: there are none of type {other:?}")),
            }
        }
        let tool_choice = ToolChoice::read(&root.get("tool_choice"), &tools, &mut warnings)?;
        let messages = root.get("messages");
        let (mut items, mut calls) = (Vec::new(), Calls::new());
        for message in messages.list()?.ok_or_else(|| messages.refuse("a list of messages"))? {
            add_message(&message, &mut items, &mut calls)?;
            if items.len() > LONGEST_LIST {
                return Err(messages.refuse(&format!("at most {LONGEST_LIST} messages, reasoning and calls")));
            }
        }
        let reasoning = root.get_object("reasoning")?;
        let (short, long) = (root.get("reasoning_effort"), reasoning.get("effort"));
        let (effort, budget) = effort(if short.value().is_some() { &short } else { &long })?;
        let budget = reasoning.get("max_tokens").integer(0..=u64::MAX)?.map(|tokens| tokens as usize).or(budget);
        let max_tokens = root.get("max_completion_tokens").integer(1..=u64::MAX)?;
        let max_tokens = max_tokens.or(root.get("max_tokens").integer(1..=u64::MAX)?);
        let top_logprobs = root.get("top_logprobs").integer(0..=20)?.map(|count| count as usize);
        let settings = Settings {
            temperature: root.get("temperature").number(0.0..=2.0)?.unwrap_or(1.0) as f32,
            top_p: top_p(&root)?,
            seed: root.get("seed").integer(0..=u64::MAX)?,
            logit_bias: logit_bias(&root.get("logit_bias"))?,
            stop: stop(&root.get("stop"))?,
            max_tokens: max_tokens.map(|tokens| tokens as usize),
            reasoning_tokens: budget,
            log_probabilities: root.get("logprobs").boolean()?.unwrap_or(false).then(|| top_logprobs.unwrap_or(0)),
            tool_choice,
            max_tool_calls: None,
            may_truncate: false,
            format: Format::read(&root.get("response_format"), &mut warnings)?,
            may_go_on: true,
        };
        Ok(Self {
            task: Task { instructions: None, items, tools, effort, settings },
            stream: root.get("stream").boolean()?.unwrap_or(false),
            stream_usage: root.get_object("stream_options")?.get("include_usage").boolean()?.unwrap_or(false),
            exclude_reasoning: reasoning.get("exclude").boolean()?.unwrap_or(false),
            warnings,
        })
    }
}

fn add_message(field: &Field<'_>, items: &mut Vec<Item>, calls: &mut Calls) -> Result<(), ApiError> {
    let roles = [
        ("user", Role::User),
        ("assistant", Role::Assistant),
        ("developer", Role::Developer),
        ("system", Role::Developer),
        ("tool", Role::Tool),
    ];
    let role = field.get("role");
    let role = role.choice(&roles)?.ok_or_else(|| role.refuse("user, assistant, developer, system or tool"))?;
    let content = field.get("content");
    match role {
        Role::Tool => {
            let id = field.get("tool_call_id");
            let called = calls.get(id.required_text()?).cloned().flatten();
            let recipient = called.ok_or_else(|| id.refuse("the id of a tool call before it"))?;
            items.push(Item::CallOutput { recipient, parts: texts(&content)? });
        }
        Role::Assistant => {
            let (reasoning, rival) = (field.get("reasoning").text()?, field.get("reasoning_content").text()?);
            if let Some(text) = reasoning.or(rival).filter(|text| !text.is_empty()) {
                items.push(Item::Reasoning(vec![text.to_owned()]));
            }
            let tool_calls = field.get("tool_calls").list()?.unwrap_or_default();
            // What is said before a tool is called is no answer yet.
            let channel = Some(if tool_calls.is_empty() { FINAL } else { COMMENTARY });
            let parts = if content.value().is_some() { texts(&content)? } else { Vec::new() };
            if parts.iter().any(|part| !part.is_empty()) {
                items.push(Item::Message { role, channel, parts });
            }
            for call in tool_calls {
                let (kind, argument) = match call.get("type").text()?.unwrap_or("function") {
                    "custom" => (ToolKind::Custom, "input"),
                    _ => (ToolKind::Function, "arguments"),
                };
                let body = call.get(if kind == ToolKind::Custom { "custom" } else { "function" });
                let call_id = call.get("id").required_text()?.to_owned();
                let recipient = recipient(None, body.get("name").required_text()?);
                calls.insert(call_id.clone(), Some(recipient.clone()));
                let argument = body.get(argument).required_text()?.to_owned();
                items.push(Item::Call { call_id, recipient, kind, argument });
            }
        }
        _ => items.push(Item::Message { role, channel: None, parts: texts(&content)? }),
    }
    Ok(())
}

fn stop(field: &Field<'_>) -> Result<Vec<String>, ApiError> {
    let strings = match field.value() {
        Some(Value::String(text)) => vec![text.clone()],
        _ => {
            let list = field.list()?.unwrap_or_default();
            list.iter().map(|text| Ok(text.required_text()?.to_owned())).collect::<Result<_, ApiError>>()?
        }
    };
    if strings.len() > 4 || strings.iter().any(|text| text.is_empty() || text.len() > 124) {
        return Err(field.refuse("at most 4 strings of 1 to 124 bytes"));
    }
    Ok(strings)
}

fn logit_bias(field: &Field<'_>) -> Result<Vec<(u32, f32)>, ApiError> {
    let mut biases = Vec::new();
    for token in field.object()?.into_iter().flat_map(|object| object.keys()) {
        let bias = field.get(token).number(-100.0..=100.0)?.unwrap_or(0.0) as f32;
        let id = token.parse().map_err(|_| field.refuse("ids of tokens as keys"))?;
        // The ends of the range mean never and always.
        biases.push((id, if bias == -100.0 { f32::NEG_INFINITY } else { bias }));
    }
    biases.sort_by_key(|(token, _)| *token);
    biases.dedup_by_key(|(token, _)| *token);
    Ok(biases)
}
