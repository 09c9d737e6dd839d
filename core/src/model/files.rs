//! The files of a checkpoint, opened.

use super::config::{Config, Reader};
use super::names::Naming;
use crate::error::{Error, FileError, Result};
use crate::file::gguf::{self, Gguf};
use crate::file::safetensors::Safetensors;
use crate::file::{Storage, TensorEntry};

/// How a model is kept that is not in memory as a whole: what all tokens need is read once, and the matrices of experts as
/// tokens need them.
#[derive(Clone, Copy)]
pub struct Offload<'w> {
    /// Where the files are.
    pub storage: &'w dyn Storage,
    /// Bytes for experts that stay in memory: at least one of each layer. Those in use the most are kept.
    pub experts_size: usize,
}

/// The files of one model: their headers have been read, once, and nothing else.
#[derive(Clone, Copy)]
pub struct Files<'w> {
    /// As a whole, or their heads.
    files: &'w [&'w [u8]],
    offload: Option<Offload<'w>>,
    naming: Naming,
    /// The first file, if it is GGUF: it holds the vocabulary, which takes longest to read.
    first: Option<Gguf<'w>>,
    config: Config,
    tokens: Option<gguf::Array<'w>>,
    token_types: Option<gguf::Array<'w>>,
}

impl<'w> Files<'w> {
    /// Opens a GGUF file, or all parts of a split one, in order.
    ///
    /// # Errors
    /// [`FileError`] where a file is not GGUF, not of this architecture, or has numbers that cannot be.
    pub fn gguf(files: &'w [&'w [u8]]) -> Result<Self> {
        Self::open_gguf(files, None)
    }

    /// As [`Files::gguf`], of files that are not in memory; [`read_head`](crate::file::read_head) has read the head of each.
    ///
    /// # Errors
    /// As [`Files::gguf`]; [`Error::BufferTooSmall`] where a head ends before its header.
    pub fn gguf_offloaded(heads: &'w [&'w [u8]], offload: Offload<'w>) -> Result<Self> {
        Self::open_gguf(heads, Some(offload))
    }

    fn open_gguf(files: &'w [&'w [u8]], offload: Option<Offload<'w>>) -> Result<Self> {
        let mut reader = Reader::new(Naming::Gguf);
        let mut first = None;
        for (number, bytes) in numbered(files)? {
            if number == 0 {
                let size = size_of_file(offload, 0, bytes);
                first = Some(Gguf::open_head(bytes, size, 0, |metadata| reader.metadata(metadata))?);
                continue;
            }
            let mut part = Reader::new(Naming::Gguf);
            Gguf::open_head(bytes, size_of_file(offload, number, bytes), number, |metadata| match metadata.key {
                "split.no" | "split.count" => part.metadata(metadata),
                _ => Ok(()),
            })?;
            if part.split != (number.into(), files.len() as u64) {
                return Err(refuse(number, "the next part of a split file, its number in split.no", part.split.0));
            }
        }
        if reader.split.0 != 0 {
            return Err(refuse(0, "the first part of a split file, 0 in split.no", reader.split.0));
        }
        if reader.split.1 != files.len() as u64 {
            return Err(refuse(0, "as many files as split.count says", reader.split.1));
        }
        let (tokens, token_types) = (reader.tokens, reader.token_types);
        Ok(Self { files, offload, naming: Naming::Gguf, first, config: reader.finish()?, tokens, token_types })
    }

    /// Opens the safetensors files of a checkpoint, in any order, with its config.json: Hugging Face's layout or OpenAI's.
    ///
    /// # Errors
    /// [`FileError`] where a file is not safetensors, or the configuration has numbers that cannot be; offsets of the
    /// latter are in the configuration.
    pub fn safetensors(files: &'w [&'w [u8]], config: &'w [u8]) -> Result<Self> {
        Self::open_safetensors(files, config, None)
    }

    /// As [`Files::safetensors`], of files that are not in memory; [`read_head`](crate::file::read_head) has read the head of
    /// each.
    ///
    /// # Errors
    /// As [`Files::safetensors`]; [`Error::BufferTooSmall`] where a head ends before its header.
    pub fn safetensors_offloaded(heads: &'w [&'w [u8]], config: &'w [u8], offload: Offload<'w>) -> Result<Self> {
        Self::open_safetensors(heads, config, Some(offload))
    }

    fn open_safetensors(files: &'w [&'w [u8]], config: &'w [u8], offload: Option<Offload<'w>>) -> Result<Self> {
        let mut naming = Naming::Original;
        for (number, bytes) in numbered(files)? {
            let file = Safetensors::open_head(bytes, size_of_file(offload, number, bytes), number)?;
            if file.tensors().any(|tensor| tensor.name.starts_with("model.")) {
                naming = Naming::HuggingFace;
            }
        }
        let mut reader = Reader::new(naming);
        let config = reader.json(config).and_then(|()| reader.finish()).map_err(|error| match error {
            Error::File(error) => FileError { file: FileError::CONFIGURATION, ..error }.into(),
            error => error,
        })?;
        Ok(Self { files, offload, naming, first: None, config, tokens: None, token_types: None })
    }

    /// The numbers of the model. The vocabulary is 0 if only the embedding tells how large it is.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whose names the files use.
    pub fn naming(&self) -> Naming {
        self.naming
    }

    /// Where the weights are that are not in memory, if so.
    pub fn offload(&self) -> Option<Offload<'w>> {
        self.offload
    }

    /// The vocabulary of a GGUF file: the tokens in their printable alphabet, by id, and their types.
    pub fn vocabulary(&self) -> Option<(gguf::Array<'w>, Option<gguf::Array<'w>>)> {
        self.tokens.map(|tokens| (tokens, self.token_types))
    }

    /// Shows every tensor, with the number of its file.
    ///
    /// # Errors
    /// What `visit` returns.
    pub fn for_each_tensor(&self, mut visit: impl FnMut(u16, TensorEntry<'w>) -> Result<()>) -> Result<()> {
        for (number, bytes) in numbered(self.files)? {
            let size = size_of_file(self.offload, number, bytes);
            if self.naming == Naming::Gguf {
                let file = match self.first {
                    Some(first) if number == 0 => first,
                    _ => Gguf::open_head(bytes, size, number, |_| Ok(()))?,
                };
                file.tensors().try_for_each(|tensor| visit(number, tensor))?;
            } else {
                let file = Safetensors::open_head(bytes, size, number)?;
                file.tensors().try_for_each(|tensor| visit(number, tensor))?;
            }
        }
        Ok(())
    }
}

fn size_of_file(offload: Option<Offload<'_>>, number: u16, bytes: &[u8]) -> u64 {
    offload.map_or(bytes.len() as u64, |offload| offload.storage.size(number))
}

fn numbered<'w>(files: &'w [&'w [u8]]) -> Result<impl Iterator<Item = (u16, &'w [u8])>> {
    if files.is_empty() || files.len() > usize::from(u16::MAX) {
        return Err(refuse(0, "from 1 to 65535 files", files.len() as u64));
    }
    Ok((0..=u16::MAX).zip(files.iter().copied()))
}

fn refuse(file: u16, expected: &'static str, found: u64) -> Error {
    FileError { file, offset: 0, expected, found }.into()
}
