//! `ossicle convert`: checkpoints from one layout to another.
//!
//! `source` says where the numbers are, `merge` adds what adapters change, `rows` turns them into the bytes of another format, `target`
//! writes them, and `journal` knows which it has written; `gguf` and `hugging_face` say which tensors a file has.

mod gguf;
mod hugging_face;
mod journal;
mod merge;
mod rows;
mod source;
mod target;
mod vocabulary;

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use ossicle_core::model::{Adapter, Config, Model};
use ossicle_host::{Checkpoint, Memory};

use crate::hub;
use crate::open::{adapter_option, with_adapters};
use journal::Journal;
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
    /// An adapter to merge into the weights: a folder that PEFT saved, or a GGUF file; and, if not 1, what it counts. Can be given
    /// several times.
    #[arg(long = "adapter", value_name = "PATH[:SCALE]", value_parser = adapter_option)]
    adapters: Vec<(PathBuf, f32)>,
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
    with_adapters(
        &arguments.adapters,
        files.config(),
        |region, file| Adapter::for_files(region, file, &files),
        |adapters, adapters_stamp| {
            let mut source =
                Source::new(&files, adapters).map_err(|error| error.context(arguments.input.display().to_string()))?;
            let vocabulary =
                vocabulary(arguments, &checkpoint, &bytes, files.vocabulary().is_some(), source.config().vocabulary)?;
            let part = part_of(output);
            let targets = if to_gguf {
                let vocabulary = vocabulary
                    .as_ref()
                    .context("expected a tokenizer.json beside the checkpoint, or --tokenizer FILE")?;
                let dense = arguments.dense.map(|dense| match dense {
                    DenseOption::Bf16 => Format::Bf16,
                    DenseOption::Q8_0 => Format::Q8_0,
                });
                vec![gguf::target(&mut source, vocabulary, &name_of(&arguments.input), dense, &part)?]
            } else {
                hugging_face::targets(&mut source, &part, arguments.shard_size)?
            };
            source.demand_all_used()?;
            let journal = part.with_added_extension("journal");
            if part.exists() && !journal.exists() {
                let part = part.display();
                bail!(
                    "{part}: expected no such file, or {part}.journal, by which a conversion that was stopped goes on"
                );
            }
            let conversion = conversion(&checkpoint, (&arguments.adapters[..], adapters_stamp), &targets)?;
            let mut journal = Journal::open(journal, conversion)?;
            prepare(&part, &mut journal, to_gguf)?;
            let written = if to_gguf {
                write_file(&targets[0], &journal)
            } else {
                write_folder(&part, &targets, &journal, source.config(), vocabulary.as_ref())
            };
            let finished =
                written.and_then(|()| fs::rename(&part, output).with_context(|| output.display().to_string()));
            match &finished {
                // Where the system refused, as for want of room, it may not the next time.
                Err(error) if error.chain().any(is_of_the_system) => {}
                // What went wrong first is what the caller learns.
                Err(_) => drop((remove(&part), journal.remove())),
                Ok(()) => journal.remove()?,
            }
            finished
        },
    )
}

fn is_of_the_system(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.raw_os_error().is_some())
}

/// A number that another conversion hardly has: with other sources, other options, or another version of the program.
fn conversion(
    checkpoint: &Checkpoint,
    (adapters, adapters_stamp): (&[(PathBuf, f32)], u64),
    targets: &[Target<'_>],
) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    for path in checkpoint.paths() {
        fs::canonicalize(path)?.hash(&mut hasher);
    }
    checkpoint.stamp()?.hash(&mut hasher);
    for (path, _) in adapters {
        fs::canonicalize(hub::resolve(path)?)?.hash(&mut hasher);
    }
    adapters_stamp.hash(&mut hasher);
    for target in targets {
        (&target.header, target.size).hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// Keeps what an earlier run of the same conversion has written, and removes what another one has.
fn prepare(part: &Path, journal: &mut Journal, to_gguf: bool) -> Result<()> {
    if journal.goes_on() && part.exists() {
        eprintln!("{}: goes on where it was stopped", part.display());
    } else {
        if part.exists() {
            remove(part).with_context(|| part.display().to_string())?;
        }
        journal.begin()?;
    }
    if !to_gguf && !part.exists() {
        fs::create_dir(part).with_context(|| part.display().to_string())?;
    }
    Ok(())
}

fn remove(part: &Path) -> io::Result<()> {
    if part.is_dir() { fs::remove_dir_all(part) } else { fs::remove_file(part) }
}

fn write_file(target: &Target<'_>, journal: &Journal) -> Result<()> {
    target.write(0, journal)?;
    open_again(&Checkpoint::of_file(&File::open(&target.path)?)?)
}

fn write_folder(
    folder: &Path,
    targets: &[Target<'_>],
    journal: &Journal,
    config: &Config,
    vocabulary: Option<&Vocabulary>,
) -> Result<()> {
    targets.iter().enumerate().try_for_each(|(number, target)| target.write(number, journal))?;
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
