//! What can go wrong, and where.
//!
//! Errors are plain values: numbers, and the names of tensors and keys. Texts from a file are never kept.

use core::fmt;

use crate::file::{MAX_RANK, TensorType};
use crate::harmony::render::RenderError;
use crate::model::TensorId;
use crate::schema::SchemaError;

/// The result of everything here that can fail.
pub type Result<T> = core::result::Result<T, Error>;

/// What went wrong, where, and what was expected.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Error {
    /// The bytes of a file are not what its format says.
    File(FileError),
    /// A tensor is not what the model needs.
    Tensor(TensorError),
    /// The host could not read a part of a file, which may be different the next time.
    Read {
        /// Which of the files given, from 0.
        file: u16,
        /// Where the part begins, in bytes.
        offset: u64,
        /// Bytes of it.
        size: usize,
    },
    /// A token id that the model does not have.
    Token {
        /// Its place among those given.
        index: usize,
        /// The id.
        token: u32,
        /// Ids are below this.
        vocabulary: usize,
    },
    /// More was given than the object was made for.
    Capacity {
        /// What of.
        what: &'static str,
        /// How many were needed.
        need: usize,
        /// How many there is room for.
        have: usize,
    },
    /// A setting is outside its range.
    Setting {
        /// Its name.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// The call does not fit the state of the object, which is as it was before.
    State(&'static str),
    /// The positions that the session would need again are no longer in its windowed caches.
    Rewind {
        /// The latest position that can be returned to, besides 0 and those after it.
        earliest: usize,
    },
    /// A number that is not finite came up: in a layer, or in the logits if the layer is the number of layers. The weights
    /// or the cache are damaged; `Model::check_values` tells where. The session is back where it was.
    NotFinite {
        /// The layer, from 0.
        layer: usize,
    },
    /// The region is smaller than its layout says. Sizes in bytes.
    RegionTooSmall {
        /// What it takes.
        need: usize,
        /// What there is.
        have: usize,
    },
    /// The region does not start at a multiple of this many bytes.
    RegionAlign {
        /// The alignment, in bytes.
        need: usize,
    },
    /// A vocabulary is not as it should be.
    Vocabulary {
        /// The token concerned.
        id: u32,
        /// What should be.
        expected: &'static str,
        /// The number that is there instead: a size in bytes, unless `expected` says otherwise.
        found: u64,
    },
    /// A buffer for results is too small. Counted in elements.
    BufferTooSmall {
        /// What it takes.
        need: usize,
        /// What there is.
        have: usize,
    },
    /// A conversation that cannot be rendered.
    Render(RenderError),
    /// A schema that is none, or cannot be enforced.
    Schema(SchemaError),
    /// A mask of the host's does not say which tokens may come next.
    Mask(&'static str),
}

/// A place in a file where something else was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileError {
    /// Which of the files given, from 0; or [`FileError::CONFIGURATION`].
    pub file: u16,
    /// Byte offset in that file.
    pub offset: u64,
    /// What should be there.
    pub expected: &'static str,
    /// The number that is there instead; 0 where a number would say nothing.
    pub found: u64,
}

/// What is wrong with a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorError {
    /// Which tensor; prints as its file spells it.
    pub tensor: TensorId,
    /// Which of the files given, from 0.
    pub file: u16,
    /// Byte offset in that file: of the tensor's data, or of the value in question.
    pub offset: u64,
    /// What is wrong.
    pub problem: TensorProblem,
}

/// What can be wrong with a tensor.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TensorProblem {
    /// No file has it.
    Missing,
    /// It comes twice.
    Repeated,
    /// It shares bytes with another.
    Overlaps(TensorId),
    /// Its shape is not what the numbers of the model say. Outermost dimension first, unused ones 1.
    Shape {
        /// What it should be.
        expected: [u64; MAX_RANK],
        /// What it is.
        found: [u64; MAX_RANK],
    },
    /// Its number format cannot be used there.
    Type {
        /// What can.
        expected: &'static str,
        /// What it is.
        found: TensorType,
    },
    /// A value, or the scale of a block, is infinite or not a number.
    NotFinite,
}

impl fmt::Display for TensorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tensor, file, offset, problem } = self;
        if *problem == TensorProblem::Missing {
            return write!(f, "tensor {tensor}: expected in one of the files, found in none");
        }
        write!(f, "file {file}, byte {offset}: tensor {tensor}: expected ")?;
        match problem {
            TensorProblem::Missing => Ok(()),
            TensorProblem::Repeated => f.write_str("once, found again"),
            TensorProblem::Overlaps(other) => write!(f, "bytes of its own, found those of {other}"),
            TensorProblem::Shape { expected, found } => {
                write!(f, "shape {}, found {}", Shape(expected), Shape(found))
            }
            TensorProblem::Type { expected, found } => write!(f, "{expected}, found {found}"),
            TensorProblem::NotFinite => f.write_str("finite values, found one that is not"),
        }
    }
}

/// Prints without the ones at the end.
struct Shape<'a>(&'a [u64; MAX_RANK]);

impl fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rank = self.0.iter().rposition(|dim| *dim != 1).map_or(1, |last| last + 1);
        f.debug_list().entries(&self.0[..rank]).finish()
    }
}

impl FileError {
    /// Stands for the config.json that comes with safetensors files.
    pub const CONFIGURATION: u16 = u16::MAX;
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.file == Self::CONFIGURATION {
            return write!(f, "configuration, byte {}: expected {}, found {}", self.offset, self.expected, self.found);
        }
        write!(f, "file {}, byte {}: expected {}, found {}", self.file, self.offset, self.expected, self.found)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Tensor(error) => error.fmt(f),
            Self::Read { file, offset, size } => {
                write!(f, "file {file}, byte {offset}: the host could not read {size} bytes")
            }
            Self::Token { index, token, vocabulary } => {
                write!(f, "token {index}: expected an id below {vocabulary}, found {token}")
            }
            Self::Capacity { what, need, have } => write!(f, "{what}: there is room for {have}, {need} are needed"),
            Self::Setting { name, expected } => write!(f, "{name}: expected {expected}"),
            Self::State(expected) => write!(f, "expected {expected}"),
            Self::Rewind { earliest } => {
                write!(f, "the session can return to position 0 or to {earliest} and later ones")
            }
            Self::NotFinite { layer } => write!(
                f,
                "layer {layer}: expected finite numbers, found one that is not; checking the values of the weights \
                 tells where"
            ),
            Self::RegionTooSmall { need, have } => {
                write!(f, "the region has {have} bytes; it takes at least {need}")
            }
            Self::RegionAlign { need } => write!(f, "the region must start at a multiple of {need} bytes"),
            Self::Vocabulary { id, expected, found } => {
                write!(f, "vocabulary, token {id}: expected {expected}, found {found}")
            }
            Self::BufferTooSmall { need, have } => {
                write!(f, "the buffer has room for {have} elements; it takes {need}")
            }
            Self::Render(error) => error.fmt(f),
            Self::Schema(error) => error.fmt(f),
            Self::Mask(expected) => write!(f, "token mask: expected {expected}"),
        }
    }
}

impl core::error::Error for Error {}

impl From<FileError> for Error {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl From<RenderError> for Error {
    fn from(error: RenderError) -> Self {
        Self::Render(error)
    }
}

impl From<SchemaError> for Error {
    fn from(error: SchemaError) -> Self {
        Self::Schema(error)
    }
}
