//! `ossicle convert`: checkpoints from one layout to another.
//!
//! `source` says where the numbers are, `rows` turns them into the bytes of another format, `target` writes them; `gguf` and
//! `hugging_face` say which tensors a file has.

mod gguf;
mod hugging_face;
mod rows;
mod source;
mod target;
mod vocabulary;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use ossicle_core::model::{Config, Model};
use ossicle_host::{Checkpoint, Memory};

use crate::hub;
use rows::Format;
use source::Source;
use target::{Target, part_of};
use vocabulary::Vocabulary;

/// Arguments of `ossicle convert`.
#[derive(Args)]
pub struct Arguments {
    /// The checkpoint: a GGUF file, a safetensors file or index, a folder of these, or a repository that was pulled.
    input: PathBuf,
    /// A GGUF file to write, if its name ends in .gguf; else a folder for Hugging Face's layout.
    output: PathBuf,
    /// Type of the attention, embedding and output matrices in a GGUF file [default: Q8_0 stays as it is, others become BF16].
    #[arg(long, value_enum)]
    dense: Option<DenseOption>,
    /// The tokenizer.json of the model [default: that beside the checkpoint, or the vocabulary of gpt-oss, which is built in].
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Bytes after which a new safetensors file begins.
    #[arg(long, value_name = "BYTES", default_value_t = 5_000_000_000)]
    shard_size: u64,
    /// Replaces a file that is there. A folder has to be removed by hand.
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum DenseOption {
    /// As in the original checkpoints.
    Bf16,
    /// As in the published GGUF files: half as large.
    #[value(name = "q8_0")]
    Q8_0,
}

/// Runs `ossicle convert`.
pub fn run(arguments: &Arguments) -> Result<()> {
    let output = &arguments.output;
    let to_gguf = output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    if output.exists() && !(to_gguf && arguments.force && output.is_file()) {
        bail!("{}: expected a new name{}", output.display(), if to_gguf { ", or --force" } else { "" });
    }
    ensure!(
        to_gguf || arguments.dense.is_none(),
        "--dense: expected a GGUF file to write; in the others they are BF16"
    );
    let checkpoint = Checkpoint::open(&hub::resolve(&arguments.input)?)?;
    let bytes = checkpoint.bytes();
    let files = checkpoint.files(&bytes)?;
    let mut source = Source::new(&files).map_err(|error| error.context(arguments.input.display().to_string()))?;
    let vocabulary =
        vocabulary(arguments, &checkpoint, &bytes, files.vocabulary().is_some(), source.config().vocabulary)?;

    let part = part_of(output);
    let targets = if to_gguf {
        let vocabulary =
            vocabulary.as_ref().context("expected a tokenizer.json beside the checkpoint, or --tokenizer FILE")?;
        let dense = arguments.dense.map(|dense| match dense {
            DenseOption::Bf16 => Format::Bf16,
            DenseOption::Q8_0 => Format::Q8_0,
        });
        vec![gguf::target(&mut source, vocabulary, &name_of(&arguments.input), dense, &part)?]
    } else {
        hugging_face::targets(&mut source, &part, arguments.shard_size)?
    };
    source.demand_all_used()?;
    let written = if to_gguf {
        write_file(&targets[0])
    } else {
        write_folder(&part, &targets, source.config(), vocabulary.as_ref())
    };
    let finished = written.and_then(|()| fs::rename(&part, output).with_context(|| output.display().to_string()));
    if finished.is_err() {
        // What went wrong first is what the caller learns.
        let _ = if to_gguf { fs::remove_file(&part) } else { fs::remove_dir_all(&part) };
    }
    finished
}

fn write_file(target: &Target<'_>) -> Result<()> {
    target.write()?;
    open_again(&Checkpoint::of_file(&File::open(&target.path)?)?)
}

fn write_folder(folder: &Path, targets: &[Target<'_>], config: &Config, vocabulary: Option<&Vocabulary>) -> Result<()> {
    if folder.exists() {
        // From a run that was interrupted.
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir(folder).with_context(|| folder.display().to_string())?;
    targets.iter().try_for_each(Target::write)?;
    hugging_face::write_configuration(folder, config, targets, vocabulary)?;
    open_again(&Checkpoint::open(folder)?)
}

/// What the model is called: as its file or folder, or its repository.
fn name_of(input: &Path) -> String {
    let path = fs::canonicalize(input).unwrap_or(input.into());
    let name = if path.is_file() { path.file_stem() } else { path.file_name() };
    name.map_or("gpt-oss".into(), |name| name.to_string_lossy().into_owned())
}

/// Opens what was written as any model, and reads every weight.
fn open_again(checkpoint: &Checkpoint) -> Result<()> {
    let bytes = checkpoint.bytes();
    let files = checkpoint.files(&bytes)?;
    let mut memory = Memory::new(Model::layout(&files)?)?;
    let model = Model::new(memory.region(), &files).map_err(|error| checkpoint.error(error))?;
    Ok(model.check_values().map_err(|error| checkpoint.error(error))?)
}

/// The vocabulary of the model, if it can be found: `size` is how many ids it has.
fn vocabulary(
    arguments: &Arguments,
    checkpoint: &Checkpoint,
    bytes: &[&[u8]],
    in_gguf: bool,
    size: usize,
) -> Result<Option<Vocabulary>> {
    let beside = checkpoint.paths()[0].with_file_name("tokenizer.json");
    let path = match &arguments.tokenizer {
        Some(path) => Some(path),
        None if in_gguf => return Vocabulary::of_gguf(bytes[0]).map(Some),
        None => Some(&beside).filter(|path| path.exists()),
    };
    match path {
        Some(path) => Vocabulary::of_tokenizer_json(path, checkpoint.config_json(), size)
            .with_context(|| path.display().to_string())
            .map(Some),
        None => Vocabulary::published(size).transpose(),
    }
}
