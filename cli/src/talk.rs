//! What `ossicle run` and `ossicle chat` share: options, the conversation's memory, and answers.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow, bail};
use bumpalo::Bump;
use clap::{Args, ValueEnum};
use ossicle_core::error::Error;
use ossicle_core::generation::{
    Constrained, Constraint, Event, Generation, GenerationConfig, MessageKind, StopReason, Turn, TurnConfig, Usage,
};
use ossicle_core::harmony::conversation::{
    COMMENTARY, Content, DeveloperContent, Effort, FUNCTIONS, Message, Namespace, ResponseFormat, Role, SystemContent,
    Tool,
};
use ossicle_core::harmony::grammar::fits_header;
use ossicle_core::kernels::Kernels;
use ossicle_core::model::Model;
use ossicle_core::sampling::{SamplerConfig, TokenMask};
use ossicle_core::schema::Unsupported;
use ossicle_core::tokenizer::Tokenizer;
use ossicle_core::transformer::{DRAFT_TOKENS, Progress, Session, SessionConfig};
use ossicle_host::browser::{Browser, Citations, OpenWeb, Pages, SearchEngine};
use ossicle_host::policy::{Gate, Held, Next, Subject};
use ossicle_host::prefix_cache::{Due, PrefixCache};
use ossicle_host::python::{Limits, Sandbox};
use ossicle_host::schema::{self, Arena};
use ossicle_host::tools::{MOST_CALLS, TOO_LONG, Tools, is_of_browser};
use ossicle_host::{Memory, Threads};
use serde_json::Value;

#[cfg(feature = "grammar")]
use crate::grammar;
use crate::open::{ComputeOptions, Opened, explain, with_tokenizer};
use crate::policy::{Guard, ModelGate, PolicyOptions};
use crate::prefix::PrefixOptions;
use crate::shown::{Shown, is_told};

/// How to talk.
#[derive(Args)]
pub struct TalkOptions {
    /// A GGUF file, a safetensors file or index, or the folder of a checkpoint [default: a toy model that is built in].
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// How long the model is to reason.
    #[arg(long, value_enum, default_value = "medium")]
    effort: EffortOption,
    /// Tokens of reasoning after which the model is led on to its answer.
    #[arg(long, value_name = "TOKENS")]
    reasoning_tokens: Option<usize>,
    /// Shows the reasoning too. It was never trained to be safe to show to end users.
    #[arg(long)]
    pub show_reasoning: bool,
    /// Who the model is, in the system message, instead of the default.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Instructions, in the developer message.
    #[arg(long, value_name = "TEXT")]
    developer: Option<String>,
    /// A JSON file of function tools: a list of {"name", "description", "parameters", "strict"}. The arguments of strict
    /// ones meet their schema.
    #[arg(long, value_name = "FILE")]
    tools: Option<PathBuf>,
    /// Lets the model run Python, in a box without network and files (bubblewrap, on Linux).
    #[arg(long)]
    python: bool,
    /// Lets the model search the web and open public pages: through exa or you, whose keys are in the environment as EXA_API_KEY
    /// and YDC_API_KEY, or the SearXNG at an address, which has to give JSON.
    #[arg(long, value_name = "ENGINE")]
    browser: Option<String>,
    /// A JSON schema that the answer meets.
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// A grammar that the answer follows: rules in a file that ends in .lark, or a regular expression in one that ends in .regex.
    #[cfg(feature = "grammar")]
    #[arg(long, value_name = "FILE", conflicts_with = "schema")]
    grammar: Option<PathBuf>,
    /// The date that the model is told, as YYYY-MM-DD.
    #[arg(long, value_name = "DATE")]
    date: Option<String>,
    /// Most tokens to write in a turn; 0 for as many as the context holds.
    #[arg(long, default_value_t = 0, value_name = "TOKENS")]
    max_tokens: usize,
    /// Positions of the conversation [default: 8192, or as many as the model has].
    #[arg(long, value_name = "TOKENS")]
    context: Option<usize>,
    /// Most tokens to draft from what was said before; changes the time, not the answer. 0 drafts nothing.
    #[arg(long, default_value_t = DRAFT_TOKENS, value_name = "TOKENS")]
    draft_tokens: usize,
    /// Divides the logits; 0 takes the likeliest token.
    #[arg(long, default_value_t = 1.0)]
    temperature: f32,
    /// Draws only from so many of the likeliest tokens; 0 for all.
    #[arg(long, default_value_t = 0)]
    top_k: u32,
    /// Draws only from the likeliest tokens that together have this probability.
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Draws only tokens with this share of the likeliest one's probability.
    #[arg(long, default_value_t = 0.0)]
    min_p: f32,
    /// Where the random numbers start [default: another place each time].
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    policy: PolicyOptions,
    #[command(flatten)]
    prefixes: PrefixOptions,
    #[command(flatten)]
    pub compute: ComputeOptions,
}

#[derive(Clone, Copy, ValueEnum)]
enum EffortOption {
    Low,
    Medium,
    High,
}

impl TalkOptions {
    /// The tools that are carried out here.
    fn at_hand(&self) -> Result<Tools> {
        let mut tools = Tools::default();
        if self.python {
            Sandbox::check().context("--python")?;
            tools.python = Some(Box::new(Sandbox::new(Limits::default())));
        }
        if let Some(name) = &self.browser {
            let engine = SearchEngine::from_environment(name).map_err(|error| anyhow!("--browser: {error}"))?;
            tools.browser = Some(Browser::new(Box::new(OpenWeb::new(engine))));
        }
        Ok(tools)
    }
}

/// A conversation that can be carried on.
pub struct Talk<'a, 'r, 'w> {
    guard: Guard<'a>,
    options: &'a TalkOptions,
    opened: &'a Opened<'a>,
    threads: &'a Threads,
    generation: Generation<'r, 'w>,
    prefix_cache: Option<PrefixCache>,
    /// What it is to keep of what was said since the user spoke.
    due: Due,
    /// How many messages of the system's and developer's come first.
    leading: usize,
    recipients: Vec<&'a str>,
    /// Those that are carried out here.
    at_hand: Tools,
    /// What the model has been shown, if it can cite that: what keeps to a schema or a grammar must stay as it is.
    pages: Option<Pages>,
    masks: Vec<(Constrained<'a>, &'a mut dyn TokenMask)>,
    seed: u64,
    scratch: Vec<u8>,
}

/// Who says something.
#[derive(Clone, Copy)]
pub enum Said<'s> {
    /// The user, this.
    ByUser(&'s str),
    /// A tool, this, to this call.
    ByTool(&'s Call, &'s str),
}

/// What became of an answer.
#[derive(Debug, Default)]
pub struct Answer {
    /// What the user is told.
    pub text: String,
    /// What the model thought.
    pub reasoning: String,
    /// The tools that it called, and with what.
    pub calls: Vec<Call>,
    /// Whether what was said is in the conversation: if not, that is as before.
    pub heard: bool,
    /// Why it is over.
    pub end: End,
    /// What all turns took.
    pub usage: Usage,
}

impl Default for End {
    fn default() -> Self {
        Self::Turn(StopReason::Cancelled)
    }
}

/// Why an answer is over.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// As the last turn.
    Turn(StopReason),
    /// The policy stopped it, for this reason.
    Policy(String),
    /// It could not go on, for this reason.
    Error(String),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Turn(reason) => f.write_str(reason_name(*reason)),
            Self::Policy(reason) => write!(f, "policy: {reason}"),
            Self::Error(reason) => write!(f, "error: {reason}"),
        }
    }
}

impl End {
    /// In a word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Turn(reason) => reason_name(*reason),
            Self::Policy(_) => "policy",
            Self::Error(_) => "error",
        }
    }
}

/// A tool is called.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its full name.
    pub tool: String,
    /// The channel, on which the answer is expected.
    pub channel: String,
    /// What it is called with.
    pub argument: String,
    /// What it answered, if it has been carried out.
    pub result: Option<String>,
}

/// Set by Ctrl-C: the turn ends, the program goes on.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How far back a conversation can go without being computed anew: the reasoning and the answer of a turn, as a rule.
const REWIND_TOKENS: usize = 2048;

/// Begins a conversation and lends it to `work`. Beginnings of it are kept where the options say, or else in so many megabytes of
/// memory.
pub fn with_talk<T>(
    options: &TalkOptions,
    opened: &Opened<'_>,
    prefix_memory: u64,
    work: impl FnOnce(&mut Talk<'_, '_, '_>) -> Result<T>,
) -> Result<T> {
    let kernels = options.compute.kernels()?;
    let threads = Threads::new(options.compute.threads());
    let model = opened.model;
    let default = SessionConfig::within(model.config());
    let context_tokens = options.context.unwrap_or(default.context_tokens);
    let config = SessionConfig {
        context_tokens,
        logits_rows: 1 + options.draft_tokens.min(context_tokens.saturating_sub(1)),
        rewind_tokens: REWIND_TOKENS.min(context_tokens),
        precision: options.compute.precision(),
        cache: options.compute.cache_format(),
        adapter_rank: opened.adapter_rank(),
        ..default
    };
    let arena = Bump::new();
    let (tools, strict) = match &options.tools {
        Some(path) => read_tools(&arena, path)?,
        None => (&[][..], Vec::new()),
    };
    let schema = match &options.schema {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            // In the prompt it stands on one line.
            let value: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
            Some(&*arena.alloc_str(&value.to_string()))
        }
        None => None,
    };
    let schemas = Arena::new();
    let mut recipients: Vec<_> =
        tools.iter().map(|tool| &*arena.alloc_str(&format!("{FUNCTIONS}.{}", tool.name))).collect();
    let at_hand = options.at_hand()?;
    let known = at_hand.namespaces();
    recipients.extend(at_hand.recipients().iter().map(|name| &*arena.alloc_str(name)));
    let (words, audit) = (options.policy.words()?, options.policy.audit()?);
    turn_config(options, &recipients, 0, Usage::default()).check(false)?;
    with_tokenizer(opened, |tokenizer| {
        let mut room = Room::new(model, &tokenizer, &config)?;
        let mut generation = room.begin(model, tokenizer, kernels, &config)?;
        generation.adapt(opened.adapters)?;
        let mut room = words.is_some().then(|| Room::new(model, &tokenizer, &config)).transpose()?;
        let gate: Option<Box<dyn Gate + '_>> = match (words, &mut room) {
            (Some(words), Some(room)) => {
                let mut generation = room.begin(model, tokenizer, kernels, &config)?;
                generation.adapt(opened.adapters)?;
                Some(Box::new(ModelGate::new(words, &threads, generation)))
            }
            _ => options.policy.program().map(|program| Box::new(program) as _),
        };
        let seed = options.seed.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(0, |now| now.as_nanos() as u64)
        });
        #[cfg(feature = "grammar")]
        let mut grammar = options.grammar.as_deref().map(|path| grammar::read(path, &tokenizer)).transpose()?;
        let mut masks: Vec<(_, &mut dyn TokenMask)> = Vec::new();
        #[cfg(feature = "grammar")]
        masks.extend(grammar.as_mut().map(|mask| (Constrained::Answer, mask as _)));
        if schema.is_some() || !strict.is_empty() {
            let index = schemas.index(tokenizer)?;
            let answer = schema.map(|text| (Constrained::Answer, text)).into_iter();
            for (on, text) in answer.chain(strict.iter().map(|(name, text)| (Constrained::Call(name), *text))) {
                let compiled = schemas.schema(text, Unsupported::Refuse);
                let compiled = compiled.map_err(|error| anyhow!("{on:?}: {}", schema::explain(&error, text)))?;
                masks.push((on, schemas.mask(&compiled, index)?));
            }
        }
        let is_free = masks.iter().all(|(on, _)| *on != Constrained::Answer);
        let pages = (at_hand.browser.is_some() && is_free).then(Pages::default);
        let prefix_cache = options.prefixes.open(opened, prefix_memory)?;
        let mut talk = Talk {
            guard: Guard::new(gate, audit),
            options,
            opened,
            threads: &threads,
            generation,
            prefix_cache,
            due: Due::default(),
            leading: 0,
            recipients,
            at_hand,
            pages,
            masks,
            seed,
            scratch: Vec::new(),
        };
        let mut system = SystemContent {
            current_date: options.date.as_deref(),
            effort: Some(match options.effort {
                EffortOption::Low => Effort::Low,
                EffortOption::Medium => Effort::Medium,
                EffortOption::High => Effort::High,
            }),
            tools: &known,
            ..SystemContent::default()
        };
        if options.system.is_some() {
            system.identity = options.system.as_deref();
        }
        let namespace = [Namespace { name: FUNCTIONS, description: None, tools }];
        let format = schema.map(|schema| ResponseFormat { name: "answer", description: None, schema });
        let developer = DeveloperContent {
            instructions: options.developer.as_deref(),
            tools: if tools.is_empty() { &[] } else { &namespace },
            response_formats: match &format {
                Some(format) => std::slice::from_ref(format),
                None => &[],
            },
        };
        let (system, developer) = ([Content::System(system)], [Content::Developer(developer)]);
        let messages = [Message::new(Role::System, &system), Message::new(Role::Developer, &developer)];
        let speaks = options.developer.is_some() || !tools.is_empty() || format.is_some();
        talk.leading = if speaks { 2 } else { 1 };
        talk.append(&messages[..talk.leading])?;
        work(&mut talk)
    })
}

/// Memory of a conversation: its session's, and its own.
struct Room(Memory, Memory);

impl Room {
    fn new(model: &Model<'_, '_>, tokenizer: &Tokenizer<'_>, config: &SessionConfig) -> Result<Self> {
        let layout = Generation::layout(tokenizer, config.context_tokens, &GenerationConfig::default())?;
        Ok(Self(Memory::new(Session::layout(model, config)?)?, Memory::new(layout)?))
    }

    fn begin<'r, 'w>(
        &'r mut self,
        model: &'r Model<'r, 'w>,
        tokenizer: Tokenizer<'r>,
        kernels: Kernels,
        config: &SessionConfig,
    ) -> Result<Generation<'r, 'w>> {
        let session = Session::new(self.0.region(), model, kernels, config)?;
        Ok(Generation::new(self.1.region(), session, tokenizer, &GenerationConfig::default())?)
    }
}

/// The full name of a strict tool, and the schema of its argument.
type Strict<'a> = (&'a str, &'a str);

fn read_tools<'a>(arena: &'a Bump, path: &PathBuf) -> Result<(&'a [Tool<'a>], Vec<Strict<'a>>)> {
    let text = std::fs::read(path).with_context(|| path.display().to_string())?;
    let list: Value = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    let Some(list) = list.as_array() else { bail!("{}: expected a list of tools", path.display()) };
    let (mut tools, mut strict) = (Vec::new(), Vec::new());
    for tool in list {
        // The Responses API's form, and that of Chat Completions, which wraps it.
        let tool = tool.get("function").unwrap_or(tool);
        let Some(name) = tool.get("name").and_then(Value::as_str) else {
            bail!("{}: expected a name for each tool", path.display());
        };
        let full_name = &*arena.alloc_str(&format!("{FUNCTIONS}.{name}"));
        if name.is_empty() || !fits_header(full_name) {
            bail!(
                "{}: expected names of 1 to 246 bytes without white space and braces, found {name:?}",
                path.display()
            );
        }
        let parameters = tool.get("parameters").map(|schema| &*arena.alloc_str(&schema.to_string()));
        if let Some(parameters) = parameters.filter(|_| tool.get("strict").and_then(Value::as_bool) == Some(true)) {
            strict.push((full_name, parameters));
        }
        tools.push(Tool {
            name: arena.alloc_str(name),
            description: arena.alloc_str(tool.get("description").and_then(Value::as_str).unwrap_or("")),
            parameters,
        });
    }
    Ok((arena.alloc_slice_copy(&tools), strict))
}

/// How the model is to go on in an answer of which so much is used up.
fn turn_config<'t>(options: &TalkOptions, recipients: &'t [&'t str], seed: u64, used: Usage) -> TurnConfig<'t> {
    TurnConfig {
        sampler: SamplerConfig {
            temperature: options.temperature,
            top_k: options.top_k,
            top_p: options.top_p,
            min_p: options.min_p,
            seed,
            logit_bias: &[],
        },
        max_tokens: options.max_tokens,
        reasoning_tokens: options.reasoning_tokens.map(|most| most.saturating_sub(used.reasoning_tokens)),
        recipients,
        draft_tokens: options.draft_tokens,
        ..TurnConfig::default()
    }
}

impl Talk<'_, '_, '_> {
    fn append(&mut self, messages: &[Message<'_>]) -> Result<()> {
        let size = self.generation.scratch_size(messages)?;
        self.scratch.resize(size.max(self.scratch.len()), 0);
        Ok(self.generation.append(messages, &mut self.scratch)?)
    }

    /// Somebody speaks, the model answers, and tools that are at hand answer it, until somebody else has to speak; `print` shows
    /// what comes, if anything is to be shown. The policy judges all of it.
    pub fn answer(&mut self, said: Said<'_>, mut print: impl FnMut(&Shown)) -> Answer {
        let mut answer = Answer::default();
        // Once for all turns: Ctrl-C while a tool works ends what follows.
        INTERRUPTED.store(false, Ordering::Relaxed);
        self.guard.begin();
        let end = self.hear(said).and_then(|heard| {
            answer.heard = heard.is_ok();
            heard.map_or_else(Ok, |_| self.rounds(&mut answer, &mut print))
        });
        answer.end = end.unwrap_or_else(|error| End::Error(format!("{error:#}")));
        self.guard.ended(answer.end.name(), answer.usage);
        answer
    }

    /// Turns of the model, and what tools that are at hand answer between them.
    fn rounds(&mut self, answer: &mut Answer, print: &mut dyn FnMut(&Shown)) -> Result<End> {
        loop {
            let end = self.turn(answer, print)?;
            let is_called = end == End::Turn(StopReason::ToolCall) && answer.calls.len() <= MOST_CALLS;
            let Some(call) = answer.calls.last_mut().filter(|_| is_called) else { return Ok(end) };
            let is_cancelled = || INTERRUPTED.load(Ordering::Relaxed);
            if is_cancelled() {
                return Ok(End::Turn(StopReason::Cancelled));
            }
            let result = self.at_hand.call(&call.tool, &call.argument, &is_cancelled);
            let Some(result) = result else { return Ok(end) };
            match self.hear_result(call, &result)? {
                Ok(result) => {
                    print(&Shown::Result(result.clone()));
                    call.result = Some(result);
                }
                Err(end) => return Ok(end),
            }
        }
    }

    /// Takes what a tool that is at hand answers, or that it is too long.
    fn hear_result(&mut self, call: &Call, result: &str) -> Result<Result<String, End>> {
        match self.hear(Said::ByTool(call, result)) {
            Err(error) if matches!(error.downcast_ref(), Some(Error::Capacity { .. })) => {
                self.hear(Said::ByTool(call, TOO_LONG))
            }
            heard => heard,
        }
    }

    /// Takes what somebody says, as far as the policy lets it pass: what that is, or how the answer ends.
    fn hear(&mut self, said: Said<'_>) -> Result<Result<String, End>> {
        let (subject, text) = match said {
            Said::ByUser(text) => (Subject::Prompt(text), text),
            Said::ByTool(call, text) => (Subject::ToolResult { tool: &call.tool, text }, text),
        };
        let text = match self.guard.judge(&subject) {
            Ok(other) => other.unwrap_or_else(|| text.to_owned()),
            Err(end) => return Ok(Err(end)),
        };
        let content = [Content::Text(&text)];
        let message = match said {
            Said::ByUser(_) => Message::new(Role::User, &content),
            Said::ByTool(call, _) => Message {
                name: Some(&call.tool),
                recipient: Some(Role::Assistant.name()),
                channel: Some(&call.channel),
                ..Message::new(Role::Tool, &content)
            },
        };
        self.append(&[message])?;
        if let Said::ByUser(_) = said {
            self.due = Due::of(&self.generation, self.leading);
        }
        if let (Some(pages), Said::ByTool(call, _)) = (&mut self.pages, said)
            && is_of_browser(&call.tool)
        {
            pages.add(&text);
        }
        Ok(Ok(text))
    }

    /// The model goes on until it has answered or calls a tool.
    fn turn(&mut self, answer: &mut Answer, print: &mut dyn FnMut(&Shown)) -> Result<End> {
        let config = turn_config(self.options, &self.recipients, self.seed, answer.usage);
        // Another place in the random numbers for each turn.
        self.seed = self.seed.wrapping_add(1 << 32);
        if let Some(cache) = &mut self.prefix_cache {
            cache.resume(&mut self.generation);
        }
        let (mut held, mut events, mut end) = (Held::default(), Vec::new(), None);
        let mut telling = Telling { answer, print, pages: self.pages.as_ref(), citations: Citations::default() };
        let masks = self.masks.iter_mut();
        let mut constraints: Vec<_> = masks.map(|(on, mask)| Constraint { on: *on, mask: &mut **mask }).collect();
        let mut turn = Turn::new(&mut self.generation, config)?.with_constraints(&mut constraints)?;
        let failed = loop {
            let mut take = |event: Event<'_>| {
                if let Event::Stop { reason, .. } = event {
                    end = Some(End::Turn(reason));
                }
                events.extend(Shown::of(event));
            };
            let step = match INTERRUPTED.load(Ordering::Relaxed) {
                true => {
                    turn.cancel(&mut self.generation, &mut take);
                    Ok(Progress::Done)
                }
                false => turn.step(&mut self.generation, self.threads, &mut take),
            };
            for event in events.drain(..) {
                if !self.guard.judges() {
                    telling.tell(event);
                    continue;
                }
                let message = match held.take(event) {
                    Next::Pass(event) => {
                        telling.tell(event);
                        continue;
                    }
                    Next::Wait => continue,
                    Next::Judge(message) => message,
                };
                match self.guard.judge(&message.subject()) {
                    Ok(None) => message.release().into_iter().for_each(|event| telling.tell(event)),
                    Ok(Some(text)) => message.replace(text).into_iter().for_each(|event| telling.tell(event)),
                    Err(stopped) => {
                        turn.cancel(&mut self.generation, &mut |_| {});
                        end = Some(stopped);
                        break;
                    }
                }
            }
            match step {
                Ok(Progress::More) if end.is_none() => {}
                step => break step.err(),
            }
            if let Some(cache) = &mut self.prefix_cache {
                cache.keep_due(&self.generation, &mut self.due);
            }
        };
        answer.usage = answer.usage + turn.usage();
        if let Some(error) = failed {
            return Err(explain(error, self.opened));
        }
        Ok(end.unwrap_or(End::Turn(StopReason::Cancelled)))
    }
}

/// Tells what passes, with what it cites as links.
struct Telling<'t> {
    answer: &'t mut Answer,
    print: &'t mut dyn FnMut(&Shown),
    pages: Option<&'t Pages>,
    citations: Citations,
}

impl Telling<'_> {
    fn tell(&mut self, event: Shown) {
        match (event, self.pages) {
            (Shown::Text { kind, text }, Some(pages)) if is_told(kind) => {
                let (text, _) = self.citations.take(&text, pages);
                self.tell_text(kind, text);
            }
            (Shown::End(kind), Some(_)) if is_told(kind) => {
                let rest = self.citations.finish();
                self.tell_text(kind, rest);
                (self.print)(&Shown::End(kind));
            }
            (Shown::Text { kind, text }, _) => self.tell_text(kind, text),
            (Shown::Begin { kind: MessageKind::ToolCall, tool, channel }, _) => {
                (self.print)(&Shown::Begin {
                    kind: MessageKind::ToolCall,
                    tool: tool.clone(),
                    channel: channel.clone(),
                });
                let (tool, channel) = (tool.unwrap_or_default(), channel.unwrap_or_else(|| COMMENTARY.to_owned()));
                self.answer.calls.push(Call { tool, channel, argument: String::new(), result: None });
            }
            (event, _) => (self.print)(&event),
        }
    }

    fn tell_text(&mut self, kind: MessageKind, text: String) {
        if text.is_empty() {
            return;
        }
        match kind {
            MessageKind::Answer | MessageKind::Preamble => self.answer.text.push_str(&text),
            MessageKind::Reasoning => self.answer.reasoning.push_str(&text),
            MessageKind::ToolCall => {
                if let Some(call) = self.answer.calls.last_mut() {
                    call.argument.push_str(&text);
                }
            }
        }
        (self.print)(&Shown::Text { kind, text });
    }
}

/// In a word.
pub fn reason_name(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Finished => "finished",
        StopReason::ToolCall => "tool_call",
        StopReason::StopString => "stop_string",
        StopReason::MaxTokens => "max_tokens",
        StopReason::ContextFull => "context_full",
        StopReason::Cancelled => "cancelled",
    }
}

#[cfg(test)]
mod tests;
