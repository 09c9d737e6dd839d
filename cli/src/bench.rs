//! `ossicle bench`: how fast a model runs here.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ossicle_core::error::Error;
use ossicle_core::model::ExpertCache;
use ossicle_core::parallel::Parallel;
use ossicle_core::sampling::{Sampler, SamplerConfig};
use ossicle_core::transformer::{Logits, Session, SessionConfig};
use ossicle_host::{Memory, Threads};
use serde_json::{Value, json};

use crate::bandwidth::Bandwidth;
use crate::drafts;
use crate::info::bytes_per_token;
use crate::open::{ComputeOptions, explain, with_model};
use crate::profile::{self, Profiler};

/// Arguments of `ossicle bench`.
#[derive(Args)]
pub struct Arguments {
    /// A GGUF file, a safetensors file or index, or the folder of a checkpoint.
    #[arg(long)]
    model: PathBuf,
    /// Tokens of the prompt.
    #[arg(long, default_value_t = 128)]
    prompt: usize,
    /// Tokens to generate.
    #[arg(long, default_value_t = 32)]
    generate: usize,
    /// Tokens in the context before the prompt; not measured.
    #[arg(long, default_value_t = 0)]
    depth: usize,
    /// Shows where the time of a batch and of a decoded token goes. Costs a little of it.
    #[arg(long)]
    profile: bool,
    /// Tokens taken in at a time [default: 128, or as many as the model's context].
    #[arg(long)]
    batch: Option<usize>,
    /// Where the random prompt and the draws start.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    drafts: drafts::Options,
    #[command(flatten)]
    compute: ComputeOptions,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `ossicle bench`. The bandwidth is that with which the threads read the attention and output matrices from where they
/// lie, measured between the generated tokens. If the file has to come from a disk, the prompt pays for it: run it twice.
pub fn run(arguments: &Arguments) -> Result<()> {
    let kernels = arguments.compute.kernels()?;
    let threads = Threads::new(arguments.compute.threads());
    let start = Instant::now();
    with_model(&arguments.model, &arguments.compute, |opened| {
        if arguments.drafts.drafts {
            let most = [arguments.prompt, arguments.generate];
            print(&drafts::measure(&arguments.drafts, &arguments.compute, most, &opened)?, arguments.json)?;
            return Ok(());
        }
        let model = opened.model;
        let load = start.elapsed();
        let default = SessionConfig::within(model.config());
        let batch_tokens = arguments.batch.unwrap_or(default.batch_tokens);
        let config = SessionConfig {
            context_tokens: [arguments.prompt, arguments.generate, 1]
                .into_iter()
                .fold(arguments.depth, usize::saturating_add),
            batch_tokens,
            precision: arguments.compute.precision(),
            cache: arguments.compute.cache_format(),
            adapter_rank: opened.adapter_rank(),
            ..default
        };
        let layout = Session::layout(model, &config)?;
        let mut memory = Memory::new(layout)?;
        let mut session = Session::new(memory.region(), model, kernels, &config)?;
        session.adapt(opened.adapters)?;
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} tokens")?;
        let tokens = arguments.depth + arguments.prompt + arguments.generate;
        let progress = ProgressBar::new(tokens as u64).with_style(style);

        let mut sampler = Sampler::new(SamplerConfig { seed: arguments.seed, ..SamplerConfig::default() })?;
        // From all over the vocabulary, but not of all its tokens: drawing would take longer than computing.
        let uniform = vec![0.0; model.config().vocabulary.min(1024)];
        let apart = (model.config().vocabulary / uniform.len()) as u32;
        let mut random = |count: usize| -> Result<Vec<u32>, _> {
            (0..count).map(|_| Ok::<_, Error>(sampler.sample(&uniform, |_| true)? * apart)).collect()
        };
        let (before, prompt) = (random(arguments.depth)?, random(arguments.prompt.max(1))?);
        // Logits only after the prompt.
        let mut take_in = |tokens: &[u32], parallel: &dyn Parallel, logits| -> Result<()> {
            let mut batches = tokens.chunks(batch_tokens).peekable();
            while let Some(batch) = batches.next() {
                session.start(batch, if batches.peek().is_some() { Logits::None } else { logits })?;
                session.run(parallel).map_err(|error| explain(error, &opened))?;
                progress.inc(batch.len() as u64);
            }
            Ok(())
        };
        take_in(&before, &threads, Logits::None)?;
        let hits_and_misses = || model.expert_cache().map_or((0, 0), ExpertCache::hits_and_misses);
        let before_prompt = hits_and_misses();
        let [prompt_profiler, decode_profiler] = [(); 2].map(|()| Profiler::new(&threads));
        let parallel = |profiler| -> &dyn Parallel { if arguments.profile { profiler } else { &threads } };
        let started = Instant::now();
        prompt_profiler.time(|| take_in(&prompt, parallel(&prompt_profiler), Logits::Last))?;
        let prefill = started.elapsed();
        let before_decode = hits_and_misses();
        let mut bandwidth = Bandwidth::new(model);
        let mut steps = Vec::new();
        for number in 0..arguments.generate {
            if number % 4 == 0 {
                bandwidth.pass(&threads);
            }
            let started = Instant::now();
            let token = sampler.sample(session.logits(), |_| true)?;
            session.start(&[token], Logits::Last)?;
            decode_profiler
                .time(|| session.run(parallel(&decode_profiler)))
                .map_err(|error| explain(error, &opened))?;
            steps.push(started.elapsed());
            progress.inc(1);
        }
        progress.finish_and_clear();

        let decode: Duration = steps.iter().sum();
        steps.sort();
        let per_second = |count: usize, time: Duration| count as f64 / time.as_secs_f64().max(1e-9);
        let median = steps.get(steps.len() / 2).map_or(0.0, |step| per_second(1, *step));
        let bytes = bytes_per_token(model);
        let peak_memory = peak_memory();
        let bandwidth = bandwidth.median();
        let format = config.cache_format();
        let batches = prompt.len().div_ceil(batch_tokens);
        let depth = arguments.depth + prompt.len() / 2;
        let prompt_stages = prompt_profiler.stages(model, format, [batches, prompt.len() / batches, depth]);
        let depth = arguments.depth + prompt.len() + steps.len() / 2;
        let decode_stages = decode_profiler.stages(model, format, [steps.len(), 1, depth]);
        let mut result = json!({
            "model": arguments.model,
            "kernels": kernels.name(),
            "threads": threads.workers() + 1,
            "load_seconds": load.as_secs_f64(),
            "cache_format": format!("{format:?}").to_lowercase(),
            "session_bytes": layout.size,
            "peak_memory_bytes": peak_memory,
            "depth": arguments.depth,
            "prompt_tokens": prompt.len(),
            "batch_tokens": batch_tokens,
            "prefill_tokens_per_second": per_second(prompt.len(), prefill),
            "generated_tokens": steps.len(),
            "decode_tokens_per_second": per_second(steps.len(), decode),
            "decode_tokens_per_second_median": median,
            "bytes_per_decoded_token": bytes,
            "memory_bandwidth_bytes_per_second": bandwidth,
            "decode_share_of_bandwidth": median * bytes as f64 / bandwidth.max(1.0),
        });
        if let Some(cache) = model.expert_cache() {
            result["experts_in_memory_of_each_layer"] = json!(cache.experts_per_layer());
            result["experts_of_each_layer"] = json!(model.config().experts);
            let counts = [before_prompt, before_decode, cache.hits_and_misses()];
            for ((of, tokens), counts) in
                [("prompt", prompt.len()), ("decode", steps.len())].iter().zip(counts.windows(2))
            {
                let (hits, misses) = (counts[1].0 - counts[0].0, counts[1].1 - counts[0].1);
                let read = misses as f64 * cache.expert_size() as f64 / (*tokens).max(1) as f64;
                result[format!("{of}_expert_hit_rate")] = json!(hits as f64 / (hits + misses).max(1) as f64);
                result[format!("{of}_bytes_read_per_token")] = json!(read as u64);
            }
        }
        if arguments.json && arguments.profile {
            result["prompt_stages"] = json!(prompt_stages);
            result["decode_stages"] = json!(decode_stages);
        }
        print(&result, arguments.json)?;
        if arguments.profile && !arguments.json {
            profile::print("A batch of the prompt", &prompt_stages, bandwidth);
            profile::print("A decoded token", &decode_stages, bandwidth);
        }
        Ok(())
    })
}

fn print(result: &Value, as_json: bool) -> Result<()> {
    if as_json {
        println!("{}", serde_json::to_string_pretty(result)?);
        return Ok(());
    }
    for (name, value) in result.as_object().into_iter().flatten() {
        match value.as_f64() {
            Some(value) if !name.ends_with("tokens") && value.fract() != 0.0 => {
                println!("{:38} {value:.3}", name.replace('_', " "));
            }
            _ => println!("{:38} {value}", name.replace('_', " ")),
        }
    }
    Ok(())
}

/// The most memory that the process has held, mapped files included; null where the system does not say.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}
