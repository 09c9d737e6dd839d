//! Answers in several rounds: when the model calls Python, the server runs it and lets the model go on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use ossicle_core::generation::{MessageKind, Usage};
use ossicle_core::harmony::builtin::PYTHON;
use ossicle_core::harmony::conversation::{COMMENTARY, FINAL, Role};
use ossicle_host::python::Interpreter;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::answer::AnswerEvent;
use crate::request::{Item, Task, ToolKind};

/// Runs the Python of one conversation.
pub type BoxedInterpreter = Box<dyn Interpreter + Send>;

/// Makes an interpreter for a conversation.
pub type NewInterpreter = Arc<dyn Fn() -> BoxedInterpreter + Send + Sync>;

/// A task, and what has become of it in rounds that are over.
pub struct Rounds {
    task: Task,
    /// What the model says in this round.
    said: Vec<Item>,
    /// What the rounds took that are over.
    usage: Usage,
    calls: u64,
}

impl Rounds {
    /// The first round of `task`.
    pub fn new(task: Task) -> Self {
        Self { task, said: Vec::new(), usage: Usage::default(), calls: 0 }
    }

    /// Takes notice of what is told.
    pub fn observe(&mut self, event: &AnswerEvent) {
        let message =
            |channel| Item::Message { role: Role::Assistant, channel: Some(channel), parts: vec![String::new()] };
        match event {
            AnswerEvent::MessageBegin { kind, recipient } => self.said.push(match kind {
                MessageKind::Reasoning => Item::Reasoning(vec![String::new()]),
                MessageKind::Preamble => message(COMMENTARY),
                MessageKind::Answer => message(FINAL),
                MessageKind::ToolCall => {
                    let recipient = recipient.clone().unwrap_or_default();
                    let kind = if recipient == PYTHON.name { ToolKind::Code } else { ToolKind::Function };
                    Item::Call { call_id: String::new(), recipient, kind, argument: String::new() }
                }
            }),
            AnswerEvent::Delta(text) => match self.said.last_mut() {
                Some(Item::Message { parts, .. } | Item::Reasoning(parts)) => {
                    parts.iter_mut().for_each(|part| part.push_str(text));
                }
                Some(Item::Call { argument, .. }) => argument.push_str(text),
                _ => {}
            },
            _ => {}
        }
    }

    /// The code that the round ended with, if it is to be run.
    pub fn code(&self) -> Option<&str> {
        match self.said.last() {
            Some(Item::Call { recipient, argument, .. }) if recipient == PYTHON.name => {
                (self.calls < self.task.settings.max_tool_calls.unwrap_or(MOST_CALLS)).then_some(argument)
            }
            _ => None,
        }
    }

    /// The round is over, and took this.
    pub fn add(&mut self, usage: Usage) {
        self.usage = self.usage + usage;
    }

    /// Whether no token is left for a further round.
    pub fn is_used_up(&self) -> bool {
        self.task.settings.max_tokens.is_some_and(|most| self.usage.output_tokens >= most)
    }

    /// The task of the next round, in which the model finds what its code printed.
    pub fn next(&mut self, printed: &str) -> Task {
        self.calls += 1;
        self.task.items.append(&mut self.said);
        self.task.items.push(Item::CallOutput { recipient: PYTHON.name.into(), parts: vec![printed.to_owned()] });
        self.task.settings.tool_choice.required = false;
        let mut task = self.task.clone();
        task.settings.max_tokens = task.settings.max_tokens.map(|most| most - most.min(self.usage.output_tokens));
        task
    }

    /// What the rounds took that are over.
    pub fn usage(&self) -> Usage {
        self.usage
    }
}

/// Calls of Python in an answer, where the request says nothing: a model that repeats itself must come to an end.
const MOST_CALLS: u64 = 64;

/// The interpreters of a server.
pub struct Interpreters {
    /// Between the answers of their conversations, with whose and which answer was the last. The oldest go first.
    waiting: Mutex<VecDeque<(Arc<str>, String, BoxedInterpreter)>>,
    running: Arc<Semaphore>,
}

/// Most interpreters that wait for their conversation to go on, and most that run code at a time.
const MOST_WAITING: usize = 16;
const MOST_RUNNING: usize = 8;

impl Default for Interpreters {
    fn default() -> Self {
        Self { waiting: Mutex::default(), running: Arc::new(Semaphore::new(MOST_RUNNING)) }
    }
}

impl Interpreters {
    /// Waits until code may run; it may until the permit is dropped.
    pub async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        // Nobody closes it.
        Arc::clone(&self.running).acquire_owned().await.ok()
    }

    /// That of the answer `id`, for the one who goes on from it.
    pub fn take(&self, owner: &str, id: &str) -> Option<BoxedInterpreter> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let index = waiting.iter().position(|(whose, answer, _)| **whose == *owner && answer == id)?;
        waiting.remove(index).map(|(_, _, interpreter)| interpreter)
    }

    /// Keeps it until the conversation goes on.
    pub fn keep(&self, owner: &Arc<str>, id: &str, interpreter: BoxedInterpreter) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back((Arc::clone(owner), id.to_owned(), interpreter));
        let oldest = if waiting.len() > MOST_WAITING { waiting.pop_front() } else { None };
        drop(waiting);
        // Its processes end here, which may take a moment.
        drop(oldest);
    }
}
