use std::path::{Path, PathBuf};

use ossicle_core::error::{Error, FileError};
use ossicle_core::file::snapshot::Checksum;
use ossicle_core::model::AdapterFile;

use crate::OpenError;
use crate::checkpoint::{Mapped, add_bytes, has_extension, map, read};

/// What PEFT calls the two files that it saves in a folder.
const PEFT_WEIGHTS: &str = "adapter_model.safetensors";
const PEFT_CONFIG: &str = "adapter_config.json";

/// The file of an adapter, mapped into memory, and the configuration beside it.
pub struct AdapterFiles {
    path: PathBuf,
    weights: Mapped,
    /// adapter_config.json, where PEFT saved it.
    config: Option<Vec<u8>>,
}

impl AdapterFiles {
    /// Maps the adapter at `path`: a GGUF file, a folder that PEFT saved, or the safetensors file in it; or a folder with nothing but
    /// a GGUF file.
    ///
    /// # Errors
    /// [`OpenError::Io`] with the file's path.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let path = match path.is_dir() {
            false => path.into(),
            true => match gguf_in(path) {
                Some(gguf) if !path.join(PEFT_WEIGHTS).exists() => gguf,
                _ => path.join(PEFT_WEIGHTS),
            },
        };
        let is_gguf = has_extension(&path, "gguf");
        let config = if is_gguf { None } else { Some(read(&path.with_file_name(PEFT_CONFIG))?) };
        Ok(Self { weights: map(&path)?, path, config })
    }

    /// A number that changes with the files, as [`Checkpoint::stamp`](crate::Checkpoint::stamp) does.
    ///
    /// # Errors
    /// [`OpenError::Io`] if the operating system does not say.
    pub fn stamp(&self) -> Result<u64, OpenError> {
        let mut sum = Checksum::EMPTY;
        self.weights.add_stamp(&mut sum, &self.path)?;
        add_bytes(&mut sum, self.config.as_deref().unwrap_or_default());
        Ok(sum.value())
    }

    /// Reads the header.
    ///
    /// # Errors
    /// [`OpenError::Core`].
    pub fn file(&self) -> Result<AdapterFile<'_>, OpenError> {
        let file = match &self.config {
            None => AdapterFile::gguf(&self.weights.bytes),
            Some(config) => AdapterFile::peft(&self.weights.bytes, config),
        };
        file.map_err(|error| self.error(error))
    }

    /// An error of the core, with the path of the file it is about.
    pub fn error(&self, error: Error) -> OpenError {
        let in_config = matches!(error, Error::File(error) if error.file == FileError::CONFIGURATION);
        let path = if in_config { self.path.with_file_name(PEFT_CONFIG) } else { self.path.clone() };
        OpenError::Core { path, error }
    }
}

/// The only GGUF file in a folder.
fn gguf_in(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let mut found = entries.filter(|path| has_extension(path, "gguf"));
    found.next().filter(|_| found.next().is_none())
}
