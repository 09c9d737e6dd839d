//! Python and the web, which the server has itself.

use std::io::BufReader;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ossicle_host::browser::{Domains, Fetched, Hit, Web};
use ossicle_host::python::Interpreter;
use ossicle_server::request::Item;
use ossicle_server::{NewInterpreter, NewWeb, Script, Settings};
use serde_json::{Value, json};

use crate::client::{HELLO, Options, last_text, look, read_until, saying, serve, until};
use crate::stream_rules::check;

/// Calls Python with what was said, and says what it answered.
fn calling() -> Option<Script> {
    Some(Box::new(|task| {
        let said = last_text(task);
        Some(match task.items.last() {
            Some(Item::Message { .. }) => {
                format!("<|channel|>analysis to=python code<|message|>{said}<|call|>")
            }
            _ => format!("<|channel|>final<|message|>It says {said}<|return|>"),
        })
    }))
}

/// Counts its calls. "wait" waits until nobody waits for it.
struct Counter {
    calls: usize,
    waiting: Arc<AtomicUsize>,
}

impl Interpreter for Counter {
    fn run(&mut self, code: &str, is_cancelled: &dyn Fn() -> bool) -> String {
        self.calls += 1;
        self.waiting.fetch_add(1, Ordering::Relaxed);
        while code == "wait" && !is_cancelled() {
            thread::sleep(Duration::from_millis(2));
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        if code == "much" { "long ".repeat(5000) } else { format!("{}: {code}", self.calls) }
    }
}

/// Makes such, all of which count those that wait.
fn counters() -> (NewInterpreter, Arc<AtomicUsize>) {
    let waiting = Arc::new(AtomicUsize::new(0));
    let of_all = Arc::clone(&waiting);
    (Arc::new(move || Box::new(Counter { calls: 0, waiting: Arc::clone(&of_all) })), waiting)
}

#[test]
fn python_is_run_until_the_model_answers_and_keeps_its_definitions() {
    // Calls twice, then says what was printed last.
    let script: Script = Box::new(|task| {
        let calls = task.items.iter().rev().take_while(|item| !matches!(item, Item::Message { .. }));
        let printed = calls.filter(|item| matches!(item, Item::CallOutput { .. })).count();
        Some(match printed {
            0 => "<|channel|>analysis<|message|>First.<|end|><|start|>assistant<|channel|>analysis to=python code<|message|>a<|call|>".to_owned(),
            1 => "<|channel|>analysis to=python code<|message|>bb<|call|>".to_owned(),
            _ => format!("<|channel|>final<|message|>It says {}<|return|>", last_text(task)),
        })
    });
    let python: NewInterpreter = Arc::new(|| {
        let mut cells = 0;
        Box::new(move |code: &str| {
            cells += 1;
            format!("{cells}: {code}")
        })
    });
    let settings = Settings { python: Some(python), ..Options::default().settings };
    let client = serve(Options { settings, script: Some(script), queue: 1, sessions: 1, ..Options::default() });
    let tools = json!([{ "type": "code_interpreter", "container": { "type": "auto" } }, look()]);
    let events = client.events(json!({ "input": "Run.", "tools": tools }));
    check(&events);
    let names: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap_or_default()).collect();
    let mut of_code: Vec<_> =
        names.iter().filter_map(|name| name.strip_prefix("response.code_interpreter_call")).collect();
    of_code.dedup();
    let once = [".in_progress", "_code.delta", "_code.done", ".interpreting", ".completed"];
    assert_eq!(of_code, [once, once].concat());
    let first = &events.last().expect("events")["response"];
    let kinds: Vec<_> = first["output"].as_array().expect("output").iter().map(|item| &item["type"]).collect();
    assert_eq!(kinds, ["reasoning", "code_interpreter_call", "code_interpreter_call", "message"]);
    let call = &first["output"][1];
    assert_eq!((&call["code"], &call["status"]), (&json!("a"), &json!("completed")));
    assert_eq!(call["outputs"], json!([{ "type": "logs", "logs": "1: a" }]));
    assert_eq!(first["output"][3]["content"][0]["text"], "It says 2: bb");
    let usage = &first["usage"];
    // Three rounds read the prompt, two of them from what was there.
    let (input, cached) = (&usage["input_tokens"], &usage["input_tokens_details"]["cached_tokens"]);
    assert!(cached.as_u64() > input.as_u64().map(|tokens| tokens / 2), "{usage}");

    // The next answer finds the same interpreter, and the calls of the last one in its prompt.
    let go_on = |id: &Value| json!({ "input": "More.", "previous_response_id": id, "tools": tools });
    let second = client.respond(go_on(&first["id"]));
    assert_eq!(second["output"][3]["content"][0]["text"], "It says 4: bb");
    // It is another's by then.
    assert_eq!(client.respond(go_on(&first["id"]))["output"][3]["content"][0]["text"], "It says 2: bb");
    let mut input = vec![json!({ "role": "user", "content": "Run." })];
    input.extend(first["output"].as_array().expect("output").iter().cloned());
    input.push(json!({ "role": "user", "content": "More." }));
    let whole = client.respond(json!({ "input": input, "tools": tools, "store": false }));
    let inputs = [&second, &whole].map(|response| &response["usage"]["input_tokens"]);
    assert_eq!(inputs[0], inputs[1]);

    // The tokens that may be written are those of all rounds together.
    let total = first["usage"]["output_tokens"].as_u64().expect("a number");
    for most in 1..=total {
        let cut = client.respond(json!({ "input": "Run.", "tools": tools, "max_output_tokens": most }));
        assert!(cut["usage"]["output_tokens"].as_u64() <= Some(most), "{cut}");
        assert_eq!(cut["status"] == "completed", most == total, "{cut}");
    }

    // As often as the request lets it, and then the client has the call.
    let once = client.respond(json!({ "input": "Run.", "tools": tools, "max_tool_calls": 1 }));
    assert_eq!(once["output"].as_array().map(Vec::len), Some(3), "{once}");
    assert_eq!((&once["output"][2]["outputs"], &once["status"]), (&Value::Null, &json!("completed")));
}

/// A web of one page, which links to nothing.
struct OnePage;

impl Web for OnePage {
    fn search(&mut self, query: &str, _: &dyn Fn() -> bool) -> Result<Vec<Hit>, String> {
        assert_eq!(query, "boats");
        let hit = |url: &str| Hit { url: url.into(), title: "Harbour".into(), text: "when boats leave".into() };
        Ok(vec![hit("http://other.example/"), hit("http://harbour.example/")])
    }

    fn fetch(&mut self, url: &str, _: &Domains, _: &dyn Fn() -> bool) -> Result<Fetched, String> {
        match url {
            "http://harbour.example/" => {
                Ok(Fetched { url: url.into(), text: "Boats leave at noon.".into(), is_html: false })
            }
            _ => Err(format!("{url}: not found")),
        }
    }
}

#[test]
fn the_web_is_searched_until_the_model_answers_and_cites_what_it_saw() {
    // Searches, opens, looks for something, then cites; asked again, cites what it saw before.
    let script: Script = Box::new(|task| {
        let seen = task.items.iter().filter(|item| matches!(item, Item::CallOutput { .. })).count();
        let call = |function: &str, arguments: &str| {
            format!("<|channel|>analysis to=browser.{function} code<|message|>{arguments}<|call|>")
        };
        Some(match seen {
            0 => call("search", r#"{"query":"boats","topn":10}"#),
            1 => call("open", r#"{"id":0}"#),
            2 => call("find", r#"{"pattern":"noon"}"#),
            3 => call("open", r#"{"id":"http://other.example/"}"#),
            _ => "<|channel|>final<|message|>At noon【1†L3】, says the harbour【0†L1】.<|return|>".to_owned(),
        })
    });
    let web: NewWeb = Arc::new(|| Box::new(OnePage));
    let settings = Settings { browser: Some(web), ..Options::default().settings };
    let client = serve(Options { settings, script: Some(script), ..Options::default() });
    let tools = json!([{ "type": "web_search", "filters": { "allowed_domains": ["harbour.example"] } }, look()]);
    let asked = json!({ "input": "When do boats leave?", "tools": tools });
    let mut whole = asked.clone();
    whole["include"] = json!(["web_search_call.action.sources"]);
    let events = client.events(whole);
    check(&events);
    let first = &events.last().expect("events")["response"];
    let output = first["output"].as_array().expect("output");
    let actions: Vec<_> = output.iter().map(|item| item["action"].clone()).collect();
    let url = "http://harbour.example/";
    assert_eq!(
        actions,
        [
            json!({
                "type": "search", "query": "boats", "queries": ["boats"], "sources": [{ "type": "url", "url": url }],
            }),
            json!({ "type": "open_page", "url": url }),
            json!({ "type": "find_in_page", "url": url, "pattern": "noon" }),
            json!({ "type": "open_page", "url": "http://other.example/" }),
            Value::Null
        ]
    );
    // Only where they are asked for.
    assert_eq!(client.respond(asked)["output"][0]["action"].get("sources"), None);
    let names = |id: &Value| -> Vec<_> {
        let is_of = |event: &&Value| event["item_id"] == *id || event["item"]["id"] == *id;
        events.iter().filter(is_of).map(|event| event["type"].as_str().expect("a type")).collect()
    };
    assert_eq!(
        names(&output[0]["id"]),
        [
            "response.output_item.added",
            "response.web_search_call.in_progress",
            "response.web_search_call.searching",
            "response.web_search_call.completed",
            "response.output_item.done",
        ]
    );
    let refused = output[3]["results"][0]["output"].as_str().expect("text");
    assert!(refused.starts_with("Error: ") && refused.contains("harbour.example"), "{refused}");
    assert!(!output[0]["results"][0]["output"].as_str().expect("text").contains("other.example"));

    // The page can be cited; where it was found cannot.
    let content = &output[4]["content"][0];
    let text = content["text"].as_str().expect("text");
    assert_eq!(text, "At noon ([harbour.example](http://harbour.example/)) , says the harbour【0†L1】.");
    let annotations = content["annotations"].as_array().expect("annotations");
    assert_eq!(annotations.len(), 1);
    let index = |key: &str| annotations[0][key].as_u64().expect("a number") as usize;
    let cited: String = text.chars().take(index("end_index")).skip(index("start_index")).collect();
    assert_eq!(cited, "([harbour.example](http://harbour.example/))");
    assert_eq!((&annotations[0]["url"], &annotations[0]["type"]), (&json!(url), &json!("url_citation")));
    let added: Vec<_> = events.iter().filter(|event| event["annotation"] == annotations[0]).collect();
    assert_eq!(added.len(), 1);
    assert_eq!(added[0]["type"], "response.output_text.annotation.added");

    // The conversation goes on with what was seen, by reference and by items alike.
    let go_on = json!({ "input": "And?", "previous_response_id": first["id"], "tools": tools });
    let second = client.respond(go_on);
    assert_eq!(second["output"][0]["content"][0]["annotations"].as_array().map(Vec::len), Some(1), "{second}");
    let mut input = vec![json!({ "role": "user", "content": "When do boats leave?" })];
    input.extend(output.iter().cloned());
    input.push(json!({ "role": "user", "content": "And?" }));
    let whole = client.respond(json!({ "input": input, "tools": tools }));
    let inputs = [&second, &whole].map(|response| &response["usage"]["input_tokens"]);
    assert_eq!(inputs[0], inputs[1]);

    // Without a browser the request is answered all the same.
    let plain = serve(Options { script: saying(HELLO), ..Options::default() });
    let answer = plain.respond(json!({ "input": "Hi", "tools": tools }));
    assert_eq!(answer["status"], "completed");
}

/// Waits until nobody waits for it, and counts those that wait.
struct SlowWeb(Arc<AtomicUsize>);

impl Web for SlowWeb {
    fn search(&mut self, _: &str, _: &dyn Fn() -> bool) -> Result<Vec<Hit>, String> {
        Ok(Vec::new())
    }

    fn fetch(&mut self, _: &str, _: &Domains, is_cancelled: &dyn Fn() -> bool) -> Result<Fetched, String> {
        self.0.fetch_add(1, Ordering::Relaxed);
        while !is_cancelled() {
            thread::sleep(Duration::from_millis(2));
        }
        self.0.fetch_sub(1, Ordering::Relaxed);
        Err("cancelled".into())
    }
}

#[test]
fn pages_that_nobody_waits_for_are_given_up_and_leave_room_for_python() {
    let waiting = Arc::new(AtomicUsize::new(0));
    let count = || waiting.load(Ordering::Relaxed);
    let of_all = Arc::clone(&waiting);
    let browser: NewWeb = Arc::new(move || Box::new(SlowWeb(Arc::clone(&of_all))));
    let settings = Settings { python: Some(counters().0), browser: Some(browser), ..Options::default().settings };
    let mut python = calling().expect("a script");
    let script: Script = Box::new(move |task| match last_text(task) {
        "open" => {
            let call = r#"<|channel|>analysis to=browser.open code<|message|>{"id":"http://a.example/"}<|call|>"#;
            Some(call.to_owned())
        }
        _ => python(task),
    });
    let client = serve(Options { settings, script: Some(script), ..Options::default() });
    let open = json!({ "input": "open", "tools": [{ "type": "web_search" }] });
    let all: Vec<_> = (0..9).map(|_| client.write("/v1/responses", &open)).collect();
    until(|| count() == 9);
    let well = client.respond(json!({ "input": "well", "tools": [{ "type": "code_interpreter" }] }));
    assert_eq!(well["output"][1]["content"][0]["text"], "It says 1: well");
    drop(all);
    until(|| count() == 0);
}

#[test]
fn python_that_nobody_waits_for_ends_and_makes_room() {
    let (python, waiting) = counters();
    let count = || waiting.load(Ordering::Relaxed);
    let settings = Settings { python: Some(python), ..Options::default().settings };
    let client = serve(Options { settings, script: calling(), ..Options::default() });
    let body = |input: &str| json!({ "input": input, "tools": [{ "type": "code_interpreter" }] });
    // As many as may run, and one that waits for its turn.
    let all: Vec<_> = (0..9)
        .map(|_| {
            let mut body = body("wait");
            body["stream"] = true.into();
            let response = client.send("/v1/responses", &body);
            let mut reader = BufReader::new(response.into_body().into_reader());
            assert!(read_until(&mut reader, "interpreting"));
            reader
        })
        .collect();
    until(|| count() == 8);
    // What needs no tool is answered meanwhile.
    assert_eq!(client.get("/v1/models").0, 200);
    drop(all);
    until(|| count() == 0);
    assert_eq!(client.respond(body("well"))["output"][1]["content"][0]["text"], "It says 1: well");

    let mut body = body("wait");
    body["background"] = true.into();
    let queued = client.respond(body);
    until(|| count() == 1);
    let path = format!("/v1/responses/{}", queued["id"].as_str().expect("an id"));
    let (_, cancelled) = client.post(&format!("{path}/cancel"), json!({}));
    assert_eq!((&cancelled["status"], count()), (&json!("cancelled"), 0));
}

#[test]
fn the_time_for_an_answer_ends_python_too() {
    let (python, waiting) = counters();
    let answer_time = Some(Duration::from_millis(500));
    let settings = Settings { python: Some(python), answer_time, ..Options::default().settings };
    let client = serve(Options { settings, script: calling(), ..Options::default() });
    let body = json!({ "input": "wait", "tools": [{ "type": "code_interpreter" }] });
    let (status, error) = client.post("/v1/responses", body);
    assert_eq!((status, &error["error"]["message"]), (500, &json!("The time for an answer is over.")));
    assert_eq!(waiting.load(Ordering::Relaxed), 0);
}

#[test]
fn a_conversation_finds_its_python_if_it_goes_on_and_nobody_else_does() {
    let (python, _) = counters();
    let settings = Settings { python: Some(python), ..Options::default().settings };
    let client = serve(Options { settings, script: calling(), ..Options::default() });
    let tools = json!([{ "type": "code_interpreter" }]);
    let body =
        |input: &str, previous: &Value| json!({ "input": input, "previous_response_id": previous, "tools": tools });
    let said = |response: &Value| {
        let last = response["output"].as_array().and_then(|output| output.last()).expect("output");
        last["content"][0]["text"].as_str().expect("text").to_owned()
    };
    let first = client.respond(body("a", &Value::Null));
    assert_eq!(said(&first), "It says 1: a");
    // A request that fails, and an answer without a call, leave it where it is.
    let (status, _) = client.post("/v1/responses", body(&"long ".repeat(5000), &first["id"]));
    assert_eq!(status, 400);
    let between = client.respond(json!({ "input": "b", "previous_response_id": first["id"], "max_output_tokens": 1 }));
    let second = client.respond(body("c", &between["id"]));
    assert_eq!(said(&second), "It says 2: c");
    // What is not stored cannot be gone on from, and what is deleted neither.
    let mut unstored = body("d", &second["id"]);
    unstored["store"] = false.into();
    assert_eq!(said(&client.respond(unstored)), "It says 3: d");
    assert_eq!(said(&client.respond(body("e", &second["id"]))), "It says 1: e");
    // What the tool says may fill the context.
    let full = client.respond(body("much", &Value::Null));
    assert_eq!(full["status"], "incomplete");
    assert_eq!(full["incomplete_details"]["reason"], "max_output_tokens");
}

#[test]
fn python_ends_with_a_word_when_the_server_stops() {
    let (python, waiting) = counters();
    let grace = Duration::from_millis(50);
    let settings = Settings { python: Some(python), grace, ..Options::default().settings };
    let client = serve(Options { settings, script: calling(), ..Options::default() });
    let body = json!({ "input": "wait", "tools": [{ "type": "code_interpreter" }], "stream": true });
    let mut reader = BufReader::new(client.send("/v1/responses", &body).into_body().into_reader());
    until(|| waiting.load(Ordering::Relaxed) == 1);
    drop(client);
    assert!(read_until(&mut reader, "response.failed"));
    assert_eq!(waiting.load(Ordering::Relaxed), 0);
}
