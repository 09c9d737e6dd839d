//! GGUF, the container of ggml and llama.cpp.
//!
//! Little-endian throughout: the magic number, a version, two counts, the metadata (key, type, value), the tensor
//! descriptions, padding, and the data section. Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use super::cursor::Cursor;
use super::{MAX_RANK, TensorEntry, TensorType};
use crate::error::Result;

/// "GGUF" read as a little-endian number.
const MAGIC: u32 = 0x4655_4747;
/// Where a file does not say, tensors begin at multiples of this many bytes.
const DEFAULT_ALIGNMENT: u64 = 32;
/// Bytes of the shortest metadata entry: key length, type, a value of one byte.
const METADATA_SIZE_MIN: u64 = 8 + 4 + 1;
/// Bytes of the shortest tensor description: name length, rank, one dimension, type, offset.
const TENSOR_SIZE_MIN: u64 = 8 + 4 + 8 + 4 + 8;

/// An open GGUF file: its header has been read and all its tensors lie inside the file.
#[derive(Clone, Copy, Debug)]
pub struct Gguf<'f> {
    /// At its first byte.
    start: Cursor<'f>,
    /// At the first tensor description.
    descriptions: Cursor<'f>,
    tensor_count: u64,
    alignment: u64,
    /// Where the data section begins, in bytes.
    data_start: u64,
}

impl<'f> Gguf<'f> {
    /// Reads the header of `bytes`, a whole file, which errors call `file`.
    ///
    /// `visit` is shown all metadata, in file order. They are read only once, since finding their end means reading every
    /// one of the several hundred thousand strings of a vocabulary; so take from them whatever is of interest. A key that
    /// comes twice is shown twice: only the visitor knows which keys matter. An error of `visit` ends the reading.
    ///
    /// Tensors must be described in the order in which their data stand, which is what llama.cpp demands too.
    ///
    /// # Errors
    /// [`FileError`](crate::error::FileError) where the file is not little-endian GGUF of version 2 or 3, ends early, or
    /// describes a tensor that cannot be; and what `visit` returns.
    pub fn open(bytes: &'f [u8], file: u16, visit: impl FnMut(Metadata<'f>) -> Result<()>) -> Result<Self> {
        Self::open_head(bytes, bytes.len() as u64, file, visit)
    }

    /// As [`Gguf::open`], of a file of `size` bytes of which `head` are the first. Tensors that are not in memory have no data.
    ///
    /// # Errors
    /// As [`Gguf::open`]; [`Error::BufferTooSmall`](crate::error::Error::BufferTooSmall) where the head ends before the header
    /// does, with a size in bytes that it takes at least.
    pub fn open_head(
        head: &'f [u8],
        size: u64,
        file: u16,
        mut visit: impl FnMut(Metadata<'f>) -> Result<()>,
    ) -> Result<Self> {
        let start = Cursor::new(head, size, file);
        let mut cursor = start;
        let magic = cursor.u32()?;
        if magic != MAGIC {
            return Err(cursor.refuse(0, "the magic number of GGUF, 1179993927", magic.into()));
        }
        let version = cursor.u32()?;
        match version {
            2 | 3 => {}
            _ if matches!(version.swap_bytes(), 1..=3) => {
                return Err(cursor.refuse(4, "a little-endian GGUF file", version.into()));
            }
            _ => return Err(cursor.refuse(4, "GGUF version 2 or 3", version.into())),
        }
        let tensor_count = cursor.count(TENSOR_SIZE_MIN, "a number of tensors that the file has room for")?;
        let metadata_count = cursor.count(METADATA_SIZE_MIN, "a number of metadata that the file has room for")?;

        let mut alignment = None;
        for _ in 0..metadata_count {
            let metadata = Metadata::read(&mut cursor)?;
            if metadata.key == "general.alignment" {
                let found = metadata.value.as_u64().unwrap_or(0);
                if !found.is_power_of_two() || found > u32::MAX.into() {
                    return Err(cursor.refuse(metadata.offset, "an alignment that is a power of two", found));
                }
                if alignment.replace(found).is_some() {
                    return Err(cursor.refuse(metadata.offset, "general.alignment once", 2));
                }
            }
            visit(metadata)?;
        }
        let alignment = alignment.unwrap_or(DEFAULT_ALIGNMENT);

        let descriptions = cursor;
        for _ in 0..tensor_count {
            Description::read(&mut cursor)?;
        }
        // No overflow: a header in memory ends below 2^63, and the alignment is below 2^32.
        let data_start = cursor.offset().next_multiple_of(alignment);
        let gguf = Self { start, descriptions, tensor_count, alignment, data_start };
        let mut tensors = gguf.tensors();
        for _ in 0..tensor_count {
            tensors.read()?;
        }
        Ok(gguf)
    }

    /// The tensors, in file order.
    pub fn tensors(&self) -> Tensors<'f> {
        Tensors { gguf: *self, cursor: self.descriptions, left: self.tensor_count, end: 0 }
    }
}

/// The tensors of a [`Gguf`] file.
#[derive(Clone, Debug)]
pub struct Tensors<'f> {
    gguf: Gguf<'f>,
    cursor: Cursor<'f>,
    left: u64,
    /// Where the data of the tensors so far end, counted from the start of the data section.
    end: u64,
}

impl<'f> Tensors<'f> {
    fn read(&mut self) -> Result<TensorEntry<'f>> {
        let tensor = Description::read(&mut self.cursor)?;
        let Gguf { start, alignment, data_start, .. } = self.gguf;
        let refuse = |expected, found| Err(self.cursor.refuse(tensor.offset_offset, expected, found));
        if !tensor.offset.is_multiple_of(alignment) {
            return refuse("a tensor offset that is a multiple of the alignment", tensor.offset);
        }
        if tensor.offset < self.end {
            return refuse("a tensor offset after the end of the tensor before", tensor.offset);
        }
        let range = data_start.checked_add(tensor.offset).and_then(|first| start.range(first, tensor.size));
        let Some((offset, data)) = range else {
            return refuse("the offset of a tensor that ends inside the file", tensor.offset);
        };
        self.end = tensor.offset + tensor.size;
        Ok(TensorEntry {
            name: tensor.name,
            name_offset: tensor.name_offset,
            dtype: tensor.dtype,
            dims: tensor.dims,
            rank: tensor.rank,
            offset,
            size: tensor.size,
            data,
        })
    }
}

impl<'f> Iterator for Tensors<'f> {
    type Item = TensorEntry<'f>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        // `Gguf::open` has read them all before.
        self.read().ok()
    }
}

/// One entry of the tensor section, by itself.
struct Description<'f> {
    name: &'f str,
    name_offset: u64,
    dtype: TensorType,
    /// Outermost first.
    dims: [u64; MAX_RANK],
    rank: usize,
    /// Bytes of data; 0 if the type is not known.
    size: u64,
    /// Counted from the start of the data section.
    offset: u64,
    /// Where the offset itself stands in the file.
    offset_offset: u64,
}

impl<'f> Description<'f> {
    fn read(cursor: &mut Cursor<'f>) -> Result<Self> {
        let name_offset = cursor.offset() + 8;
        let name = cursor.text()?;
        let rank_offset = cursor.offset();
        let rank = cursor.u32()?;
        if !(1..=MAX_RANK as u32).contains(&rank) {
            return Err(cursor.refuse(rank_offset, "1 to 4 dimensions", rank.into()));
        }
        let rank = rank as usize;
        let dims_offset = cursor.offset();
        let mut dims = [1; MAX_RANK];
        for dim in dims[..rank].iter_mut().rev() {
            *dim = cursor.u64()?;
        }
        let dtype = tensor_type(cursor.u32()?);
        let size = match dtype.block() {
            None => 0,
            Some((block_len, _)) => {
                let row = dims[rank - 1];
                if !row.is_multiple_of(block_len) {
                    return Err(cursor.refuse(dims_offset, "rows of a multiple of 32 elements", row));
                }
                let size = dtype.size(&dims[..rank]);
                size.ok_or_else(|| cursor.refuse(dims_offset, "dimensions of a tensor below 2^64 bytes", row))?
            }
        };
        let offset_offset = cursor.offset();
        let offset = cursor.u64()?;
        Ok(Self { name, name_offset, dtype, dims, rank, size, offset, offset_offset })
    }
}

/// The type that ggml gives this number.
fn tensor_type(id: u32) -> TensorType {
    let name = match id {
        0 => return TensorType::F32,
        1 => return TensorType::F16,
        8 => return TensorType::Q8_0,
        30 => return TensorType::Bf16,
        39 => return TensorType::Mxfp4,
        2 => "Q4_0",
        3 => "Q4_1",
        6 => "Q5_0",
        7 => "Q5_1",
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        12 => "Q4_K",
        13 => "Q5_K",
        14 => "Q6_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        40 => "NVFP4",
        _ => "unknown",
    };
    TensorType::Other { name, id }
}

/// A key and its value.
#[derive(Clone, Copy, Debug)]
pub struct Metadata<'f> {
    /// Such as `general.architecture`.
    pub key: &'f str,
    /// Where the value stands in the file, in bytes.
    pub offset: u64,
    /// What the key says.
    pub value: Value<'f>,
}

impl<'f> Metadata<'f> {
    fn read(cursor: &mut Cursor<'f>) -> Result<Self> {
        let key = cursor.text()?;
        let kind_offset = cursor.offset();
        let kind = cursor.u32()?;
        let offset = cursor.offset();
        let value = match kind {
            kind::ARRAY => Value::Array(Array::read(cursor)?),
            kind if kind::size_min(kind).is_some() => Value::read(cursor, kind)?,
            _ => return Err(cursor.refuse(kind_offset, "a value type from 0 to 12", kind.into())),
        };
        Ok(Self { key, offset, value })
    }
}

/// The numbers that stand for types of values.
mod kind {
    pub const U8: u32 = 0;
    pub const I8: u32 = 1;
    pub const U16: u32 = 2;
    pub const I16: u32 = 3;
    pub const U32: u32 = 4;
    pub const I32: u32 = 5;
    pub const F32: u32 = 6;
    pub const BOOL: u32 = 7;
    pub const STRING: u32 = 8;
    pub const ARRAY: u32 = 9;
    pub const U64: u32 = 10;
    pub const I64: u32 = 11;
    pub const F64: u32 = 12;

    /// Bytes that a value takes, or at least takes if it is a string. `None` for arrays and unknown types.
    pub fn size_min(kind: u32) -> Option<u64> {
        match kind {
            U8 | I8 | BOOL => Some(1),
            U16 | I16 => Some(2),
            U32 | I32 | F32 => Some(4),
            U64 | I64 | F64 | STRING => Some(8),
            _ => None,
        }
    }
}

/// A value of the metadata. Integers and floats of all widths are widened, which loses nothing.
#[derive(Clone, Copy, Debug)]
pub enum Value<'f> {
    /// u8, u16, u32 or u64.
    Unsigned(u64),
    /// i8, i16, i32 or i64.
    Signed(i64),
    /// f32 or f64.
    Float(f64),
    /// Any byte but 0 is true.
    Bool(bool),
    /// Not proven to be UTF-8.
    String(&'f [u8]),
    /// Many values of one type.
    Array(Array<'f>),
}

impl<'f> Value<'f> {
    /// A value that is not an array.
    fn read(cursor: &mut Cursor<'f>, kind: u32) -> Result<Self> {
        Ok(match kind {
            kind::U8 => Self::Unsigned(u8::from_le_bytes(cursor.array()?).into()),
            kind::I8 => Self::Signed(i8::from_le_bytes(cursor.array()?).into()),
            kind::U16 => Self::Unsigned(u16::from_le_bytes(cursor.array()?).into()),
            kind::I16 => Self::Signed(i16::from_le_bytes(cursor.array()?).into()),
            kind::U32 => Self::Unsigned(cursor.u32()?.into()),
            kind::I32 => Self::Signed(i32::from_le_bytes(cursor.array()?).into()),
            kind::F32 => Self::Float(f32::from_le_bytes(cursor.array()?).into()),
            kind::BOOL => Self::Bool(cursor.array::<1>()? != [0]),
            kind::U64 => Self::Unsigned(cursor.u64()?),
            kind::I64 => Self::Signed(i64::from_le_bytes(cursor.array()?)),
            kind::F64 => Self::Float(f64::from_le_bytes(cursor.array()?)),
            _ => Self::String(cursor.string()?),
        })
    }

    /// An integer of any type, if it is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::Unsigned(value) => Some(value),
            Self::Signed(value) => value.try_into().ok(),
            _ => None,
        }
    }

    /// A float of any width.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::Float(value) => Some(value),
            _ => None,
        }
    }

    /// A truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// A string, as bytes.
    pub fn as_bytes(&self) -> Option<&'f [u8]> {
        match *self {
            Self::String(value) => Some(value),
            _ => None,
        }
    }

    /// A string, if it is UTF-8.
    pub fn as_str(&self) -> Option<&'f str> {
        core::str::from_utf8(self.as_bytes()?).ok()
    }

    /// Many values.
    pub fn as_array(&self) -> Option<Array<'f>> {
        match *self {
            Self::Array(value) => Some(value),
            _ => None,
        }
    }
}

/// Values of one type, none of them an array.
#[derive(Clone, Copy, Debug)]
pub struct Array<'f> {
    kind: u32,
    len: usize,
    /// At the first value.
    start: Cursor<'f>,
}

impl<'f> Array<'f> {
    fn read(cursor: &mut Cursor<'f>) -> Result<Self> {
        let kind_offset = cursor.offset();
        let kind = cursor.u32()?;
        let Some(size_min) = kind::size_min(kind) else {
            return Err(cursor.refuse(kind_offset, "the type of array elements: 0 to 8 or 10 to 12", kind.into()));
        };
        let len = cursor.count(size_min, "the length of an array that ends inside the file")?;
        let start = *cursor;
        if kind == kind::STRING {
            for _ in 0..len {
                cursor.string()?;
            }
        } else {
            // `count` has shown that the file has them.
            let size = len * size_min;
            let refusal = cursor.refuse(start.offset(), "the values of an array", size);
            cursor.take(size).ok_or_else(|| cursor.lacking(size, refusal))?;
        }
        Ok(Self { kind, len: len as usize, start })
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The values, in order.
    pub fn iter(&self) -> Values<'f> {
        Values { kind: self.kind, left: self.len, cursor: self.start }
    }
}

impl<'f> IntoIterator for Array<'f> {
    type Item = Value<'f>;
    type IntoIter = Values<'f>;

    fn into_iter(self) -> Values<'f> {
        self.iter()
    }
}

/// The values of an [`Array`].
#[derive(Clone, Debug)]
pub struct Values<'f> {
    kind: u32,
    left: usize,
    cursor: Cursor<'f>,
}

impl<'f> Iterator for Values<'f> {
    type Item = Value<'f>;

    fn next(&mut self) -> Option<Value<'f>> {
        self.left = self.left.checked_sub(1)?;
        // `Array::read` has shown that they are all there.
        Value::read(&mut self.cursor, self.kind).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Values<'_> {}
