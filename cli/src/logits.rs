//! `ossicle logits`: the logits after each token of a list.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ossicle_core::transformer::{Logits, Session, SessionConfig};
use ossicle_host::{Memory, Threads};

use crate::open::{ComputeOptions, explain, read_tokens, with_model};

/// Arguments of `ossicle logits`.
#[derive(Args)]
pub struct Arguments {
    /// A GGUF file, a safetensors file or index, or the folder of a checkpoint.
    #[arg(long)]
    model: PathBuf,
    /// A JSON file: a list of token ids.
    #[arg(long)]
    tokens: PathBuf,
    /// Where to write them: a NumPy file, float32 [positions, vocabulary].
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    compute: ComputeOptions,
}

/// Tokens in a batch. Their logits have to be kept, some 800 KB each with the published models.
const BATCH_TOKENS: usize = 32;

/// Runs `ossicle logits`.
pub fn run(arguments: &Arguments) -> Result<()> {
    let tokens = read_tokens(&arguments.tokens)?;
    let kernels = arguments.compute.kernels()?;
    let threads = Threads::new(arguments.compute.threads());
    with_model(&arguments.model, &arguments.compute, |opened| {
        let model = opened.model;
        let batch_tokens = BATCH_TOKENS.min(model.config().context_tokens);
        let config = SessionConfig {
            context_tokens: tokens.len().max(1),
            batch_tokens,
            logits_rows: batch_tokens,
            rewind_tokens: 0,
            precision: arguments.compute.precision(),
            cache: arguments.compute.cache_format(),
            adapter_rank: opened.adapter_rank(),
        };
        let mut memory = Memory::new(Session::layout(model, &config)?)?;
        let mut session = Session::new(memory.region(), model, kernels, &config)?;
        session.adapt(opened.adapters)?;
        let vocabulary = model.config().vocabulary;
        if let Some(token) = tokens.iter().find(|token| **token as usize >= vocabulary) {
            bail!("{}: expected ids below {vocabulary}, found {token}", arguments.tokens.display());
        }
        let path = arguments.out.display();
        let file = File::create(&arguments.out).with_context(|| path.to_string())?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.write_all(&header(tokens.len(), vocabulary)).with_context(|| path.to_string())?;
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} tokens, {per_sec}")?;
        let progress = ProgressBar::new(tokens.len() as u64).with_style(style);
        for batch in tokens.chunks(batch_tokens) {
            session.start(batch, Logits::All)?;
            session.run(&threads).map_err(|error| explain(error, &opened))?;
            for logit in session.logits() {
                file.write_all(&logit.to_le_bytes()).with_context(|| path.to_string())?;
            }
            progress.inc(batch.len() as u64);
        }
        progress.finish_and_clear();
        file.flush().with_context(|| path.to_string())
    })
}

/// The start of a NumPy file, format 1.0: magic, length, and a Python literal, padded to 64 bytes.
fn header(rows: usize, columns: usize) -> Vec<u8> {
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let used = 10 + text.len() + 1;
    text.push_str(&" ".repeat(used.next_multiple_of(64) - used));
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend_from_slice(&(text.len() as u16).to_le_bytes());
    header.extend_from_slice(text.as_bytes());
    header
}
