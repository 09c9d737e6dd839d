//! The policy of whoever lets others talk with the model: options, and the policy at work.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use ossicle_core::generation::{Event, Generation, MessageKind, StopReason, Turn, TurnConfig, Usage};
use ossicle_core::harmony::conversation::{Content, DeveloperContent, Effort, Message, Role, SystemContent};
use ossicle_core::sampling::SamplerConfig;
use ossicle_core::transformer::Progress;
use ossicle_host::Threads;
use ossicle_host::policy::{AuditLog, Gate, Origin, ProgramGate, Subject, Verdict, label, question};

use crate::talk::{End, INTERRUPTED, reason_name};

/// Who judges, and where that is kept.
#[derive(Args)]
pub struct PolicyOptions {
    /// A program that judges what users and tools say and what the model answers and calls: docs/safety.md says how.
    #[arg(long, value_name = "PROGRAM")]
    gate: Option<PathBuf>,
    /// A file with a policy in words, by which the model itself judges the same texts, as gpt-oss-safeguard does: docs/safety.md.
    #[arg(long, value_name = "FILE", conflicts_with = "gate")]
    policy: Option<PathBuf>,
    /// Seconds that the program may take for each text.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    gate_seconds: u64,
    /// Adds to this file what was judged, by digests, and how each answer ended.
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
}

impl PolicyOptions {
    /// The program that judges.
    pub fn program(&self) -> Option<ProgramGate> {
        let time = Duration::from_secs(self.gate_seconds);
        self.gate.as_ref().map(|program| ProgramGate::new(program.clone(), time))
    }

    /// The policy by which the model judges.
    pub fn words(&self) -> Result<Option<String>> {
        let read = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| path.display().to_string());
        self.policy.as_ref().map(read).transpose()
    }

    /// The log.
    pub fn audit(&self) -> Result<Option<AuditLog>> {
        let open = |path: &PathBuf| AuditLog::open(path).with_context(|| path.display().to_string());
        self.audit.as_ref().map(open).transpose()
    }
}

/// The policy at work in a conversation.
pub struct Guard<'g> {
    gate: Option<Box<dyn Gate + 'g>>,
    audit: Option<AuditLog>,
    answers: u64,
}

impl<'g> Guard<'g> {
    /// With a gate and a log, if there are any.
    pub fn new(gate: Option<Box<dyn Gate + 'g>>, audit: Option<AuditLog>) -> Self {
        Self { gate, audit, answers: 0 }
    }

    /// Whether anything is judged.
    pub fn judges(&self) -> bool {
        self.gate.is_some()
    }

    /// What follows is about another answer.
    pub fn begin(&mut self) {
        self.answers += 1;
    }

    /// Judges and logs: the text that passes in the place of this one, if another does; or how the answer ends.
    pub fn judge(&self, subject: &Subject<'_>) -> Result<Option<String>, End> {
        let Some(gate) = &self.gate else { return Ok(None) };
        let is_cancelled = || INTERRUPTED.load(Ordering::Relaxed);
        let verdict = gate.judge(subject, &is_cancelled);
        if is_cancelled() {
            return Err(End::Turn(StopReason::Cancelled));
        }
        self.log(|audit, origin| audit.judged(origin, subject, &verdict));
        match verdict {
            Verdict::Allow => Ok(None),
            Verdict::Replace(text) => Ok(Some(text)),
            Verdict::Stop(reason) => Err(End::Policy(reason)),
        }
    }

    /// Logs how the answer ended.
    pub fn ended(&self, end: &str, usage: Usage) {
        self.log(|audit, origin| audit.ended(origin, end, usage));
    }

    fn log(&self, write: impl FnOnce(&AuditLog, Origin<'_>) -> std::io::Result<()>) {
        let Some(audit) = &self.audit else { return };
        // Another process may add to the same file.
        let request = format!("{}-{}", std::process::id(), self.answers);
        if let Err(error) = write(audit, Origin { request: &request, client: None }) {
            eprintln!("ossicle: the audit log cannot be written: {error}");
        }
    }
}

/// The model as the judge, in a conversation of its own for each text.
pub struct ModelGate<'a, 'r, 'w> {
    policy: String,
    threads: &'a Threads,
    generation: Mutex<Generation<'r, 'w>>,
}

impl<'a, 'r, 'w> ModelGate<'a, 'r, 'w> {
    /// By this policy, in this conversation, which nobody else uses.
    pub fn new(policy: String, threads: &'a Threads, generation: Generation<'r, 'w>) -> Self {
        Self { policy, threads, generation: Mutex::new(generation) }
    }

    fn ask(&self, subject: &Subject<'_>, is_cancelled: &dyn Fn() -> bool) -> Result<String> {
        let system = [Content::System(SystemContent { effort: Some(Effort::Low), ..SystemContent::default() })];
        let instructions = Some(&*self.policy);
        let developer = [Content::Developer(DeveloperContent { instructions, ..DeveloperContent::default() })];
        let text = question(subject);
        let user = [Content::Text(&text)];
        let messages = [
            Message::new(Role::System, &system),
            Message::new(Role::Developer, &developer),
            Message::new(Role::User, &user),
        ];
        let generation = &mut *self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        let size = generation.scratch_size(&messages)?;
        generation.replace(&messages, &mut vec![0; size])?;
        let sampler = SamplerConfig { temperature: 0.0, ..SamplerConfig::default() };
        let mut turn = Turn::new(generation, TurnConfig { sampler, ..TurnConfig::default() })?;
        let (mut answer, mut end) = (String::new(), StopReason::Cancelled);
        let mut take = |event: Event<'_>| match event {
            Event::Delta { kind: MessageKind::Answer, text } => answer.push_str(text),
            Event::Stop { reason, .. } => end = reason,
            _ => {}
        };
        while turn.step(generation, self.threads, &mut take)? == Progress::More && !is_cancelled() {}
        if end != StopReason::Finished {
            bail!("the judgement ended early: {}", reason_name(end));
        }
        Ok(answer)
    }
}

impl Gate for ModelGate<'_, '_, '_> {
    fn judge(&self, subject: &Subject<'_>, is_cancelled: &dyn Fn() -> bool) -> Verdict {
        match self.ask(subject, is_cancelled) {
            Ok(answer) => label(&answer),
            Err(error) => Verdict::Stop(format!("the policy could not be asked: {error}")),
        }
    }
}
