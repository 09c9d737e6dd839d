//! What can go wrong, and where.
//!
//! Errors are plain values: numbers, and the names of tensors and keys. Texts from a file are never kept.

use core::fmt;

use crate::harmony::render::RenderError;

/// The result of everything here that can fail.
pub type Result<T> = core::result::Result<T, Error>;

/// What went wrong, where, and what was expected.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Error {
    /// The bytes of a file are not what its format says.
    File(FileError),
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
    /// A conversation that cannot be rendered.
    Render(RenderError),
}

/// A place in a file where something else was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileError {
    /// Which of the files given, from 0.
    pub file: u16,
    /// Byte offset in that file.
    pub offset: u64,
    /// What should be there.
    pub expected: &'static str,
    /// The number that is there instead; 0 where a number would say nothing.
    pub found: u64,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file {}, byte {}: expected {}, found {}", self.file, self.offset, self.expected, self.found)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::RegionTooSmall { need, have } => {
                write!(f, "the region has {have} bytes; it takes at least {need}")
            }
            Self::RegionAlign { need } => write!(f, "the region must start at a multiple of {need} bytes"),
            Self::Render(error) => error.fmt(f),
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
