//! The policy between the model and everybody else.

use std::sync::Arc;

use ossicle_core::generation::{MessageKind, Usage};
use ossicle_core::harmony::conversation::Role;
use ossicle_host::policy::{AuditLog, Gate, Origin, Part, Subject, Told, Verdict};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::answer::{AnswerEvent, End};
use crate::builtin::permit;
use crate::judge::ModelGate;
use crate::request::{Item, Task};
use crate::worker::Wanted;

/// The policy, and the log of what it decided.
#[derive(Clone, Default)]
pub struct Policy {
    /// Judges; without one everything passes.
    pub gate: Option<Arc<dyn Gate>>,
    /// Keeps what was judged, by digests, and how answers ended.
    pub audit: Option<Arc<AuditLog>>,
}

/// Who judges.
#[derive(Clone)]
enum Judge {
    /// Somebody else.
    Gate(Arc<dyn Gate>),
    /// The served model.
    Model(Arc<ModelGate>),
}

/// The policy at work.
#[derive(Clone)]
pub struct Guard {
    judge: Option<Judge>,
    audit: Option<Arc<AuditLog>>,
    /// Requests that may be judged at a time before they have their place.
    requests: Arc<Semaphore>,
    /// Judgements that may be under way at a time for those that have one.
    within: Arc<Semaphore>,
}

/// Judgements at a time, of either kind: each takes a thread.
const MOST_JUDGING: usize = 32;

/// The answer that something is judged for.
#[derive(Clone, Copy)]
pub struct Answer<'a> {
    /// What the log says of it.
    pub origin: Origin<'a>,
    /// Whether it is to go on.
    pub wanted: &'a Wanted,
    /// Whether it has its place, or something was judged for it: then there is always room to judge for it.
    pub has_begun: bool,
}

impl Guard {
    /// The policy, or where it has no gate, that by which the model judges.
    pub fn new(policy: Policy, model: Option<ModelGate>) -> Self {
        let judge = policy.gate.map(Judge::Gate).or(model.map(|model| Judge::Model(Arc::new(model))));
        let semaphore = || Arc::new(Semaphore::new(MOST_JUDGING));
        Self { judge, audit: policy.audit, requests: semaphore(), within: semaphore() }
    }

    /// Waits until a request may be judged.
    pub async fn permit_request(&self, wanted: &Wanted) -> Result<OwnedSemaphorePermit, End> {
        permit(&self.requests, wanted).await
    }

    /// Waits until something may be judged for an answer that has its place.
    pub async fn permit(&self, wanted: &Wanted) -> Result<OwnedSemaphorePermit, End> {
        permit(&self.within, wanted).await
    }

    /// Whether anything is judged.
    pub fn judges(&self) -> bool {
        self.judge.is_some()
    }

    /// Judges and logs: the text that passes in the place of this one, if another does; or how the answer ends, if it is stopped,
    /// not wanted any more, or cannot be judged now.
    pub fn judge(&self, answer: Answer<'_>, subject: &Subject<'_>) -> Result<Option<String>, End> {
        let verdict = match &self.judge {
            None => return Ok(None),
            Some(Judge::Gate(gate)) => gate.judge(subject, &|| answer.wanted.end().is_some()),
            Some(Judge::Model(model)) => model.judge(subject, answer.wanted, answer.has_begun).map_err(End::Failed)?,
        };
        if let Some(end) = answer.wanted.end() {
            return Err(end);
        }
        self.log(|audit| audit.judged(answer.origin, subject, &verdict));
        match verdict {
            Verdict::Allow => Ok(None),
            Verdict::Replace(text) => Ok(Some(text)),
            Verdict::Stop(reason) => Err(End::Filtered(reason)),
        }
    }

    /// Logs how an answer ended.
    pub fn ended(&self, origin: Origin<'_>, end: &End, usage: Usage) {
        self.log(|audit| audit.ended(origin, end.name(), usage));
    }

    fn log(&self, write: impl FnOnce(&AuditLog) -> std::io::Result<()>) {
        if let Some(Err(error)) = self.audit.as_deref().map(write) {
            eprintln!("ossicle: the audit log cannot be written: {error}");
        }
    }

    /// Judges what users and tools say in a task, and replaces what is to be replaced; or how the answer ends.
    pub fn judge_task(&self, mut answer: Answer<'_>, task: &mut Task) -> Result<(), End> {
        for item in &mut task.items {
            let (parts, tool) = match item {
                Item::Message { role: Role::User, parts, .. } => (parts, None),
                Item::CallOutput { recipient, parts } => (parts, Some(&**recipient)),
                _ => continue,
            };
            // The model reads the parts without a break.
            let text = parts.concat();
            let subject = match tool {
                Some(tool) => Subject::ToolResult { tool, text: &text },
                None => Subject::Prompt(&text),
            };
            if let Some(other) = self.judge(answer, &subject)? {
                *parts = vec![other];
            }
            answer.has_begun = true;
        }
        Ok(())
    }
}

impl Told for AnswerEvent {
    fn part(&self) -> Part<'_> {
        match self {
            Self::MessageBegin { kind, recipient } => Part::Begin { kind: *kind, tool: recipient.as_deref() },
            Self::Delta(text) => Part::Text(text),
            Self::Token { .. } => Part::Detail,
            Self::MessageEnd => Part::End,
            Self::Begin | Self::ToolBegin | Self::ToolResult { .. } | Self::Stop { .. } => Part::Other,
        }
    }

    fn text(_: MessageKind, text: String) -> Self {
        Self::Delta(text)
    }
}
