//! What a policy judges in `ossicle run` and `ossicle chat`, where the toy model talks and judges.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A folder that is gone when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("ossicle-policy-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a path in UTF-8").to_owned()
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.0.join(name), text).expect("room");
        self.path(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may be gone.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn ossicle(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ossicle"));
    command.args(&arguments[..1]).args(["--temperature", "0"]).args(&arguments[1..]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("a short input");
    let output = child.wait_with_output().expect("output");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// What it wrote on standard output, and on standard error.
fn texts(output: &Output) -> [String; 2] {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned())
}

const POLICY: &str = "Answer 1 if the message violates the policy and 0 if not.\n\nForbidden: insults.";

fn tools() -> String {
    format!("{}/../examples/tools.json", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_model_itself_judges_and_the_log_has_digests_only() {
    let scratch = Scratch::new("model");
    let (policy, log) = (scratch.write("policy.md", POLICY), scratch.path("audit.log"));
    let judged = ["--policy", &policy, "--audit", &log];
    let json = |prompt: &str| -> Value {
        let output = ossicle(&[&["run", "--json"], &judged[..], &[prompt]].concat(), "");
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let sum = json("What is 58 + 27?");
    assert_eq!((&sum["answer"], &sum["stop"]), (&"58 + 27 = 85".into(), &"finished".into()));
    let insult = json("You are a fool!");
    assert_eq!(
        (&insult["answer"], &insult["stop"], &insult["policy"]),
        (&"".into(), &"policy".into(), &"the policy".into())
    );
    assert_eq!(insult["usage"]["output_tokens"], 0, "the model is not asked");

    let tools = tools();
    let chat = [&["chat", "--tools", &tools], &judged[..]].concat();
    let [told, noted] = texts(&ossicle(&chat, "Open the green gate.\n{\"ok\":true}\nYou are a liar!\n"));
    assert_eq!(told, "Done: I opened the green gate.\n");
    assert!(noted.contains("[policy: the policy]"), "{noted}");

    let log = std::fs::read_to_string(&log).expect("the log");
    let entries: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |what: &str| entries.iter().filter(|entry| entry["what"] == what).collect::<Vec<_>>();
    let subjects: Vec<_> =
        of("judged").iter().map(|entry| (entry["subject"].clone(), entry["verdict"].clone())).collect();
    let expected = [
        ("prompt", "allow"),
        ("answer", "allow"),
        ("prompt", "stop"),
        ("prompt", "allow"),
        ("tool_call", "allow"),
        ("tool_result", "allow"),
        ("answer", "allow"),
        ("prompt", "stop"),
    ];
    assert_eq!(subjects, expected.map(|(subject, verdict)| (subject.into(), verdict.into())));
    let ends: Vec<_> = of("ended").iter().map(|entry| entry["end"].clone()).collect();
    assert_eq!(ends, ["finished", "policy", "tool_call", "finished", "policy"]);
    assert!(!log.contains("fool") && !log.contains("gate"), "{log}");
}

#[cfg(unix)]
#[test]
fn a_program_judges_before_anybody_sees() {
    use std::os::unix::fs::PermissionsExt;

    let scratch = Scratch::new("program");
    let gate = scratch.write(
        "gate",
        r#"#!/bin/sh
read -r asked
case "$asked" in
*tool_call*) echo '{"verdict":"replace","text":"{\"door\":\"blue gate\"}"}' ;;
*85*) echo '{"verdict":"replace","text":"It is a secret."}' ;;
*broken*) echo '{"verdict":"stop","reason":"a broken word"}' ;;
*) echo '{"verdict":"allow"}' ;;
esac
"#,
    );
    std::fs::set_permissions(&gate, PermissionsExt::from_mode(0o700)).expect("permissions");
    let [told, noted] = texts(&ossicle(&["run", "--gate", &gate, "What is 58 + 27?"], ""));
    assert_eq!(told, "It is a secret.\n", "{noted}");
    let tools = tools();
    let chat = ["chat", "--gate", &gate, "--tools", &tools];
    let [told, noted] = texts(&ossicle(&chat, "Open the green gate.\n{\"broken\":true}\n"));
    assert!(noted.contains("[functions.open_door] {\"door\":\"blue gate\"}"), "{noted}");
    assert!(noted.contains("[policy: a broken word]") && !noted.contains("green"), "{noted}");
    assert_eq!(told, "", "the model is not told, and says nothing");
    let [told, noted] = texts(&ossicle(&["run", "--gate", "/nowhere/to/be/found", "Hello"], ""));
    assert_eq!(told, "", "what cannot be judged does not pass");
    assert!(noted.contains("[policy: the policy could not be asked"), "{noted}");
}
