//! A server with a small random model that says what a script says, and a client of it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ossicle_core::model::Adapter;
use ossicle_core::parallel::{Parallel, Stage};
use ossicle_core::transformer::{Precision, SessionConfig};
use ossicle_host::kernels;
use ossicle_host::prefix_cache::PrefixCache;
use ossicle_host::{AdapterFiles, Memory};
use ossicle_server::request::{Item, Task};
use ossicle_server::{Engine, Script, Server, Settings, Stop};
use ossicle_tests::engine::with_gguf;
use ossicle_tests::fixtures::data;
use serde_json::{Value, json};
use ureq::http::Response;
use ureq::{Agent, Body};

/// The caller's thread, which may take its time.
pub struct Pace {
    pub pause: Duration,
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
pub struct Options {
    pub settings: Settings,
    pub sessions: usize,
    pub queue: usize,
    pub prefix_cache: Option<Place>,
    /// Whether a token takes some ten milliseconds.
    pub is_slow: bool,
    pub script: Option<Script>,
    /// Of those in tests/data/adapters, with what each counts.
    pub adapters: Vec<(&'static str, f32)>,
}

impl Default for Options {
    fn default() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = Settings { address, model_name: "openai/gpt-oss-20b".into(), ..Settings::default() };
        Self { settings, sessions: 2, queue: 8, prefix_cache: None, is_slow: false, script: None, adapters: Vec::new() }
    }
}

/// Where beginnings of conversations are kept.
#[derive(Clone)]
pub enum Place {
    Memory,
    Folder(PathBuf),
}

/// A server, and a client of it.
pub struct Client {
    pub address: SocketAddr,
    pub agent: Agent,
    pub key: Option<&'static str>,
    pub stop: Stop,
    pub thread: Option<JoinHandle<()>>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || ended.is_none_or(|ended| ended.is_ok()), "the server ends well");
    }
}

pub fn serve(options: Options) -> Client {
    let server = Server::bind(options.settings.clone()).expect("a free port");
    let (address, stop) = (server.address().expect("an address"), server.stop());
    let thread = thread::spawn(move || {
        with_gguf(&data().join("tiny-a/gguf/tiny-a.gguf"), |model, tokenizer| {
            let opened =
                options.adapters.iter().map(|(name, _)| AdapterFiles::open(&data().join("adapters").join(name)));
            let opened: Vec<_> = opened.map(|opened| opened.expect("the adapter")).collect();
            let files: Vec<_> = opened.iter().map(|opened| opened.file().expect("an adapter")).collect();
            let layout = |file| Adapter::layout(file, model.config()).expect("an adapter for this model");
            let mut memories: Vec<_> = files.iter().map(|file| Memory::new(layout(file)).expect("memory")).collect();
            let adapters: Vec<_> = memories
                .iter_mut()
                .zip(&files)
                .map(|(memory, file)| Adapter::new(memory.region(), file, model).expect("an adapter for this model"))
                .zip(options.adapters.iter().map(|(_, scale)| *scale))
                .collect();
            let pause = if options.is_slow { Duration::from_micros(100) } else { Duration::ZERO };
            let engine = Engine {
                model,
                tokenizer,
                kernels: kernels::fastest(),
                threads: &Pace { pause },
                session: SessionConfig {
                    context_tokens: 4096,
                    batch_tokens: 128,
                    logits_rows: 9,
                    rewind_tokens: 1024,
                    precision: Precision::Standard,
                    cache: None,
                    adapter_rank: adapters.iter().map(|(adapter, _)| adapter.rank()).max().unwrap_or(0),
                },
                adapters: &adapters,
                sessions: options.sessions,
                queue: options.queue,
                prefix_cache: options.prefix_cache.map(|place| match place {
                    Place::Memory => PrefixCache::in_memory(1 << 24),
                    Place::Folder(path) => PrefixCache::in_folder(&path, 1 << 24, 0).expect("a folder"),
                }),
                script: options.script,
            };
            server.run(engine).expect("the server runs");
        });
    });
    let config = Agent::config_builder().http_status_as_error(false).build();
    Client { address, agent: config.new_agent(), key: None, stop, thread: Some(thread) }
}

/// A script that says the same to everyone.
pub fn saying(text: impl Into<String>) -> Option<Script> {
    let text = text.into();
    Some(Box::new(move |_| Some(text.clone())))
}

/// What was said last, to a script.
pub fn last_text(task: &Task) -> &str {
    match task.items.last() {
        Some(Item::Message { parts, .. } | Item::CallOutput { parts, .. }) => &parts[0],
        _ => "",
    }
}

pub const HELLO: &str = "<|channel|>analysis<|message|>Think.<|end|><|start|>assistant\
                     <|channel|>final<|message|>Hello.<|return|>";
pub const CALL: &str = "<|channel|>analysis<|message|>Look.<|end|><|start|>assistant\
                    <|channel|>commentary<|message|>I look.<|end|><|start|>assistant\
                    <|channel|>commentary to=functions.look <|constrain|>json<|message|>{\"place\":\"here\"}<|call|>";

/// An answer that does not end by itself.
pub fn endless() -> String {
    format!("<|channel|>final<|message|>{}", "and on ".repeat(400))
}

impl Client {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn with_key(&self, key: &'static str) -> Self {
        let agent = self.agent.clone();
        Self { address: self.address, agent, key: Some(key), stop: Stop::default(), thread: None }
    }

    pub fn send(&self, path: &str, body: &Value) -> Response<Body> {
        let request = self.agent.post(self.url(path)).header("content-type", "application/json");
        let request = match self.key {
            Some(key) => request.header("authorization", format!("Bearer {key}")),
            None => request,
        };
        request.send(body.to_string()).expect("an answer")
    }

    /// Sends a request whose answer is not waited for.
    pub fn write(&self, path: &str, body: &Value) -> TcpStream {
        let mut connection = TcpStream::connect(self.address).expect("a connection");
        let (head, body) = ("HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json", body.to_string());
        write!(connection, "POST {path} {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).expect("written");
        connection
    }

    pub fn post(&self, path: &str, body: Value) -> (u16, Value) {
        read(self.send(path, &body))
    }

    pub fn respond(&self, body: Value) -> Value {
        let (status, response) = self.post("/v1/responses", body);
        assert_eq!(status, 200, "{response}");
        response
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        let request = self.agent.get(self.url(path));
        let request = match self.key {
            Some(key) => request.header("authorization", format!("Bearer {key}")),
            None => request,
        };
        read(request.call().expect("an answer"))
    }

    pub fn events(&self, mut body: Value) -> Vec<Value> {
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
    pub fn begin(&self, input: &str) -> BufReader<impl std::io::Read + use<>> {
        let body = json!({ "input": input, "stream": true });
        let response = self.send("/v1/responses", &body);
        assert_eq!(response.status(), 200);
        let mut reader = BufReader::new(response.into_body().into_reader());
        read_until(&mut reader, ".delta");
        reader
    }

    pub fn metric(&self, name: &str) -> u64 {
        let mut response = self.agent.get(self.url("/metrics")).call().expect("an answer");
        let text = response.body_mut().read_to_string().expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("ossicle_{name} ")));
        line.expect("the metric").parse().expect("a number")
    }

    pub fn delete(&self, path: &str) -> (u16, Value) {
        read(self.agent.delete(self.url(path)).call().expect("an answer"))
    }

    /// Waits until a metric has a value.
    pub fn wait_for(&self, name: &str, value: u64) {
        while self.metric(name) != value {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

pub fn read(mut response: Response<Body>) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string().expect("text");
    (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

/// Reads lines until one has this text. False at the end.
pub fn read_until(reader: &mut impl BufRead, text: &str) -> bool {
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

pub fn look() -> Value {
    let parameters = json!({ "type": "object", "properties": { "place": { "type": "string" } } });
    json!({ "type": "function", "name": "look", "description": "Looks.", "parameters": parameters, "strict": false })
}

/// Waits until something is so.
pub fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        thread::sleep(Duration::from_millis(2));
    }
}
