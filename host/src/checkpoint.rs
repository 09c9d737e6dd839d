use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use memmap2::Mmap;
use ossicle_core::error::{Error, FileError};
use ossicle_core::file::snapshot::Checksum;
use ossicle_core::model::{Files, Offload};

use crate::read_files::ReadFiles;

/// The files of a checkpoint: mapped into memory, where nothing is read until it is used; or open, to be read as is needed.
pub struct Checkpoint {
    paths: Vec<PathBuf>,
    contents: Contents,
    /// config.json, where weights come as safetensors.
    config: Option<Vec<u8>>,
}

enum Contents {
    Mapped(Vec<Mapped>),
    /// And how many bytes of experts stay in memory.
    Read(ReadFiles, usize),
    /// A GGUF file that is part of the program.
    Embedded(&'static [u8]),
}

/// A file mapped into memory.
pub(crate) struct Mapped {
    pub bytes: Mmap,
    /// Of the file that was mapped, which may not have its path any more.
    metadata: Metadata,
}

/// Why a checkpoint cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The operating system refused a file.
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file is there, but it is not what it should be.
    Format {
        /// The file.
        path: PathBuf,
        /// What was expected.
        expected: String,
    },
    /// The bytes of a file were refused.
    Core {
        /// The file.
        path: PathBuf,
        /// Why.
        error: Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Format { path, expected } => write!(f, "{}: expected {expected}", path.display()),
            Self::Core { path, error } => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for OpenError {}

impl Checkpoint {
    /// Maps the files of the checkpoint at `path`: a GGUF file (any part of a split one), a safetensors file or index, or
    /// the folder of a checkpoint.
    ///
    /// # Errors
    /// [`OpenError`] with the file's path.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(path, |paths| {
            paths.iter().map(|path| map(path)).collect::<Result<_, _>>().map(Contents::Mapped)
        })
    }

    /// Opens the files of the checkpoint at `path`, which is as for [`Checkpoint::open`], without mapping them: what all tokens
    /// need is read once, and experts as they are needed, of which so many bytes stay in memory.
    ///
    /// # Errors
    /// [`OpenError`] with the file's path.
    pub fn open_offloaded(path: &Path, experts_size: usize) -> Result<Self, OpenError> {
        Self::open_with(path, |paths| Ok(Contents::Read(ReadFiles::open(paths)?, experts_size)))
    }

    fn open_with(path: &Path, open: impl FnOnce(&[PathBuf]) -> Result<Contents, OpenError>) -> Result<Self, OpenError> {
        let paths = if path.is_dir() { files_in(path)? } else { parts_of(path)? };
        let is_gguf = paths.first().is_some_and(|path| has_extension(path, "gguf"));
        let config = if is_gguf {
            None
        } else {
            let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
            Some(read(&folder.join("config.json"))?)
        };
        Ok(Self { contents: open(&paths)?, paths, config })
    }

    /// Maps a GGUF file that is open already.
    ///
    /// # Errors
    /// [`OpenError::Io`] without a path.
    pub fn of_file(file: &File) -> Result<Self, OpenError> {
        let contents = Contents::Mapped(vec![map_file(file, Path::new(""))?]);
        Ok(Self { paths: vec![PathBuf::new()], contents, config: None })
    }

    /// A GGUF file that is part of the program, with a name for it in errors.
    pub fn embedded(name: &str, bytes: &'static [u8]) -> Self {
        Self { paths: vec![name.into()], contents: Contents::Embedded(bytes), config: None }
    }

    /// The text of config.json, where weights come as safetensors.
    pub fn config_json(&self) -> Option<&[u8]> {
        self.config.as_deref()
    }

    /// The bytes of each file; of files that are not mapped, the first, with the header.
    pub fn bytes(&self) -> Vec<&[u8]> {
        match &self.contents {
            Contents::Mapped(files) => files.iter().map(|file| &*file.bytes).collect(),
            Contents::Read(files, _) => files.files().iter().map(|file| &*file.head).collect(),
            Contents::Embedded(bytes) => vec![bytes],
        }
    }

    /// The path of each file.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// A number that changes when a file of the checkpoint does: from the sizes of the files and the times when they were last
    /// changed, as they were when the checkpoint was opened, and from config.json.
    ///
    /// # Errors
    /// [`OpenError::Io`] if the operating system does not say.
    pub fn stamp(&self) -> Result<u64, OpenError> {
        let mut sum = Checksum::EMPTY;
        match &self.contents {
            Contents::Mapped(files) => {
                self.paths.iter().zip(files).try_for_each(|(path, file)| file.add_stamp(&mut sum, path))?;
            }
            Contents::Read(files, _) => {
                let mut files = self.paths.iter().zip(files.files());
                files.try_for_each(|(path, file)| add_stamp(&file.metadata, &mut sum, path))?;
            }
            Contents::Embedded(bytes) => add_bytes(&mut sum, bytes),
        }
        add_bytes(&mut sum, self.config.as_deref().unwrap_or_default());
        Ok(sum.value())
    }

    /// Reads the headers; `bytes` is what [`Checkpoint::bytes`] gave.
    ///
    /// # Errors
    /// [`OpenError::Core`].
    pub fn files<'a>(&'a self, bytes: &'a [&'a [u8]]) -> Result<Files<'a>, OpenError> {
        let files = match (&self.contents, &self.config) {
            (Contents::Read(storage, experts_size), config) => {
                let offload = Offload { storage, experts_size: *experts_size };
                match config {
                    None => Files::gguf_offloaded(bytes, offload),
                    Some(config) => Files::safetensors_offloaded(bytes, config, offload),
                }
            }
            (_, None) => Files::gguf(bytes),
            (_, Some(config)) => Files::safetensors(bytes, config),
        };
        files.map_err(|error| self.error(error))
    }

    /// An error of the core, with the path of the file it is about.
    pub fn error(&self, error: Error) -> OpenError {
        let file = match error {
            Error::File(error) => error.file,
            Error::Tensor(error) => error.file,
            Error::Read { file, .. } => file,
            _ => 0,
        };
        if file == FileError::CONFIGURATION {
            return OpenError::Core { path: self.paths[0].with_file_name("config.json"), error };
        }
        let path = &self.paths[usize::from(file).min(self.paths.len() - 1)];
        match &self.contents {
            Contents::Read(files, _) => files.error(path, error),
            _ => OpenError::Core { path: path.clone(), error },
        }
    }
}

pub(crate) fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

impl Mapped {
    /// Adds the size of the file and when it was changed. Its path is for errors.
    pub fn add_stamp(&self, sum: &mut Checksum, path: &Path) -> Result<(), OpenError> {
        add_stamp(&self.metadata, sum, path)
    }
}

fn add_stamp(metadata: &Metadata, sum: &mut Checksum, path: &Path) -> Result<(), OpenError> {
    let changed = metadata.modified().map_err(|error| OpenError::Io { path: path.into(), error })?;
    let changed = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
    [metadata.len(), changed.as_secs(), changed.subsec_nanos().into()].into_iter().for_each(|word| sum.add(word));
    Ok(())
}

/// Adds what is in a small file.
pub(crate) fn add_bytes(sum: &mut Checksum, bytes: &[u8]) {
    bytes.iter().for_each(|byte| sum.add((*byte).into()));
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, OpenError> {
    fs::read(path).map_err(|error| OpenError::Io { path: path.into(), error })
}

pub(crate) fn map(path: &Path) -> Result<Mapped, OpenError> {
    let file = File::open(path).map_err(|error| OpenError::Io { path: path.into(), error })?;
    map_file(&file, path)
}

fn map_file(file: &File, path: &Path) -> Result<Mapped, OpenError> {
    let refused = |error| OpenError::Io { path: path.into(), error };
    let metadata = file.metadata().map_err(refused)?;
    // SAFETY: the map is read only. Whoever changes or cuts the file meanwhile changes weights, or ends the process with a
    // bus error; as with every mapped file, that is the price of not copying it.
    let bytes = unsafe { Mmap::map(file) }.map_err(refused)?;
    // Where the kernel and the file system can, fewer addresses to translate; elsewhere it refuses, and nothing is lost.
    #[cfg(target_os = "linux")]
    let _ = bytes.advise(memmap2::Advice::HugePage);
    Ok(Mapped { bytes, metadata })
}

/// The weights in a folder: those that the index names, else all safetensors files, else a GGUF file.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let index = folder.join("model.safetensors.index.json");
    if index.exists() {
        return parts_of(&index);
    }
    let entries = fs::read_dir(folder).map_err(|error| OpenError::Io { path: folder.into(), error })?;
    let mut found: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    found.sort();
    let safetensors: Vec<_> = found.iter().filter(|path| has_extension(path, "safetensors")).cloned().collect();
    if !safetensors.is_empty() {
        return Ok(safetensors);
    }
    let gguf: Vec<_> = found.iter().filter(|path| has_extension(path, "gguf")).collect();
    match gguf.split_first() {
        Some((first, others)) => {
            let parts = parts_of(first)?;
            if let Some(other) = others.iter().find(|other| !parts.contains(other)) {
                let expected = format!("one model inside, or the name of one: there is also {}", other.display());
                return Err(OpenError::Format { path: (*first).clone(), expected });
            }
            Ok(parts)
        }
        None => Err(OpenError::Format { path: folder.into(), expected: "a .gguf or .safetensors file inside".into() }),
    }
}

/// All files of which `path` is one part.
fn parts_of(path: &Path) -> Result<Vec<PathBuf>, OpenError> {
    if has_extension(path, "json") {
        return indexed(path);
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    if let Some((stem, count)) = split_name(name) {
        return Ok((1..=count)
            .map(|part| path.with_file_name(format!("{stem}-{part:05}-of-{count:05}.gguf")))
            .collect());
    }
    Ok(vec![path.into()])
}

/// "model-00002-of-00003.gguf" is a part of "model", which has 3.
pub(crate) fn split_name(name: &str) -> Option<(&str, u16)> {
    let stem = name.strip_suffix(".gguf")?;
    let (stem, count) = stem.rsplit_once("-of-")?;
    let (stem, part) = stem.rsplit_once('-')?;
    let number = |digits: &str| {
        let plain = digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u16>().ok().filter(|number| plain && *number > 0)
    };
    let (part, count) = (number(part)?, number(count)?);
    (part <= count).then_some((stem, count))
}

/// The files that a safetensors index names, each once.
fn indexed(path: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let format = |expected: String| OpenError::Format { path: path.into(), expected };
    let index: serde_json::Value =
        serde_json::from_slice(&read(path)?).map_err(|error| format(format!("JSON ({error})")))?;
    let map = index.get("weight_map").and_then(|map| map.as_object());
    let map = map.ok_or_else(|| format("an object \"weight_map\"".into()))?;
    let mut names = BTreeSet::new();
    for (tensor, name) in map {
        // A plain name: an index must not reach outside its folder.
        let plain = name.as_str().filter(|name| Path::new(name).file_name() == Some(name.as_ref()));
        names.insert(plain.ok_or_else(|| format(format!("the name of a file for {tensor}")))?);
    }
    if names.is_empty() {
        return Err(format("at least one file in \"weight_map\"".into()));
    }
    Ok(names.into_iter().map(|name| path.with_file_name(name)).collect())
}
