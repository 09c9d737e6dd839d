//! The engine, opened on a checkpoint with as few words as possible.

use std::path::Path;

use ossicle_core::error::Result;
use ossicle_core::kernels::Kernels;
use ossicle_core::model::{Files, Model};
use ossicle_core::parallel::Parallel;
use ossicle_core::tokenizer::Tokenizer;
use ossicle_core::transformer::{CacheFormat, Logits, Precision, Session, SessionConfig};
use ossicle_host::{Checkpoint, Memory, vocabulary};

/// How exact a session is.
#[derive(Clone, Copy, Debug)]
pub struct Exactness {
    /// Of the arithmetic.
    pub precision: Precision,
    /// Of keys and values; `None` as goes with the precision.
    pub cache: Option<CacheFormat>,
}

impl Exactness {
    /// Both precisions, and each format of the cache.
    pub const ALL: [Self; 4] = [
        Self { precision: Precision::Standard, cache: None },
        Self { precision: Precision::Precise, cache: None },
        Self { precision: Precision::Standard, cache: Some(CacheFormat::Bf16) },
        Self { precision: Precision::Standard, cache: Some(CacheFormat::Int8) },
    ];
}

impl From<Precision> for Exactness {
    fn from(precision: Precision) -> Self {
        Self { precision, cache: None }
    }
}

impl From<CacheFormat> for Exactness {
    fn from(cache: CacheFormat) -> Self {
        Self { precision: Precision::Standard, cache: Some(cache) }
    }
}

/// A session's size in tests: short batches, logits of each token.
pub fn config(context_tokens: usize, batch_tokens: usize, exactness: impl Into<Exactness>) -> SessionConfig {
    let Exactness { precision, cache } = exactness.into();
    SessionConfig {
        context_tokens,
        batch_tokens,
        logits_rows: batch_tokens,
        rewind_tokens: 64,
        precision,
        cache,
        adapter_rank: 0,
    }
}

/// For claims that are not about kernels.
pub use ossicle_host::kernels::fastest;

/// Opens the checkpoint at `path` and lends its model to `work`.
pub fn with_model<T>(path: &Path, work: impl FnOnce(&Model<'_, '_>) -> T) -> T {
    with_checkpoint(&Checkpoint::open(path).unwrap_or_else(|error| panic!("{error}")), work)
}

/// Opens the model of a checkpoint and lends it to `work`.
pub fn with_checkpoint<T>(checkpoint: &Checkpoint, work: impl FnOnce(&Model<'_, '_>) -> T) -> T {
    let bytes = checkpoint.bytes();
    let files = checkpoint.files(&bytes).unwrap_or_else(|error| panic!("{error}"));
    let mut memory = Memory::new(Model::layout(&files).expect("a layout")).expect("memory");
    let model = Model::new(memory.region(), &files).unwrap_or_else(|error| panic!("{error}"));
    work(&model)
}

/// Opens the GGUF file at `path` and lends its model and its tokenizer to `work`.
pub fn with_gguf<T>(path: &Path, work: impl for<'a> FnOnce(&'a Model<'a, 'a>, Tokenizer<'a>) -> T) -> T {
    let checkpoint = Checkpoint::open(path).unwrap_or_else(|error| panic!("{error}"));
    let bytes = checkpoint.bytes();
    let files = checkpoint.files(&bytes).unwrap_or_else(|error| panic!("{error}"));
    let mut memory = Memory::new(Model::layout(&files).expect("a layout")).expect("memory");
    let model = Model::new(memory.region(), &files).unwrap_or_else(|error| panic!("{error}"));
    let (tokens, types) = files.vocabulary().expect("a vocabulary");
    let source = vocabulary::gguf(tokens, types.expect("types"));
    let mut memory = Memory::new(Tokenizer::layout(&source).expect("a layout")).expect("memory");
    let tokenizer = Tokenizer::new(&source, memory.region()).expect("a tokenizer");
    work(&model, tokenizer)
}

/// Lends the model of these files to `work`.
///
/// # Errors
/// Why there is none.
pub fn with_files<T>(files: Result<Files<'_>>, work: impl FnOnce(&Model<'_, '_>) -> T) -> Result<T> {
    let files = files?;
    let mut memory = Memory::new(Model::layout(&files)?).expect("memory");
    Ok(work(&Model::new(memory.region(), &files)?))
}

/// Makes a session of this model and lends it to `work`.
pub fn with_session<T>(
    model: &Model<'_, '_>,
    kernels: Kernels,
    config: &SessionConfig,
    work: impl FnOnce(&mut Session<'_, '_>) -> T,
) -> T {
    let mut memory = Memory::new(Session::layout(model, config).expect("a layout")).expect("memory");
    let mut session = Session::new(memory.region(), model, kernels, config).expect("a session");
    work(&mut session)
}

/// The logits after each token, a batch at a time: [tokens][vocabulary].
pub fn all_logits(session: &mut Session<'_, '_>, tokens: &[u32], parallel: &dyn Parallel) -> Vec<f32> {
    let mut logits = Vec::new();
    for batch in tokens.chunks(session.config().batch_tokens) {
        session.start(batch, Logits::All).expect("room for the batch");
        session.run(parallel).expect("finite numbers");
        logits.extend_from_slice(session.logits());
    }
    logits
}
