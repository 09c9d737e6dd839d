//! Safetensors, the container of Hugging Face checkpoints and of OpenAI's own.
//!
//! A length (u64, little-endian), so many bytes of JSON, and the data. The JSON is an object of tensor names; each says
//! `dtype`, `shape` and `data_offsets`, begin and end, counted from the end of the JSON.
//! Format: <https://github.com/huggingface/safetensors#format>.

use super::cursor::Cursor;
use super::json::{self, Member, Members, Str, Value};
use super::{MAX_RANK, TensorEntry, TensorType};
use crate::error::Result;

/// The reference implementation reads no larger header, in bytes.
const HEADER_SIZE_MAX: u64 = 100_000_000;

/// Where the header begins in the file, in bytes.
const HEADER_START: u64 = 8;

/// An open safetensors file: its header has been read and all its tensors lie inside the file.
#[derive(Clone, Copy, Debug)]
pub struct Safetensors<'f> {
    header: json::Object<'f>,
    data: Cursor<'f>,
}

impl<'f> Safetensors<'f> {
    /// Reads the header of `bytes`, a whole file, which errors call `file`.
    ///
    /// The tensors may be described in any order. Together they are as long as the data; that no two overlap is proven only
    /// if the header has them in the order of their data, as common writers do.
    ///
    /// # Errors
    /// [`FileError`](crate::error::FileError) where the header is not what the format says, a name is written with
    /// escapes, a tensor has more than [`MAX_RANK`] dimensions or lies outside the file, or where the tensors together are
    /// shorter or longer than the data.
    pub fn open(bytes: &'f [u8], file: u16) -> Result<Self> {
        Self::open_head(bytes, bytes.len() as u64, file)
    }

    /// As [`Safetensors::open`], of a file of `size` bytes of which `head` are the first. Tensors that are not in memory have no
    /// data.
    ///
    /// # Errors
    /// As [`Safetensors::open`]; [`Error::BufferTooSmall`](crate::error::Error::BufferTooSmall) where the head ends before the
    /// header does, with the size in bytes that it takes.
    pub fn open_head(head: &'f [u8], size: u64, file: u16) -> Result<Self> {
        let mut cursor = Cursor::new(head, size, file);
        let size = cursor.u64()?;
        if size > HEADER_SIZE_MAX {
            return Err(cursor.refuse(0, "a header of at most 100000000 bytes", size));
        }
        let Some(header) = cursor.take(size) else {
            return Err(cursor.lacking(size, cursor.refuse(0, "a header that ends inside the file", size)));
        };
        let header = json::parse(header).map_err(|error| error.in_file(file, HEADER_START))?;
        let Some(header) = header.as_object() else {
            return Err(cursor.refuse(HEADER_START, "an object of tensors", 0));
        };
        let file = Self { header, data: cursor };

        let (mut total, mut begin, mut end) = (0_u64, 0, 0);
        for tensor in file.header.iter().filter(is_tensor) {
            let tensor = file.tensor(tensor)?;
            if (begin..end).contains(&tensor.offset) {
                return Err(cursor.refuse(
                    tensor.name_offset,
                    "a tensor after the end of the one before",
                    tensor.offset,
                ));
            }
            let size = tensor.size;
            (begin, end) = (tensor.offset, tensor.offset + size);
            total = total.saturating_add(size);
        }
        if total != cursor.remaining() {
            return Err(cursor.refuse(cursor.offset(), "as many bytes of data as the tensors take together", total));
        }
        Ok(file)
    }

    /// The tensors, in the order of the header.
    pub fn tensors(&self) -> Tensors<'f> {
        Tensors { file: *self, members: self.header.iter() }
    }

    /// The tensor that one member of the header describes.
    fn tensor(&self, member: Member<'f>) -> Result<TensorEntry<'f>> {
        let name_offset = HEADER_START + member.offset as u64 + 1;
        let refuse_number = |value: Value<'_>, expected, found| {
            Err(self.data.refuse(HEADER_START + value.offset() as u64, expected, found))
        };
        let refuse = |value: Value<'_>, expected| refuse_number(value, expected, value.as_u64().unwrap_or(0));
        let Some(name) = member.key.plain() else {
            return Err(self.data.refuse(name_offset, "a tensor name without escapes", 0));
        };
        let Some(description) = member.value.as_object() else {
            return refuse(member.value, "an object of dtype, shape and data_offsets");
        };
        let (mut dtype, mut shape, mut extent) = (None, None, None);
        for Member { key, value, .. } in description.iter() {
            let repeated = if key == "dtype" {
                dtype.replace(value).is_some()
            } else if key == "shape" {
                shape.replace(value).is_some()
            } else if key == "data_offsets" {
                extent.replace(value).is_some()
            } else {
                false
            };
            if repeated {
                return refuse(value, "dtype, shape and data_offsets once each");
            }
        }
        let (Some(dtype_value), Some(shape), Some(extent)) = (dtype, shape, extent) else {
            return refuse(member.value, "dtype, shape and data_offsets");
        };

        let Some(dtype) = dtype_value.as_str() else {
            return refuse(dtype_value, "a type in quotes");
        };
        let dtype = tensor_type(dtype);
        let mut dims = [1; MAX_RANK];
        let Some(rank) = numbers(shape, &mut dims) else {
            return refuse(shape, "an array of at most 4 dimensions");
        };
        let mut begin_end = [0; 2];
        let (Some(2), [begin, end]) = (numbers(extent, &mut begin_end), begin_end) else {
            return refuse(extent, "an array of two offsets");
        };
        let size = end.checked_sub(begin);
        let range = size.and_then(|size| self.data.range(begin, size));
        let (Some(size), Some((offset, data))) = (size, range) else {
            return refuse_number(extent, "offsets in order and inside the file", end);
        };
        let is_other = matches!(dtype, TensorType::Other { .. });
        if !is_other && dtype.size(&dims[..rank]) != Some(size) {
            return refuse_number(extent, "offsets as far apart as type and shape demand", size);
        }
        Ok(TensorEntry { name, name_offset, dtype, dims, rank, offset, size, data })
    }
}

/// The tensors of a [`Safetensors`] file.
#[derive(Clone, Debug)]
pub struct Tensors<'f> {
    file: Safetensors<'f>,
    members: Members<'f>,
}

impl<'f> Iterator for Tensors<'f> {
    type Item = TensorEntry<'f>;

    fn next(&mut self) -> Option<TensorEntry<'f>> {
        let member = self.members.find(is_tensor)?;
        // `Safetensors::open` has read them all before.
        self.file.tensor(member).ok()
    }
}

/// Whether a member of the header is not the one that holds free text.
fn is_tensor(member: &Member<'_>) -> bool {
    member.key != "__metadata__"
}

/// Fills `numbers` from the front with an array of integers. How many there are; `None` if they are more, or not integers.
fn numbers(value: Value<'_>, numbers: &mut [u64]) -> Option<usize> {
    let mut slots = numbers.iter_mut();
    let mut count = 0;
    for element in value.as_array()?.iter() {
        *slots.next()? = element.as_u64()?;
        count += 1;
    }
    Some(count)
}

/// The type of this name.
fn tensor_type(name: Str<'_>) -> TensorType {
    const COMPUTED: [(&str, TensorType); 4] =
        [("F32", TensorType::F32), ("F16", TensorType::F16), ("BF16", TensorType::Bf16), ("U8", TensorType::U8)];
    const OTHERS: [&str; 13] =
        ["BOOL", "I8", "I16", "U16", "I32", "U32", "I64", "U64", "F64", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4"];
    if let Some((_, dtype)) = COMPUTED.iter().find(|(computed, _)| name == *computed) {
        return *dtype;
    }
    let name = OTHERS.iter().find(|other| name == **other).copied();
    TensorType::Other { name: name.unwrap_or("unknown"), id: u32::MAX }
}
