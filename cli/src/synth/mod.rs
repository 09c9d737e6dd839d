//! `ossicle synth`: models of random weights.
//!
//! They have the geometry, the tensor types and the tokenizer of the real ones, and numbers of a like size in their
//! activations, but have learnt nothing. Speed and memory can be measured on them without downloading a model.

mod vocabulary;
mod weights;

#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ossicle_core::file::TensorType;
use ossicle_core::model::{Naming, Role, TensorId};

use crate::gguf_writer::Header;
use vocabulary::Vocabulary;
use weights::{Distribution, Random, fill};

/// Arguments of `ossicle synth`.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Sizes of the model: 20b, 120b or tiny.
    #[arg(long)]
    geometry: Geometry,
    /// Type of the attention, embedding and output matrices: q8_0 or bf16.
    #[arg(long, default_value = "q8_0")]
    dense: Dense,
    /// The same seed gives the same bytes.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The GGUF file to write.
    #[arg(long)]
    out: PathBuf,
}

/// The sizes of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// As `--geometry` spells it.
    pub name: &'static str,
    /// Transformer layers.
    pub layers: u16,
    hidden: u64,
    intermediate: u64,
    experts: u64,
    heads: u64,
    kv_heads: u64,
    /// Ids, and how many of them are ordinary tokens.
    vocabulary: u64,
    ordinary: u64,
}

const HEAD_DIM: u64 = 64;

impl Geometry {
    /// Small enough to be sent along with a program: less than a megabyte.
    pub const TINY: Self = Self {
        name: "tiny",
        layers: 4,
        hidden: 64,
        intermediate: 64,
        experts: 8,
        heads: 4,
        kv_heads: 2,
        vocabulary: 2048,
        ordinary: 2016,
    };
    /// gpt-oss-20b.
    pub const SMALL: Self = Self {
        name: "20b",
        layers: 24,
        hidden: 2880,
        intermediate: 2880,
        experts: 32,
        heads: 64,
        kv_heads: 8,
        vocabulary: 201_088,
        ordinary: 199_998,
    };
    /// gpt-oss-120b.
    pub const LARGE: Self = Self { name: "120b", layers: 36, experts: 128, ..Self::SMALL };
}

impl FromStr for Geometry {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = [Self::TINY, Self::SMALL, Self::LARGE];
        all.into_iter().find(|geometry| geometry.name == name).ok_or("expected 20b, 120b or tiny".into())
    }
}

/// Types that the attention, embedding and output matrices can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dense {
    /// As in the published GGUF files.
    Q8_0,
    /// As in the original checkpoints.
    Bf16,
}

impl FromStr for Dense {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "q8_0" => Ok(Self::Q8_0),
            "bf16" => Ok(Self::Bf16),
            _ => Err("expected q8_0 or bf16".into()),
        }
    }
}

/// Runs `ossicle synth`.
pub fn run(arguments: &Arguments) -> Result<()> {
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left")?;
    let bar = ProgressBar::new(0).with_style(style);
    write(arguments, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })
    .with_context(|| arguments.out.display().to_string())?;
    bar.finish_and_clear();
    Ok(())
}

/// Writes the model. `progress` is told how many bytes are written, and how many there will be, on any thread.
///
/// The file appears under its name when it is complete; until then it has ".part" behind it.
///
/// # Errors
/// Those of writing the file; nothing is left of it then.
fn write(arguments: &Arguments, progress: impl FnMut(u64, u64) + Send) -> io::Result<()> {
    let plan = Plan::new(arguments.geometry, arguments.dense);
    let mut part = arguments.out.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let written = plan.write(&part, arguments.seed, progress).and_then(|()| fs::rename(&part, &arguments.out));
    if written.is_err() {
        // What went wrong first is what the caller learns.
        let _ = fs::remove_file(&part);
    }
    written
}

/// One tensor of the file.
struct Tensor {
    dtype: TensorType,
    distribution: Distribution,
    /// Where its data begin in the file.
    offset: u64,
    size: u64,
}

/// What will be where in the file.
struct Plan {
    header: Vec<u8>,
    tensors: Vec<Tensor>,
    size: u64,
}

/// A part of a tensor: what one thread makes and writes at a time.
struct Chunk {
    tensor: usize,
    /// Its number in the tensor.
    number: u64,
}

/// Values in a chunk. The bytes of the file depend on it.
const CHUNK_VALUES: u64 = 1 << 20;

impl Plan {
    fn new(geometry: Geometry, dense: Dense) -> Self {
        let mut header = Header::default();
        describe(&geometry, &mut header);
        Vocabulary::new(geometry.ordinary as u32, geometry.vocabulary as u32).describe(&mut header);
        let mut tensors = Vec::new();
        for_each_tensor(&geometry, dense, |id, dtype, shape, distribution| {
            let offset = header.tensor(&id.to_string(), dtype, shape);
            let size = dtype.size(shape).expect("rows of whole blocks");
            tensors.push(Tensor { dtype, distribution, offset, size });
        });
        let data_size = header.data_size();
        let header = header.finish();
        let data_start = header.len() as u64;
        for tensor in &mut tensors {
            tensor.offset += data_start;
        }
        Self { header, tensors, size: data_start + data_size }
    }

    fn chunks(&self) -> Vec<Chunk> {
        let chunks = |(number, tensor): (usize, &Tensor)| {
            let count = tensor.size.div_ceil(chunk_size(tensor.dtype));
            (0..count).map(move |chunk| Chunk { tensor: number, number: chunk })
        };
        self.tensors.iter().enumerate().flat_map(chunks).collect()
    }

    fn write(&self, path: &Path, seed: u64, mut progress: impl FnMut(u64, u64) + Send) -> io::Result<()> {
        let mut file = File::create(path)?;
        // Also makes the padding between tensors: what is never written reads as zero.
        file.set_len(self.size)?;
        file.write_all(&self.header)?;
        let mut written = self.header.len() as u64;
        progress(written, self.size);

        let chunks = self.chunks();
        let next = AtomicUsize::new(0);
        let report = Mutex::new(|bytes: usize| {
            written += bytes as u64;
            progress(written, self.size);
        });
        let work = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).open(path)?;
            let mut buffer = Vec::new();
            while let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.make(chunk, seed, &mut buffer);
                let tensor = &self.tensors[chunk.tensor];
                let offset = tensor.offset + chunk.number * chunk_size(tensor.dtype);
                file.seek(SeekFrom::Start(offset))?;
                file.write_all(&buffer)?;
                report.lock().unwrap_or_else(PoisonError::into_inner)(buffer.len());
            }
            Ok(())
        };
        // Where one thread fails, the others find nothing more to do.
        let work = || work().inspect_err(|_| next.store(chunks.len(), Ordering::Relaxed));
        thread::scope(|scope| {
            let workers = thread::available_parallelism().map_or(1, usize::from);
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let results = workers.into_iter().map(|worker| worker.join().expect("making numbers does not panic"));
            results.collect::<Vec<_>>().into_iter().collect()
        })
    }

    /// Makes the bytes of a chunk.
    fn make(&self, chunk: &Chunk, seed: u64, buffer: &mut Vec<u8>) {
        let tensor = &self.tensors[chunk.tensor];
        let before = chunk.number * chunk_size(tensor.dtype);
        let size = chunk_size(tensor.dtype).min(tensor.size - before);
        buffer.resize(size as usize, 0);
        let mut random = Random::new(seed, [chunk.tensor as u64, chunk.number]);
        fill(&mut random, tensor.dtype, tensor.distribution, buffer);
    }
}

/// Bytes of all but the last chunk of a tensor.
fn chunk_size(dtype: TensorType) -> u64 {
    let (block_len, block_size) = dtype.block().expect("a type of weights");
    CHUNK_VALUES / block_len * block_size
}

/// Adds what a GGUF file says about its model; the keys and values are those of the published files.
fn describe(geometry: &Geometry, header: &mut Header) {
    header.string("general.architecture", "gpt-oss");
    header.string("general.type", "model");
    header.string("general.name", &format!("gpt-oss-{} with random weights", geometry.name));
    header.string("general.description", "Made by ossicle synth to measure speed and memory. It has learnt nothing.");
    header.u32("general.file_type", 38); // LLAMA_FTYPE_MOSTLY_MXFP4_MOE
    header.u32("general.quantization_version", 2);
    let mut number = |key: &str, value: u64| header.u32(&format!("gpt-oss.{key}"), value as u32);
    number("block_count", geometry.layers.into());
    number("context_length", 131_072);
    number("embedding_length", geometry.hidden);
    number("feed_forward_length", geometry.intermediate);
    number("expert_feed_forward_length", geometry.intermediate);
    number("attention.head_count", geometry.heads);
    number("attention.head_count_kv", geometry.kv_heads);
    number("attention.key_length", HEAD_DIM);
    number("attention.value_length", HEAD_DIM);
    number("attention.sliding_window", 128);
    number("expert_count", geometry.experts);
    number("expert_used_count", 4);
    number("rope.scaling.original_context_length", 4096);
    header.f32("gpt-oss.attention.layer_norm_rms_epsilon", 1e-5);
    header.f32("gpt-oss.rope.freq_base", 150_000.0);
    header.string("gpt-oss.rope.scaling.type", "yarn");
    header.f32("gpt-oss.rope.scaling.factor", 32.0);
    header.f32("gpt-oss.rope.scaling.yarn_beta_fast", 32.0);
    header.f32("gpt-oss.rope.scaling.yarn_beta_slow", 1.0);
}

/// Shows every tensor in the order of the file: what it is, its type, its shape (outermost first) and its numbers.
///
/// The residual begins with deviation 1, and what each block adds is so much smaller that the token stays the largest part of
/// it to the end: otherwise all tokens of a text would go to the same experts. The deviation of a matrix is that which its
/// outputs get from inputs of deviation 1, divided by the square root of their number.
fn for_each_tensor(
    geometry: &Geometry,
    dense: Dense,
    mut show: impl FnMut(TensorId, TensorType, &[u64], Distribution),
) {
    let Geometry { layers, hidden, intermediate, experts, heads, kv_heads, vocabulary, .. } = *geometry;
    let dense = match dense {
        Dense::Q8_0 => TensorType::Q8_0,
        Dense::Bf16 => TensorType::Bf16,
    };
    let (queries, keys) = (heads * HEAD_DIM, kv_heads * HEAD_DIM);
    let mut tensor = |role, layer, dtype, shape: &[u64], mean, deviation| {
        show(TensorId { role, layer, naming: Naming::Gguf }, dtype, shape, Distribution { mean, deviation });
    };
    let per_input = |inputs: u64, outputs: f32| outputs / (inputs as f32).sqrt();

    use Role::*;
    use TensorType::{F32, Mxfp4};
    tensor(Embedding, 0, dense, &[vocabulary, hidden], 0.0, 1.0);
    for layer in 0..layers {
        let mut gain = |role| tensor(role, layer, F32, &[hidden], 1.0, 0.1);
        gain(AttentionNorm);
        gain(MlpNorm);
        let mut linear = |weight, bias, dtype, shape: &[u64], outputs: f32| {
            let (inputs, rows) = shape.split_last().expect("a matrix");
            tensor(weight, layer, dtype, shape, 0.0, per_input(*inputs, outputs));
            tensor(bias, layer, F32, rows, 0.0, 0.1 * outputs);
        };
        linear(QueryWeight, QueryBias, dense, &[queries, hidden], 1.0);
        linear(KeyWeight, KeyBias, dense, &[keys, hidden], 1.0);
        linear(ValueWeight, ValueBias, dense, &[keys, hidden], 1.0);
        linear(AttentionOutputWeight, AttentionOutputBias, dense, &[hidden, queries], 0.25);
        linear(RouterWeight, RouterBias, F32, &[experts, hidden], 1.0);
        linear(GateWeight, GateBias, Mxfp4, &[experts, intermediate, hidden], 0.8);
        linear(UpWeight, UpBias, Mxfp4, &[experts, intermediate, hidden], 0.8);
        linear(DownWeight, DownBias, Mxfp4, &[experts, hidden, intermediate], 0.2);
        tensor(Sinks, layer, F32, &[heads], 0.0, 1.0);
    }
    tensor(OutputNorm, 0, F32, &[hidden], 1.0, 0.1);
    // Logits of a deviation like that of a trained model.
    tensor(Unembedding, 0, dense, &[vocabulary, hidden], 0.0, per_input(hidden, 2.5));
}
