//! The containers that weights come in: GGUF, safetensors, and the JSON inside the latter; and that of snapshots.
//!
//! The parsers borrow the caller's bytes and copy nothing. Files are hostile: every offset, count and length is proven in
//! range when a container is opened, so what an open container hands out needs no further check, and iterating over it
//! cannot fail. A refusal says where in the file it is, what was expected, and the number found instead.

use core::fmt;

mod cursor;
pub mod gguf;
pub mod json;
pub mod safetensors;
pub mod snapshot;
mod storage;

pub(crate) use storage::read;
pub use storage::{ReadFailed, Storage, read_head};

/// How the elements of a tensor are stored. All numbers are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
    /// Blocks of 32: a binary16 scale, then 32 signed bytes.
    Q8_0,
    /// Blocks of 32: a scale byte, then 16 bytes of two 4-bit codes each, as GGUF lays them out.
    Mxfp4,
    /// Bytes. In a safetensors file, MXFP4 codes and scales are kept as such.
    U8,
    /// A type that nothing here computes with.
    Other {
        /// What it is called; "unknown" where the file's number or name is not in the tables here.
        name: &'static str,
        /// ggml's number for the type; `u32::MAX` in a safetensors file, which knows only names.
        id: u32,
    },
}

impl TensorType {
    /// Elements in a block, and bytes that a block takes; a type without blocks has one element in each.
    /// `None` for [`TensorType::Other`].
    pub const fn block(self) -> Option<(u64, u64)> {
        match self {
            Self::F32 => Some((1, 4)),
            Self::F16 | Self::Bf16 => Some((1, 2)),
            Self::Q8_0 => Some((32, 34)),
            Self::Mxfp4 => Some((32, 17)),
            Self::U8 => Some((1, 1)),
            Self::Other { .. } => None,
        }
    }

    /// Bytes that a tensor of this type and shape (outermost dimension first) takes.
    ///
    /// `None` if the type is [`TensorType::Other`], if rows are not a whole number of blocks, or if the size overflows.
    pub fn size(self, shape: &[u64]) -> Option<u64> {
        let (block_len, block_size) = self.block()?;
        let (row, outer) = shape.split_last().unwrap_or((&1, &[]));
        if !row.is_multiple_of(block_len) {
            return None;
        }
        let row_size = (row / block_len).checked_mul(block_size)?;
        outer.iter().try_fold(row_size, |size, &dim| size.checked_mul(dim))
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::F32 => f.write_str("F32"),
            Self::F16 => f.write_str("F16"),
            Self::Bf16 => f.write_str("BF16"),
            Self::Q8_0 => f.write_str("Q8_0"),
            Self::Mxfp4 => f.write_str("MXFP4"),
            Self::U8 => f.write_str("U8"),
            Self::Other { name, id: u32::MAX } => f.write_str(name),
            Self::Other { name, id } => write!(f, "{name} ({id})"),
        }
    }
}

/// The largest number of dimensions that a tensor may have.
pub const MAX_RANK: usize = 4;

/// What a container says about one tensor.
#[derive(Clone, Copy)]
pub struct TensorEntry<'f> {
    /// The name, as the file has it. The containers do not prove names unique.
    pub name: &'f str,
    /// Where the name stands in the file, in bytes.
    pub name_offset: u64,
    /// How the elements are stored.
    pub dtype: TensorType,
    /// Outermost first, as torch prints shapes, in both containers; unused ones follow and are 1.
    pub dims: [u64; MAX_RANK],
    /// How many of `dims` count.
    pub rank: usize,
    /// Where the data begins in the file, in bytes.
    pub offset: u64,
    /// Bytes of data, exactly as many as type and shape demand. For [`TensorType::Other`], in GGUF it is 0, since it is not
    /// known, and in safetensors it is what the file says.
    pub size: u64,
    /// The data; empty if only the head of the file is in memory, and ends before the data do.
    pub data: &'f [u8],
}

impl TensorEntry<'_> {
    /// The dimensions that count, outermost first.
    pub fn shape(&self) -> &[u64] {
        &self.dims[..self.rank.min(MAX_RANK)]
    }
}
