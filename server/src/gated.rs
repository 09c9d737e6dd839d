//! The policy between the model and everybody else.

use std::sync::Arc;

use ossicle_core::generation::MessageKind;
use ossicle_core::harmony::conversation::Role;
use ossicle_host::policy::{AuditLog, Gate, Subject, Verdict};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::answer::AnswerEvent;
use crate::request::{Item, Task};
use crate::seal::hex;
use crate::service::now;

/// The policy, and the log of what it decided.
#[derive(Clone, Default)]
pub struct Policy {
    /// Judges; without one everything passes.
    pub gate: Option<Arc<dyn Gate>>,
    /// Keeps what was judged, by digests, and how answers ended.
    pub audit: Option<Arc<AuditLog>>,
}

impl Policy {
    /// Judges and logs.
    pub fn judge(&self, (request, owner): (&str, &str), subject: &Subject<'_>) -> Verdict {
        let Some(gate) = &self.gate else { return Verdict::Allow };
        let verdict = gate.judge(subject);
        let digest = |text: &str| hex(&Sha256::digest(text));
        let text = subject.text();
        let mut entry = json!({
            "what": "judged", "subject": subject.name(), "tool": subject.tool(), "bytes": text.len(),
            "sha256": digest(text), "verdict": verdict.name(),
        });
        match &verdict {
            Verdict::Allow => {}
            Verdict::Replace(text) => entry["replacement_sha256"] = digest(text).into(),
            Verdict::Stop(reason) => entry["reason"] = (&**reason).into(),
        }
        self.log((request, owner), entry);
        verdict
    }

    /// Adds an entry about a request to the log.
    pub fn log(&self, (request, owner): (&str, &str), entry: Value) {
        let Some(audit) = &self.audit else { return };
        let mut all = json!({ "time": now(), "request": request, "client": owner });
        if let (Some(all), Value::Object(entry)) = (all.as_object_mut(), entry) {
            all.extend(entry);
        }
        if let Err(error) = audit.write(&all) {
            eprintln!("ossicle: the audit log cannot be written: {error}");
        }
    }

    /// Judges what users and tools say in a task, and replaces what is to be replaced. The reason, if it must not go on.
    pub fn judge_task(&self, request: (&str, &str), task: &mut Task) -> Result<(), String> {
        for item in &mut task.items {
            let (parts, tool) = match item {
                Item::Message { role: Role::User, parts, .. } => (parts, None),
                Item::CallOutput { recipient, parts } => (parts, Some(&**recipient)),
                _ => continue,
            };
            for text in parts {
                let subject = match tool {
                    Some(tool) => Subject::ToolResult { tool, text },
                    None => Subject::Prompt(text),
                };
                match self.judge(request, &subject) {
                    Verdict::Allow => {}
                    Verdict::Replace(other) => *text = other,
                    Verdict::Stop(reason) => return Err(reason),
                }
            }
        }
        Ok(())
    }
}

/// A message that is held until it has been judged.
#[derive(Debug, Default)]
pub struct Held {
    events: Vec<AnswerEvent>,
    kind: Option<MessageKind>,
    tool: String,
    text: String,
}

/// What is to be done with an event.
pub enum Next {
    /// It passes.
    Pass(AnswerEvent),
    /// It waits for the rest of its message.
    Wait,
    /// The message is complete and has to be judged.
    Judge(Held),
}

impl Held {
    /// Takes an event. Reasoning passes: it is not for end users anyway.
    pub fn take(&mut self, event: AnswerEvent) -> Next {
        match &event {
            AnswerEvent::MessageBegin { kind: MessageKind::Reasoning, .. } => {
                *self = Self::default();
                return Next::Pass(event);
            }
            AnswerEvent::MessageBegin { kind, recipient } => {
                let tool = recipient.clone().unwrap_or_default();
                *self = Self { kind: Some(*kind), tool, ..Self::default() };
            }
            AnswerEvent::Delta(text) if self.kind.is_some() => self.text.push_str(text),
            AnswerEvent::Token { .. } | AnswerEvent::MessageEnd if self.kind.is_some() => {}
            _ => return Next::Pass(event),
        }
        let is_whole = event == AnswerEvent::MessageEnd;
        self.events.push(event);
        if is_whole { Next::Judge(std::mem::take(self)) } else { Next::Wait }
    }

    /// What is judged.
    pub fn subject(&self) -> Subject<'_> {
        match self.kind {
            Some(MessageKind::ToolCall) => Subject::ToolCall { tool: &self.tool, argument: &self.text },
            _ => Subject::Answer(&self.text),
        }
    }

    /// The events of the message as it was.
    pub fn release(self) -> Vec<AnswerEvent> {
        self.events
    }

    /// The events of the message with another text.
    pub fn replace(self, text: String) -> Vec<AnswerEvent> {
        let mut events: Vec<_> = self.events.into_iter().take(1).collect();
        events.extend((!text.is_empty()).then_some(AnswerEvent::Delta(text)));
        events.push(AnswerEvent::MessageEnd);
        events
    }
}
