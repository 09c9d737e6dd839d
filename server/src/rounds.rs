//! Answers in several rounds: when the model calls Python, the server runs it and lets the model go on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use ossicle_core::generation::{MessageKind, Usage};
use ossicle_core::harmony::builtin::PYTHON;
use ossicle_core::harmony::conversation::{COMMENTARY, FINAL, Role};
use ossicle_host::python::Interpreter;

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
    /// What the rounds before took.
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

    /// The task of the next round, in which the model finds what its code printed; none if it may write no more.
    pub fn next(&mut self, printed: &str, usage: Usage) -> Option<Task> {
        self.usage = self.all(usage);
        self.calls += 1;
        self.task.items.append(&mut self.said);
        self.task.items.push(Item::CallOutput { recipient: PYTHON.name.into(), parts: vec![printed.to_owned()] });
        let settings = &mut self.task.settings;
        settings.tool_choice.required = false;
        if let Some(tokens) = &mut settings.max_tokens {
            *tokens = tokens.saturating_sub(usage.output_tokens);
            if *tokens == 0 {
                return None;
            }
        }
        Some(self.task.clone())
    }

    /// What all rounds took, where the last took `usage`.
    pub fn all(&self, usage: Usage) -> Usage {
        Usage {
            input_tokens: self.usage.input_tokens + usage.input_tokens,
            cached_tokens: self.usage.cached_tokens + usage.cached_tokens,
            output_tokens: self.usage.output_tokens + usage.output_tokens,
            reasoning_tokens: self.usage.reasoning_tokens + usage.reasoning_tokens,
        }
    }
}

/// Calls of Python in an answer, where the request says nothing: a model that repeats itself must come to an end.
const MOST_CALLS: u64 = 64;

/// Interpreters between the answers of their conversations, with whose and which answer was the last. The oldest go first.
#[derive(Default)]
pub struct Interpreters(Mutex<VecDeque<(Arc<str>, String, BoxedInterpreter)>>);

/// Most interpreters that wait for their conversation to go on.
const MOST_WAITING: usize = 16;

impl Interpreters {
    /// That of the answer `id`, for the one who goes on from it.
    pub fn take(&self, owner: &str, id: &str) -> Option<BoxedInterpreter> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = waiting.iter().position(|(whose, answer, _)| **whose == *owner && answer == id)?;
        waiting.remove(index).map(|(_, _, interpreter)| interpreter)
    }

    /// Keeps it until the conversation goes on.
    pub fn keep(&self, owner: &Arc<str>, id: &str, interpreter: BoxedInterpreter) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back((Arc::clone(owner), id.to_owned(), interpreter));
        let oldest = if waiting.len() > MOST_WAITING { waiting.pop_front() } else { None };
        drop(waiting);
        // Its processes end here, which may take a moment.
        drop(oldest);
    }
}
