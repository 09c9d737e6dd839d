//! `ossicle serve`: a model over HTTP.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use ossicle_core::model::Config;
use ossicle_core::transformer::{DRAFT_TOKENS, SessionConfig};
use ossicle_host::Threads;
use ossicle_host::browser::{OpenWeb, SearchEngine};
use ossicle_host::policy::Gate;
use ossicle_host::python::{Limits, Sandbox};
use ossicle_server::{Engine, NewInterpreter, NewWeb, Policy, Script, Server, Settings};

use crate::open::{ComputeOptions, with_model_or_toy, with_tokenizer};
use crate::policy::PolicyOptions;
use crate::prefix::{MEMORY_SIZE, PrefixOptions};

/// Arguments of `ossicle serve`.
#[derive(Args)]
pub struct Arguments {
    /// A GGUF file, a safetensors file or index, or the folder of a checkpoint [default: a toy model that is built in].
    #[arg(long)]
    model: Option<PathBuf>,
    /// Address to listen on. Any but the default can be reached by other machines.
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    host: IpAddr,
    /// Port to listen on; 0 for a free one.
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// What the model is called [default: by its size, or else its file].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A key that clients must send; may be given several times. Clients with different keys see nothing of each other.
    #[arg(long, value_name = "KEY", env = "OSSICLE_API_KEY", hide_env_values = true)]
    api_key: Vec<String>,
    /// An origin whose pages may use the server, such as https://example.org; may be given several times.
    #[arg(long, value_name = "ORIGIN")]
    cors: Vec<String>,
    /// A name by which clients call the server, besides localhost and addresses, where there is no --api-key; may be given
    /// several times.
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// Shows reasoning to nobody: it leaves the server encrypted, for clients to send back.
    #[arg(long)]
    withhold_reasoning: bool,
    #[command(flatten)]
    policy: PolicyOptions,
    /// Runs Python for requests with a tool of the type code_interpreter, in a box without network and files (bubblewrap, on
    /// Linux).
    #[arg(long)]
    python: bool,
    /// Searches the web for requests with a tool of the type web_search, and opens pages of the public web: through exa or you, whose
    /// keys are in the environment as EXA_API_KEY and YDC_API_KEY, or the SearXNG at an address, which has to give JSON.
    #[arg(long, value_name = "ENGINE")]
    browser: Option<String>,
    /// Keeps responses in this file [default: in memory, until the server ends].
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Most megabytes of stored responses; the ones unused for longest go first.
    #[arg(long, default_value_t = 64, value_name = "MEGABYTES")]
    store_size: u64,
    /// Positions of each session [default: 8192, or as many as the model has].
    #[arg(long, value_name = "TOKENS")]
    context: Option<usize>,
    /// Requests answered at a time; each takes the memory of a session.
    #[arg(long, default_value_t = 2, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=256))]
    sessions: u16,
    /// Requests that may wait; more are told to come back later.
    #[arg(long, default_value_t = 32, value_name = "COUNT")]
    queue: u16,
    /// Most megabytes of a request.
    #[arg(long, default_value_t = 8, value_name = "MEGABYTES")]
    body_size: usize,
    /// Seconds that an answer may take, the time in the queue included; 0 for any.
    #[arg(long, default_value_t = 3600, value_name = "SECONDS")]
    answer_seconds: u64,
    /// Says what a file says in place of what the model would, to test clients: a JSON list of texts in the chat format, as
    /// "<|channel|>final<|message|>Hello<|return|>", one for each request, over and over.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    #[command(flatten)]
    prefixes: PrefixOptions,
    #[command(flatten)]
    compute: ComputeOptions,
}

/// How far back a conversation can go without being computed anew: the reasoning and the answer of a turn, as a rule.
const REWIND_TOKENS: usize = 2048;

/// Runs `ossicle serve` until Ctrl-C.
pub fn run(arguments: &Arguments) -> Result<()> {
    let kernels = arguments.compute.kernels()?;
    let script = arguments.script.as_deref().map(read_script).transpose()?;
    let options = &arguments.policy;
    let gate = options.program().map(|program| Arc::new(program) as Arc<dyn Gate>);
    let policy = Policy { gate, audit: options.audit()?.map(Arc::new) };
    let model_policy = options.words()?;
    let new_box: NewInterpreter = Arc::new(|| Box::new(Sandbox::new(Limits::default())));
    let python = arguments.python.then(|| Sandbox::check().map(|()| new_box)).transpose().context("--python")?;
    let browser = arguments.browser.as_deref().map(browser).transpose()?;
    with_model_or_toy(arguments.model.as_deref(), &arguments.compute, |opened| {
        let address = SocketAddr::new(arguments.host, arguments.port);
        let name = || default_name(opened.model.config(), &opened.checkpoint.paths()[0]);
        let settings = Settings {
            address,
            model_name: arguments.name.clone().unwrap_or_else(name),
            api_keys: arguments.api_key.clone(),
            origins: arguments.cors.clone(),
            hosts: arguments.allow_host.clone(),
            withhold_reasoning: arguments.withhold_reasoning,
            policy,
            model_policy,
            python,
            browser,
            store: arguments.store.clone(),
            store_size: arguments.store_size << 20,
            body_size: arguments.body_size << 20,
            answer_time: (arguments.answer_seconds > 0).then(|| Duration::from_secs(arguments.answer_seconds)),
            ..Settings::default()
        };
        if !address.ip().is_loopback() && settings.api_keys.is_empty() {
            eprintln!("ossicle: other machines can reach {address}, and no --api-key keeps them out");
        }
        let model_name = settings.model_name.clone();
        let server = Server::bind(settings).with_context(|| address.to_string())?;
        let stop = server.stop();
        ctrlc::set_handler(move || stop.stop())?;
        let default = SessionConfig::within(opened.model.config());
        let context_tokens = arguments.context.unwrap_or(default.context_tokens);
        let session = SessionConfig {
            context_tokens,
            logits_rows: 1 + DRAFT_TOKENS.min(context_tokens.saturating_sub(1)),
            rewind_tokens: REWIND_TOKENS.min(context_tokens),
            precision: arguments.compute.precision(),
            cache: arguments.compute.cache_format(),
            adapter_rank: opened.adapter_rank(),
            ..default
        };
        let prefix_cache = arguments.prefixes.open(&opened, MEMORY_SIZE)?;
        let threads = Threads::new(arguments.compute.threads());
        with_tokenizer(&opened, |tokenizer| {
            let url = format!("http://{}", server.address()?);
            eprintln!("{model_name} answers at {url}/v1; a page to try it: {url}");
            server.run(Engine {
                model: opened.model,
                tokenizer,
                kernels,
                threads: &threads,
                session,
                adapters: opened.adapters,
                sessions: arguments.sessions.into(),
                queue: arguments.queue.into(),
                prefix_cache,
                script,
            })?;
            Ok(())
        })
    })
}

fn browser(engine: &str) -> Result<NewWeb> {
    let engine = SearchEngine::from_environment(engine).map_err(|error| anyhow!("--browser: {error}"))?;
    let web = OpenWeb::new(engine);
    Ok(Arc::new(move || Box::new(web.clone())))
}

/// Published sizes by their names, others by the repository that they were fetched from, or by their file. The vendor's models that
/// judge by a policy are as large as the others, and are known by their path.
fn default_name(config: &Config, path: &Path) -> String {
    let parts = || path.components().rev().filter_map(|part| part.as_os_str().to_str());
    let repository = parts().find_map(|part| part.strip_prefix("models--")?.split_once("--"));
    let judges = parts().take(2).chain(repository.map(|(_, name)| name)).any(|part| part.contains("safeguard"));
    match (config.layers, config.hidden, judges, repository) {
        (24, 2880, false, _) => "gpt-oss-20b".to_owned(),
        (24, 2880, true, _) => "gpt-oss-safeguard-20b".to_owned(),
        (36, 2880, false, _) => "gpt-oss-120b".to_owned(),
        (36, 2880, true, _) => "gpt-oss-safeguard-120b".to_owned(),
        (.., Some((_, name))) => name.to_owned(),
        _ => path.file_stem().map_or_else(|| "model".to_owned(), |stem| stem.to_string_lossy().into_owned()),
    }
}

fn read_script(path: &Path) -> Result<Script> {
    let text = std::fs::read(path).with_context(|| path.display().to_string())?;
    let answers: Vec<String> =
        serde_json::from_slice(&text).with_context(|| format!("{}: expected a list of texts", path.display()))?;
    if answers.is_empty() {
        bail!("{}: expected at least one text", path.display());
    }
    let mut next = answers.into_iter().cycle();
    Ok(Box::new(move |_| next.next()))
}
