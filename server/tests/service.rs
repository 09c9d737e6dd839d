//! The server over HTTP, with a small random model that says what a script says.

#[path = "../src/stream_rules.rs"]
mod stream_rules;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ossicle_core::model::Model;
use ossicle_core::parallel::{Parallel, Stage};
use ossicle_core::tokenizer::Tokenizer;
use ossicle_core::transformer::{Precision, SessionConfig};
use ossicle_host::browser::{Fetched, Hit, Web};
use ossicle_host::policy::{AuditLog, Gate, Subject, Verdict};
use ossicle_host::python::Interpreter;
use ossicle_host::{Checkpoint, Memory, kernels, vocabulary};
use ossicle_server::request::{Item, Task};
use ossicle_server::{Engine, NewInterpreter, NewWeb, Policy, Script, Server, Settings, Stop};
use serde_json::{Value, json};
use stream_rules::check;
use ureq::http::Response;
use ureq::{Agent, Body};

/// The caller's thread, which may take its time.
struct Pace {
    pause: Duration,
}

impl Parallel for Pace {
    fn workers(&self) -> usize {
        0
    }

    fn run(&self, _job: &(dyn Fn() + Sync)) {}

    fn begin(&self, _stage: Stage) {
        if !self.pause.is_zero() {
            thread::sleep(self.pause);
        }
    }
}

/// How a server of a test differs.
struct Options {
    settings: Settings,
    sessions: usize,
    queue: usize,
    /// Whether a token takes some ten milliseconds.
    is_slow: bool,
    script: Option<Script>,
}

impl Default for Options {
    fn default() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = Settings { address, model_name: "openai/gpt-oss-20b".into(), ..Settings::default() };
        Self { settings, sessions: 2, queue: 8, is_slow: false, script: None }
    }
}

/// A server, and a client of it.
struct Client {
    address: SocketAddr,
    agent: Agent,
    key: Option<&'static str>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || ended.is_none_or(|ended| ended.is_ok()), "the server ends well");
    }
}

fn serve(options: Options) -> Client {
    let server = Server::bind(options.settings.clone()).expect("a free port");
    let (address, stop) = (server.address().expect("an address"), server.stop());
    let thread = thread::spawn(move || {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/tiny-a/gguf/tiny-a.gguf");
        let checkpoint = Checkpoint::open(&path).expect("the fixture");
        let bytes = checkpoint.bytes();
        let files = checkpoint.files(&bytes).expect("the fixture");
        let mut memory = Memory::new(Model::layout(&files).expect("a layout")).expect("memory");
        let model = Model::new(memory.region(), &files).expect("a model");
        let (tokens, types) = files.vocabulary().expect("a vocabulary");
        let source = vocabulary::gguf(tokens, types.expect("types"));
        let mut memory = Memory::new(Tokenizer::layout(&source).expect("a layout")).expect("memory");
        let tokenizer = Tokenizer::new(&source, memory.region()).expect("a tokenizer");
        let pause = if options.is_slow { Duration::from_micros(100) } else { Duration::ZERO };
        let engine = Engine {
            model: &model,
            tokenizer,
            kernels: kernels::fastest(),
            threads: &Pace { pause },
            session: SessionConfig {
                context_tokens: 4096,
                batch_tokens: 128,
                logits_rows: 9,
                rewind_tokens: 1024,
                precision: Precision::Standard,
            },
            sessions: options.sessions,
            queue: options.queue,
            script: options.script,
        };
        server.run(engine).expect("the server runs");
    });
    let config = Agent::config_builder().http_status_as_error(false).build();
    Client { address, agent: config.new_agent(), key: None, stop, thread: Some(thread) }
}

/// A script that says the same to everyone.
fn saying(text: impl Into<String>) -> Option<Script> {
    let text = text.into();
    Some(Box::new(move |_| Some(text.clone())))
}

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

/// What was said last, to a script.
fn last_text(task: &Task) -> &str {
    match task.items.last() {
        Some(Item::Message { parts, .. } | Item::CallOutput { parts, .. }) => &parts[0],
        _ => "",
    }
}

const HELLO: &str = "<|channel|>analysis<|message|>Think.<|end|><|start|>assistant\
                     <|channel|>final<|message|>Hello.<|return|>";
const CALL: &str = "<|channel|>analysis<|message|>Look.<|end|><|start|>assistant\
                    <|channel|>commentary<|message|>I look.<|end|><|start|>assistant\
                    <|channel|>commentary to=functions.look <|constrain|>json<|message|>{\"place\":\"here\"}<|call|>";

/// An answer that does not end by itself.
fn endless() -> String {
    format!("<|channel|>final<|message|>{}", "and on ".repeat(400))
}

impl Client {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn with_key(&self, key: &'static str) -> Self {
        let agent = self.agent.clone();
        Self { address: self.address, agent, key: Some(key), stop: Stop::default(), thread: None }
    }

    fn send(&self, path: &str, body: &Value) -> Response<Body> {
        let request = self.agent.post(self.url(path)).header("content-type", "application/json");
        let request = match self.key {
            Some(key) => request.header("authorization", format!("Bearer {key}")),
            None => request,
        };
        request.send(body.to_string()).expect("an answer")
    }

    fn post(&self, path: &str, body: Value) -> (u16, Value) {
        read(self.send(path, &body))
    }

    fn respond(&self, body: Value) -> Value {
        let (status, response) = self.post("/v1/responses", body);
        assert_eq!(status, 200, "{response}");
        response
    }

    fn get(&self, path: &str) -> (u16, Value) {
        let request = self.agent.get(self.url(path));
        let request = match self.key {
            Some(key) => request.header("authorization", format!("Bearer {key}")),
            None => request,
        };
        read(request.call().expect("an answer"))
    }

    fn events(&self, mut body: Value) -> Vec<Value> {
        body["stream"] = true.into();
        let mut response = self.send("/v1/responses", &body);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let text = response.body_mut().read_to_string().expect("text");
        let frames = text.split("\n\n").filter(|frame| frame.starts_with("event: "));
        frames
            .map(|frame| {
                let (name, data) = frame.split_once('\n').expect("two lines");
                let event: Value = serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
                assert_eq!(name.strip_prefix("event: "), event["type"].as_str());
                event
            })
            .collect()
    }

    /// Begins a stream, and reads as much of it as one delta.
    fn begin(&self, input: &str) -> BufReader<impl std::io::Read + use<>> {
        let body = json!({ "input": input, "stream": true });
        let response = self.send("/v1/responses", &body);
        assert_eq!(response.status(), 200);
        let mut reader = BufReader::new(response.into_body().into_reader());
        read_until(&mut reader, ".delta");
        reader
    }

    fn metric(&self, name: &str) -> u64 {
        let mut response = self.agent.get(self.url("/metrics")).call().expect("an answer");
        let text = response.body_mut().read_to_string().expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("ossicle_{name} ")));
        line.expect("the metric").parse().expect("a number")
    }

    fn delete(&self, path: &str) -> (u16, Value) {
        read(self.agent.delete(self.url(path)).call().expect("an answer"))
    }

    /// Waits until a metric has a value.
    fn wait_for(&self, name: &str, value: u64) {
        while self.metric(name) != value {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn read(mut response: Response<Body>) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string().expect("text");
    (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

/// Reads lines until one has this text. False at the end.
fn read_until(reader: &mut impl BufRead, text: &str) -> bool {
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return false;
        }
        if line.contains(text) {
            return true;
        }
    }
}

fn look() -> Value {
    let parameters = json!({ "type": "object", "properties": { "place": { "type": "string" } } });
    json!({ "type": "function", "name": "look", "description": "Looks.", "parameters": parameters, "strict": false })
}

#[test]
fn a_stream_a_whole_response_and_the_stored_one_say_the_same() {
    let client = serve(Options { script: saying(HELLO), ..Options::default() });
    let whole = client.respond(json!({ "model": "any", "input": "Hi" }));
    assert_eq!(whole["output"][0]["content"][0]["text"], "Think.");
    assert_eq!(whole["output"][1]["content"][0]["text"], "Hello.");
    assert_eq!((&whole["status"], &whole["model"]), (&json!("completed"), &json!("openai/gpt-oss-20b")));
    let usage = &whole["usage"];
    assert!(usage["output_tokens_details"]["reasoning_tokens"].as_u64() > Some(0), "{usage}");
    assert!(
        usage["input_tokens"].as_u64() > Some(100) && usage["total_tokens"].as_u64() > usage["input_tokens"].as_u64()
    );

    let events = client.events(json!({ "input": "Hi" }));
    check(&events);
    let streamed = &events.last().expect("events")["response"];
    assert_eq!(streamed["output"][1]["content"], whole["output"][1]["content"]);
    let id = streamed["id"].as_str().expect("an id");
    assert_eq!(client.get(&format!("/v1/responses/{id}")), (200, streamed.clone()));
    let (_, items) = client.get(&format!("/v1/responses/{id}/input_items"));
    assert_eq!(items["data"][0]["content"][0]["text"], "Hi");
    assert_eq!((&items["object"], &items["has_more"]), (&json!("list"), &json!(false)));
}

#[test]
fn a_tool_is_called_answered_and_the_conversation_goes_on_from_what_was_computed() {
    let script: Script = Box::new(|task| Some(if last_text(task) == "Rain." { HELLO } else { CALL }.to_owned()));
    let client = serve(Options { script: Some(script), ..Options::default() });
    let events = client.events(json!({ "input": "Weather?", "tools": [look()] }));
    check(&events);
    assert!(events.iter().any(|event| event["type"] == "response.function_call_arguments.delta"));
    let first = &events.last().expect("events")["response"];
    let kinds: Vec<_> = first["output"].as_array().expect("output").iter().map(|item| &item["type"]).collect();
    assert_eq!(kinds, ["reasoning", "message", "function_call"]);
    let call = &first["output"][2];
    assert_eq!((&call["name"], &call["arguments"]), (&json!("look"), &json!("{\"place\":\"here\"}")));

    let output = json!({ "type": "function_call_output", "call_id": call["call_id"], "output": "Rain." });
    let stored = json!({ "previous_response_id": first["id"], "input": [output], "tools": [look()] });
    let second = client.respond(stored);
    assert_eq!(second["output"][1]["content"][0]["text"], "Hello.");
    // The same, with the conversation sent back whole.
    let mut input = vec![json!({ "role": "user", "content": "Weather?" })];
    input.extend(first["output"].as_array().expect("output").iter().cloned());
    input.push(output);
    let third = client.respond(json!({ "input": input, "tools": [look()], "store": false }));
    for response in [&second, &third] {
        let usage = &response["usage"];
        let cached = usage["input_tokens_details"]["cached_tokens"].as_u64().expect("a number");
        let before = first["usage"]["total_tokens"].as_u64().expect("a number");
        // All but the token that ended the call, and that after which the next is drawn.
        assert!(cached + 3 >= before, "{cached} of {before}: {usage}");
    }
    assert_eq!(second["usage"]["input_tokens"], third["usage"]["input_tokens"]);
    let count = json!({ "input": input, "tools": [look()] });
    let (_, count) = client.post("/v1/responses/input_tokens", count);
    assert_eq!(count["input_tokens"], second["usage"]["input_tokens"]);
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
    fn search(&mut self, query: &str) -> Result<Vec<Hit>, String> {
        assert_eq!(query, "boats");
        let hit = |url: &str| Hit { url: url.into(), title: "Harbour".into(), text: "when boats leave".into() };
        Ok(vec![hit("http://other.example/"), hit("http://harbour.example/")])
    }

    fn fetch(&mut self, url: &str) -> Result<Fetched, String> {
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
    let events = client.events(json!({ "input": "When do boats leave?", "tools": tools }));
    check(&events);
    let first = &events.last().expect("events")["response"];
    let output = first["output"].as_array().expect("output");
    let actions: Vec<_> = output.iter().map(|item| item["action"].clone()).collect();
    let url = "http://harbour.example/";
    assert_eq!(
        actions,
        [
            json!({ "type": "search", "query": "boats", "queries": ["boats"] }),
            json!({ "type": "open_page", "url": url }),
            json!({ "type": "find_in_page", "url": url, "pattern": "noon" }),
            json!({ "type": "open_page", "url": "http://other.example/" }),
            Value::Null
        ]
    );
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

/// Waits until something is so.
fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        thread::sleep(Duration::from_millis(2));
    }
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
fn items_can_be_referred_to_and_reasoning_can_travel_encrypted() {
    let client = serve(Options { script: saying(HELLO), ..Options::default() });
    let first = client.respond(json!({ "input": "Hi", "include": ["reasoning.encrypted_content"] }));
    let reasoning = &first["output"][0];
    let encrypted = reasoning["encrypted_content"].as_str().expect("encrypted");
    assert!(!encrypted.contains("Think"));
    let count = |input: Value| {
        let (status, count) = client.post("/v1/responses/input_tokens", json!({ "input": input }));
        assert_eq!(status, 200, "{count}");
        count["input_tokens"].clone()
    };
    let plain = count(json!([{ "role": "user", "content": "Hi" }, reasoning, { "role": "user", "content": "?" }]));
    let sealed = json!({ "type": "reasoning", "summary": [], "encrypted_content": encrypted });
    assert_eq!(count(json!([{ "role": "user", "content": "Hi" }, sealed, { "role": "user", "content": "?" }])), plain);
    let reference = json!({ "type": "item_reference", "id": reasoning["id"] });
    assert_eq!(
        count(json!([{ "role": "user", "content": "Hi" }, reference, { "role": "user", "content": "?" }])),
        plain
    );
}

#[test]
fn withheld_reasoning_reaches_nobody() {
    let settings = Settings { withhold_reasoning: true, ..Options::default().settings };
    let client = serve(Options { settings, script: saying(HELLO), ..Options::default() });
    let events = client.events(json!({ "input": "Hi" }));
    check(&events);
    let (_, chat) = client.post("/v1/chat/completions", json!({ "messages": [{ "role": "user", "content": "Hi" }] }));
    assert!(!format!("{events:?}{chat}").contains("Think."));
    assert_eq!(chat["choices"][0]["message"]["content"], "Hello.");
    let previous = &events.last().expect("events")["response"]["id"];
    client.respond(json!({ "input": "And?", "previous_response_id": previous }));
}

#[test]
fn chat_completions_answer_whole_and_in_chunks() {
    let client = serve(Options { script: saying(HELLO), ..Options::default() });
    let body = json!({ "messages": [{ "role": "user", "content": "Hi" }] });
    let (status, whole) = client.post("/v1/chat/completions", body.clone());
    let message = &whole["choices"][0]["message"];
    assert_eq!((status, &message["content"], &message["reasoning"]), (200, &json!("Hello."), &json!("Think.")));
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    let mut body = body;
    body["stream"] = true.into();
    let mut response = client.send("/v1/chat/completions", &body);
    let text = response.body_mut().read_to_string().expect("text");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let chunks = text.split("\n\n").filter_map(|frame| serde_json::from_str(frame.strip_prefix("data: ")?).ok());
    let content: String =
        chunks.filter_map(|chunk: Value| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect();
    assert_eq!(content, "Hello.");
}

#[test]
fn an_answer_that_is_cut_off_is_incomplete() {
    let client = serve(Options { script: saying(endless()), ..Options::default() });
    let events = client.events(json!({ "input": "Hi", "max_output_tokens": 12 }));
    check(&events);
    let last = events.last().expect("events");
    assert_eq!(last["type"], "response.incomplete");
    assert_eq!(last["response"]["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(last["response"]["usage"]["output_tokens"], 12);
    let body = json!({ "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 12 });
    assert_eq!(client.post("/v1/chat/completions", body).1["choices"][0]["finish_reason"], "length");
}

#[test]
fn too_long_a_conversation_is_refused_or_begins_later() {
    let client = serve(Options { script: saying(HELLO), ..Options::default() });
    let say = |text: &str| json!({ "role": "user", "content": text });
    let mut input = vec![say(&"long ago ".repeat(200)); 20];
    input.push(say("Now?"));
    let (status, error) = client.post("/v1/responses", json!({ "input": input }));
    assert_eq!((status, &error["error"]["code"]), (400, &json!("context_length_exceeded")));
    let response = client.respond(json!({ "input": input, "truncation": "auto" }));
    assert_eq!(response["status"], "completed");
    let (status, _) = client.post("/v1/responses", json!({ "input": "long ".repeat(9000), "truncation": "auto" }));
    assert_eq!(status, 400);
}

#[test]
fn whatever_a_random_model_says_the_stream_keeps_its_rules() {
    let client = serve(Options::default());
    for seed in 0..12 {
        let choice = ["auto", "required", "none"][seed % 3];
        let tools = json!([look(), { "type": "custom", "name": "patch" }]);
        let events = client.events(json!({
            "input": "Hi", "seed": seed, "max_output_tokens": 150, "tools": tools, "tool_choice": choice,
            "include": ["message.output_text.logprobs"], "top_logprobs": 2,
        }));
        check(&events);
        let response = &events.last().expect("events")["response"];
        let kinds: Vec<_> = response["output"].as_array().expect("output").iter().map(|item| &item["type"]).collect();
        let calls = kinds.iter().filter(|kind| kind.as_str().is_some_and(|kind| kind.ends_with("_call"))).count();
        match choice {
            "none" => assert_eq!(calls, 0),
            "required" if response["status"] == "completed" => assert_eq!(calls, 1, "{kinds:?}"),
            _ => {}
        }
    }
}

#[test]
fn answers_and_arguments_keep_to_their_schemas() {
    let client = serve(Options::default());
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["kind", "count"],
        "properties": { "kind": { "enum": ["bone", "ear"] }, "count": { "type": "integer", "minimum": 1, "maximum": 20 } },
    });
    let holds = |text: &str| {
        let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(["bone", "ear"].contains(&value["kind"].as_str().expect("a kind")), "{text}");
        assert!((1..=20).contains(&value["count"].as_i64().expect("a count")), "{text}");
    };
    let format = json!({ "type": "json_schema", "name": "thing", "schema": schema, "strict": true });
    let tool = json!({ "type": "function", "name": "count", "parameters": schema, "strict": true });
    let reasoning = json!({ "max_tokens": 20 });
    for seed in 0..6 {
        let response = client.respond(json!({
            "input": "Hi", "seed": seed, "text": { "format": format }, "reasoning": reasoning,
        }));
        assert_eq!(response["status"], "completed");
        let answer = response["output"].as_array().expect("output").last().expect("an answer");
        holds(answer["content"][0]["text"].as_str().expect("text"));

        let events = client.events(json!({
            "input": "Hi", "seed": seed, "tools": [tool], "tool_choice": "required", "reasoning": reasoning,
        }));
        check(&events);
        let call = events.last().expect("events")["response"]["output"].as_array().expect("output").last().cloned();
        holds(call.expect("a call")["arguments"].as_str().expect("text"));
    }
    let body = json!({
        "messages": [], "seed": 1, "reasoning": reasoning,
        "response_format": { "type": "json_schema", "json_schema": { "name": "thing", "schema": schema, "strict": true } },
    });
    holds(client.post("/v1/chat/completions", body).1["choices"][0]["message"]["content"].as_str().expect("text"));
    // What cannot be held is refused if it must be, and told if not.
    let odd = json!({ "type": "object", "propertyNames": { "pattern": "(?=a)b" }, "not": {} });
    let format =
        |strict: bool| json!({ "format": { "type": "json_schema", "name": "x", "schema": odd, "strict": strict } });
    let (status, error) = client.post("/v1/responses", json!({ "input": "Hi", "text": format(true) }));
    assert_eq!((status, &error["error"]["param"]), (400, &json!("text.format.schema")), "{error}");
}

#[test]
fn a_client_that_leaves_frees_the_model() {
    let client = serve(Options { sessions: 1, is_slow: true, script: saying(endless()), ..Options::default() });
    let reader = client.begin("Hi");
    client.wait_for("requests_running", 1);
    drop(reader);
    client.wait_for("requests_running", 0);
    // Without a stream just the same.
    let mut connection = TcpStream::connect(client.address).expect("a connection");
    let (head, body) =
        ("POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json", "{\"input\":\"Hi\"}");
    write!(connection, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).expect("written");
    client.wait_for("requests_running", 1);
    drop(connection);
    client.wait_for("requests_running", 0);
}

#[test]
fn a_client_that_does_not_read_does_not_hold_the_model() {
    let script: Script = Box::new(|task| Some(if last_text(task) == "Hi" { HELLO.to_owned() } else { endless() }));
    let client = serve(Options { sessions: 1, script: Some(script), ..Options::default() });
    let lazy = client.begin("On and on");
    assert_eq!(client.respond(json!({ "input": "Hi" }))["status"], "completed");
    drop(lazy);
}

#[test]
fn whoever_comes_when_the_queue_is_full_is_told_to_come_back() {
    let client =
        serve(Options { sessions: 1, queue: 1, is_slow: true, script: saying(endless()), ..Options::default() });
    let running = client.begin("First");
    let waiting = client.send("/v1/responses", &json!({ "input": "Second", "stream": true }));
    assert_eq!(waiting.status(), 200);
    let refused = client.send("/v1/responses", &json!({ "input": "Third" }));
    assert_eq!(refused.status(), 429);
    assert!(refused.headers()["retry-after"].to_str().expect("text").parse::<u64>().expect("seconds") >= 1);
    assert_eq!(read(refused).1["error"]["code"], "rate_limit_exceeded");
    assert_eq!(client.metric("requests_refused_total"), 1);
    // When the first leaves, the second is answered.
    drop(running);
    assert!(read_until(&mut BufReader::new(waiting.into_body().into_reader()), ".delta"));
}

#[test]
fn a_short_answer_does_not_wait_for_a_long_one() {
    let script: Script = Box::new(|task| Some(if last_text(task) == "Hi" { HELLO.to_owned() } else { endless() }));
    let client = serve(Options { is_slow: true, script: Some(script), ..Options::default() });
    let mut long = client.begin("On and on");
    assert_eq!(client.respond(json!({ "input": "Hi" }))["status"], "completed");
    client.wait_for("requests_running", 1);
    assert!(read_until(&mut long, ".delta"));
}

#[test]
fn a_response_in_the_background_can_be_polled_and_cancelled() {
    let script: Script = Box::new(|task| Some(if last_text(task) == "Hi" { HELLO.to_owned() } else { endless() }));
    let client = serve(Options { is_slow: true, script: Some(script), ..Options::default() });
    let queued = client.respond(json!({ "input": "Hi", "background": true }));
    assert_eq!(queued["status"], "queued");
    let path = format!("/v1/responses/{}", queued["id"].as_str().expect("an id"));
    let done = loop {
        let (status, response) = client.get(&path);
        assert_eq!(status, 200);
        if !["queued", "in_progress"].contains(&response["status"].as_str().expect("a status")) {
            break response;
        }
        thread::sleep(Duration::from_millis(10));
    };
    assert_eq!((&done["status"], &done["output"][1]["content"][0]["text"]), (&json!("completed"), &json!("Hello.")));

    let events = client.events(json!({ "input": "Hi", "background": true }));
    check(&events);
    let names: Vec<_> = events.iter().take(3).map(|event| &event["type"]).collect();
    assert_eq!(names, ["response.created", "response.queued", "response.in_progress"]);

    let endless = client.respond(json!({ "input": "On and on", "background": true }));
    client.wait_for("requests_running", 1);
    let goes_on = json!({ "input": "And?", "previous_response_id": endless["id"] });
    assert_eq!(client.post("/v1/responses", goes_on).1["error"]["param"], "previous_response_id");
    let path = format!("/v1/responses/{}", endless["id"].as_str().expect("an id"));
    let (_, cancelled) = client.post(&format!("{path}/cancel"), json!({}));
    assert_eq!(cancelled["status"], "cancelled");
    client.wait_for("requests_running", 0);
    assert_eq!(client.get(&path).1["status"], "cancelled");

    let deleted = client.respond(json!({ "input": "On and on", "background": true }));
    client.wait_for("requests_running", 1);
    let path = format!("/v1/responses/{}", deleted["id"].as_str().expect("an id"));
    assert_eq!(client.delete(&path), (200, json!({ "id": deleted["id"], "object": "response", "deleted": true })));
    client.wait_for("requests_running", 0);
    thread::sleep(Duration::from_millis(50));
    assert_eq!(client.get(&path).0, 404);
}

#[test]
fn what_is_stored_can_be_deleted_and_makes_room() {
    let settings = Settings { store_size: 20_000, ..Options::default().settings };
    let client = serve(Options { settings, script: saying(HELLO), ..Options::default() });
    let path = |response: &Value| format!("/v1/responses/{}", response["id"].as_str().expect("an id"));
    let unstored = client.respond(json!({ "input": "Hi", "store": false }));
    assert_eq!(client.get(&path(&unstored)).0, 404);
    let goes_on = json!({ "input": "Hi", "previous_response_id": unstored["id"] });
    let (status, error) = client.post("/v1/responses", goes_on);
    assert_eq!((status, &error["error"]["code"]), (400, &json!("previous_response_not_found")));

    let stored = client.respond(json!({ "input": "Hi" }));
    assert_eq!(client.delete(&path(&stored)).1["deleted"], true);
    assert_eq!(client.get(&path(&stored)).0, 404);

    let all: Vec<_> = (0..20).map(|_| client.respond(json!({ "input": "Hi" }))).collect();
    let there: Vec<_> = all.iter().map(|response| client.get(&path(response)).0 == 200).collect();
    assert!(!there[0] && there[19] && there.iter().filter(|there| **there).count() < 20, "{there:?}");
}

#[test]
fn a_file_carries_conversations_over_a_restart() {
    let path = std::env::temp_dir().join(format!("ossicle-restart-{}", std::process::id()));
    let begin = || {
        let settings = Settings { store: Some(path.clone()), ..Options::default().settings };
        serve(Options { settings, script: saying(HELLO), ..Options::default() })
    };
    let first = begin().respond(json!({ "input": "Hi", "include": ["reasoning.encrypted_content"] }));
    let client = begin();
    let second = client.respond(json!({ "input": "And?", "previous_response_id": first["id"] }));
    assert!(second["usage"]["input_tokens"].as_u64() > first["usage"]["input_tokens"].as_u64());
    let encrypted = &first["output"][0]["encrypted_content"];
    client.respond(json!({ "input": [{ "type": "reasoning", "summary": [], "encrypted_content": encrypted }] }));
    // What nobody waits for is complete before the server ends.
    let queued = client.respond(json!({ "input": "Hi", "background": true }));
    drop(client);
    let client = begin();
    assert_eq!(
        client.get(&format!("/v1/responses/{}", queued["id"].as_str().expect("an id"))).1["status"],
        "completed"
    );
    drop(client);
    std::fs::remove_file(&path).expect("the file");
}

#[test]
fn keys_keep_strangers_out_and_clients_apart() {
    let settings = Settings { api_keys: vec!["one".into(), "two".into()], ..Options::default().settings };
    let client = serve(Options { settings, script: saying(HELLO), ..Options::default() });
    let (status, error) = client.post("/v1/responses", json!({ "input": "Hi" }));
    assert_eq!((status, &error["error"]["code"]), (401, &json!("invalid_api_key")));
    assert_eq!(client.with_key("three").get("/v1/models").0, 401);
    assert_eq!(client.get("/health"), (200, json!({ "status": "ok" })));
    let (one, two) = (client.with_key("one"), client.with_key("two"));
    let response = one.respond(json!({ "input": "Hi", "include": ["reasoning.encrypted_content"] }));
    let path = format!("/v1/responses/{}", response["id"].as_str().expect("an id"));
    assert_eq!((one.get(&path).0, two.get(&path).0), (200, 404));
    assert_eq!(two.post(&format!("{path}/cancel"), json!({})).0, 404);
    let goes_on = json!({ "input": "Hi", "previous_response_id": response["id"] });
    assert_eq!((one.post("/v1/responses", goes_on.clone()).0, two.post("/v1/responses", goes_on).0), (200, 400));
    let encrypted = &response["output"][0]["encrypted_content"];
    let sealed = json!({ "input": [{ "type": "reasoning", "summary": [], "encrypted_content": encrypted }] });
    assert_eq!((one.post("/v1/responses", sealed.clone()).0, two.post("/v1/responses", sealed).0), (200, 400));
}

#[test]
fn pages_of_other_sites_do_not_get_through() {
    let settings = Settings { origins: vec!["https://good.example".into()], ..Options::default().settings };
    let client = serve(Options { settings, ..Options::default() });
    let ask = |name: &str, value: &str| {
        client.agent.get(client.url("/v1/models")).header(name, value).call().expect("an answer")
    };
    assert_eq!(ask("host", "evil.example").status(), 403);
    assert_eq!(ask("host", "localhost:1").status(), 200);
    assert_eq!(ask("origin", "https://evil.example").status(), 403);
    let good = ask("origin", "https://good.example");
    assert_eq!(good.headers()["access-control-allow-origin"], "https://good.example");
    assert!(ask("accept", "*/*").headers().get("access-control-allow-origin").is_none());
    let own = format!("http://{}", client.address);
    assert_eq!(ask("origin", &own).status(), 200);
    let plain = client.agent.post(client.url("/v1/responses")).header("content-type", "text/plain");
    assert_eq!(plain.send("{\"input\":\"Hi\"}").expect("an answer").status(), 415);
}

#[test]
fn requests_beyond_the_limits_are_refused_in_the_form_of_the_api() {
    let settings = Settings { body_size: 10_000, ..Options::default().settings };
    let client = serve(Options { settings, ..Options::default() });
    let (status, error) = client.post("/v1/responses", json!({ "input": "x".repeat(20_000) }));
    assert_eq!((status, &error["error"]["type"]), (413, &json!("invalid_request_error")));
    let send = |text: &str| {
        let request = client.agent.post(client.url("/v1/responses")).header("content-type", "application/json");
        read(request.send(text).expect("an answer"))
    };
    assert_eq!(send("{").0, 400);
    assert_eq!(send(&format!("{{\"input\":{}{}}}", "[".repeat(1000), "]".repeat(1000))).0, 400);
    assert_eq!(client.post("/v1/responses", json!({ "input": 1 })).1["error"]["param"], "input");
    assert_eq!(client.get("/v1/nothing").0, 404);
    assert_eq!(client.get("/v1/responses").0, 405);
    assert_eq!(client.get("/v1/responses/resp_0").0, 404);
    assert_eq!(client.get("/v1/responses/%ff").1["error"]["type"], "invalid_request_error");
    assert_eq!(client.get("/v1/responses/x/input_items?limit=%ff").1["error"]["type"], "invalid_request_error");
}

#[test]
fn clients_find_the_model_and_the_servers_numbers() {
    let client = serve(Options { script: saying(HELLO), ..Options::default() });
    assert_eq!(client.get("/v1/models").1["data"][0]["id"], "openai/gpt-oss-20b");
    assert_eq!(client.get("/v1/models/openai/gpt-oss-20b").0, 200);
    assert_eq!(client.get("/v1/models/gpt-oss:20b").0, 200);
    assert_eq!(client.get("/v1/models/gpt-4").1["error"]["code"], "model_not_found");
    let (_, tags) = client.get("/api/tags");
    assert!(tags["models"].as_array().expect("models").iter().any(|model| model["name"] == "gpt-oss:20b"));
    assert!(client.get("/api/version").1["version"].is_string());
    let mut page = client.agent.get(client.url("/")).call().expect("an answer");
    let policy = page.headers()["content-security-policy"].to_str().expect("text");
    assert!(policy.starts_with("default-src 'none'"));
    assert!(page.body_mut().read_to_string().expect("text").starts_with("<!doctype html>"));
    let warned = client.send("/v1/responses", &json!({ "input": "Hi", "tools": [{ "type": "web_search" }] }));
    assert!(warned.headers()["ossicle-warning"].to_str().expect("text").contains("web_search"));
    assert_eq!(client.metric("requests_total"), 1);
    client.wait_for("requests_running", 0);
    assert!(client.metric("output_tokens_total") > 0);
}

/// Stops whoever says "bad", and puts "good" in the place of "odd".
struct Words;

impl Gate for Words {
    fn judge(&self, subject: &Subject<'_>) -> Verdict {
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
fn the_published_document_names_routes_that_exist() {
    let client = serve(Options { script: saying(HELLO), ..Options::default() });
    let (_, document) = client.get("/openapi.json");
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let url = client.url(&path.replace("{id}", "x"));
        for method in methods.as_object().expect("methods").keys() {
            let answer = match &**method {
                "get" => client.agent.get(&url).call(),
                "delete" => client.agent.delete(&url).call(),
                _ => client.agent.post(&url).header("content-type", "application/json").send("{}"),
            };
            let mut answer = answer.expect("an answer");
            let text = answer.body_mut().read_to_string().expect("text");
            assert!(answer.status() != 405 && !text.contains("no such route"), "{method} {path}: {text}");
        }
    }
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

#[test]
fn a_server_stops_when_told() {
    let settings = Settings { grace: Duration::from_millis(50), ..Options::default().settings };
    let client = serve(Options { settings, is_slow: true, script: saying(endless()), ..Options::default() });
    let mut reader = client.begin("On and on");
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(read_until(&mut reader, "response.failed")));
    let whole = client.with_key("");
    let whole = thread::spawn(move || whole.post("/v1/responses", json!({ "input": "On and on" })).0);
    client.wait_for("requests_running", 2);
    drop(client);
    // The answer under way ends with a word, not in the middle.
    assert!(ended.recv().expect("the stream ended"));
    assert_eq!(whole.join().expect("an answer"), 503);
}
