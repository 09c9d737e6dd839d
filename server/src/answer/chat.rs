use ossicle_core::generation::{MessageKind, Usage};
use serde_json::{Value, json};

use super::event::{AnswerEvent, End};
use super::response::log_probability;
use crate::request::chat::ChatRequest;
use crate::request::{ToolKind, Tools};
use crate::seal::new_id;

/// An answer of Chat Completions under way.
pub struct ChatAnswer {
    id: String,
    model: String,
    created: u64,
    tools: Tools,
    shows_reasoning: bool,
    stream_usage: bool,
    kind: Option<MessageKind>,
    content: String,
    reasoning: String,
    calls: Vec<Value>,
    /// Tokens whose text has not come yet, and those of the content.
    tokens: Vec<Value>,
    log_probabilities: Option<Vec<Value>>,
    end: Option<(End, Usage)>,
}

impl ChatAnswer {
    /// An answer to `request`, begun at `created`.
    pub fn new(request: &ChatRequest, model: &str, created: u64, withholds_reasoning: bool) -> Self {
        Self {
            id: new_id("chatcmpl"),
            model: model.to_owned(),
            created,
            tools: request.task.tools.clone(),
            shows_reasoning: !request.exclude_reasoning && !withholds_reasoning,
            stream_usage: request.stream_usage,
            kind: None,
            content: String::new(),
            reasoning: String::new(),
            calls: Vec::new(),
            tokens: Vec::new(),
            log_probabilities: request.task.settings.log_probabilities.map(|_| Vec::new()),
            end: None,
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How it ended, if it has.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref().map(|(end, _)| end)
    }

    /// The first chunk of a stream.
    pub fn begin(&self, emit: &mut dyn FnMut(Value)) {
        emit(self.chunk(json!({ "role": "assistant", "content": "" }), Value::Null, None));
    }

    /// Takes what the model did, and tells it in chunks. After the end nothing is taken.
    pub fn take(&mut self, event: AnswerEvent, emit: &mut dyn FnMut(Value)) {
        if self.end.is_some() {
            return;
        }
        match event {
            AnswerEvent::Begin | AnswerEvent::ToolBegin | AnswerEvent::ToolResult { .. } => {}
            AnswerEvent::Token { drawn, top } => self.tokens.push(log_probability(&drawn, &top)),
            AnswerEvent::MessageBegin { kind, recipient } => {
                self.kind = Some(kind);
                self.tokens.clear();
                if kind == MessageKind::ToolCall {
                    self.begin_call(&recipient.unwrap_or_default(), emit);
                } else if is_content(kind) && !self.content.is_empty() {
                    // One content has to hold what was said before and after.
                    self.delta("\n\n", emit);
                }
            }
            AnswerEvent::Delta(text) => self.delta(&text, emit),
            AnswerEvent::MessageEnd => self.kind = None,
            AnswerEvent::Stop { end, usage } => {
                let reason = self.finish_reason(&end);
                self.end = Some((end, usage));
                emit(self.chunk(json!({}), reason.into(), None));
                if self.stream_usage {
                    let mut chunk = self.chunk(json!({}), Value::Null, None);
                    chunk["choices"] = json!([]);
                    chunk["usage"] = shown_usage(usage);
                    emit(chunk);
                }
            }
        }
    }

    /// The whole answer.
    pub fn completion(&self) -> Value {
        let content = (!self.content.is_empty() || self.calls.is_empty()).then_some(&self.content);
        let mut message = json!({ "role": "assistant", "content": content, "refusal": null, "annotations": [] });
        if self.shows_reasoning && !self.reasoning.is_empty() {
            message["reasoning"] = (&*self.reasoning).into();
            message["reasoning_content"] = (&*self.reasoning).into();
        }
        if !self.calls.is_empty() {
            message["tool_calls"] = self.calls.clone().into();
        }
        let (reason, usage) = match &self.end {
            Some((end, usage)) => (self.finish_reason(end), *usage),
            None => ("stop", Usage::default()),
        };
        let log_probabilities =
            self.log_probabilities.as_ref().map(|tokens| json!({ "content": tokens, "refusal": null }));
        json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [{
                "index": 0, "message": message, "logprobs": log_probabilities, "finish_reason": reason,
            }],
            "usage": shown_usage(usage),
            "service_tier": "default",
        })
    }

    fn begin_call(&mut self, recipient: &str, emit: &mut dyn FnMut(Value)) {
        let tool = self.tools.find(recipient);
        let name = tool.map_or(recipient.strip_prefix("functions.").unwrap_or(recipient), |tool| &tool.name);
        let call = match tool.map_or(ToolKind::Function, |tool| tool.kind) {
            ToolKind::Function | ToolKind::Browser => {
                json!({ "type": "function", "function": { "name": name, "arguments": "" } })
            }
            ToolKind::Custom | ToolKind::Code => json!({ "type": "custom", "custom": { "name": name, "input": "" } }),
        };
        let mut told = json!({ "index": self.calls.len(), "id": new_id("call") });
        merge(&mut told, &call);
        let mut kept = told.clone();
        if let Some(kept) = kept.as_object_mut() {
            kept.shift_remove("index");
        }
        self.calls.push(kept);
        emit(self.chunk(json!({ "tool_calls": [told] }), Value::Null, None));
    }

    fn delta(&mut self, text: &str, emit: &mut dyn FnMut(Value)) {
        match self.kind {
            Some(MessageKind::Reasoning) => {
                self.reasoning.push_str(text);
                if self.shows_reasoning {
                    emit(self.chunk(json!({ "reasoning": text, "reasoning_content": text }), Value::Null, None));
                }
            }
            Some(MessageKind::ToolCall) => {
                let index = self.calls.len().saturating_sub(1);
                let Some(call) = self.calls.last_mut() else { return };
                let (kind, argument) =
                    if call["type"] == "custom" { ("custom", "input") } else { ("function", "arguments") };
                let so_far = call[kind][argument].as_str().unwrap_or_default();
                call[kind][argument] = format!("{so_far}{text}").into();
                let told = json!({ "index": index, kind: { argument: text } });
                emit(self.chunk(json!({ "tool_calls": [told] }), Value::Null, None));
            }
            Some(_) => {
                self.content.push_str(text);
                let tokens = core::mem::take(&mut self.tokens);
                let told = self.log_probabilities.as_mut().map(|all| {
                    all.extend_from_slice(&tokens);
                    json!({ "content": tokens, "refusal": null })
                });
                emit(self.chunk(json!({ "content": text }), Value::Null, told));
            }
            None => {}
        }
    }

    fn finish_reason(&self, end: &End) -> &'static str {
        match end {
            End::Length => "length",
            End::Filtered(_) => "content_filter",
            _ if !self.calls.is_empty() => "tool_calls",
            _ => "stop",
        }
    }

    fn chunk(&self, delta: Value, reason: Value, log_probabilities: Option<Value>) -> Value {
        let choice = json!({ "index": 0, "delta": delta, "logprobs": log_probabilities, "finish_reason": reason });
        let mut chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": [choice],
        });
        if self.stream_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }
}

fn is_content(kind: MessageKind) -> bool {
    matches!(kind, MessageKind::Answer | MessageKind::Preamble)
}

fn merge(into: &mut Value, from: &Value) {
    if let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) {
        into.extend(from.clone());
    }
}

fn shown_usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": { "cached_tokens": usage.cached_tokens },
        "completion_tokens_details": { "reasoning_tokens": usage.reasoning_tokens },
    })
}
