//! Checkpoints taken apart, so that they can be put together with something wrong in them.
//!
//! Shares no code with the engine, and trusts the files that it reads: they are our own.

use serde_json::{Map, Value, json};

use crate::numbers::{Kind, Numbers};

/// A GGUF file in parts.
#[derive(Clone, Default)]
pub struct Gguf {
    /// In file order.
    pub metadata: Vec<Metadata>,
    /// In file order.
    pub tensors: Vec<Tensor>,
}

/// A key and the bytes of its value.
#[derive(Clone)]
pub struct Metadata {
    /// Such as `general.architecture`.
    pub key: String,
    /// ggml's number for the type of the value.
    pub kind: u32,
    /// As in the file.
    pub value: Vec<u8>,
}

/// A tensor and its bytes.
#[derive(Clone)]
pub struct Tensor {
    /// Such as `output_norm.weight`.
    pub name: String,
    /// ggml's number for the type of the elements.
    pub kind: u32,
    /// Outermost first.
    pub dims: Vec<u64>,
    /// As in the file.
    pub data: Vec<u8>,
}

/// ggml's numbers for types of values.
pub mod kind {
    #![allow(missing_docs, reason = "the names are those of the format")]
    pub const U32: u32 = 4;
    pub const I32: u32 = 5;
    pub const F32: u32 = 6;
    pub const BOOL: u32 = 7;
    pub const STRING: u32 = 8;
    pub const ARRAY: u32 = 9;
    pub const U64: u32 = 10;
}

const ALIGNMENT: usize = 32;

/// Bytes that so many elements of a type take.
fn size(kind: u32, len: u64) -> usize {
    let (block_len, block_size) = match kind {
        0 => (1, 4),
        1 | 30 => (1, 2),
        8 => (32, 34),
        39 => (32, 17),
        _ => panic!("a tensor of type {kind}"),
    };
    (len / block_len * block_size) as usize
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().expect("four bytes"))
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().expect("eight bytes"))
    }

    fn string(&mut self) -> String {
        let len = self.u64() as usize;
        String::from_utf8(self.take(len).to_vec()).expect("UTF-8")
    }

    fn skip_value(&mut self, kind: u32) {
        match kind {
            0 | 1 | kind::BOOL => drop(self.take(1)),
            2 | 3 => drop(self.take(2)),
            kind::U32 | kind::I32 | kind::F32 => drop(self.take(4)),
            kind::U64 | 11 | 12 => drop(self.take(8)),
            kind::STRING => drop(self.string()),
            _ => {
                let (kind, len) = (self.u32(), self.u64());
                (0..len).for_each(|_| self.skip_value(kind));
            }
        }
    }
}

impl Gguf {
    /// Takes a file apart.
    pub fn read(bytes: &[u8]) -> Self {
        let mut reader = Reader(bytes);
        reader.take(8);
        let (tensor_count, metadata_count) = (reader.u64(), reader.u64());
        let mut gguf = Self::default();
        for _ in 0..metadata_count {
            let (key, kind, start) = (reader.string(), reader.u32(), reader.0);
            reader.skip_value(kind);
            let value = start[..start.len() - reader.0.len()].to_vec();
            gguf.metadata.push(Metadata { key, kind, value });
        }
        let mut offsets = Vec::new();
        for _ in 0..tensor_count {
            let (name, rank) = (reader.string(), reader.u32());
            let mut dims: Vec<u64> = (0..rank).map(|_| reader.u64()).collect();
            dims.reverse();
            gguf.tensors.push(Tensor { name, kind: reader.u32(), dims, data: Vec::new() });
            offsets.push(reader.u64() as usize);
        }
        let start = (bytes.len() - reader.0.len()).next_multiple_of(ALIGNMENT);
        for (tensor, offset) in gguf.tensors.iter_mut().zip(offsets) {
            tensor.data = bytes[start + offset..][..size(tensor.kind, tensor.dims.iter().product())].to_vec();
        }
        gguf
    }

    /// Puts the file together.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        let string = |bytes: &mut Vec<u8>, string: &str| {
            bytes.extend((string.len() as u64).to_le_bytes());
            bytes.extend(string.as_bytes());
        };
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.metadata.len() as u64).to_le_bytes());
        for Metadata { key, kind, value } in &self.metadata {
            string(&mut bytes, key);
            bytes.extend(kind.to_le_bytes());
            bytes.extend(value);
        }
        let mut offset = 0;
        for Tensor { name, kind, dims, data } in &self.tensors {
            string(&mut bytes, name);
            bytes.extend((dims.len() as u32).to_le_bytes());
            dims.iter().rev().for_each(|dim| bytes.extend(dim.to_le_bytes()));
            bytes.extend(kind.to_le_bytes());
            bytes.extend((offset as u64).to_le_bytes());
            offset += data.len().next_multiple_of(ALIGNMENT);
        }
        for tensor in &self.tensors {
            bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
            bytes.extend(&tensor.data);
        }
        bytes
    }

    /// The tensor of this name.
    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        let found = self.tensors.iter_mut().find(|tensor| tensor.name == name);
        found.unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// Where the data of a tensor begin in the file, in bytes.
    pub fn data_offset(&self, name: &str) -> usize {
        // Counted from the end: there is no padding after the last tensor.
        let mut start = self.bytes().len();
        for (number, tensor) in self.tensors.iter().enumerate().rev() {
            let is_last = number + 1 == self.tensors.len();
            let len = tensor.data.len();
            start -= if is_last { len } else { len.next_multiple_of(ALIGNMENT) };
            if tensor.name == name {
                return start;
            }
        }
        panic!("no tensor {name}")
    }

    /// Gives a key another value, or adds it.
    pub fn set(&mut self, key: &str, kind: u32, value: &[u8]) {
        let new = Metadata { key: key.to_owned(), kind, value: value.to_vec() };
        match self.metadata.iter_mut().find(|metadata| metadata.key == key) {
            Some(metadata) => *metadata = new,
            None => self.metadata.push(new),
        }
    }

    /// Takes a key away.
    pub fn remove(&mut self, key: &str) {
        self.metadata.retain(|metadata| metadata.key != key);
    }

    /// A model as small as one can be: two layers, the first of them windowed, with two experts each.
    pub fn smallest() -> Self {
        let mut gguf = Self::default();
        gguf.set("general.architecture", kind::STRING, b"\x07\0\0\0\0\0\0\0gpt-oss");
        for (key, value) in [
            ("block_count", 2u32),
            ("context_length", 64),
            ("embedding_length", 32),
            ("expert_feed_forward_length", 32),
            ("expert_count", 2),
            ("expert_used_count", 1),
            ("attention.head_count", 2),
            ("attention.head_count_kv", 1),
            ("attention.key_length", 16),
            ("attention.sliding_window", 2),
        ] {
            gguf.set(&format!("gpt-oss.{key}"), kind::U32, &value.to_le_bytes());
        }
        let mut numbers = Numbers::seeded(0);
        let mut tensor = |name: String, kind: u32, dims: &[u64]| {
            let len = dims.iter().product();
            let data = match kind {
                0 => numbers.floats(Kind::Normal, len as usize).iter().flat_map(|value| value.to_le_bytes()).collect(),
                30 => numbers
                    .floats(Kind::Normal, len as usize)
                    .iter()
                    .flat_map(|v| v.to_le_bytes()[2..].to_vec())
                    .collect(),
                _ => {
                    // Scales of a 128th and of a quarter.
                    let mut data = numbers.bytes(size(kind, len));
                    let (block, scale) = if kind == 8 { (34, &[0, 0x20][..]) } else { (17, &[125][..]) };
                    data.chunks_mut(block).for_each(|block| block[..scale.len()].copy_from_slice(scale));
                    data
                }
            };
            gguf.tensors.push(Tensor { name, kind, dims: dims.to_vec(), data });
        };
        tensor("token_embd.weight".into(), 8, &[64, 32]);
        for layer in 0..2 {
            for (name, kind, dims) in [
                ("attn_norm.weight", 0, &[32][..]),
                ("attn_q.weight", 30, &[32, 32]),
                ("attn_q.bias", 0, &[32]),
                ("attn_k.weight", 8, &[16, 32]),
                ("attn_k.bias", 0, &[16]),
                ("attn_v.weight", 1, &[16, 32]),
                ("attn_v.bias", 0, &[16]),
                ("attn_sinks.weight", 0, &[2]),
                ("attn_output.weight", 8, &[32, 32]),
                ("attn_output.bias", 30, &[32]),
                ("post_attention_norm.weight", 0, &[32]),
                ("ffn_gate_inp.weight", 0, &[2, 32]),
                ("ffn_gate_inp.bias", 0, &[2]),
                ("ffn_gate_exps.weight", 39, &[2, 32, 32]),
                ("ffn_gate_exps.bias", 0, &[2, 32]),
                ("ffn_up_exps.weight", 39, &[2, 32, 32]),
                ("ffn_up_exps.bias", 0, &[2, 32]),
                ("ffn_down_exps.weight", 39, &[2, 32, 32]),
                ("ffn_down_exps.bias", 0, &[2, 32]),
            ] {
                tensor(format!("blk.{layer}.{name}"), kind, dims);
            }
        }
        tensor("output_norm.weight".into(), 0, &[32]);
        tensor("output.weight".into(), 8, &[64, 32]);
        gguf
    }
}

/// A safetensors file in parts.
#[derive(Clone)]
pub struct Safetensors {
    /// In the order of their data.
    pub tensors: Vec<NamedTensor>,
}

/// A tensor of a safetensors file.
#[derive(Clone)]
pub struct NamedTensor {
    /// Such as `model.norm.weight`.
    pub name: String,
    /// Such as `BF16`.
    pub dtype: String,
    /// Outermost first.
    pub shape: Vec<u64>,
    /// As in the file.
    pub data: Vec<u8>,
}

impl Safetensors {
    /// Takes a file apart.
    pub fn read(bytes: &[u8]) -> Self {
        let mut reader = Reader(bytes);
        let header_size = reader.u64() as usize;
        let header: Map<String, Value> = serde_json::from_slice(reader.take(header_size)).expect("a header");
        let number = |value: &Value| value.as_u64().expect("a number");
        let mut tensors: Vec<(u64, NamedTensor)> = header
            .into_iter()
            .filter(|(name, _)| name != "__metadata__")
            .map(|(name, entry)| {
                let [begin, end] = [0, 1].map(|i| number(&entry["data_offsets"][i]));
                let tensor = NamedTensor {
                    name,
                    dtype: entry["dtype"].as_str().expect("a type").to_owned(),
                    shape: entry["shape"].as_array().expect("a shape").iter().map(number).collect(),
                    data: reader.0[begin as usize..end as usize].to_vec(),
                };
                (begin, tensor)
            })
            .collect();
        tensors.sort_by_key(|(begin, _)| *begin);
        Self { tensors: tensors.into_iter().map(|(_, tensor)| tensor).collect() }
    }

    /// Puts the file together.
    pub fn bytes(&self) -> Vec<u8> {
        let mut end = 0;
        let entry = |NamedTensor { name, dtype, shape, data }: &NamedTensor| {
            let begin = end;
            end += data.len();
            format!("{}:{}", json!(name), json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}))
        };
        let header = format!("{{{}}}", self.tensors.iter().map(entry).collect::<Vec<_>>().join(","));
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        self.tensors.iter().for_each(|tensor| bytes.extend(&tensor.data));
        bytes
    }

    /// The tensor of this name.
    pub fn tensor(&mut self, name: &str) -> &mut NamedTensor {
        let found = self.tensors.iter_mut().find(|tensor| tensor.name == name);
        found.unwrap_or_else(|| panic!("no tensor {name}"))
    }
}

/// Where a string first stands in a file, in bytes.
pub fn place(bytes: &[u8], string: &str) -> usize {
    let found = bytes.windows(string.len()).position(|window| window == string.as_bytes());
    found.unwrap_or_else(|| panic!("{string} is not in the file"))
}
