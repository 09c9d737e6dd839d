//! Answers in several rounds: when the model calls a tool that the server has, the server carries the call out and lets the
//! model go on.

use ossicle_core::generation::{MessageKind, Usage};
use ossicle_core::harmony::conversation::{COMMENTARY, FINAL, Role};
use ossicle_host::browser::Pages;
use ossicle_host::tools::MOST_CALLS;

use crate::answer::AnswerEvent;
use crate::builtin::shown;
use crate::request::{Item, Task, ToolKind};

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
                    let kind = self.task.tools.find(&recipient).map_or(ToolKind::Function, |tool| tool.kind);
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

    /// The call that the round ended with, if the server is to carry it out: whom it goes to, and with what.
    pub fn call(&self) -> Option<(&str, &str)> {
        match self.said.last() {
            Some(Item::Call { recipient, kind, argument, .. }) if kind.is_built_in() => {
                let is_granted = self.calls < self.task.settings.max_tool_calls.unwrap_or(MOST_CALLS as u64);
                is_granted.then_some((recipient, argument))
            }
            _ => None,
        }
    }

    /// The pages that the model has been shown.
    pub fn pages(&self) -> Pages {
        shown(&self.task.items)
    }

    /// The domains that the browser may see.
    pub fn domains(&self) -> &[String] {
        &self.task.tools.domains
    }

    /// The round is over, and took this.
    pub fn add(&mut self, usage: Usage) {
        self.usage = self.usage + usage;
    }

    /// Whether no token is left for a further round.
    pub fn is_used_up(&self) -> bool {
        self.task.settings.max_tokens.is_some_and(|most| self.usage.output_tokens >= most)
    }

    /// The task of the next round, in which the model finds what its call was answered with.
    pub fn next(&mut self, text: String) -> Task {
        self.calls += 1;
        let recipient = match self.said.last() {
            Some(Item::Call { recipient, .. }) => recipient.clone(),
            _ => String::new(),
        };
        self.task.items.append(&mut self.said);
        self.task.items.push(Item::CallOutput { recipient, parts: vec![text] });
        self.task.settings.tool_choice.required = false;
        let mut task = self.task.clone();
        // What may be written is that of all rounds together.
        let Usage { output_tokens, reasoning_tokens, .. } = self.usage;
        let rest = |most: Option<usize>, used| most.map(|most| most.saturating_sub(used));
        task.settings.max_tokens = rest(task.settings.max_tokens, output_tokens);
        task.settings.reasoning_tokens = rest(task.settings.reasoning_tokens, reasoning_tokens);
        task
    }

    /// What the rounds took that are over.
    pub fn usage(&self) -> Usage {
        self.usage
    }
}

#[cfg(test)]
mod tests {
    use ossicle_core::generation::{MessageKind, Usage};
    use serde_json::json;

    use super::Rounds;
    use crate::answer::AnswerEvent;
    use crate::request::{Context, Item, Request};
    use crate::seal::Seal;

    #[test]
    fn what_a_request_grants_is_granted_to_all_rounds_together() {
        let body = json!({
            "input": "Run.", "max_output_tokens": 100, "reasoning": { "max_tokens": 20 }, "max_tool_calls": 2,
            "tools": [{ "type": "code_interpreter" }, { "type": "function", "name": "f" }],
        });
        let mut rounds = Rounds::new(Request::read(&body, &Context::alone(&Seal::random())).expect("a request").task);
        let call = |rounds: &mut Rounds, recipient: &str| {
            let recipient = Some(recipient.to_owned());
            rounds.observe(&AnswerEvent::MessageBegin { kind: MessageKind::ToolCall, recipient });
            rounds.observe(&AnswerEvent::Delta("1".into()));
            rounds.add(Usage { output_tokens: 30, reasoning_tokens: 15, ..Usage::default() });
        };
        call(&mut rounds, "python");
        assert_eq!(rounds.call(), Some(("python", "1")));
        let task = rounds.next("one".into());
        assert_eq!((task.settings.max_tokens, task.settings.reasoning_tokens), (Some(70), Some(5)));
        assert_eq!(task.items[2], Item::CallOutput { recipient: "python".into(), parts: vec!["one".into()] });
        call(&mut rounds, "python");
        let task = rounds.next("two".into());
        assert_eq!((task.settings.max_tokens, task.settings.reasoning_tokens), (Some(40), Some(0)));
        call(&mut rounds, "python");
        assert_eq!(rounds.call(), None);
        call(&mut rounds, "functions.f");
        assert_eq!(rounds.call(), None);
        assert!(rounds.is_used_up());
    }
}
