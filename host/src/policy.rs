//! Where the policy of whoever deploys a model stands: it sees what goes to the model and what comes from it, and may
//! change or stop it.
//!
//! [`Gate`] is the interface. [`ProgramGate`] asks a program, in whatever language; [`AuditLog`] keeps what was decided.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// What the user says.
    Prompt(&'a str),
    /// The model wants to call a tool.
    ToolCall {
        /// Its full name.
        tool: &'a str,
        /// With this.
        argument: &'a str,
    },
    /// A tool answered the model.
    ToolResult {
        /// Its full name.
        tool: &'a str,
        /// This.
        text: &'a str,
    },
    /// What the model says to the user, before it calls tools or at the end.
    Answer(&'a str),
}

impl<'a> Subject<'a> {
    /// In a word: `prompt`, `tool_call`, `tool_result`, `answer`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Prompt(_) => "prompt",
            Self::ToolCall { .. } => "tool_call",
            Self::ToolResult { .. } => "tool_result",
            Self::Answer(_) => "answer",
        }
    }

    /// The text that is judged.
    pub fn text(&self) -> &'a str {
        match self {
            Self::Prompt(text) | Self::Answer(text) | Self::ToolResult { text, .. } => text,
            Self::ToolCall { argument, .. } => argument,
        }
    }

    /// The tool that it is about.
    pub fn tool(&self) -> Option<&'a str> {
        match self {
            Self::ToolCall { tool, .. } | Self::ToolResult { tool, .. } => Some(tool),
            Self::Prompt(_) | Self::Answer(_) => None,
        }
    }
}

/// What is to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Allow,
    /// This passes in its place.
    Replace(String),
    /// Nothing passes, and the answer ends, for this reason.
    Stop(String),
}

impl Verdict {
    /// In a word: `allow`, `replace`, `stop`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Replace(_) => "replace",
            Self::Stop(_) => "stop",
        }
    }
}

/// A policy.
pub trait Gate: Send + Sync {
    /// Judges. May take its time: it is called on a thread that can wait.
    fn judge(&self, subject: &Subject<'_>) -> Verdict;
}

/// A policy that is a program. It is run for each subject, reads `{"subject", "tool", "text"}` from its standard input, and
/// writes `{"verdict": "allow"}`, `{"verdict": "replace", "text"}` or `{"verdict": "stop", "reason"}`. Whatever else
/// happens, stops.
pub struct ProgramGate {
    program: PathBuf,
    time: Duration,
}

impl ProgramGate {
    /// The program, and how long it may take.
    pub fn new(program: PathBuf, time: Duration) -> Self {
        Self { program, time }
    }

    fn ask(&self, question: &Value) -> io::Result<Value> {
        let mut child = Command::new(&self.program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let question = question.to_string();
        // A program that answers before it has read all must not be waited for.
        thread::spawn(move || stdin.map_or(Ok(()), |mut stdin| stdin.write_all(question.as_bytes())));
        let (sender, answer) = channel();
        thread::spawn(move || {
            let mut text = Vec::new();
            let read = stdout.map_or(Ok(0), |stdout| stdout.take(LONGEST_VERDICT).read_to_end(&mut text));
            sender.send(read.map(|_| text))
        });
        let deadline = Instant::now() + self.time;
        if !wait(&mut child, deadline)? {
            return Err(io::Error::other("it failed"));
        }
        // Another that it began may keep the pipes open after it.
        let text = answer.recv_timeout(deadline.saturating_duration_since(Instant::now())).map_err(|_| late())??;
        Ok(serde_json::from_slice(&text)?)
    }
}

/// Most bytes that a program can answer.
const LONGEST_VERDICT: u64 = 8 << 20;

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it took too long")
}

/// Whether the program ended well. It is killed if it takes too long.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<bool> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Err(late());
        }
        thread::sleep(Duration::from_millis(2));
    }
}

impl Gate for ProgramGate {
    fn judge(&self, subject: &Subject<'_>) -> Verdict {
        let question = json!({ "subject": subject.name(), "tool": subject.tool(), "text": subject.text() });
        let answer = self.ask(&question);
        let word = |key: &str| answer.as_ref().ok().and_then(|answer| answer[key].as_str());
        match (word("verdict"), word("text"), &answer) {
            (Some("allow"), ..) => Verdict::Allow,
            (Some("replace"), Some(text), _) => Verdict::Replace(text.to_owned()),
            (Some("stop"), ..) => Verdict::Stop(word("reason").unwrap_or("the policy").to_owned()),
            (.., Err(error)) => Verdict::Stop(format!("the policy could not be asked: {error}")),
            _ => Verdict::Stop("the policy gave no verdict".to_owned()),
        }
    }
}

/// A file of what was decided, a JSON object a line, that is only ever added to.
pub struct AuditLog(Mutex<File>);

impl AuditLog {
    /// Opens the file, which only its owner may read, or makes it.
    ///
    /// # Errors
    /// If the operating system refuses it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(Self(Mutex::new(options.open(path)?)))
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, entry: &Value) -> io::Result<()> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(format!("{entry}\n").as_bytes())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    use super::{Gate, ProgramGate, Subject, Verdict};

    fn gate(name: &str, script: &str) -> (ProgramGate, PathBuf) {
        let path = std::env::temp_dir().join(format!("ossicle-gate-{name}-{}", std::process::id()));
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a file");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).expect("permissions");
        (ProgramGate::new(path.clone(), Duration::from_secs(10)), path)
    }

    #[test]
    fn a_program_decides_and_whatever_goes_wrong_stops() {
        let subject = Subject::ToolCall { tool: "functions.look", argument: "{}" };
        for (name, script, expected) in [
            ("allow", r#"echo '{"verdict":"allow"}'"#, Some(Verdict::Allow)),
            ("replace", r#"echo '{"verdict":"replace","text":"x"}'"#, Some(Verdict::Replace("x".into()))),
            ("stop", r#"echo '{"verdict":"stop","reason":"no"}'"#, Some(Verdict::Stop("no".into()))),
            ("fail", r#"echo '{"verdict":"allow"}'; exit 1"#, None),
            ("mute", "cat > /dev/null", None),
            ("odd", r#"echo '{"verdict":"perhaps"}'"#, None),
            (
                "read",
                r#"grep -q '"subject":"tool_call","tool":"functions.look"' && echo '{"verdict":"allow"}'"#,
                Some(Verdict::Allow),
            ),
        ] {
            let (gate, path) = gate(name, script);
            let verdict = gate.judge(&subject);
            match expected {
                Some(expected) => assert_eq!(verdict, expected, "{name}"),
                None => assert!(matches!(verdict, Verdict::Stop(_)), "{name}: {verdict:?}"),
            }
            std::fs::remove_file(path).expect("the file");
        }
        // Its child holds the output open for longer than anybody waits.
        let (gate, path) = gate("child", r#"sleep 20 & echo '{"verdict":"allow"}'"#);
        let gate = ProgramGate { time: Duration::from_millis(500), ..gate };
        let begun = Instant::now();
        assert!(matches!(gate.judge(&subject), Verdict::Stop(_)));
        assert!(begun.elapsed() < Duration::from_secs(15));
        std::fs::remove_file(path).expect("the file");
        let nowhere = ProgramGate::new("/nowhere/to/be/found".into(), Duration::from_secs(1));
        assert!(matches!(nowhere.judge(&subject), Verdict::Stop(_)));
    }
}
