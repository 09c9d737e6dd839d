//! The safetensors container, read without any of the engine's code.
//!
//! Format: a 64-bit little-endian header size, a JSON header with the type, shape and byte range of every tensor, then the
//! bytes. The files are our own, so whatever is wrong with one is a panic that names it.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A safetensors file in memory.
pub struct Safetensors {
    path: PathBuf,
    header: Value,
    data: Vec<u8>,
}

impl Safetensors {
    /// Reads a whole file.
    pub fn open(path: &Path) -> Self {
        let mut bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let header_size = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        let header = serde_json::from_slice(&bytes[8..8 + header_size])
            .unwrap_or_else(|error| panic!("{}: header: {error}", path.display()));
        bytes.drain(..8 + header_size);
        Safetensors { path: path.to_owned(), header, data: bytes }
    }

    /// The names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let header = self.header.as_object().expect("the header is an object");
        header.keys().map(String::as_str).filter(|&name| name != "__metadata__")
    }

    /// The shape of a tensor, slowest dimension first.
    pub fn shape(&self, name: &str) -> Vec<usize> {
        numbers(&self.entry(name)["shape"])
    }

    /// The bytes of a tensor of unsigned 8-bit integers.
    pub fn u8s(&self, name: &str) -> &[u8] {
        self.bytes(name, "U8")
    }

    /// The elements of a tensor of 32-bit integers.
    pub fn i32s(&self, name: &str) -> Vec<i32> {
        self.bytes(name, "I32").chunks_exact(4).map(|four| i32::from_le_bytes(four.try_into().expect("four"))).collect()
    }

    /// The elements of a tensor of 32-bit floats.
    pub fn f32s(&self, name: &str) -> Vec<f32> {
        self.bytes(name, "F32").chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four"))).collect()
    }

    /// The elements of a tensor of bfloat16 or 32-bit floats or 32-bit integers, exactly.
    pub fn f64s(&self, name: &str) -> Vec<f64> {
        match self.entry(name)["dtype"].as_str() {
            Some("I32") => self.i32s(name).into_iter().map(f64::from).collect(),
            Some("F32") => self.f32s(name).into_iter().map(f64::from).collect(),
            _ => {
                // A bfloat16 is the upper half of a 32-bit float.
                let upper_half = |two: &[u8]| f64::from(f32::from_le_bytes([0, 0, two[0], two[1]]));
                self.bytes(name, "BF16").chunks_exact(2).map(upper_half).collect()
            }
        }
    }

    fn bytes(&self, name: &str, element_type: &str) -> &[u8] {
        let entry = self.entry(name);
        assert_eq!(entry["dtype"], element_type, "{}: type of {name}", self.path.display());
        let range = numbers(&entry["data_offsets"]);
        &self.data[range[0]..range[1]]
    }

    fn entry(&self, name: &str) -> &Value {
        self.header.get(name).unwrap_or_else(|| panic!("{}: no tensor {name}", self.path.display()))
    }
}

fn numbers(list: &Value) -> Vec<usize> {
    let list = list.as_array().expect("a list of numbers");
    list.iter().map(|number| number.as_u64().expect("a size") as usize).collect()
}
