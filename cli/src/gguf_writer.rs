//! Writes the header of a GGUF file: metadata, and where each tensor's data will be.
//!
//! Little-endian, version 3. Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use ossicle_core::file::TensorType;

/// Tensors begin at multiples of this many bytes, the format's default.
const ALIGNMENT: u64 = 32;

/// Numbers of the types that metadata have.
#[derive(Clone, Copy)]
#[repr(u32)]
enum ValueType {
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
}

/// A header in the making. Metadata and tensors stand in the file in the order in which they are added.
#[derive(Default)]
pub struct Header {
    metadata_count: u64,
    metadata: Vec<u8>,
    tensor_count: u64,
    tensors: Vec<u8>,
    data_size: u64,
}

impl Header {
    /// Adds a number.
    pub fn u32(&mut self, key: &str, value: u32) {
        self.key(key, ValueType::U32);
        self.metadata.extend(value.to_le_bytes());
    }

    /// Adds a number.
    pub fn f32(&mut self, key: &str, value: f32) {
        self.key(key, ValueType::F32);
        self.metadata.extend(value.to_le_bytes());
    }

    /// Adds yes or no.
    pub fn bool(&mut self, key: &str, value: bool) {
        self.key(key, ValueType::Bool);
        self.metadata.push(value.into());
    }

    /// Adds a text.
    pub fn string(&mut self, key: &str, value: &str) {
        self.key(key, ValueType::String);
        put_string(&mut self.metadata, value);
    }

    /// Adds an array of numbers.
    pub fn i32s(&mut self, key: &str, values: impl ExactSizeIterator<Item = i32>) {
        self.array(key, ValueType::I32, values.len());
        for value in values {
            self.metadata.extend(value.to_le_bytes());
        }
    }

    /// Adds an array of yes or no.
    pub fn bools(&mut self, key: &str, values: impl ExactSizeIterator<Item = bool>) {
        self.array(key, ValueType::Bool, values.len());
        self.metadata.extend(values.map(u8::from));
    }

    /// Adds an array of texts.
    pub fn strings(&mut self, key: &str, values: impl ExactSizeIterator<Item = impl AsRef<str>>) {
        self.array(key, ValueType::String, values.len());
        for value in values {
            put_string(&mut self.metadata, value.as_ref());
        }
    }

    fn key(&mut self, key: &str, value: ValueType) {
        self.metadata_count += 1;
        put_string(&mut self.metadata, key);
        self.metadata.extend((value as u32).to_le_bytes());
    }

    fn array(&mut self, key: &str, elements: ValueType, len: usize) {
        self.key(key, ValueType::Array);
        self.metadata.extend((elements as u32).to_le_bytes());
        self.metadata.extend((len as u64).to_le_bytes());
    }

    /// Adds a tensor; `shape` is outermost first. Returns where in the data section its data go, in bytes.
    ///
    /// # Panics
    /// If GGUF has no such type, or rows of this type cannot have that length.
    pub fn tensor(&mut self, name: &str, dtype: TensorType, shape: &[u64]) -> u64 {
        let size = dtype.size(shape).expect("rows of whole blocks");
        let offset = self.data_size.next_multiple_of(ALIGNMENT);
        self.data_size = offset + size;
        self.tensor_count += 1;
        put_string(&mut self.tensors, name);
        self.tensors.extend((shape.len() as u32).to_le_bytes());
        for dim in shape.iter().rev() {
            self.tensors.extend(dim.to_le_bytes());
        }
        self.tensors.extend(type_number(dtype).to_le_bytes());
        self.tensors.extend(offset.to_le_bytes());
        offset
    }

    /// Bytes of the data section.
    pub fn data_size(&self) -> u64 {
        self.data_size
    }

    /// The header's bytes, up to where the data section begins.
    pub fn finish(self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(self.tensor_count.to_le_bytes());
        bytes.extend(self.metadata_count.to_le_bytes());
        bytes.extend(self.metadata);
        bytes.extend(self.tensors);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
        bytes
    }
}

fn put_string(bytes: &mut Vec<u8>, string: &str) {
    bytes.extend((string.len() as u64).to_le_bytes());
    bytes.extend(string.as_bytes());
}

/// ggml's number for a type (`ggml_type` in ggml.h).
fn type_number(dtype: TensorType) -> u32 {
    match dtype {
        TensorType::F32 => 0,
        TensorType::F16 => 1,
        TensorType::Q8_0 => 8,
        TensorType::Bf16 => 30,
        TensorType::Mxfp4 => 39,
        TensorType::U8 | TensorType::Other { .. } => panic!("GGUF has no tensors of {dtype}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ossicle_core::file::gguf::Gguf;

    #[test]
    fn what_is_written_is_what_the_reader_reads() {
        let mut header = Header::default();
        header.u32("a", 7);
        header.f32("b", 0.5);
        header.bool("c", true);
        header.string("d", "text");
        header.i32s("e", [1, 3].into_iter());
        header.strings("f", ["x", "yz"].into_iter());
        header.bools("g", [true, false].into_iter());
        let first = header.tensor("first", TensorType::F32, &[3]);
        let second = header.tensor("second", TensorType::Mxfp4, &[2, 5, 64]);
        assert_eq!((first, second, header.data_size()), (0, 32, 32 + 2 * 5 * 34));

        let data_size = header.data_size() as usize;
        let mut file = header.finish();
        assert!(file.len().is_multiple_of(32));
        let data_start = file.len() as u64;
        file.resize(file.len() + data_size, 0);

        let mut found = Vec::new();
        let gguf = Gguf::open(&file, 0, |metadata| {
            let value = metadata.value;
            let array = value.as_array();
            let elements = array.iter().flat_map(|array| array.iter());
            let elements: Vec<_> = elements
                .map(|value| (value.as_u64().or(value.as_bool().map(u64::from)), value.as_bytes().map(<[u8]>::to_vec)))
                .collect();
            found.push((metadata.key, value.as_u64(), value.as_f64(), value.as_bool(), value.as_bytes(), elements));
            Ok(())
        });
        let tensors: Vec<_> =
            gguf.unwrap().tensors().map(|t| (t.name, t.dtype, t.shape().to_vec(), t.offset - data_start)).collect();
        assert_eq!(
            tensors,
            [("first", TensorType::F32, vec![3], 0), ("second", TensorType::Mxfp4, vec![2, 5, 64], 32)]
        );
        let keys: Vec<_> = found.iter().map(|entry| entry.0).collect();
        assert_eq!(keys, ["a", "b", "c", "d", "e", "f", "g"]);
        assert_eq!(found[0].1, Some(7));
        assert_eq!(found[1].2, Some(0.5));
        assert_eq!(found[2].3, Some(true));
        assert_eq!(found[3].4, Some(&b"text"[..]));
        assert_eq!(found[4].5, [(Some(1), None), (Some(3), None)]);
        assert_eq!(found[5].5, [(None, Some(b"x".to_vec())), (None, Some(b"yz".to_vec()))]);
        assert_eq!(found[6].5, [(Some(1), None), (Some(0), None)]);
    }
}
