//! What a policy judges.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ossicle_host::policy::{AuditLog, Gate, Subject, Verdict};
use ossicle_server::{Policy, Script, Settings};
use serde_json::{Value, json};

use crate::client::{CALL, Options, endless, last_text, look, read, saying, serve, until};
use crate::stream_rules::check;

/// Stops whoever says "bad", and puts "good" in the place of "odd".
struct Words;

impl Gate for Words {
    fn judge(&self, subject: &Subject<'_>, _: &dyn Fn() -> bool) -> Verdict {
        match subject.text() {
            text if text.contains("bad") => Verdict::Stop(format!("a bad {}", subject.name())),
            text if text.contains("odd") => Verdict::Replace(text.replace("odd", "good")),
            _ => Verdict::Allow,
        }
    }
}

#[test]
fn the_policy_changes_and_stops_whatever_passes() {
    let said = |text: &str| format!("<|channel|>final<|message|>{text}<|return|>");
    let script: Script = Box::new(move |task| {
        Some(match last_text(task) {
            "call" => CALL.replace("here", "bad"),
            other => said(&format!("You say {other}")),
        })
    });
    let path = std::env::temp_dir().join(format!("ossicle-audit-{}", std::process::id()));
    let audit = AuditLog::open(&path).expect("a file");
    let policy = Policy { gate: Some(Arc::new(Words)), audit: Some(Arc::new(audit)) };
    let settings = Settings { policy, ..Options::default().settings };
    let client = serve(Options { settings, script: Some(script), ..Options::default() });
    let events = |input: &str| {
        let events = client.events(json!({ "input": input, "tools": [look()] }));
        check(&events);
        let response = events.last().expect("events")["response"].clone();
        (response["output"][0]["content"][0]["text"].clone(), response)
    };
    assert_eq!(events("well").0, "You say well");
    // What the model is told, and what it says of that.
    assert_eq!(events("odd").0, "You say good");
    let (text, response) = events("bad");
    assert_eq!((text, &response["output"]), (Value::Null, &json!([])));
    assert_eq!(response["incomplete_details"], json!({ "reason": "content_filter", "message": "a bad prompt" }));
    assert_eq!(response["usage"]["input_tokens"], 0);
    // The call does not reach the client, the preamble before it does.
    let (_, response) = events("call");
    assert_eq!(response["incomplete_details"]["message"], "a bad tool_call");
    assert!(!response.to_string().contains("here") && response.to_string().contains("I look."), "{response}");
    assert!(response["usage"]["output_tokens"].as_u64() > Some(0));
    let chat = json!({ "messages": [{ "role": "user", "content": "bad" }] });
    assert_eq!(client.post("/v1/chat/completions", chat).1["choices"][0]["finish_reason"], "content_filter");

    let log = std::fs::read_to_string(&path).expect("the log");
    let entries: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let count = |key: &str, value: &str| entries.iter().filter(|entry| entry[key] == value).count();
    assert_eq!((count("verdict", "stop"), count("verdict", "replace"), count("what", "ended")), (3, 1, 5), "{log}");
    assert!(!log.contains("You say"), "the log has digests only");
    std::fs::remove_file(&path).expect("the file");
}

#[test]
fn what_comes_in_parts_is_judged_as_the_model_reads_it() {
    let script: Script = Box::new(|task| {
        let text = last_text(task);
        Some(format!("<|channel|>final<|message|>You say {text}<|return|>"))
    });
    let policy = Policy { gate: Some(Arc::new(Words)), audit: None };
    let settings = Settings { policy, ..Options::default().settings };
    let client = serve(Options { settings, script: Some(script), ..Options::default() });
    let parts = |first: &str, second: &str| json!([{ "type": "input_text", "text": first }, { "type": "input_text", "text": second }]);
    let says = |parts: Value| json!([{ "role": "user", "content": parts }]);
    let answers = |parts: Value| {
        let call = json!({ "type": "function_call", "call_id": "c", "name": "look", "arguments": "{}" });
        json!([call, { "type": "function_call_output", "call_id": "c", "output": parts }])
    };
    for (input, why) in [(says(parts("ba", "d")), "a bad prompt"), (answers(parts("ba", "d")), "a bad tool_result")] {
        let response = client.respond(json!({ "input": input }));
        assert_eq!(response["incomplete_details"]["message"], why, "{response}");
    }
    for input in [says(parts("od", "d")), answers(parts("od", "d"))] {
        let response = client.respond(json!({ "input": input }));
        assert_eq!(response["output"][0]["content"][0]["text"], "You say good");
    }
}

#[test]
fn what_cannot_be_answered_is_not_judged() {
    let policy = Policy { gate: Some(Arc::new(Never)), audit: None };
    let settings = Settings { policy, ..Options::default().settings };
    let client = serve(Options { settings, ..Options::default() });
    let (status, error) = client.post("/v1/responses", json!({ "input": "x".repeat(4 << 20) }));
    assert_eq!((status, &error["error"]["code"]), (400, &"context_length_exceeded".into()));
}

#[test]
fn what_a_truncated_conversation_leaves_out_is_not_judged() {
    let judged = Arc::new(AtomicUsize::new(0));
    let policy = Policy { gate: Some(Arc::new(Counted(Arc::clone(&judged)))), audit: None };
    let settings = Settings { policy, ..Options::default().settings };
    let script = saying("<|channel|>final<|message|>Well.<|return|>");
    let client = serve(Options { settings, script, ..Options::default() });
    let say = |text: &str| json!({ "role": "user", "content": text });
    let mut input = vec![say("bad")];
    input.resize(2000, say("x"));
    let response = client.respond(json!({ "input": input, "truncation": "auto" }));
    assert_eq!(response["output"][0]["content"][0]["text"], "Well.");
    // The answer too. The context holds 4,096 tokens, and a message has at least four.
    assert!((500..=1025).contains(&judged.load(Ordering::Relaxed)), "{judged:?}");
    input.push(say("bad"));
    let response = client.respond(json!({ "input": input, "truncation": "auto" }));
    assert_eq!(response["incomplete_details"]["message"], "a bad prompt");
}

/// Counts what [`Words`] judges.
struct Counted(Arc<AtomicUsize>);

impl Gate for Counted {
    fn judge(&self, subject: &Subject<'_>, is_cancelled: &dyn Fn() -> bool) -> Verdict {
        self.0.fetch_add(1, Ordering::Relaxed);
        Words.judge(subject, is_cancelled)
    }
}

/// Must not be asked.
struct Never;

impl Gate for Never {
    fn judge(&self, _: &Subject<'_>, _: &dyn Fn() -> bool) -> Verdict {
        panic!("this was not to be judged");
    }
}

#[test]
fn the_model_itself_judges_by_a_policy_in_words() {
    const POLICY: &str = "Answer 1 if the message names the fish, and else 0.";
    for sessions in [1, 2] {
        let script: Script = Box::new(|task| {
            let text = last_text(task);
            let said = |text: &str| format!("<|channel|>final<|message|>{text}<|return|>");
            if task.instructions.as_deref() != Some(POLICY) {
                return Some(said(if text == "Which?" { "The herring." } else { "None." }));
            }
            assert_eq!(task.items.len(), 1, "nothing but the text is judged");
            Some(match text {
                "mumble" => said("Perhaps."),
                _ => format!(
                    "<|channel|>analysis<|message|>1 or 0?<|end|><|start|>assistant{}",
                    said(if text.contains("herring") { "1" } else { "0" })
                ),
            })
        });
        let settings = Settings { model_policy: Some(POLICY.into()), ..Options::default().settings };
        let client = serve(Options { settings, sessions, script: Some(script), ..Options::default() });
        let answer = |input: &str| client.respond(json!({ "input": input }));
        assert_eq!(answer("Hello")["output"][0]["content"][0]["text"], "None.");
        for (input, why) in
            [("The herring?", "the policy"), ("Which?", "the policy"), ("mumble", "the policy gave no verdict")]
        {
            let answer = answer(input);
            assert_eq!(answer["incomplete_details"], json!({ "reason": "content_filter", "message": why }), "{input}");
            assert_eq!(answer["output"], json!([]));
        }
    }
}

#[test]
fn a_prompt_that_there_is_no_room_to_judge_is_told_to_come_back() {
    let settings = Settings { model_policy: Some("Judge.".into()), ..Options::default().settings };
    let options =
        Options { settings, sessions: 1, queue: 1, is_slow: true, script: saying(endless()), ..Options::default() };
    let client = serve(options);
    // One is being judged, and another waits for it.
    let body = json!({ "input": "Hello", "stream": true });
    let (first, second) = (client.with_key(""), client.with_key(""));
    thread::scope(|scope| {
        let asked = [first, second].map(|client| {
            let body = &body;
            scope.spawn(move || client.send("/v1/responses", body).status())
        });
        client.wait_for("requests_running", 1);
        client.wait_for("requests_waiting", 1);
        let refused = client.send("/v1/responses", &body);
        assert_eq!((refused.status().as_u16(), refused.headers().contains_key("retry-after")), (429, true));
        assert_eq!(read(refused).1["error"]["code"], "rate_limit_exceeded");
        let call = json!({ "type": "function_call", "call_id": "c", "name": "look", "arguments": "{}" });
        let result = json!([call, { "type": "function_call_output", "call_id": "c", "output": "x" }]);
        assert_eq!(client.send("/v1/responses", &json!({ "input": result })).status(), 429, "what tools say, too");
        client.stop.stop();
        for asked in asked {
            assert_eq!(asked.join().expect("an answer"), 503);
        }
    });
}

#[test]
fn the_judgement_for_a_client_that_has_left_is_given_up() {
    let settings = Settings { model_policy: Some("Judge.".into()), ..Options::default().settings };
    let client =
        serve(Options { settings, sessions: 1, is_slow: true, script: saying(endless()), ..Options::default() });
    let connection = client.write("/v1/responses", &json!({ "input": "Hello" }));
    client.wait_for("requests_running", 1);
    drop(connection);
    client.wait_for("requests_running", 0);
}

#[test]
fn a_gate_learns_that_nobody_waits_for_it() {
    let (gate, settings) = slow();
    let client = serve(Options { settings, ..Options::default() });
    let connection = client.write("/v1/responses", &json!({ "input": "Hello" }));
    until(|| gate.judging.load(Ordering::Relaxed) == 1);
    drop(connection);
    until(|| gate.judging.load(Ordering::Relaxed) == 0);
}

/// Waits until nobody waits for it.
#[derive(Default)]
struct Slow {
    judging: AtomicUsize,
    most: AtomicUsize,
}

fn slow() -> (Arc<Slow>, Settings) {
    let gate = Arc::<Slow>::default();
    let policy = Policy { gate: Some(gate.clone()), audit: None };
    (gate, Settings { policy, ..Options::default().settings })
}

impl Gate for Slow {
    fn judge(&self, _: &Subject<'_>, is_cancelled: &dyn Fn() -> bool) -> Verdict {
        let judging = 1 + self.judging.fetch_add(1, Ordering::Relaxed);
        self.most.fetch_max(judging, Ordering::Relaxed);
        while !is_cancelled() {
            thread::sleep(Duration::from_millis(2));
        }
        self.judging.fetch_sub(1, Ordering::Relaxed);
        Verdict::Allow
    }
}

#[test]
fn requests_wait_for_their_judgement_where_many_are_judged() {
    let (gate, settings) = slow();
    let client = serve(Options { settings, ..Options::default() });
    let connections: Vec<_> = (0..40).map(|_| client.write("/v1/responses", &json!({ "input": "Hello" }))).collect();
    client.wait_for("requests_total", 40);
    until(|| gate.judging.load(Ordering::Relaxed) == 32);
    drop(connections);
    until(|| gate.judging.load(Ordering::Relaxed) == 0);
    assert_eq!(gate.most.load(Ordering::Relaxed), 32);
}
