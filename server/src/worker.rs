//! The thread that owns the model and its sessions.
//!
//! Requests wait in one queue, in their order, behind what belongs to answers that have begun. As many as there are sessions are
//! answered at a time; each in turn gets the time of a token or a batch. A request goes to the free session that spares most of its
//! beginning, together with what the cache of prefixes has of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use bumpalo::Bump;
use ossicle_core::error::Error;
use ossicle_core::generation::{
    Constrained, Constraint, Event, Generation, GenerationConfig, StopReason, Turn, TurnConfig, Usage,
};
use ossicle_core::harmony::conversation::{Message, Role};
use ossicle_core::harmony::render::Renderer;
use ossicle_core::kernels::Kernels;
use ossicle_core::model::{Adapter, Model};
use ossicle_core::parallel::Parallel;
use ossicle_core::sampling::{LogProbability, SamplerConfig};
use ossicle_core::schema::TokenIndex;
use ossicle_core::tokenizer::{Specials, Tokenizer};
use ossicle_core::transformer::{Progress, Session, SessionConfig};
use ossicle_host::Memory;
use ossicle_host::prefix_cache::{Due, PrefixCache};
use ossicle_host::schema::Arena;
use self_cell::self_cell;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::answer::{AnswerEvent, End, TokenText};
use crate::conversation::messages;
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::prompt::{MESSAGES, consider, prompt, today};
use crate::request::{Format, Settings, Task, ToolKind, unsupported};
use crate::seal::random;

/// A model, and what it is computed with.
pub struct Engine<'a> {
    /// The weights.
    pub model: &'a Model<'a, 'a>,
    /// Its vocabulary.
    pub tokenizer: Tokenizer<'a>,
    /// The kernels to compute with.
    pub kernels: Kernels,
    /// The threads to compute with.
    pub threads: &'a dyn Parallel,
    /// How large each session is.
    pub session: SessionConfig,
    /// The adapters that each session has, and what each counts.
    pub adapters: &'a [(Adapter<'a>, f32)],
    /// How many requests are answered at a time. Each takes the memory of a session.
    pub sessions: usize,
    /// How many more may wait.
    pub queue: usize,
    /// Where beginnings of conversations are kept that no session has any more.
    pub prefix_cache: Option<PrefixCache>,
    /// What the model says in place of what it would: a test double.
    pub script: Option<Script>,
}

/// What is said to a task, as the text of Harmony; `None` leaves it to the model.
pub type Script = Box<dyn FnMut(&Task) -> Option<String> + Send>;

/// What the thread is asked to do.
pub enum Command {
    /// Answers, and tells whether there is room for it.
    Answer(Job, oneshot::Sender<Result<(), ApiError>>),
    /// Tells whether a task would find room now and may fit, and gives it back without what is left out of it.
    Consider(Task, oneshot::Sender<Result<Task, ApiError>>),
    /// Counts the tokens of a prompt.
    Count(Task, oneshot::Sender<Result<usize, ApiError>>),
    /// Ends the thread.
    Stop,
}

/// A request for an answer.
pub struct Job {
    /// What is asked for.
    pub task: Task,
    /// Told what happens. If nobody listens any more, or too slowly, the answer ends.
    pub events: mpsc::Sender<AnswerEvent>,
    /// Whether it is to go on.
    pub wanted: Wanted,
    /// Whether it goes on with an answer that has begun: then there is always room for it, before all that have not.
    pub is_continued: bool,
}

/// Whether an answer is to go on.
#[derive(Clone)]
pub struct Wanted {
    /// Set by whoever wants it to end.
    pub cancelled: Arc<AtomicBool>,
    /// When it has to be over.
    pub deadline: Option<Instant>,
    /// Set when the server stops.
    pub is_stopping: Arc<AtomicBool>,
}

impl Wanted {
    /// How it ends, if it has to.
    pub fn end(&self) -> Option<End> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Some(End::Cancelled);
        }
        if self.is_stopping.load(Ordering::Relaxed) {
            return Some(End::Failed(ApiError::unavailable()));
        }
        let late = self.deadline.is_some_and(|deadline| Instant::now() > deadline);
        late.then(|| End::Failed(ApiError::late()))
    }
}

/// A request in the queue.
struct Waiting {
    job: Job,
    /// The prompt.
    tokens: Vec<u32>,
    /// How many items are left out at the beginning.
    from: usize,
}

/// A session, and what it works on.
struct Slot<'r, 'w, 'a> {
    generation: Generation<'r, 'w>,
    running: Option<Running<'a>>,
    /// What is still to be kept of its conversation.
    due: Due,
    /// When it was last given work, counted in requests.
    used: u64,
}

/// What a turn borrows.
struct Plan<'a> {
    settings: Settings,
    schemas: Vec<Enforced>,
    masks: Arena,
    index: Option<TokenIndex<'a>>,
    seed: u64,
    beginning: Vec<u32>,
    arena: Bump,
    job: Job,
    begun: Instant,
}

/// A schema that something must meet.
struct Enforced {
    /// The tool whose arguments they are; without one, the answer.
    tool: Option<String>,
    schema: String,
    strict: bool,
}

self_cell!(
    struct Running<'a> {
        owner: Plan<'a>,
        #[not_covariant]
        dependent: Turn,
    }
);

/// How long new requests are read, at most and one more, before the answers under way go on.
const HEARING: Duration = Duration::from_millis(10);

/// Serves until it is told to stop, or nobody is left to tell it.
///
/// # Errors
/// If there is not enough memory for the sessions, or a configuration is out of range.
pub fn work(mut engine: Engine<'_>, commands: Receiver<Command>, metrics: &Metrics) -> Result<(), WorkerError> {
    let config = GenerationConfig { messages: MESSAGES, ..GenerationConfig::default() };
    let context = engine.session.context_tokens;
    let session_layout = Session::layout(engine.model, &engine.session)?;
    let layout = Generation::layout(&engine.tokenizer, context, &config)?;
    let mut memories = Vec::new();
    for _ in 0..engine.sessions.max(1) {
        memories.push((Memory::new(session_layout)?, Memory::new(layout)?));
    }
    let arena = Arena::new();
    let mut slots = Vec::new();
    for (session_memory, memory) in &mut memories {
        let mut session = Session::new(session_memory.region(), engine.model, engine.kernels, &engine.session)?;
        session.adapt(engine.adapters)?;
        let generation = Generation::new(memory.region(), session, engine.tokenizer, &config)?;
        slots.push(Slot { generation, running: None, due: Due::default(), used: 0 });
    }
    let mut index = None;
    let mut queue = VecDeque::new();
    let mut pace = Pace { seconds: 1.0, requests: 0 };
    loop {
        let is_idle = queue.is_empty() && slots.iter().all(|slot| slot.running.is_none());
        let since = Instant::now();
        loop {
            let command =
                if is_idle { commands.recv().map_err(|_| TryRecvError::Disconnected) } else { commands.try_recv() };
            match command {
                Ok(Command::Answer(job, reply)) => {
                    let _ = reply.send(admit(&engine, job, &mut queue, &slots, &pace, metrics));
                }
                Ok(Command::Consider(task, reply)) => {
                    let room = has_room(&engine, &mut queue, &slots, &pace, metrics);
                    let _ = reply.send(room.and_then(|()| consider(&engine, task)));
                }
                Ok(Command::Count(task, reply)) => {
                    let _ = reply.send(prompt(&engine, &task).map(|(tokens, _)| tokens.len()));
                }
                Err(TryRecvError::Empty) => break,
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => {
                    leave(&mut engine, &mut slots);
                    return Ok(());
                }
            }
            if is_idle || since.elapsed() > HEARING {
                break;
            }
        }
        give_up(&mut queue, metrics);
        while let Some(slot) = free_slot(&engine, &slots, &queue) {
            let Some(waiting) = queue.pop_front() else { break };
            pace.requests += 1;
            slots[slot].used = pace.requests;
            let schemas = enforced(&waiting.job.task);
            if index.is_none() && !schemas.is_empty() {
                index = Some(arena.index(engine.tokenizer)?);
            }
            begin(&mut engine, &mut slots[slot], waiting, (schemas, index), metrics);
        }
        for slot in &mut slots {
            advance(&mut engine, slot, &mut pace, metrics);
        }
        metrics.waiting.store(queue.len() as u64, Ordering::Relaxed);
        let running = slots.iter().filter(|slot| slot.running.is_some()).count();
        metrics.running.store(running as u64, Ordering::Relaxed);
    }
}

/// Why the thread could not begin.
#[derive(Debug)]
pub enum WorkerError {
    /// A configuration is out of range.
    Core(Error),
    /// There is not enough memory.
    Memory(std::io::Error),
}

impl From<Error> for WorkerError {
    fn from(error: Error) -> Self {
        Self::Core(error)
    }
}

impl From<std::io::Error> for WorkerError {
    fn from(error: std::io::Error) -> Self {
        Self::Memory(error)
    }
}

impl std::fmt::Display for WorkerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Core(error) => error.fmt(f),
            Self::Memory(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for WorkerError {}

/// How long requests take, to say when there may be room again.
struct Pace {
    seconds: f64,
    requests: u64,
}

fn admit(
    engine: &Engine<'_>,
    job: Job,
    queue: &mut VecDeque<Waiting>,
    slots: &[Slot<'_, '_, '_>],
    pace: &Pace,
    metrics: &Metrics,
) -> Result<(), ApiError> {
    if !job.is_continued {
        has_room(engine, queue, slots, pace, metrics)?;
    }
    let (tokens, from) = prompt(engine, &job.task)?;
    put(queue, Waiting { job, tokens, from });
    Ok(())
}

/// At the end of the queue, or of those in it that belong to answers that have begun.
fn put(queue: &mut VecDeque<Waiting>, waiting: Waiting) {
    let place = match waiting.job.is_continued {
        true => queue.iter().take_while(|other| other.job.is_continued).count(),
        false => queue.len(),
    };
    queue.insert(place, waiting);
}

/// Refuses where as many wait as may.
fn has_room(
    engine: &Engine<'_>,
    queue: &mut VecDeque<Waiting>,
    slots: &[Slot<'_, '_, '_>],
    pace: &Pace,
    metrics: &Metrics,
) -> Result<(), ApiError> {
    give_up(queue, metrics);
    let free = slots.iter().filter(|slot| slot.running.is_none()).count();
    if queue.len() < engine.queue + free {
        return Ok(());
    }
    metrics.refused.fetch_add(1, Ordering::Relaxed);
    let rounds = (queue.len() / slots.len().max(1) + 1) as f64;
    Err(ApiError::busy((pace.seconds * rounds).clamp(1.0, 600.0) as u64))
}

/// Ends those in the queue that nobody wants any more.
fn give_up(queue: &mut VecDeque<Waiting>, metrics: &Metrics) {
    queue.retain(|Waiting { job, .. }| {
        let is_abandoned = job.events.is_closed();
        let Some(end) = job.wanted.end().or(is_abandoned.then_some(End::Cancelled)) else { return true };
        metrics.abandoned.fetch_add(u64::from(is_abandoned), Ordering::Relaxed);
        let _ = job.events.try_send(AnswerEvent::Stop { end, usage: Usage::default() });
        false
    });
}

/// The free session that spares most of the next request; among equals the one unused for longest, so that a conversation
/// keeps its session where the cache will do as well.
fn free_slot(engine: &Engine<'_>, slots: &[Slot<'_, '_, '_>], queue: &VecDeque<Waiting>) -> Option<usize> {
    let wanted = &queue.front()?.tokens;
    let mut free = slots.iter().enumerate().filter(|(_, slot)| slot.running.is_none()).peekable();
    // All sessions are alike to the cache, which is asked only if one is free.
    let session = free.peek()?.1.generation.session();
    let cached = engine.prefix_cache.as_ref().map_or(0, |cache| cache.longest(session, wanted));
    free.max_by_key(|(_, slot)| (shared(slot, wanted).max(cached), u64::MAX - slot.used)).map(|(index, _)| index)
}

/// How many tokens a session's conversation has in common with the beginning of others.
fn shared(slot: &Slot<'_, '_, '_>, wanted: &[u32]) -> usize {
    let held = slot.generation.tokens().iter().zip(wanted);
    held.take_while(|(held, wanted)| held == wanted).count()
}

/// Before the sessions end, what they have is kept, if the cache goes on.
fn leave(engine: &mut Engine<'_>, slots: &mut [Slot<'_, '_, '_>]) {
    if let Some(cache) = engine.prefix_cache.as_mut().filter(|cache| cache.outlasts_process()) {
        for slot in slots {
            cache.wait();
            cache.keep_last(&slot.generation, &mut slot.due);
        }
    }
}

fn begin<'a>(
    engine: &mut Engine<'_>,
    slot: &mut Slot<'_, '_, 'a>,
    waiting: Waiting,
    (schemas, index): (Vec<Enforced>, Option<TokenIndex<'a>>),
    metrics: &Metrics,
) {
    let Waiting { job, tokens, from } = waiting;
    let failed = |job: &Job, error: Error| {
        let end = End::Failed(ApiError::server(error.to_string()));
        let _ = job.events.try_send(AnswerEvent::Stop { end, usage: Usage::default() });
    };
    let arena = Bump::new();
    let date = today();
    let messages = messages(&arena, &job.task, &date, from);
    let renderer = Renderer::new(&engine.tokenizer, *slot.generation.special());
    if let Some(cache) = &mut engine.prefix_cache
        && slot.due.prompt().is_some_and(|end| shared(slot, &tokens) < end)
    {
        cache.keep_last(&slot.generation, &mut slot.due);
    }
    let written =
        renderer.scratch_size(messages).and_then(|size| slot.generation.replace(messages, &mut vec![0; size]));
    if let Err(error) = written {
        return failed(&job, error);
    }
    let restored = engine.prefix_cache.as_mut().map_or(0, |cache| cache.resume(&mut slot.generation));
    let is_leading = |message: &&Message<'_>| matches!(message.role, Role::System | Role::Developer);
    let due = Due::of(&slot.generation, messages.iter().take_while(is_leading).count());
    slot.due = if job.task.settings.may_go_on { due } else { due.leading_only() };
    let mut beginning = Vec::new();
    if let Some(text) = engine.script.as_mut().and_then(|script| script(&job.task)) {
        engine.tokenizer.encode(&text, Specials::All, |token| beginning.push(token));
    }
    let settings = job.task.settings.clone();
    let seed = settings.seed.unwrap_or_else(|| u64::from_le_bytes(random()));
    let events = job.events.clone();
    let plan = Plan {
        settings,
        schemas,
        masks: Arena::new(),
        index,
        seed,
        beginning,
        arena: Bump::new(),
        job,
        begun: Instant::now(),
    };
    let generation = &mut slot.generation;
    let running = Running::try_new_or_recover(plan, |plan| {
        Turn::new(generation, plan.turn())?.with_constraints(plan.constraints()?)
    });
    match running {
        Ok(running) => {
            let usage = running.with_dependent(|_, turn| turn.usage());
            metrics.input_tokens.fetch_add(usage.input_tokens as u64, Ordering::Relaxed);
            metrics.cached_tokens.fetch_add(usage.cached_tokens as u64, Ordering::Relaxed);
            metrics.restored_tokens.fetch_add(restored as u64, Ordering::Relaxed);
            let _ = events.try_send(AnswerEvent::Begin);
            slot.running = Some(running);
        }
        Err((plan, error)) => failed(&plan.job, error),
    }
}

/// What a task must meet.
fn enforced(task: &Task) -> Vec<Enforced> {
    let answer = match &task.settings.format {
        Format::Text => None,
        Format::JsonObject => Some((json!({ "type": "object" }).to_string(), true)),
        Format::JsonSchema { schema, strict, .. } => Some((schema.clone(), *strict)),
    };
    let answer = answer.map(|(schema, strict)| Enforced { tool: None, schema, strict });
    let tools = task.tools.list.iter().filter(|tool| tool.strict && tool.kind == ToolKind::Function);
    let tools = tools.filter_map(|tool| {
        let (tool, schema) = (Some(tool.recipient()), tool.parameters.clone()?);
        Some(Enforced { tool, schema, strict: true })
    });
    answer.into_iter().chain(tools).collect()
}

impl Plan<'_> {
    fn constraints(&self) -> Result<&mut [Constraint<'_>], Error> {
        let mut constraints = Vec::new();
        for Enforced { tool, schema, strict } in &self.schemas {
            let Some(index) = self.index else { break };
            let on = tool.as_deref().map_or(Constrained::Answer, Constrained::Call);
            constraints.push(self.masks.constraint(on, schema, unsupported(*strict), index)?);
        }
        Ok(self.arena.alloc_slice_fill_iter(constraints))
    }

    fn turn(&self) -> TurnConfig<'_> {
        let settings = &self.settings;
        let texts = |list| -> &[&str] {
            let list: &Vec<String> = list;
            self.arena.alloc_slice_fill_iter(list.iter().map(String::as_str))
        };
        TurnConfig {
            sampler: SamplerConfig {
                temperature: settings.temperature,
                top_p: settings.top_p,
                seed: self.seed,
                logit_bias: &settings.logit_bias,
                ..SamplerConfig::default()
            },
            max_tokens: settings.max_tokens.unwrap_or(0),
            reasoning_tokens: settings.reasoning_tokens,
            stop: texts(&settings.stop),
            recipients: texts(&settings.tool_choice.callable),
            must_call: settings.tool_choice.required,
            beginning: &self.beginning,
            log_probabilities: settings.log_probabilities,
            ..TurnConfig::default()
        }
    }
}

/// Gives a session the time of a token or a batch.
fn advance(engine: &mut Engine<'_>, slot: &mut Slot<'_, '_, '_>, pace: &mut Pace, metrics: &Metrics) {
    let Slot { generation, running, due, .. } = slot;
    let Some(active) = running else { return };
    let tokenizer = engine.tokenizer;
    let is_over = active.with_dependent_mut(|plan, turn| {
        let Job { events, wanted, .. } = &plan.job;
        let mut has_listener = !events.is_closed();
        let mut is_over = false;
        let end = wanted.end();
        let mut emit = |event: Event<'_>| {
            if let Event::Stop { usage, .. } = &event {
                is_over = true;
                metrics.output_tokens.fetch_add(usage.output_tokens as u64, Ordering::Relaxed);
            }
            if let Some(event) = answer_event(event, &tokenizer, end.as_ref()) {
                has_listener &= events.try_send(event).is_ok();
            }
        };
        if end.is_some() || events.is_closed() {
            metrics.abandoned.fetch_add(u64::from(events.is_closed()), Ordering::Relaxed);
            turn.cancel(generation, &mut emit);
            return true;
        }
        for _ in 0..engine.model.config().layers + 2 {
            match turn.step(generation, engine.threads, &mut emit) {
                Ok(Progress::More) => {
                    if let Some(cache) = &mut engine.prefix_cache {
                        cache.keep_due(generation, due);
                    }
                }
                Ok(Progress::Done) => return true,
                Err(error) => {
                    let end = End::Failed(ApiError::server(error.to_string()));
                    let _ = events.try_send(AnswerEvent::Stop { end, usage: turn.usage() });
                    return true;
                }
            }
        }
        // Whoever does not keep up must not hold the model.
        if !has_listener {
            metrics.abandoned.fetch_add(1, Ordering::Relaxed);
            turn.cancel(generation, &mut |_| {});
        }
        !has_listener
    });
    if is_over && let Some(running) = running.take() {
        let seconds = running.borrow_owner().begun.elapsed().as_secs_f64();
        pace.seconds += (seconds - pace.seconds) / 8.0;
    }
}

/// `why` an answer was cancelled.
fn answer_event(event: Event<'_>, tokenizer: &Tokenizer<'_>, why: Option<&End>) -> Option<AnswerEvent> {
    let token = |found: &LogProbability| TokenText {
        bytes: tokenizer.token_bytes(found.token).unwrap_or_default().to_vec(),
        log_probability: found.value,
    };
    Some(match event {
        Event::Token { drawn, .. } if tokenizer.is_special(drawn.token) => return None,
        Event::Token { drawn, top } => {
            AnswerEvent::Token { drawn: token(&drawn), top: top.iter().map(token).collect() }
        }
        Event::MessageBegin { kind, header } => {
            AnswerEvent::MessageBegin { kind, recipient: header.recipient.map(str::to_owned) }
        }
        Event::Delta { text, .. } => AnswerEvent::Delta(text.to_owned()),
        Event::MessageEnd { .. } => AnswerEvent::MessageEnd,
        Event::Diagnostic(_) => return None,
        Event::Stop { reason, usage } => {
            let end = match reason {
                StopReason::Finished | StopReason::ToolCall | StopReason::StopString => End::Completed,
                StopReason::MaxTokens | StopReason::ContextFull => End::Length,
                StopReason::Cancelled => why.cloned().unwrap_or(End::Cancelled),
            };
            AnswerEvent::Stop { end, usage }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use serde_json::{Value, json};
    use tokio::sync::mpsc;

    use super::{Job, Waiting, Wanted, put};
    use crate::request::{Context, Request, Task};
    use crate::seal::Seal;

    fn task(body: Value) -> Task {
        Request::read(&body, &Context::alone(&Seal::random())).expect("a request").task
    }

    #[test]
    fn what_belongs_to_answers_that_have_begun_comes_first_and_in_its_order() {
        let mut queue = VecDeque::new();
        for (from, is_continued) in [false, true, false, true].into_iter().enumerate() {
            let wanted = Wanted { cancelled: Arc::default(), deadline: None, is_stopping: Arc::default() };
            let job = Job { task: task(json!({ "input": "" })), events: mpsc::channel(1).0, wanted, is_continued };
            put(&mut queue, Waiting { job, tokens: Vec::new(), from });
        }
        assert_eq!(queue.iter().map(|waiting| waiting.from).collect::<Vec<_>>(), [1, 3, 0, 2]);
    }
}
