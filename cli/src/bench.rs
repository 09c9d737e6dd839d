//! `ossicle bench`: how fast a model runs here.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ossicle_core::parallel::Parallel;
use ossicle_core::sampling::{Sampler, SamplerConfig};
use ossicle_core::transformer::{Logits, Session, SessionConfig};
use ossicle_host::{Memory, Threads};
use serde_json::json;

use crate::bandwidth::Bandwidth;
use crate::info::bytes_per_token;
use crate::open::{ComputeOptions, explain, with_model};

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
    /// Tokens taken in at a time [default: 128, or as many as the model's context].
    #[arg(long)]
    batch: Option<usize>,
    /// Where the random prompt and the draws start.
    #[arg(long, default_value_t = 0)]
    seed: u64,
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
    with_model(&arguments.model, |opened| {
        let model = opened.model;
        let load = start.elapsed();
        let default = SessionConfig::within(model.config());
        let batch_tokens = arguments.batch.unwrap_or(default.batch_tokens);
        let config = SessionConfig {
            context_tokens: arguments.prompt.saturating_add(arguments.generate).saturating_add(1),
            batch_tokens,
            precision: arguments.compute.precision(),
            ..default
        };
        let layout = Session::layout(model, &config)?;
        let mut memory = Memory::new(layout)?;
        let mut session = Session::new(memory.region(), model, kernels, &config)?;
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} tokens")?;
        let progress = ProgressBar::new((arguments.prompt + arguments.generate) as u64).with_style(style);

        let mut sampler = Sampler::new(SamplerConfig { seed: arguments.seed, ..SamplerConfig::default() })?;
        let uniform = vec![0.0; model.config().vocabulary];
        let prompt: Result<Vec<u32>, _> =
            (0..arguments.prompt.max(1)).map(|_| sampler.sample(&uniform, |_| true)).collect();
        let prompt = prompt?;

        let started = Instant::now();
        for batch in prompt.chunks(batch_tokens) {
            session.run_all(batch, &threads).map_err(|error| explain(error, &opened))?;
            progress.inc(batch.len() as u64);
        }
        let prefill = started.elapsed();
        let mut bandwidth = Bandwidth::new(model);
        let mut steps = Vec::new();
        for number in 0..arguments.generate {
            if number % 4 == 0 {
                bandwidth.pass(&threads);
            }
            let started = Instant::now();
            let token = sampler.sample(session.logits(), |_| true)?;
            session.start(&[token], Logits::Last)?;
            session.run(&threads).map_err(|error| explain(error, &opened))?;
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
        let result = json!({
            "model": arguments.model,
            "kernels": kernels.name(),
            "threads": threads.workers() + 1,
            "load_seconds": load.as_secs_f64(),
            "session_bytes": layout.size,
            "peak_memory_bytes": peak_memory,
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
        if arguments.json {
            println!("{}", serde_json::to_string_pretty(&result)?);
        } else if let Some(result) = result.as_object() {
            for (name, value) in result {
                match value.as_f64() {
                    Some(value) if !name.ends_with("tokens") && value.fract() != 0.0 => {
                        println!("{:38} {value:.3}", name.replace('_', " "));
                    }
                    _ => println!("{:38} {value}", name.replace('_', " ")),
                }
            }
        }
        Ok(())
    })
}

/// The most memory that the process has held, mapped files included; null where the system does not say.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}
