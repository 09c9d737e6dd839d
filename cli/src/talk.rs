//! What `ossicle run` and `ossicle chat` share: options, the conversation's memory, and printing.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow, bail};
use bumpalo::Bump;
use clap::{Args, ValueEnum};
use ossicle_core::generation::{
    Constrained, Constraint, Event, Generation, GenerationConfig, MessageKind, StopReason, Turn, TurnConfig, Usage,
};
use ossicle_core::harmony::builtin::{BROWSER, PYTHON};
use ossicle_core::harmony::conversation::{
    COMMENTARY, Content, DeveloperContent, Effort, FUNCTIONS, Message, Namespace, ResponseFormat, Role, SystemContent,
    Tool,
};
use ossicle_core::harmony::render::Renderer;
use ossicle_core::sampling::{SamplerConfig, TokenMask};
use ossicle_core::schema::Unsupported;
use ossicle_core::transformer::{DRAFT_TOKENS, Session, SessionConfig};
use ossicle_host::browser::{Browser, OpenWeb};
use ossicle_host::prefix_cache::{Due, PrefixCache};
use ossicle_host::python::{Interpreter, Limits, Sandbox};
use ossicle_host::schema::{self, Arena};
use ossicle_host::{Memory, Threads};
use serde_json::Value;

#[cfg(feature = "grammar")]
use crate::grammar;
use crate::open::{ComputeOptions, Opened, explain, with_tokenizer};
use crate::prefix::PrefixOptions;

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
    show_reasoning: bool,
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
    /// Lets the model search the web through the SearXNG at this address, which has to give JSON, and open public pages.
    #[arg(long, value_name = "URL")]
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

/// A conversation that can be carried on.
pub struct Talk<'a, 'r, 'w> {
    options: &'a TalkOptions,
    opened: &'a Opened<'a>,
    threads: &'a Threads,
    generation: Generation<'r, 'w>,
    prefix_cache: Option<PrefixCache>,
    /// How many messages of the system's and developer's come first.
    leading: usize,
    recipients: Vec<&'a str>,
    python: Option<Sandbox>,
    browser: Option<Browser<OpenWeb>>,
    masks: Vec<(Constrained<'a>, &'a mut dyn TokenMask)>,
    seed: u64,
    scratch: Vec<u8>,
}

/// What became of a turn.
#[derive(Debug, Default)]
pub struct Answer {
    /// What the user is told.
    pub text: String,
    /// What the model thought.
    pub reasoning: String,
    /// The tools that it called, and with what.
    pub calls: Vec<Call>,
    /// Why it stopped, and what all turns took.
    pub stop: Option<(StopReason, Usage)>,
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

/// What may be shown.
#[derive(Clone, Copy)]
pub enum Shown<'a> {
    /// What the model does.
    Event(&'a Event<'a>),
    /// What a tool answered.
    Result(&'a str),
}

/// Begins a conversation and lends it to `work`.
pub fn with_talk<T>(
    options: &TalkOptions,
    opened: &Opened<'_>,
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
    let python = options.python.then(|| Sandbox::check().map(|()| Sandbox::new(Limits::default()))).transpose();
    let python = python.context("--python")?;
    let web = options.browser.as_deref().map(OpenWeb::new).transpose();
    let browser = web.map_err(|error| anyhow!("--browser: {error}"))?.map(Browser::new);
    let mut known = Vec::new();
    if browser.is_some() {
        known.push(BROWSER);
        recipients
            .extend(BROWSER.tools.iter().map(|tool| &*arena.alloc_str(&format!("{}.{}", BROWSER.name, tool.name))));
    }
    if python.is_some() {
        known.push(PYTHON);
        recipients.push(PYTHON.name);
    }
    with_tokenizer(opened, |tokenizer| {
        let mut session_memory = Memory::new(Session::layout(model, &config)?)?;
        let mut session = Session::new(session_memory.region(), model, kernels, &config)?;
        session.adapt(opened.adapters)?;
        let generation_config = GenerationConfig::default();
        let mut memory = Memory::new(Generation::layout(&tokenizer, context_tokens, &generation_config)?)?;
        let generation = Generation::new(memory.region(), session, tokenizer, &generation_config)?;
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
        let scratch = Vec::new();
        let prefix_cache = options.prefixes.open(opened, config.precision, 0)?;
        let mut talk = Talk {
            options,
            opened,
            threads: &threads,
            generation,
            prefix_cache,
            leading: 0,
            recipients,
            python,
            browser,
            masks,
            seed,
            scratch,
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
        let parameters = tool.get("parameters").map(|schema| &*arena.alloc_str(&schema.to_string()));
        if let Some(parameters) = parameters.filter(|_| tool.get("strict").and_then(Value::as_bool) == Some(true)) {
            strict.push((&*arena.alloc_str(&format!("{FUNCTIONS}.{name}")), parameters));
        }
        tools.push(Tool {
            name: arena.alloc_str(name),
            description: arena.alloc_str(tool.get("description").and_then(Value::as_str).unwrap_or("")),
            parameters,
        });
    }
    Ok((arena.alloc_slice_copy(&tools), strict))
}

impl Talk<'_, '_, '_> {
    fn append(&mut self, messages: &[Message<'_>]) -> Result<()> {
        let renderer = Renderer::new(self.generation.tokenizer(), *self.generation.special());
        let size = renderer.scratch_size(messages)?;
        self.scratch.resize(size.max(self.scratch.len()), 0);
        Ok(self.generation.append(messages, &mut self.scratch)?)
    }

    /// The user speaks.
    pub fn say(&mut self, text: &str) -> Result<()> {
        self.append(&[Message::new(Role::User, &[Content::Text(text)])])
    }

    /// A tool answers.
    pub fn tool_answers(&mut self, call: &Call, text: &str) -> Result<()> {
        let content = [Content::Text(text)];
        let mut message = Message::new(Role::Tool, &content);
        message.name = Some(&call.tool);
        message.recipient = Some(Role::Assistant.name());
        message.channel = Some(&call.channel);
        self.append(&[message])
    }

    /// The model answers, and tools that are at hand answer it, until somebody else has to speak; `print` shows what comes, if
    /// anything is to be shown.
    pub fn answer(&mut self, mut print: impl FnMut(Shown<'_>)) -> Result<Answer> {
        let mut answer = Answer::default();
        // Once for all turns: Ctrl-C while a tool works ends what follows.
        INTERRUPTED.store(false, Ordering::Relaxed);
        loop {
            self.turn(&mut answer, |event| print(Shown::Event(event)))?;
            let is_called = matches!(answer.stop, Some((StopReason::ToolCall, _)));
            let Some(call) = answer.calls.last_mut().filter(|_| is_called) else { return Ok(answer) };
            let result = match call.tool.split_once('.') {
                None if call.tool == PYTHON.name => {
                    let is_cancelled = || INTERRUPTED.load(Ordering::Relaxed);
                    self.python.as_mut().map(|python| python.run(&call.argument, &is_cancelled))
                }
                Some((name, function)) if name == BROWSER.name => {
                    self.browser.as_mut().map(|browser| browser.call(function, &call.argument))
                }
                _ => None,
            };
            let Some(result) = result else { return Ok(answer) };
            print(Shown::Result(&result));
            call.result = Some(result.clone());
            let call = call.clone();
            self.tool_answers(&call, &result)?;
        }
    }

    /// The model goes on until it has answered or calls a tool.
    fn turn(&mut self, answer: &mut Answer, mut print: impl FnMut(&Event<'_>)) -> Result<()> {
        let options = self.options;
        let config = TurnConfig {
            sampler: SamplerConfig {
                temperature: options.temperature,
                top_k: options.top_k,
                top_p: options.top_p,
                min_p: options.min_p,
                seed: self.seed,
                logit_bias: &[],
            },
            max_tokens: options.max_tokens,
            reasoning_tokens: options.reasoning_tokens,
            recipients: &self.recipients,
            draft_tokens: options.draft_tokens,
            ..TurnConfig::default()
        };
        // Another place in the random numbers for each turn.
        self.seed = self.seed.wrapping_add(1 << 32);
        let mut take = |event: Event<'_>| {
            print(&event);
            match event {
                Event::MessageBegin { kind: MessageKind::ToolCall, header } => {
                    answer.calls.push(Call {
                        tool: header.recipient.unwrap_or_default().to_owned(),
                        channel: header.channel.unwrap_or(COMMENTARY).to_owned(),
                        argument: String::new(),
                        result: None,
                    });
                }
                Event::Delta { kind: MessageKind::ToolCall, text } => {
                    if let Some(call) = answer.calls.last_mut() {
                        call.argument.push_str(text);
                    }
                }
                Event::Delta { kind: MessageKind::Reasoning, text } => answer.reasoning.push_str(text),
                Event::Delta { kind: MessageKind::Answer | MessageKind::Preamble, text } => answer.text.push_str(text),
                Event::Stop { reason, usage } => {
                    let before = answer.stop.map(|(_, usage)| usage).unwrap_or_default();
                    answer.stop = Some((reason, before + usage));
                }
                _ => {}
            }
        };
        if let Some(cache) = &mut self.prefix_cache {
            cache.resume(&mut self.generation);
        }
        let mut due = Due::of(&self.generation, self.leading);
        let masks = self.masks.iter_mut();
        let mut constraints: Vec<_> = masks.map(|(on, mask)| Constraint { on: *on, mask: &mut **mask }).collect();
        let mut turn = Turn::new(&mut self.generation, config)?.with_constraints(&mut constraints)?;
        loop {
            if INTERRUPTED.load(Ordering::Relaxed) {
                turn.cancel(&mut self.generation, &mut take);
                break;
            }
            let step = turn.step(&mut self.generation, self.threads, &mut take);
            match step.map_err(|error| explain(error, self.opened))? {
                ossicle_core::transformer::Progress::More => {
                    if let Some(cache) = &mut self.prefix_cache {
                        cache.keep_due(&self.generation, &mut due);
                    }
                }
                ossicle_core::transformer::Progress::Done => break,
            }
        }
        Ok(())
    }

    /// Shows events as they come: the answer on standard output, all else dimmed on standard error.
    pub fn printer(&self) -> impl FnMut(Shown<'_>) + use<> {
        let show_reasoning = self.options.show_reasoning;
        let (dim, plain) = if io::stderr().is_terminal() { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        move |shown| {
            let event = match shown {
                Shown::Event(event) => event,
                Shown::Result(text) => return eprintln!("{dim}{}{plain}", text.trim_end()),
            };
            match event {
                Event::Delta { kind: MessageKind::Answer | MessageKind::Preamble, text } => print!("{text}"),
                Event::MessageEnd { kind: MessageKind::Answer | MessageKind::Preamble, .. } => println!(),
                Event::Delta { kind: MessageKind::Reasoning, text } if show_reasoning => eprint!("{dim}{text}{plain}"),
                Event::MessageEnd { kind: MessageKind::Reasoning, .. } if show_reasoning => eprintln!(),
                Event::MessageBegin { kind: MessageKind::ToolCall, header } => {
                    eprint!("{dim}[{}] ", header.recipient.unwrap_or_default());
                }
                Event::Delta { kind: MessageKind::ToolCall, text } => eprint!("{text}"),
                Event::MessageEnd { kind: MessageKind::ToolCall, .. } => eprintln!("{plain}"),
                _ => {}
            }
            // A terminal that is gone is noticed when the line is written.
            let _ = io::stdout().flush();
        }
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
