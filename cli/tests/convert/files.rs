//! Checkpoints, conversions of them, and what is in them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ossicle_core::file::gguf::Gguf;
use ossicle_core::file::safetensors::Safetensors;
use ossicle_core::file::{TensorEntry, TensorType};
use serde_json::{Map, Value, json};

pub fn data(path: &str) -> String {
    format!("{}/../tests/data/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// A folder that is gone when the test ends.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ossicle-convert-{}-{name}", std::process::id()));
        fs::create_dir(&path).expect("a place for files");
        Self(path)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a path in UTF-8").to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn ossicle(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ossicle")).args(arguments).output().expect("the command")
}

pub fn convert(arguments: &[&str]) {
    let output = ossicle(&[&["convert"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub fn refused(arguments: &[&str], expected: &str) {
    let output = ossicle(&[&["convert"], arguments].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    assert!(error.contains(expected), "{error}");
}

/// Type, shape and bytes of each tensor, by name.
pub type Tensors = BTreeMap<String, (TensorType, Vec<u64>, Vec<u8>)>;

fn gathered<'f>(tensors: impl Iterator<Item = TensorEntry<'f>>) -> Tensors {
    tensors.map(|tensor| (tensor.name.into(), (tensor.dtype, tensor.shape().into(), tensor.data.into()))).collect()
}

/// The tensors of a GGUF file, and its metadata as text, but for the name.
pub fn gguf(path: &str) -> (Tensors, BTreeMap<String, String>) {
    let bytes = fs::read(path).expect("the file");
    let mut all = BTreeMap::new();
    let file = Gguf::open(&bytes, 0, |metadata| {
        let value = metadata.value;
        let elements = value.as_array().map(|array| {
            let elements = array.iter().map(|element| format!("{:?} {:?}", element.as_bytes(), element.as_u64()));
            elements.collect::<Vec<_>>()
        });
        let scalar = (value.as_u64(), value.as_f64(), value.as_bool(), value.as_bytes());
        all.insert(metadata.key.to_owned(), format!("{scalar:?} {elements:?}"));
        Ok(())
    });
    all.remove("general.name");
    (gathered(file.expect("GGUF").tensors()), all)
}

pub fn safetensors(path: &Path) -> Tensors {
    let bytes = fs::read(path).expect("the file");
    gathered(Safetensors::open(&bytes, 0).expect("safetensors").tensors())
}

pub fn write_safetensors(path: &Path, tensors: &Tensors) {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, (dtype, shape, bytes)) in tensors {
        let extent = [data.len(), data.len() + bytes.len()];
        header.insert(name.clone(), json!({ "dtype": dtype.to_string(), "shape": shape, "data_offsets": extent }));
        data.extend(bytes);
    }
    let header = Value::Object(header).to_string();
    let size = (header.len() as u64).to_le_bytes();
    fs::write(path, [&size, header.as_bytes(), &data].concat()).expect("room");
}

pub fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("the file")).expect("JSON")
}

pub fn logits(scratch: &Scratch, model: &str) -> Vec<u8> {
    logits_with(scratch, model, &[])
}

pub fn logits_with(scratch: &Scratch, model: &str, options: &[&str]) -> Vec<u8> {
    let (tokens, out) = (scratch.path("tokens.json"), scratch.path("logits.npy"));
    let manifest = json_of(Path::new(&data("tiny-a/ref/manifest.json")));
    fs::write(&tokens, manifest["sequences"]["s64"]["tokens"].to_string()).expect("room");
    let given = ["logits", "--model", model, "--tokens", &tokens, "--out", &out];
    let output = ossicle(&[&given, options].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read(out).expect("the logits")
}
