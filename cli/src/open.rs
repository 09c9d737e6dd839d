//! Options that many commands share, and opening a model with them.

use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use ossicle_core::error::Error;
use ossicle_core::file::snapshot::Checksum;
use ossicle_core::kernels::Kernels;
use ossicle_core::model::{Adapter, AdapterFile, Config, Files, Model};
use ossicle_core::tokenizer::{Source, Tokenizer};
use ossicle_core::transformer::{CacheFormat, Precision};
use ossicle_host::{AdapterFiles, Checkpoint, Memory, Threads, kernels, vocabulary};

use crate::{hub, toy};

/// How to compute.
#[derive(Args)]
pub struct ComputeOptions {
    /// Threads to compute with [default: as many as the machine has].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Kernel set to compute with [default: the fastest that this processor runs].
    #[arg(long)]
    kernels: Option<String>,
    /// How exact: "precise" keeps all activations and the cache in f32, and is several times slower.
    #[arg(long, value_enum, default_value = "standard")]
    precision: PrecisionOption,
    /// What keys and values of past tokens are kept in: int8 takes about half of f16 and is less exact [default: f16; with
    /// --precision precise f32].
    #[arg(long, value_enum)]
    cache_format: Option<CacheFormatOption>,
    /// Does not map the model's files into memory, but reads them, and keeps so many megabytes of experts; the others are read when
    /// they are chosen. For models that are larger than the memory.
    #[arg(long, value_name = "MEGABYTES")]
    expert_memory: Option<usize>,
    /// An adapter to compute with: a folder that PEFT saved, or a GGUF file; and, if not 1, what it counts. Can be given several
    /// times.
    #[arg(long = "adapter", value_name = "PATH[:SCALE]", value_parser = adapter_option)]
    adapters: Vec<(PathBuf, f32)>,
}

/// "PATH" or "PATH:SCALE".
pub fn adapter_option(option: &str) -> std::result::Result<(PathBuf, f32), String> {
    match option.rsplit_once(':').and_then(|(path, scale)| Some((path, scale.parse::<f32>().ok()?))) {
        Some((_, scale)) if !scale.is_finite() => Err("expected a finite number behind the colon".to_owned()),
        Some((path, scale)) => Ok((path.into(), scale)),
        None => Ok((option.into(), 1.0)),
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionOption {
    Standard,
    Precise,
}

#[derive(Clone, Copy, ValueEnum)]
enum CacheFormatOption {
    F32,
    F16,
    Bf16,
    Int8,
}

impl ComputeOptions {
    /// The threads asked for.
    pub fn threads(&self) -> usize {
        self.threads.map_or_else(Threads::available, usize::from)
    }

    /// The kernel set asked for.
    pub fn kernels(&self) -> Result<Kernels> {
        let Some(name) = &self.kernels else {
            return Ok(kernels::fastest());
        };
        let Some(kernels) = kernels::named(name) else {
            let names: Vec<_> = kernels::available().map(|kernels| kernels.name()).collect();
            bail!("--kernels {name}: expected one that this processor runs: {}", names.join(", "));
        };
        Ok(kernels)
    }

    /// The precision asked for.
    pub fn precision(&self) -> Precision {
        match self.precision {
            PrecisionOption::Standard => Precision::Standard,
            PrecisionOption::Precise => Precision::Precise,
        }
    }

    /// The format of the cache, if one is asked for.
    pub fn cache_format(&self) -> Option<CacheFormat> {
        self.cache_format.map(|format| match format {
            CacheFormatOption::F32 => CacheFormat::F32,
            CacheFormatOption::F16 => CacheFormat::F16,
            CacheFormatOption::Bf16 => CacheFormat::Bf16,
            CacheFormatOption::Int8 => CacheFormat::Int8,
        })
    }
}

/// A model, opened.
pub struct Opened<'a> {
    /// The files that it came from.
    pub checkpoint: &'a Checkpoint,
    /// Their headers.
    pub files: &'a Files<'a>,
    /// The weights.
    pub model: &'a Model<'a, 'a>,
    /// The adapters asked for, and what each counts.
    pub adapters: &'a [(Adapter<'a>, f32)],
    /// A number that changes with them.
    adapters_stamp: u64,
}

impl Opened<'_> {
    /// A number that changes with the weights, those of adapters included.
    pub fn stamp(&self) -> Result<u64> {
        let mut sum = Checksum::EMPTY;
        [self.checkpoint.stamp()?, self.adapters_stamp].into_iter().for_each(|word| sum.add(word));
        Ok(sum.value())
    }

    /// The largest rank of the adapters.
    pub fn adapter_rank(&self) -> usize {
        self.adapters.iter().map(|(adapter, _)| adapter.rank()).max().unwrap_or(0)
    }
}

/// Opens the model at `path`, with the adapters at other paths, and lends it to `work`.
pub fn with_model<T>(path: &Path, compute: &ComputeOptions, work: impl FnOnce(Opened<'_>) -> Result<T>) -> Result<T> {
    let path = hub::resolve(path)?;
    let checkpoint = match compute.expert_memory {
        None => Checkpoint::open(&path)?,
        Some(megabytes) => Checkpoint::open_offloaded(&path, megabytes.saturating_mul(1 << 20))?,
    };
    with_checkpoint(&checkpoint, &compute.adapters, work)
}

/// As [`with_model`], to look at what the files are, and not to compute.
pub fn with_files<T>(path: &Path, work: impl FnOnce(Opened<'_>) -> Result<T>) -> Result<T> {
    with_checkpoint(&Checkpoint::open(&hub::resolve(path)?)?, &[], work)
}

/// As [`with_model`]; without a path, opens the model that is built in, and says so.
pub fn with_model_or_toy<T>(
    path: Option<&Path>,
    compute: &ComputeOptions,
    work: impl FnOnce(Opened<'_>) -> Result<T>,
) -> Result<T> {
    if let Some(path) = path {
        return with_model(path, compute, work);
    }
    ensure!(compute.expert_memory.is_none(), "--expert-memory: expected --model FILE; the toy model is in memory");
    eprint!("{}", toy::NOTICE);
    with_checkpoint(&toy::checkpoint(), &compute.adapters, work)
}

fn with_checkpoint<T>(
    checkpoint: &Checkpoint,
    adapters: &[(PathBuf, f32)],
    work: impl FnOnce(Opened<'_>) -> Result<T>,
) -> Result<T> {
    let bytes = checkpoint.bytes();
    let files = checkpoint.files(&bytes)?;
    let mut memory = Memory::new(Model::layout(&files).map_err(|error| checkpoint.error(error))?)?;
    let model = Model::new(memory.region(), &files).map_err(|error| checkpoint.error(error))?;
    with_adapters(
        adapters,
        model.config(),
        |region, file| Adapter::new(region, file, &model),
        |adapters, adapters_stamp| work(Opened { checkpoint, files: &files, model: &model, adapters, adapters_stamp }),
    )
}

/// Opens the adapters at these paths, for whatever `open` opens them for, and lends them to `work`, each with what it counts, and with a
/// number that changes with them.
pub fn with_adapters<T>(
    adapters: &[(PathBuf, f32)],
    config: &Config,
    open: impl for<'r> Fn(&'r mut [MaybeUninit<u8>], &AdapterFile<'r>) -> Result<Adapter<'r>, Error>,
    work: impl FnOnce(&[(Adapter<'_>, f32)], u64) -> Result<T>,
) -> Result<T> {
    let found = adapters
        .iter()
        .map(|(path, _)| hub::resolve(path).and_then(|path| Ok(AdapterFiles::open(&path)?)))
        .collect::<Result<Vec<_>>>()?;
    let mut memories = Vec::new();
    let mut stamp = Checksum::EMPTY;
    for (found, (_, scale)) in found.iter().zip(adapters) {
        let file = found.file()?;
        let layout = Adapter::layout(&file, config).map_err(|error| found.error(error))?;
        memories.push((Memory::new(layout)?, file));
        stamp.add(found.stamp()?);
        stamp.add(scale.to_bits().into());
    }
    let mut opened = Vec::new();
    for (((memory, file), found), (_, scale)) in memories.iter_mut().zip(&found).zip(adapters) {
        let adapter = open(memory.region(), file).map_err(|error| found.error(error))?;
        opened.push((adapter, *scale));
    }
    work(&opened, stamp.value())
}

/// Explains a computation that met numbers which are not finite: reads all weights to find the one that is not; or one whose
/// weights could not be read.
pub fn explain(error: Error, opened: &Opened<'_>) -> anyhow::Error {
    if let Error::Read { .. } = error {
        return opened.checkpoint.error(error).into();
    }
    if let Error::NotFinite { .. } = error
        && let Err(found) = opened.model.check_values()
    {
        return anyhow::Error::from(opened.checkpoint.error(found)).context(error);
    }
    error.into()
}

/// A list of token ids in a JSON file.
pub fn read_tokens(path: &Path) -> Result<Vec<u32>> {
    let text = std::fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| format!("{}: expected a list of token ids", path.display()))
}

/// Makes the tokenizer of a model and lends it to `work`: from the GGUF file, from the tokenizer.json beside safetensors
/// files, or, for a vocabulary of the published models' size, the one that is built in.
pub fn with_tokenizer<T>(opened: &Opened<'_>, work: impl FnOnce(Tokenizer<'_>) -> Result<T>) -> Result<T> {
    if let Some((tokens, types)) = opened.files.vocabulary() {
        let types = types.context("expected the types of the tokens, tokenizer.ggml.token_type")?;
        return with_source(&vocabulary::gguf(tokens, types), work);
    }
    let beside = opened.checkpoint.paths()[0].with_file_name("tokenizer.json");
    if beside.exists() {
        let text = std::fs::read(&beside).with_context(|| beside.display().to_string())?;
        return with_source(&vocabulary::TokenizerJson::parse(&text)?, work);
    }
    let builtin = vocabulary::o200k_harmony();
    if opened.model.config().vocabulary != builtin.vocabulary_len() {
        bail!(
            "{}: expected the vocabulary of a model with {} tokens",
            beside.display(),
            opened.model.config().vocabulary
        );
    }
    work(builtin)
}

/// Builds the tokenizer of a vocabulary and lends it to `work`.
pub fn with_source<T>(source: &impl Source, work: impl FnOnce(Tokenizer<'_>) -> Result<T>) -> Result<T> {
    let mut memory = Memory::new(Tokenizer::layout(source)?)?;
    work(Tokenizer::new(source, memory.region())?)
}
