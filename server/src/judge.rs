//! A gate that asks the served model itself, as gpt-oss-safeguard is asked: the policy is what the developer says, the text to be
//! judged is what the user says, and the answer is a label.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use ossicle_core::generation::MessageKind;
use ossicle_core::harmony::conversation::{Effort, Role};
use ossicle_host::policy::{Gate, Subject, Verdict};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::answer::{AnswerEvent, End};
use crate::request::{Item, Settings, Task, Tools};
use crate::worker::{Command, Job, Wanted};

/// Judges by a policy in words.
pub struct ModelGate {
    policy: String,
    commands: Sender<Command>,
    is_stopping: Arc<AtomicBool>,
}

/// How long a judgement may take, the time in the queue included.
const TIME: Duration = Duration::from_secs(300);
/// Events of a judgement that nobody has read yet: its answer is short, its reasoning need not be.
const EVENTS: usize = 16_384;

impl ModelGate {
    /// By this policy, asked of the thread that takes these commands, until the server stops.
    pub fn new(policy: String, commands: Sender<Command>, is_stopping: Arc<AtomicBool>) -> Self {
        Self { policy, commands, is_stopping }
    }

    fn ask(&self, subject: &Subject<'_>) -> Result<String, String> {
        let text = match subject {
            Subject::ToolCall { tool, argument } => format!("{tool}: {argument}"),
            _ => subject.text().to_owned(),
        };
        let task = Task {
            instructions: Some(self.policy.clone()),
            items: vec![Item::Message { role: Role::User, channel: None, parts: vec![text] }],
            tools: Tools::default(),
            effort: Effort::Low,
            settings: Settings { temperature: 0.0, ..Settings::default() },
        };
        let (events, mut receiver) = mpsc::channel(EVENTS);
        let is_stopping = Arc::clone(&self.is_stopping);
        let wanted = Wanted { cancelled: Arc::default(), deadline: Some(Instant::now() + TIME), is_stopping };
        // An answer under way has its place already; what has none yet waits as others do.
        let is_continued = !matches!(subject, Subject::Prompt(_));
        let job = Job { task, events, wanted, is_continued };
        let (admitted, admission) = oneshot::channel();
        let gone = || "the server is stopping".to_owned();
        self.commands.send(Command::Answer(job, admitted)).map_err(|_| gone())?;
        admission.blocking_recv().map_err(|_| gone())?.map_err(|error| error.message)?;
        let (mut answer, mut is_answer) = (String::new(), false);
        while let Some(event) = receiver.blocking_recv() {
            match event {
                AnswerEvent::MessageBegin { kind, .. } => is_answer = kind == MessageKind::Answer,
                AnswerEvent::Delta(text) if is_answer => answer.push_str(&text),
                AnswerEvent::Stop { end: End::Completed, .. } => return Ok(answer),
                AnswerEvent::Stop { end: End::Failed(error), .. } => return Err(error.message),
                AnswerEvent::Stop { end, .. } => return Err(format!("the judgement ended early: {}", end.name())),
                _ => {}
            }
        }
        Err(gone())
    }
}

impl Gate for ModelGate {
    fn judge(&self, subject: &Subject<'_>) -> Verdict {
        match self.ask(subject) {
            Ok(answer) => verdict(&answer),
            Err(error) => Verdict::Stop(format!("the policy could not be asked: {error}")),
        }
    }
}

/// `0` passes and `1` does not; in JSON, that is what `violation` says. Whatever else comes, stops.
fn verdict(answer: &str) -> Verdict {
    let answer: Value = serde_json::from_str(answer.trim()).unwrap_or_default();
    let (label, why) = match &answer {
        Value::Object(object) => (object.get("violation"), object.get("rationale").or(object.get("policy_category"))),
        label => (Some(label), None),
    };
    match label {
        Some(Value::Bool(false)) => Verdict::Allow,
        Some(label) if *label == 0 => Verdict::Allow,
        Some(label) if *label == 1 || *label == true => {
            Verdict::Stop(why.and_then(Value::as_str).unwrap_or("the policy").to_owned())
        }
        _ => Verdict::Stop("the policy gave no verdict".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use ossicle_host::policy::Verdict;

    use super::verdict;

    #[test]
    fn a_label_decides_and_whatever_is_none_stops() {
        for allowed in ["0", " 0\n", r#"{"violation": 0}"#, r#"{"violation": false, "rationale": "fine"}"#] {
            assert_eq!(verdict(allowed), Verdict::Allow, "{allowed}");
        }
        for (stopped, why) in [
            ("1", "the policy"),
            (r#"{"violation": 1, "policy_category": "D2"}"#, "D2"),
            (r#"{"violation": true, "rationale": "a threat", "policy_category": "D2"}"#, "a threat"),
            ("", "the policy gave no verdict"),
            ("2", "the policy gave no verdict"),
            ("01", "the policy gave no verdict"),
            ("no violation", "the policy gave no verdict"),
            ("[0]", "the policy gave no verdict"),
            ("{}", "the policy gave no verdict"),
        ] {
            assert_eq!(verdict(stopped), Verdict::Stop(why.into()), "{stopped}");
        }
    }
}
