use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::builtin::{NewInterpreter, NewWeb};
use crate::gated::Policy;

/// How to serve.
#[derive(Clone)]
pub struct Settings {
    /// Where to listen.
    pub address: SocketAddr,
    /// What the model is called.
    pub model_name: String,
    /// Keys, one of which a client must have. None let everyone in who reaches the address.
    pub api_keys: Vec<String>,
    /// Origins whose pages may use the server, such as `https://example.org`.
    pub origins: Vec<String>,
    /// Names besides localhost by which clients without a key may call the server; addresses are known.
    pub hosts: Vec<String>,
    /// Whether reasoning is shown to nobody; it then travels encrypted.
    pub withhold_reasoning: bool,
    /// The file that responses are stored in; without one they are forgotten when the server ends.
    pub store: Option<PathBuf>,
    /// Most bytes of stored responses.
    pub store_size: u64,
    /// Most bytes of a request.
    pub body_size: usize,
    /// How long a client may take to send its request.
    pub request_time: Duration,
    /// How long an answer may take, the time in the queue included.
    pub answer_time: Option<Duration>,
    /// What users, tools and the model may say.
    pub policy: Policy,
    /// A policy in words, by which the model itself judges where the policy has no gate.
    pub model_policy: Option<String>,
    /// Runs the Python of conversations that ask for it; without it, they are told that there is none.
    pub python: Option<NewInterpreter>,
    /// Makes the web that a conversation with a web search sees; without it, they are told that there is none.
    pub browser: Option<NewWeb>,
    /// Most connections at a time.
    pub connections: usize,
    /// How long answers under way may go on once the server is to stop.
    pub grace: Duration,
}

impl Default for Settings {
    /// For this machine only, without keys, and in memory.
    fn default() -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000),
            model_name: "gpt-oss-20b".to_owned(),
            api_keys: Vec::new(),
            origins: Vec::new(),
            hosts: Vec::new(),
            withhold_reasoning: false,
            store: None,
            store_size: 64 << 20,
            body_size: 8 << 20,
            request_time: Duration::from_secs(30),
            answer_time: Some(Duration::from_secs(3600)),
            policy: Policy::default(),
            model_policy: None,
            python: None,
            browser: None,
            connections: 512,
            grace: Duration::from_secs(5),
        }
    }
}
