//! A gate that asks the served model itself: each judgement is a request of its own.

use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use ossicle_core::generation::MessageKind;
use ossicle_core::harmony::conversation::{Effort, Role};
use ossicle_host::policy::{Subject, Verdict, label, question};
use tokio::sync::{mpsc, oneshot};

use crate::answer::{AnswerEvent, End};
use crate::error::ApiError;
use crate::request::{Item, Settings, Task, Tools};
use crate::worker::{Command, Job, Wanted};

/// Judges by a policy in words.
pub struct ModelGate {
    policy: String,
    commands: Sender<Command>,
}

/// How long a judgement may take, the time in the queue included.
const TIME: Duration = Duration::from_secs(300);
/// Events of a judgement that nobody has read yet: its answer is short, its reasoning need not be.
const EVENTS: usize = 16_384;

/// Why there is no judgement.
enum Unjudged {
    /// Too much is asked at the moment.
    Busy(ApiError),
    /// Something else.
    Failed(String),
}

impl ModelGate {
    /// By this policy, asked of the thread that takes these commands.
    pub fn new(policy: String, commands: Sender<Command>) -> Self {
        Self { policy, commands }
    }

    /// Judges for an answer that is wanted so long, and may have begun.
    ///
    /// # Errors
    /// If it has not, and there is no room in the queue.
    pub fn judge(&self, subject: &Subject<'_>, wanted: &Wanted, has_begun: bool) -> Result<Verdict, ApiError> {
        match self.ask(subject, wanted, has_begun) {
            Ok(answer) => Ok(label(&answer)),
            Err(Unjudged::Busy(error)) => Err(error),
            Err(Unjudged::Failed(why)) => Ok(Verdict::Stop(format!("the policy could not be asked: {why}"))),
        }
    }

    fn ask(&self, subject: &Subject<'_>, wanted: &Wanted, has_begun: bool) -> Result<String, Unjudged> {
        let text = question(subject).into_owned();
        let task = Task {
            instructions: Some(self.policy.clone()),
            items: vec![Item::Message { role: Role::User, channel: None, parts: vec![text] }],
            tools: Tools::default(),
            effort: Effort::Low,
            settings: Settings { temperature: 0.0, ..Settings::default() },
        };
        let (events, mut receiver) = mpsc::channel(EVENTS);
        let latest = Instant::now() + TIME;
        // It ends with the answer that it is for.
        let wanted = Wanted { deadline: Some(wanted.deadline.map_or(latest, |end| end.min(latest))), ..wanted.clone() };
        let job = Job { task, events, wanted, is_continued: has_begun };
        let (admitted, admission) = oneshot::channel();
        let gone = || Unjudged::Failed("the server is stopping".to_owned());
        self.commands.send(Command::Answer(job, admitted)).map_err(|_| gone())?;
        admission.blocking_recv().map_err(|_| gone())?.map_err(|error| match error.retry_after {
            Some(_) => Unjudged::Busy(error),
            None => Unjudged::Failed(error.message),
        })?;
        let (mut answer, mut is_answer) = (String::new(), false);
        while let Some(event) = receiver.blocking_recv() {
            match event {
                AnswerEvent::MessageBegin { kind, .. } => is_answer = kind == MessageKind::Answer,
                AnswerEvent::Delta(text) if is_answer => answer.push_str(&text),
                AnswerEvent::Stop { end, .. } => {
                    return match end {
                        End::Completed => Ok(answer),
                        End::Failed(error) => Err(Unjudged::Failed(error.message)),
                        end => Err(Unjudged::Failed(format!("the judgement ended early: {}", end.name()))),
                    };
                }
                _ => {}
            }
        }
        Err(gone())
    }
}
