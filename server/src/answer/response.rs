use std::sync::Arc;

use ossicle_core::generation::{MessageKind, Usage};
use ossicle_host::browser::{Citation, Citations, Pages};
use serde_json::{Map, Value, json};

use super::event::{AnswerEvent, End, TokenText};
use crate::builtin::shown;
use crate::error::ApiError;
use crate::request::{Format, Request, ToolKind, Tools, recipient};
use crate::seal::{Seal, new_id};

/// An event of a stream: its type, and its JSON.
pub type ServerEvent = (&'static str, Value);

/// The response under way, and the events that tell of it. Each answer event is taken as it comes; whatever the model
/// writes, the events come in the order that clients expect, and exactly one of them ends the stream.
pub struct ResponseAnswer {
    /// All of the response but `status` and what depends on it.
    response: Map<String, Value>,
    tools: Tools,
    /// What the model has been shown, and whether it may cite it: what keeps to a schema must stay as it is.
    pages: Pages,
    cites: bool,
    /// Whether searches tell what they found.
    tells_sources: bool,
    output: Vec<Value>,
    open: Option<Open>,
    /// The message is over, but whether it is complete is known when the next event comes.
    has_ended: bool,
    /// Tokens whose text has not come yet.
    tokens: Vec<Value>,
    sequence: u64,
    settings: Presentation,
    is_over: bool,
    failure: Option<ApiError>,
}

/// The status of a response that the model has begun to work on.
const IN_PROGRESS: &str = "in_progress";

/// How a response is shown.
#[derive(Clone)]
pub struct Presentation {
    /// Encrypts reasoning.
    pub seal: Arc<Seal>,
    /// Whose it is.
    pub owner: Arc<str>,
    /// Whether reasoning comes in encrypted form.
    pub encrypts_reasoning: bool,
    /// Whether it comes in that form only.
    pub withholds_reasoning: bool,
    /// The time, in seconds since 1970.
    pub clock: fn() -> u64,
}

/// The item that the model is writing.
struct Open {
    kind: Kind,
    id: String,
    text: String,
    /// Of a call that the server carries out: whether it has been told (of code, its end), and what it was answered with.
    is_told: bool,
    answer: Option<String>,
    /// The addresses that a search found.
    sources: Vec<String>,
    log_probabilities: Vec<Value>,
    citations: Citations,
    annotations: Vec<Value>,
}

#[derive(Clone, PartialEq)]
enum Kind {
    Reasoning { is_shown: bool },
    Message { phase: &'static str },
    Call { kind: ToolKind, call_id: String, namespace: Option<String>, name: String },
}

impl ResponseAnswer {
    /// A response to `request`, of which nothing has been told yet.
    pub fn new(request: &Request, model: &str, id: String, presentation: Presentation) -> Self {
        let mut response = Map::new();
        response.insert("id".into(), id.into());
        response.insert("object".into(), "response".into());
        response.insert("created_at".into(), (presentation.clock)().into());
        response.insert("completed_at".into(), Value::Null);
        response.insert("status".into(), "queued".into());
        response.insert("error".into(), Value::Null);
        response.insert("incomplete_details".into(), Value::Null);
        response.insert("model".into(), model.into());
        response.insert("output".into(), json!([]));
        response.insert("usage".into(), Value::Null);
        response.extend(request.echo.clone());
        Self {
            response,
            pages: shown(&request.task.items),
            cites: request.task.tools.has(ToolKind::Browser) && request.task.settings.format == Format::Text,
            tells_sources: request.include_sources,
            tools: request.task.tools.clone(),
            output: Vec::new(),
            open: None,
            has_ended: false,
            tokens: Vec::new(),
            sequence: 0,
            settings: presentation,
            is_over: false,
            failure: None,
        }
    }

    /// The response as it is now.
    pub fn response(&self) -> Value {
        let mut response = self.response.clone();
        response.insert("output".into(), self.output.clone().into());
        Value::Object(response)
    }

    /// Whether all has been told.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// What it failed with, if it did.
    pub fn failure(&self) -> Option<&ApiError> {
        self.failure.as_ref()
    }

    /// The first events of a stream. A response in the background waits first.
    pub fn begin(&mut self, is_queued: bool, emit: &mut dyn FnMut(ServerEvent)) {
        if is_queued {
            self.tell_response("response.created", emit);
            return self.tell_response("response.queued", emit);
        }
        self.response.insert("status".into(), IN_PROGRESS.into());
        self.tell_response("response.created", emit);
        self.tell_response("response.in_progress", emit);
    }

    /// Takes what the model did. After the end nothing is taken.
    pub fn take(&mut self, event: AnswerEvent, emit: &mut dyn FnMut(ServerEvent)) {
        if self.is_over {
            return;
        }
        match (&event, &mut self.open) {
            (AnswerEvent::ToolBegin, _) => return self.run(emit),
            (AnswerEvent::ToolResult { text, sources }, Some(open)) => {
                if open.is_search() {
                    self.pages.add(text);
                }
                open.answer = Some(text.clone());
                open.sources.clone_from(sources);
            }
            _ => {}
        }
        if core::mem::take(&mut self.has_ended) {
            let is_cut = matches!(&event, AnswerEvent::Stop { end, .. } if *end != End::Completed);
            self.close(if is_cut { "incomplete" } else { "completed" }, emit);
        }
        match event {
            AnswerEvent::Begin => {
                if self.response["status"] != IN_PROGRESS {
                    self.response.insert("status".into(), IN_PROGRESS.into());
                    self.tell_response("response.in_progress", emit);
                }
            }
            AnswerEvent::ToolBegin | AnswerEvent::ToolResult { .. } => {}
            AnswerEvent::Token { drawn, top } => self.tokens.push(log_probability(&drawn, &top)),
            AnswerEvent::MessageBegin { kind, recipient } => self.open(kind, recipient, emit),
            AnswerEvent::Delta(text) => self.delta(text, emit),
            AnswerEvent::MessageEnd => self.has_ended = true,
            AnswerEvent::Stop { end, usage } => self.stop(end, usage, emit),
        }
    }

    fn tell(&mut self, name: &'static str, mut event: Value, emit: &mut dyn FnMut(ServerEvent)) {
        let all = json!({ "type": name, "sequence_number": self.sequence });
        if let (Value::Object(mut all), Value::Object(event)) = (all, &mut event) {
            all.append(event);
            self.sequence += 1;
            emit((name, Value::Object(all)));
        }
    }

    fn tell_response(&mut self, name: &'static str, emit: &mut dyn FnMut(ServerEvent)) {
        let response = self.response();
        self.tell(name, json!({ "response": response }), emit);
    }

    /// Tells something about the open item, whose index and id are added.
    fn tell_item(&mut self, name: &'static str, mut event: Value, emit: &mut dyn FnMut(ServerEvent)) {
        if let Some(open) = &self.open {
            event["item_id"] = (&*open.id).into();
            event["output_index"] = self.output.len().into();
            self.tell(name, event, emit);
        }
    }

    fn open(&mut self, kind: MessageKind, recipient: Option<String>, emit: &mut dyn FnMut(ServerEvent)) {
        // A message that had no end is over all the same.
        self.close("completed", emit);
        // Those so far were of the header.
        self.tokens.clear();
        let kind = match kind {
            MessageKind::Reasoning => Kind::Reasoning { is_shown: !self.settings.withholds_reasoning },
            MessageKind::Preamble => Kind::Message { phase: "commentary" },
            MessageKind::Answer => Kind::Message { phase: "final_answer" },
            MessageKind::ToolCall => self.call(&recipient.unwrap_or_default()),
        };
        let id = new_id(match &kind {
            Kind::Reasoning { .. } => "rs",
            Kind::Message { .. } => "msg",
            Kind::Call { kind: ToolKind::Function, .. } => "fc",
            Kind::Call { kind: ToolKind::Custom, .. } => "ctc",
            Kind::Call { kind: ToolKind::Code, .. } => "ci",
            Kind::Call { kind: ToolKind::Browser, .. } => "ws",
        });
        let open = Open {
            kind,
            id,
            text: String::new(),
            is_told: false,
            answer: None,
            sources: Vec::new(),
            log_probabilities: Vec::new(),
            citations: Citations::default(),
            annotations: Vec::new(),
        };
        let is_search = open.is_search();
        self.open = Some(open);
        // What is searched for is known when the call is whole.
        if !is_search {
            self.tell_added(emit);
        }
    }

    fn tell_added(&mut self, emit: &mut dyn FnMut(ServerEvent)) {
        let Some(open) = &self.open else { return };
        let (index, item, part) = (self.output.len(), self.item(open, IN_PROGRESS, true), part(open));
        self.tell("response.output_item.added", json!({ "output_index": index, "item": item }), emit);
        if self.is_code() {
            self.tell_item("response.code_interpreter_call.in_progress", json!({}), emit);
        }
        if let Some(part) = part {
            self.tell_item("response.content_part.added", json!({ "content_index": 0, "part": part }), emit);
        }
    }

    fn is_code(&self) -> bool {
        self.open.as_ref().is_some_and(|open| matches!(open.kind, Kind::Call { kind: ToolKind::Code, .. }))
    }

    fn is_search(&self) -> bool {
        self.open.as_ref().is_some_and(Open::is_search)
    }

    /// A call that is complete is carried out now.
    fn run(&mut self, emit: &mut dyn FnMut(ServerEvent)) {
        if self.is_code() {
            self.tell_code(emit);
            self.tell_item("response.code_interpreter_call.interpreting", json!({}), emit);
        } else if self.is_search() {
            self.tell_search(emit);
            self.tell_item("response.web_search_call.in_progress", json!({}), emit);
            self.tell_item("response.web_search_call.searching", json!({}), emit);
        }
    }

    /// What is searched for is known.
    fn tell_search(&mut self, emit: &mut dyn FnMut(ServerEvent)) {
        let Some(open) = &mut self.open else { return };
        if !std::mem::replace(&mut open.is_told, true) {
            self.tell_added(emit);
        }
    }

    /// No more code comes.
    fn tell_code(&mut self, emit: &mut dyn FnMut(ServerEvent)) {
        let Some(open) = &mut self.open else { return };
        if !std::mem::replace(&mut open.is_told, true) {
            let code = json!({ "code": open.text });
            self.tell_item("response.code_interpreter_call_code.done", code, emit);
        }
    }

    fn call(&self, recipient: &str) -> Kind {
        let call_id = new_id("call");
        match self.tools.find(recipient) {
            Some(tool) => Kind::Call {
                kind: tool.kind,
                call_id,
                namespace: tool.given_namespace().map(str::to_owned),
                name: tool.name.clone(),
            },
            // The model called what nobody defined: the client is told, as far as the API has words for it.
            None => {
                let name = recipient.strip_prefix("functions.").unwrap_or(recipient).to_owned();
                Kind::Call { kind: ToolKind::Function, call_id, namespace: None, name }
            }
        }
    }

    fn delta(&mut self, text: String, emit: &mut dyn FnMut(ServerEvent)) {
        let Some(open) = &mut self.open else { return };
        let (text, cited) = match &open.kind {
            Kind::Message { .. } if self.cites => open.citations.take(&text, &self.pages),
            _ => (text, Vec::new()),
        };
        open.text.push_str(&text);
        if !text.is_empty() {
            self.tell_delta(text, emit);
        }
        for Citation { start, end, source } in cited {
            let annotation = json!({
                "type": "url_citation", "start_index": start, "end_index": end, "url": source.url, "title": source.title,
            });
            let Some(open) = &mut self.open else { return };
            let event =
                json!({ "content_index": 0, "annotation_index": open.annotations.len(), "annotation": annotation });
            open.annotations.push(annotation);
            self.tell_item("response.output_text.annotation.added", event, emit);
        }
    }

    fn tell_delta(&mut self, text: String, emit: &mut dyn FnMut(ServerEvent)) {
        let Some(open) = &mut self.open else { return };
        let (name, event) = match &open.kind {
            Kind::Reasoning { is_shown: false } | Kind::Call { kind: ToolKind::Browser, .. } => return,
            Kind::Reasoning { is_shown: true } => {
                ("response.reasoning_text.delta", json!({ "content_index": 0, "delta": text }))
            }
            Kind::Message { .. } => {
                let tokens = core::mem::take(&mut self.tokens);
                open.log_probabilities.extend_from_slice(&tokens);
                ("response.output_text.delta", json!({ "content_index": 0, "delta": text, "logprobs": tokens }))
            }
            Kind::Call { kind: ToolKind::Function, .. } => {
                ("response.function_call_arguments.delta", json!({ "delta": text }))
            }
            Kind::Call { kind: ToolKind::Custom, .. } => {
                ("response.custom_tool_call_input.delta", json!({ "delta": text }))
            }
            Kind::Call { kind: ToolKind::Code, .. } => {
                ("response.code_interpreter_call_code.delta", json!({ "delta": text }))
            }
        };
        self.tell_item(name, event, emit);
    }

    /// Ends the open item, if there is one.
    fn close(&mut self, status: &str, emit: &mut dyn FnMut(ServerEvent)) {
        if self.is_code() {
            self.tell_code(emit);
        } else if self.is_search() {
            self.tell_search(emit);
        }
        if let Some(open) = &mut self.open {
            let rest = open.citations.finish();
            open.text.push_str(&rest);
            if !rest.is_empty() {
                self.tell_delta(rest, emit);
            }
        }
        let Some(open) = &self.open else { return };
        let (item, part, text) = (self.item(open, status, false), part(open), open.text.clone());
        let log_probabilities = &open.log_probabilities;
        let done = match &open.kind {
            Kind::Reasoning { is_shown: false } => None,
            Kind::Reasoning { is_shown: true } => {
                Some(("response.reasoning_text.done", json!({ "content_index": 0, "text": text })))
            }
            Kind::Message { .. } => {
                let event = json!({ "content_index": 0, "text": text, "logprobs": log_probabilities });
                Some(("response.output_text.done", event))
            }
            Kind::Call { kind: ToolKind::Function, name, .. } => {
                Some(("response.function_call_arguments.done", json!({ "name": name, "arguments": text })))
            }
            Kind::Call { kind: ToolKind::Custom, .. } => {
                Some(("response.custom_tool_call_input.done", json!({ "input": text })))
            }
            Kind::Call { kind: ToolKind::Code, .. } => {
                (open.answer.is_some()).then(|| ("response.code_interpreter_call.completed", json!({})))
            }
            Kind::Call { kind: ToolKind::Browser, .. } => {
                (open.answer.is_some()).then(|| ("response.web_search_call.completed", json!({})))
            }
        };
        if let Some((name, event)) = done {
            self.tell_item(name, event, emit);
        }
        if let Some(part) = part {
            self.tell_item("response.content_part.done", json!({ "content_index": 0, "part": part }), emit);
        }
        let index = self.output.len();
        self.tell("response.output_item.done", json!({ "output_index": index, "item": item }), emit);
        self.open = None;
        self.output.push(item);
    }

    /// The open item as the API shows it.
    fn item(&self, open: &Open, status: &str, is_empty: bool) -> Value {
        let content = || if is_empty { json!([]) } else { part(open).map_or(json!([]), |part| json!([part])) };
        let id = &open.id;
        match &open.kind {
            Kind::Reasoning { is_shown } => {
                let Presentation { seal, owner, encrypts_reasoning, .. } = &self.settings;
                // What is withheld travels encrypted, so that the model can be told it again.
                let encrypted =
                    (!is_empty && (*encrypts_reasoning || !is_shown)).then(|| seal.close(owner, &open.text));
                let mut item = json!({
                    "id": id, "type": "reasoning", "summary": [], "content": content(), "status": status,
                });
                if *encrypts_reasoning || encrypted.is_some() {
                    item["encrypted_content"] = encrypted.into();
                }
                item
            }
            Kind::Message { phase } => json!({
                "id": id, "type": "message", "role": "assistant", "status": status, "phase": phase, "content": content(),
            }),
            Kind::Call { kind: ToolKind::Code, .. } => {
                let logs = |text: &String| json!([{ "type": "logs", "logs": text }]);
                let response = &self.response["id"];
                json!({
                    "id": id, "type": "code_interpreter_call", "status": status, "code": open.text,
                    "container_id": response, "outputs": open.answer.as_ref().map(logs),
                })
            }
            Kind::Call { kind: ToolKind::Browser, namespace, name, .. } => {
                let status = match &open.answer {
                    _ if is_empty => status,
                    Some(_) => "completed",
                    None => "failed",
                };
                let mut action = self.action(name, &open.text);
                if self.tells_sources && action["type"] == "search" {
                    let source = |url| json!({ "type": "url", "url": url });
                    action["sources"] = open.sources.iter().map(source).collect();
                }
                let mut item = json!({ "id": id, "type": "web_search_call", "status": status, "action": action });
                if let Some(answer) = &open.answer {
                    // What the model saw, so that it can be told it again.
                    let name = recipient(namespace.as_deref(), name);
                    item["results"] = json!([{ "name": name, "arguments": open.text, "output": answer }]);
                }
                item
            }
            Kind::Call { kind, call_id, namespace, name } => {
                let (item_type, argument) = match kind {
                    ToolKind::Function | ToolKind::Browser => ("function_call", "arguments"),
                    ToolKind::Custom | ToolKind::Code => ("custom_tool_call", "input"),
                };
                let mut item = json!({
                    "id": id, "type": item_type, "status": status, "call_id": call_id, "name": name,
                    argument: open.text,
                });
                if let Some(namespace) = namespace {
                    item["namespace"] = (&**namespace).into();
                }
                item
            }
        }
    }

    /// A call of the browser in the words of the API; the page is the one shown last, or what is asked for.
    fn action(&self, function: &str, arguments: &str) -> Value {
        let arguments: Value = serde_json::from_str(arguments).unwrap_or_default();
        let text = |name: &str| arguments[name].as_str();
        let shown = || self.pages.last().map(|page| &*page.url);
        match function {
            "open" => json!({ "type": "open_page", "url": text("id").or_else(shown) }),
            "find" => {
                let pattern = text("pattern").unwrap_or_default();
                json!({ "type": "find_in_page", "url": shown().unwrap_or_default(), "pattern": pattern })
            }
            _ => {
                let query = text("query").unwrap_or_default();
                json!({ "type": "search", "query": query, "queries": [query] })
            }
        }
    }

    fn stop(&mut self, end: End, usage: Usage, emit: &mut dyn FnMut(ServerEvent)) {
        self.close(if end == End::Completed { "completed" } else { "incomplete" }, emit);
        let mut set = |key: &str, value: Value| {
            self.response.insert(key.into(), value);
        };
        let reason = |reason: &str| json!({ "reason": reason });
        let (name, status) = match end {
            End::Completed => ("response.completed", "completed"),
            End::Length => {
                set("incomplete_details", reason("max_output_tokens"));
                ("response.incomplete", "incomplete")
            }
            End::Filtered(why) => {
                set("incomplete_details", json!({ "reason": "content_filter", "message": why }));
                ("response.incomplete", "incomplete")
            }
            End::Cancelled => ("response.incomplete", "cancelled"),
            End::Failed(error) => {
                set("error", json!({ "code": error.code.unwrap_or("server_error"), "message": error.message }));
                self.failure = Some(error);
                ("response.failed", "failed")
            }
        };
        set("status", status.into());
        if status == "completed" {
            set("completed_at", (self.settings.clock)().into());
        }
        self.response.insert("usage".into(), shown_usage(usage));
        self.is_over = true;
        self.tell_response(name, emit);
    }
}

impl Open {
    fn is_search(&self) -> bool {
        matches!(self.kind, Kind::Call { kind: ToolKind::Browser, .. })
    }
}

/// The only part of the content of an item, if its kind has such.
fn part(open: &Open) -> Option<Value> {
    match &open.kind {
        Kind::Reasoning { is_shown: true } => Some(json!({ "type": "reasoning_text", "text": open.text })),
        Kind::Message { .. } => Some(json!({
            "type": "output_text", "text": open.text, "annotations": open.annotations, "logprobs": open.log_probabilities,
        })),
        _ => None,
    }
}

fn shown_usage(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.input_tokens,
        "input_tokens_details": { "cached_tokens": usage.cached_tokens, "cache_write_tokens": 0 },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": { "reasoning_tokens": usage.reasoning_tokens },
        "total_tokens": usage.input_tokens + usage.output_tokens,
    })
}

/// A token and its rivals, in the form that both APIs share.
pub fn log_probability(drawn: &TokenText, top: &[TokenText]) -> Value {
    let shown = |token: &TokenText| {
        let text = String::from_utf8_lossy(&token.bytes);
        json!({ "token": text, "bytes": token.bytes, "logprob": token.log_probability })
    };
    let mut value = shown(drawn);
    value["top_logprobs"] = top.iter().map(shown).collect();
    value
}
