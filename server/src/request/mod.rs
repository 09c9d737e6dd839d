//! Requests: from JSON to what the model is to be told, and how it is to answer.

pub mod chat;
mod field;
mod format;
mod items;
mod tools;

use field::{Field, LONGEST_LIST};
pub use format::{Format, unsupported};
pub use items::Item;
pub use tools::{BuiltInTools, Tool, ToolChoice, ToolKind, Tools, recipient};

use std::collections::HashMap;

use ossicle_core::harmony::conversation::Effort;
use serde_json::{Map, Value, json};

use crate::error::ApiError;
use crate::seal::{Seal, new_id};

/// What a request asks of the model, whichever API it came through.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// What the developer says.
    pub instructions: Option<String>,
    /// The conversation.
    pub items: Vec<Item>,
    /// The tools that the model is told about.
    pub tools: Tools,
    /// How long it is to reason.
    pub effort: Effort,
    /// How it is to answer.
    pub settings: Settings,
}

/// How an answer is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Divides the logits.
    pub temperature: f32,
    /// The probability of the tokens that are drawn from.
    pub top_p: f32,
    /// Where the random numbers start.
    pub seed: Option<u64>,
    /// What to add to the logits of some tokens, by ascending token.
    pub logit_bias: Vec<(u32, f32)>,
    /// Texts that end the turn where they come in an answer or a preamble.
    pub stop: Vec<String>,
    /// Most tokens to write.
    pub max_tokens: Option<usize>,
    /// Most tokens of reasoning.
    pub reasoning_tokens: Option<usize>,
    /// Whether tokens are told with their probabilities, and with those of so many others.
    pub log_probabilities: Option<usize>,
    /// Which tools may be called.
    pub tool_choice: ToolChoice,
    /// Most calls of tools that the server carries out.
    pub max_tool_calls: Option<u64>,
    /// Whether the oldest items may be left out where all are too many.
    pub may_truncate: bool,
    /// What the answer must look like.
    pub format: Format,
    /// Whether the conversation may go on, so that its prompt is worth keeping.
    pub may_go_on: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            seed: None,
            logit_bias: Vec::new(),
            stop: Vec::new(),
            max_tokens: None,
            reasoning_tokens: None,
            log_probabilities: None,
            tool_choice: ToolChoice::default(),
            max_tool_calls: None,
            may_truncate: false,
            format: Format::Text,
            may_go_on: false,
        }
    }
}

/// What was accepted, but is not quite what was asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Warnings(pub Vec<String>);

/// Most warnings: clients take no more than some dozens of headers.
const MOST_WARNINGS: usize = 16;

impl Warnings {
    /// Adds one, unless there are many.
    pub fn add(&mut self, warning: String) {
        if self.0.len() < MOST_WARNINGS && !self.0.contains(&warning) {
            self.0.push(warning);
        }
    }
}

/// What a request is read with.
pub struct Context<'c> {
    /// Opens encrypted reasoning.
    pub seal: &'c Seal,
    /// Whose request it is.
    pub owner: &'c str,
    /// What the server has.
    pub built_in: BuiltInTools,
    /// The items of the conversation before this request.
    pub history: &'c [Value],
    /// Finds items by their ids, up to `items_size` bytes and one item; those that are not there are missing.
    pub items: &'c dyn Fn(&[&str]) -> HashMap<String, Value>,
    /// Most bytes of them in the input, each as often as it is named.
    pub items_size: usize,
}

#[cfg(test)]
impl<'c> Context<'c> {
    /// Nobody's, with nothing before the request.
    pub fn alone(seal: &'c Seal) -> Self {
        Self {
            seal,
            owner: "",
            built_in: BuiltInTools { python: true, browser: true },
            history: &[],
            items: &|_| HashMap::new(),
            items_size: 0,
        }
    }
}

/// A request to `POST /v1/responses`.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What it asks of the model.
    pub task: Task,
    /// Whether the answer comes as events.
    pub stream: bool,
    /// Whether the response can be retrieved later.
    pub store: bool,
    /// Whether the client does not wait.
    pub background: bool,
    /// Whether reasoning comes in encrypted form too.
    pub include_encrypted: bool,
    /// Whether searches are to tell the addresses that they found.
    pub include_sources: bool,
    /// Its own input, each item with an id.
    pub input: Vec<Value>,
    /// The fields that the response repeats.
    pub echo: Map<String, Value>,
    /// What is not quite as asked for.
    pub warnings: Warnings,
}

/// The response that a request goes on from.
pub fn previous_response_id(body: &Value) -> Result<Option<&str>, ApiError> {
    Field::root(body).get("previous_response_id").text()
}

impl Request {
    /// Reads the body of a request.
    pub fn read(body: &Value, context: &Context<'_>) -> Result<Self, ApiError> {
        let root = Field::root(body);
        root.object()?;
        root.get("model").text()?;
        let mut warnings = Warnings::default();
        for (key, instead) in [("conversation", "previous_response_id"), ("prompt", "input and instructions")] {
            if root.get(key).value().is_some() {
                return Err(root.get(key).unsupported(&format!("not available here; use {instead}")));
            }
        }
        let tools = Tools::read(&root.get("tools"), context.built_in, &mut warnings)?;
        let tool_choice = ToolChoice::read(&root.get("tool_choice"), &tools, &mut warnings)?;
        let input = input(&root.get("input"), context)?;
        let fields: Vec<_> = (context.history.iter().enumerate())
            .map(|(index, item)| Field::element(item, "previous", index))
            .chain(input.iter().enumerate().map(|(index, item)| Field::element(item, "input", index)))
            .collect();
        if fields.len() > LONGEST_LIST {
            return Err(root.get("input").refuse(&format!("at most {LONGEST_LIST} items, with those before them")));
        }
        let items = items::read(&fields, (context.seal, context.owner), &mut warnings)?;

        let reasoning = root.get_object("reasoning")?;
        let (effort, budget) = effort(&reasoning.get("effort"))?;
        let budget = reasoning.get("max_tokens").integer(0..=u64::MAX)?.map(|tokens| tokens as usize).or(budget);
        let include = includes(&root.get("include"), &mut warnings)?;
        let top_logprobs = root.get("top_logprobs").integer(0..=20)?.map(|count| count as usize);
        let text = root.get_object("text")?;
        let format = Format::read(&text.get("format"), &mut warnings)?;
        let settings = Settings {
            temperature: root.get("temperature").number(0.0..=2.0)?.unwrap_or(1.0) as f32,
            top_p: top_p(&root)?,
            seed: root.get("seed").integer(0..=u64::MAX)?,
            max_tokens: root.get("max_output_tokens").integer(1..=u64::MAX)?.map(|tokens| tokens as usize),
            reasoning_tokens: budget,
            log_probabilities: include.logprobs.then(|| top_logprobs.unwrap_or(0)),
            tool_choice,
            max_tool_calls: root.get("max_tool_calls").integer(1..=u64::MAX)?,
            may_truncate: root.get("truncation").choice(&[("disabled", false), ("auto", true)])?.unwrap_or(false),
            format,
            may_go_on: true,
            ..Settings::default()
        };
        text.get("verbosity").choice(&[("low", ()), ("medium", ()), ("high", ())])?;
        metadata(&root.get("metadata"))?;
        let background = root.get("background").boolean()?.unwrap_or(false);
        let store = root.get("store").boolean()?.unwrap_or(true);
        if background && !store {
            return Err(root.get("store").refuse("true for a response in the background"));
        }
        Ok(Self {
            echo: echo(&root, effort_name(&reasoning), top_logprobs)?,
            task: Task {
                instructions: root.get("instructions").text()?.map(str::to_owned),
                items,
                tools,
                effort,
                settings,
            },
            stream: root.get("stream").boolean()?.unwrap_or(false),
            store,
            background,
            include_encrypted: include.encrypted,
            include_sources: include.sources,
            input,
            warnings,
        })
    }
}

/// The input as items, each with an id.
fn input(field: &Field<'_>, context: &Context<'_>) -> Result<Vec<Value>, ApiError> {
    if let Some(text) = field.value().and_then(Value::as_str) {
        let content = json!([{ "type": "input_text", "text": text }]);
        return Ok(vec![json!({
            "id": new_id("msg"), "type": "message", "role": "user", "status": "completed", "content": content,
        })]);
    }
    let expected = "a string or a list of items";
    let items = match field.list() {
        Ok(None) if !context.history.is_empty() => return Ok(Vec::new()),
        Ok(Some(items)) => items,
        _ => return Err(field.refuse(expected)),
    };
    let mut named = Vec::new();
    for item in &items {
        if is_reference(item)? {
            named.push(item.get("id").required_text()?);
        }
    }
    let found = if named.is_empty() { HashMap::new() } else { (context.items)(&named) };
    let sizes: HashMap<_, _> = found.iter().map(|(id, item)| (&**id, item.to_string().len())).collect();
    if named.iter().filter_map(|id| sizes.get(id)).sum::<usize>() > context.items_size {
        return Err(field.refuse(&format!("references to items of at most {} bytes together", context.items_size)));
    }
    let mut input = Vec::new();
    for item in items {
        let Some(object) = item.object()? else { continue };
        if is_reference(&item)? {
            let id = item.get("id");
            let found = found.get(id.required_text()?);
            input.push(found.ok_or_else(|| id.refuse("the id of an item of a stored response"))?.clone());
            continue;
        }
        let mut object = object.clone();
        let kind = item.get("type").text()?.unwrap_or("message").to_owned();
        if item.get("id").text()?.is_none() {
            let prefix = match &*kind {
                "message" => "msg",
                "reasoning" => "rs",
                "function_call" => "fc",
                "custom_tool_call" => "ctc",
                "code_interpreter_call" => "ci",
                "web_search_call" => "ws",
                _ => "item",
            };
            object.insert("id".into(), new_id(prefix).into());
        }
        object.insert("type".into(), kind.into());
        input.push(Value::Object(object));
    }
    Ok(input)
}

/// Whether an item stands for one that is stored. It may come without a type.
fn is_reference(item: &Field<'_>) -> Result<bool, ApiError> {
    let has_id = item.get("id").text()?.is_some();
    Ok(match item.get("type").text()? {
        Some(kind) => kind == "item_reference",
        None => has_id && item.get("role").value().is_none(),
    })
}

/// How long to reason, and the tokens for it where the words of the API go beyond those of the model.
fn effort(field: &Field<'_>) -> Result<(Effort, Option<usize>), ApiError> {
    let words = [
        ("none", (Effort::Low, Some(0))),
        ("minimal", (Effort::Low, None)),
        ("low", (Effort::Low, None)),
        ("medium", (Effort::Medium, None)),
        ("high", (Effort::High, None)),
        ("xhigh", (Effort::High, None)),
        ("max", (Effort::High, None)),
    ];
    Ok(field.choice(&words)?.unwrap_or((Effort::Medium, None)))
}

fn effort_name<'a>(reasoning: &Field<'a>) -> &'a str {
    reasoning.get("effort").value().and_then(Value::as_str).unwrap_or("medium")
}

fn top_p(root: &Field<'_>) -> Result<f32, ApiError> {
    // The smallest number leaves the likeliest token, as 0 means.
    Ok((root.get("top_p").number(0.0..=1.0)?.unwrap_or(1.0) as f32).max(f32::MIN_POSITIVE))
}

#[derive(Default)]
struct Includes {
    encrypted: bool,
    logprobs: bool,
    sources: bool,
}

fn includes(field: &Field<'_>, warnings: &mut Warnings) -> Result<Includes, ApiError> {
    let mut include = Includes::default();
    for field in field.list()?.unwrap_or_default() {
        match field.required_text()? {
            "reasoning.encrypted_content" => include.encrypted = true,
            "message.output_text.logprobs" => include.logprobs = true,
            "web_search_call.action.sources" => include.sources = true,
            // Always there.
            "code_interpreter_call.outputs" => {}
            other => warnings.add(format!("include: there is no {other:?} to include")),
        }
    }
    Ok(include)
}

/// Up to 16 short texts.
fn metadata(field: &Field<'_>) -> Result<(), ApiError> {
    let Some(object) = field.object()? else { return Ok(()) };
    let is_short =
        |(key, value): (&String, &Value)| key.len() <= 64 && value.as_str().is_some_and(|value| value.len() <= 512);
    if object.len() > 16 || !object.iter().all(is_short) {
        return Err(field.refuse("at most 16 strings of at most 512 bytes, with names of at most 64"));
    }
    Ok(())
}

/// The fields that the response repeats, with the API's defaults.
fn echo(root: &Field<'_>, effort: &str, top_logprobs: Option<usize>) -> Result<Map<String, Value>, ApiError> {
    let given = |key: &str, default: Value| root.get(key).value().cloned().unwrap_or(default);
    let text = root.get("text");
    let mut verbosity = text.get("verbosity").value().cloned().unwrap_or(json!("medium"));
    let format = text.get("format").value().cloned().unwrap_or(json!({ "type": "text" }));
    let mut echo = Map::new();
    let mut put = |key: &str, value: Value| {
        echo.insert(key.to_owned(), value);
    };
    put("background", given("background", false.into()));
    put("frequency_penalty", json!(0.0));
    put("instructions", given("instructions", Value::Null));
    put("max_output_tokens", given("max_output_tokens", Value::Null));
    put("max_tool_calls", given("max_tool_calls", Value::Null));
    put("metadata", given("metadata", json!({})));
    root.get("parallel_tool_calls").boolean()?;
    put("parallel_tool_calls", given("parallel_tool_calls", true.into()));
    put("presence_penalty", json!(0.0));
    put("previous_response_id", given("previous_response_id", Value::Null));
    for key in ["prompt_cache_key", "safety_identifier", "user"] {
        root.get(key).text()?;
        put(key, given(key, Value::Null));
    }
    let summary = root.get("reasoning").get("summary").value().cloned().unwrap_or(Value::Null);
    put("reasoning", json!({ "effort": effort, "summary": summary }));
    put("service_tier", "default".into());
    put("store", given("store", true.into()));
    put("temperature", given("temperature", json!(1.0)));
    put("text", json!({ "format": format, "verbosity": verbosity.take() }));
    put("tool_choice", given("tool_choice", "auto".into()));
    put("tools", Value::Array(root.get("tools").list()?.unwrap_or_default().iter().map(shown_tool).collect()));
    put("top_logprobs", json!(top_logprobs.unwrap_or(0)));
    put("top_p", given("top_p", json!(1.0)));
    put("truncation", given("truncation", "disabled".into()));
    Ok(echo)
}

/// A tool as the response shows it: functions with all their fields.
fn shown_tool(field: &Field<'_>) -> Value {
    let mut tool = field.value().cloned().unwrap_or_default();
    if let Some(object) = tool.as_object_mut().filter(|object| object.get("type") == Some(&"function".into())) {
        for (key, default) in [("description", Value::Null), ("parameters", Value::Null), ("strict", false.into())] {
            object.entry(key).or_insert(default);
        }
    }
    tool
}

#[cfg(test)]
mod tests;
