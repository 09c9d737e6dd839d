//! A program as the policy.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Gate, Subject, Verdict};

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

    fn ask(&self, question: &Value, is_cancelled: &dyn Fn() -> bool) -> io::Result<Value> {
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
        if !wait(&mut child, deadline, is_cancelled)? {
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

/// Whether the program ended well. It is killed if it takes too long, or nobody waits for it.
fn wait(child: &mut Child, deadline: Instant, is_cancelled: &dyn Fn() -> bool) -> io::Result<bool> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        let is_cancelled = is_cancelled();
        if is_cancelled || Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Err(if is_cancelled { io::Error::other("cancelled") } else { late() });
        }
        thread::sleep(Duration::from_millis(2));
    }
}

impl Gate for ProgramGate {
    fn judge(&self, subject: &Subject<'_>, is_cancelled: &dyn Fn() -> bool) -> Verdict {
        let question = json!({ "subject": subject.name(), "tool": subject.tool(), "text": subject.text() });
        let answer = self.ask(&question, is_cancelled);
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

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    use super::super::{Gate, Subject, Verdict};
    use super::ProgramGate;

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
            let verdict = gate.judge(&subject, &|| false);
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
        assert!(matches!(gate.judge(&subject, &|| false), Verdict::Stop(_)));
        assert!(begun.elapsed() < Duration::from_secs(15));
        std::fs::remove_file(path).expect("the file");
        let (gate, path) = self::gate("slow", "exec sleep 20");
        let Verdict::Stop(why) = gate.judge(&subject, &|| true) else { panic!("nothing passes") };
        assert!(why.ends_with("cancelled"), "{why}");
        std::fs::remove_file(path).expect("the file");
        let nowhere = ProgramGate::new("/nowhere/to/be/found".into(), Duration::from_secs(1));
        assert!(matches!(nowhere.judge(&subject, &|| false), Verdict::Stop(_)));
    }
}
