//! Containers of weights: good ones are read as others read them, bad ones are refused with the place and the reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use ossicle_core::error::{Error, FileError};
use ossicle_core::file::gguf::{Gguf, Value};
use ossicle_core::file::safetensors::Safetensors;
use ossicle_core::file::{TensorEntry, TensorType};

const GGUF_FILES: [&str; 3] = ["tiny-a/gguf/tiny-a.gguf", "tiny-a/gguf/tiny-a-q8_0.gguf", "tiny-b/gguf/tiny-b.gguf"];

const SAFETENSORS_FILES: [&str; 8] = [
    "tiny-a/hf/model.safetensors",
    "tiny-a/original/model.safetensors",
    "tiny-b/original/model.safetensors",
    "tiny-b/hf-sharded/model-00000-of-00004.safetensors",
    "tiny-b/hf-sharded/model-00001-of-00004.safetensors",
    "tiny-b/hf-sharded/model-00004-of-00004.safetensors",
    "tiny-a/ref/trace-s7.safetensors",
    "ops/router_top4_32.safetensors",
];

fn data(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).expect("a JSON file of the test data")
}

fn by_name<'f>(tensors: impl Iterator<Item = TensorEntry<'f>>) -> BTreeMap<&'f str, TensorEntry<'f>> {
    tensors.map(|tensor| (tensor.name, tensor)).collect()
}

fn file_error(error: Error) -> FileError {
    match error {
        Error::File(error) => error,
        other => panic!("not an error of a file: {other}"),
    }
}

fn gguf_error(bytes: &[u8]) -> FileError {
    file_error(Gguf::open(bytes, 7, |_| Ok(())).expect_err("a bad file was opened"))
}

fn safetensors_error(bytes: &[u8]) -> FileError {
    file_error(Safetensors::open(bytes, 7).expect_err("a bad file was opened"))
}

/// Asserts where and why a file is refused; `found` as in the error.
#[track_caller]
fn assert_refused(error: FileError, offset: u64, expected: &str, found: u64) {
    assert_eq!((error.file, error.offset, error.expected, error.found), (7, offset, expected, found));
}

// Good files.

#[test]
fn safetensors_agree_with_a_reading_by_serde_json() {
    for name in SAFETENSORS_FILES {
        let bytes = data(name);
        let header_size = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        let data_start = 8 + header_size as usize;
        let header = json(&bytes[8..data_start]);
        let tensors = by_name(Safetensors::open(&bytes, 0).unwrap().tensors());

        let header = header.as_object().unwrap();
        assert_eq!(tensors.len(), header.keys().filter(|key| *key != "__metadata__").count(), "{name}");
        for (key, tensor) in tensors {
            let expected = &header[key];
            assert_eq!(tensor.dtype.to_string(), expected["dtype"].as_str().unwrap(), "{name}: {key}");
            let shape: Vec<_> = expected["shape"].as_array().unwrap().iter().map(|dim| dim.as_u64().unwrap()).collect();
            assert_eq!(tensor.shape(), shape, "{name}: {key}");
            let [begin, end] = [0, 1].map(|i| expected["data_offsets"][i].as_u64().unwrap() as usize + data_start);
            assert_eq!(tensor.offset, begin as u64, "{name}: {key}");
            assert_eq!(tensor.data, &bytes[begin..end], "{name}: {key}");
            assert!(bytes[tensor.name_offset as usize..].starts_with(key.as_bytes()), "{name}: {key}");
        }
    }
}

#[test]
fn gguf_holds_the_same_weights_as_the_safetensors_of_the_same_model() {
    let (gguf, hf) = (data("tiny-a/gguf/tiny-a.gguf"), data("tiny-a/hf/model.safetensors"));
    let gguf = by_name(Gguf::open(&gguf, 0, |_| Ok(())).unwrap().tensors());
    let hf = by_name(Safetensors::open(&hf, 0).unwrap().tensors());
    assert_eq!(gguf.len(), 3 + 4 * 19);
    let mut pairs = vec![
        ("token_embd.weight".to_string(), "model.embed_tokens.weight".to_string()),
        ("output.weight".to_string(), "lm_head.weight".to_string()),
        ("output_norm.weight".to_string(), "model.norm.weight".to_string()),
    ];
    for layer in 0..4 {
        for (ours, theirs) in [
            ("attn_norm.weight", "input_layernorm.weight"),
            ("attn_q.weight", "self_attn.q_proj.weight"),
            ("attn_k.bias", "self_attn.k_proj.bias"),
            ("attn_output.weight", "self_attn.o_proj.weight"),
            ("attn_sinks.weight", "self_attn.sinks"),
            ("ffn_gate_inp.weight", "mlp.router.weight"),
            ("ffn_down_exps.bias", "mlp.experts.down_proj_bias"),
        ] {
            pairs.push((format!("blk.{layer}.{ours}"), format!("model.layers.{layer}.{theirs}")));
        }
    }
    for (ours, theirs) in pairs {
        let (ours, theirs) = (&gguf[&*ours], &hf[&*theirs]);
        assert_eq!(ours.shape(), theirs.shape(), "{}", ours.name);
        assert_eq!(theirs.dtype, TensorType::Bf16, "{}", theirs.name);
        // A BF16 number is the upper half of the F32 that the GGUF file has for vectors and for the router.
        let widened: Vec<u8> = theirs.data.chunks(2).flat_map(|half| [0, 0, half[0], half[1]]).collect();
        match ours.dtype {
            TensorType::Bf16 => assert_eq!(ours.data, theirs.data, "{}", ours.name),
            TensorType::F32 => assert_eq!(ours.data, widened, "{}", ours.name),
            other => panic!("{}: {other}", ours.name),
        }
    }
    let experts = &gguf["blk.1.ffn_down_exps.weight"];
    assert_eq!((experts.dtype, experts.shape()), (TensorType::Mxfp4, &[8, 64, 96][..]));
    assert_eq!(experts.data.len(), 8 * 64 * 3 * 17);
}

#[test]
fn gguf_metadata_agree_with_the_configuration_of_the_same_model() {
    for (gguf, config, tokenizer) in [
        ("tiny-a/gguf/tiny-a.gguf", "tiny-a/hf/config.json", "tiny-a/hf/tokenizer.json"),
        ("tiny-b/gguf/tiny-b.gguf", "tiny-b/hf-sharded/config.json", "tiny-b/hf-sharded/tokenizer.json"),
    ] {
        let (config, tokenizer) = (json(&data(config)), json(&data(tokenizer)));
        let bytes = data(gguf);
        let mut metadata = BTreeMap::new();
        Gguf::open(&bytes, 0, |entry| {
            assert!(metadata.insert(entry.key, entry.value).is_none(), "{} comes twice", entry.key);
            Ok(())
        })
        .unwrap();

        assert_eq!(metadata["general.architecture"].as_str(), Some("gpt-oss"));
        assert_eq!(metadata["gpt-oss.block_count"].as_u64(), config["num_hidden_layers"].as_u64());
        assert_eq!(metadata["gpt-oss.expert_count"].as_u64(), config["num_local_experts"].as_u64());
        assert_eq!(metadata["gpt-oss.attention.sliding_window"].as_u64(), config["sliding_window"].as_u64());
        assert_eq!(metadata["gpt-oss.rope.scaling.factor"].as_f64(), config["rope_scaling"]["factor"].as_f64());
        let epsilon = metadata["gpt-oss.attention.layer_norm_rms_epsilon"].as_f64().unwrap();
        assert_eq!(Some(epsilon as f32), config["rms_norm_eps"].as_f64().map(|epsilon| epsilon as f32));
        assert_eq!(metadata["tokenizer.ggml.add_bos_token"].as_bool(), Some(false));

        let tokens = metadata["tokenizer.ggml.tokens"].as_array().unwrap();
        assert_eq!(Some(tokens.len() as u64), config["vocab_size"].as_u64());
        let vocab = tokenizer["model"]["vocab"].as_object().unwrap();
        let tokens: Vec<_> = tokens.iter().map(|token| token.as_str().unwrap()).collect();
        for (token, id) in vocab {
            assert_eq!(tokens[id.as_u64().unwrap() as usize], token);
        }
        let merges = metadata["tokenizer.ggml.merges"].as_array().unwrap();
        let expected = tokenizer["model"]["merges"].as_array().unwrap();
        assert_eq!(merges.len(), expected.len());
        for (merge, expected) in merges.iter().zip(expected) {
            let [left, right] = [0, 1].map(|i| expected[i].as_str().unwrap());
            assert_eq!(merge.as_str(), Some(&*format!("{left} {right}")));
        }
        let types = metadata["tokenizer.ggml.token_type"].as_array().unwrap();
        assert!(types.iter().all(|kind| matches!(kind.as_u64(), Some(1..=6))));
    }
}

#[test]
fn gguf_values_of_every_type_are_read() {
    let mut bytes = Bytes::default();
    let scalars: [(u32, &[u8]); 12] = [
        (0, &[200]),
        (1, &[0xff]),
        (2, &65_535_u16.to_le_bytes()),
        (3, &(-2_i16).to_le_bytes()),
        (4, &u32::MAX.to_le_bytes()),
        (5, &(-3_i32).to_le_bytes()),
        (6, &1.5_f32.to_le_bytes()),
        (7, &[1]),
        (8, b"\x02\0\0\0\0\0\0\0hi"),
        (10, &u64::MAX.to_le_bytes()),
        (11, &i64::MIN.to_le_bytes()),
        (12, &2.5_f64.to_le_bytes()),
    ];
    for (kind, value) in scalars {
        bytes.text("scalar").u32(kind).raw(value);
        bytes.text("array").u32(9).u32(kind).u64(2).raw(value).raw(value);
    }
    let file = Header { metadata_count: 24, metadata: bytes.0, tensor_count: 0, ..Header::default() }.bytes();
    let mut seen = Vec::new();
    Gguf::open(&file, 0, |entry| {
        match entry.value.as_array() {
            Some(array) => seen.extend(array.iter().map(|value| format!("{value:?}"))),
            None => seen.push(format!("{:?}", entry.value)),
        }
        Ok(())
    })
    .unwrap();
    let expected = [
        Value::Unsigned(200),
        Value::Signed(-1),
        Value::Unsigned(65_535),
        Value::Signed(-2),
        Value::Unsigned(u32::MAX.into()),
        Value::Signed(-3),
        Value::Float(1.5),
        Value::Bool(true),
        Value::String(b"hi"),
        Value::Unsigned(u64::MAX),
        Value::Signed(i64::MIN),
        Value::Float(2.5),
    ];
    let expected: Vec<_> = expected.iter().flat_map(|value| vec![format!("{value:?}"); 3]).collect();
    assert_eq!(seen, expected);
}

#[test]
fn unknown_tensor_types_are_named_and_left_to_the_caller() {
    let file = Header { dtype: 12, ..Header::default() }.bytes();
    let tensor = Gguf::open(&file, 0, |_| Ok(())).unwrap().tensors().next().unwrap();
    assert_eq!((tensor.dtype.to_string().as_str(), tensor.data), ("Q4_K (12)", &[][..]));
    let file = Header { dtype: 99, ..Header::default() }.bytes();
    let tensor = Gguf::open(&file, 0, |_| Ok(())).unwrap().tensors().next().unwrap();
    assert_eq!((tensor.name, tensor.dtype.to_string().as_str()), ("t", "unknown (99)"));

    let file = safetensors(r#"{"t":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}"#, 4);
    let tensor = Safetensors::open(&file, 0).unwrap().tensors().next().unwrap();
    assert_eq!((tensor.dtype.to_string().as_str(), tensor.data.len()), ("F8_E4M3", 4));
}

#[test]
fn an_error_of_the_metadata_visitor_ends_the_reading() {
    let bytes = data(GGUF_FILES[0]);
    let mut calls = 0;
    let stop = Error::RegionAlign { need: 64 };
    let error = Gguf::open(&bytes, 0, |_| {
        calls += 1;
        if calls == 3 { Err(stop) } else { Ok(()) }
    });
    assert_eq!((error.err(), calls), (Some(stop), 3));
}

// Bad GGUF.

#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u32(&mut self, number: u32) -> &mut Self {
        self.raw(&number.to_le_bytes())
    }

    fn u64(&mut self, number: u64) -> &mut Self {
        self.raw(&number.to_le_bytes())
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.u64(text.len() as u64).raw(text.as_bytes())
    }
}

/// A GGUF file with one tensor, "t", and every field to be set at will. Without metadata the first tensor stands at byte
/// 24: the length of its name there, its rank at 33, its dimensions at 37.
struct Header {
    magic: [u8; 4],
    version: u32,
    tensor_count: u64,
    metadata_count: u64,
    metadata: Vec<u8>,
    name_len: u64,
    rank: u32,
    /// Innermost first, as in the file.
    dims: Vec<u64>,
    dtype: u32,
    offset: u64,
    /// Bytes after the header and its padding to 32 bytes.
    data_len: usize,
}

impl Default for Header {
    fn default() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            tensor_count: 1,
            metadata_count: 0,
            metadata: Vec::new(),
            name_len: 1,
            rank: 2,
            dims: vec![32, 2],
            dtype: 8,
            offset: 0,
            data_len: 68,
        }
    }
}

impl Header {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Bytes::default();
        bytes.raw(&self.magic).u32(self.version).u64(self.tensor_count).u64(self.metadata_count).raw(&self.metadata);
        bytes.u64(self.name_len).raw(b"t").u32(self.rank);
        for dim in &self.dims {
            bytes.u64(*dim);
        }
        bytes.u32(self.dtype).u64(self.offset);
        let data_start = bytes.0.len().next_multiple_of(32);
        bytes.0.resize(data_start + self.data_len, 0xaa);
        bytes.0
    }

    /// With one metadata entry, whose type stands at byte 33 if `key` has one letter.
    fn with_metadata(key: &str, kind: u32, value: &[u8]) -> Self {
        let mut metadata = Bytes::default();
        metadata.text(key).u32(kind).raw(value);
        Self { metadata_count: 1, metadata: metadata.0, ..Self::default() }
    }
}

#[test]
fn the_gguf_file_that_the_bad_ones_are_made_from_is_good() {
    let file = Header::default().bytes();
    let tensor = Gguf::open(&file, 0, |_| Ok(())).unwrap().tensors().next().unwrap();
    assert_eq!((tensor.name, tensor.name_offset, tensor.shape()), ("t", 32, &[2, 32][..]));
    assert_eq!((tensor.dtype, tensor.offset, tensor.data), (TensorType::Q8_0, 96, &[0xaa; 68][..]));
    Gguf::open(&Header { version: 2, ..Header::default() }.bytes(), 0, |_| Ok(())).unwrap();
}

#[test]
fn gguf_of_another_kind_is_refused() {
    let error = gguf_error(&Header { magic: *b"GGML", ..Header::default() }.bytes());
    assert_refused(error, 0, "the magic number of GGUF, 1179993927", u32::from_le_bytes(*b"GGML").into());
    let error = gguf_error(&Header { version: 1, ..Header::default() }.bytes());
    assert_refused(error, 4, "GGUF version 2 or 3", 1);
    let error = gguf_error(&Header { version: 4, ..Header::default() }.bytes());
    assert_refused(error, 4, "GGUF version 2 or 3", 4);
    let error = gguf_error(&Header { version: 3_u32.swap_bytes(), ..Header::default() }.bytes());
    assert_refused(error, 4, "a little-endian GGUF file", 3 << 24);
    assert_refused(gguf_error(&[]), 0, "4 more bytes", 0);
}

#[test]
fn gguf_counts_beyond_the_file_are_refused() {
    for count in [1000, 1 << 60, 1 << 63, u64::MAX] {
        let error = gguf_error(&Header { tensor_count: count, ..Header::default() }.bytes());
        assert_refused(error, 8, "a number of tensors that the file has room for", count);
        let error = gguf_error(&Header { metadata_count: count, ..Header::default() }.bytes());
        assert_refused(error, 16, "a number of metadata that the file has room for", count);
        let error = gguf_error(&Header { name_len: count, ..Header::default() }.bytes());
        assert_refused(error, 24, "the length of a string that ends inside the file", count);
        let error = gguf_error(&Header::with_metadata("k", 8, &count.to_le_bytes()).bytes());
        assert_refused(error, 37, "the length of a string that ends inside the file", count);
        for kind in [0_u32, 4, 7, 8, 12] {
            let mut array = Bytes::default();
            array.u32(kind).u64(count);
            let error = gguf_error(&Header::with_metadata("k", 9, &array.0).bytes());
            assert_refused(error, 41, "the length of an array that ends inside the file", count);
        }
    }
}

#[test]
fn bad_gguf_metadata_are_refused() {
    for kind in [13, 255, u32::MAX] {
        let error = gguf_error(&Header::with_metadata("k", kind, &[]).bytes());
        assert_refused(error, 33, "a value type from 0 to 12", kind.into());
        let error = gguf_error(&Header::with_metadata("k", 9, &kind.to_le_bytes()).bytes());
        assert_refused(error, 37, "the type of array elements: 0 to 8 or 10 to 12", kind.into());
    }
    // An array of arrays.
    let error = gguf_error(&Header::with_metadata("k", 9, &9_u32.to_le_bytes()).bytes());
    assert_refused(error, 37, "the type of array elements: 0 to 8 or 10 to 12", 9);
    // The key "k\xff".
    let metadata = b"\x02\0\0\0\0\0\0\0k\xff\x07\0\0\0\x01".to_vec();
    let error = gguf_error(&Header { metadata_count: 1, metadata, ..Header::default() }.bytes());
    assert_refused(error, 33, "UTF-8", 0xff);
    // A string in an array that is longer than the file.
    let mut array = Bytes::default();
    array.u32(8).u64(2).text("a").u64(1 << 61);
    let error = gguf_error(&Header::with_metadata("k", 9, &array.0).bytes());
    assert_refused(error, 58, "the length of a string that ends inside the file", 1 << 61);
}

#[test]
fn bad_gguf_alignments_are_refused() {
    let key = "general.alignment";
    let offset = 24 + 8 + key.len() as u64 + 4;
    for alignment in [0_u64, 3, 48, 1 << 32, 1 << 40, u64::MAX] {
        let error = gguf_error(&Header::with_metadata(key, 10, &alignment.to_le_bytes()).bytes());
        assert_refused(error, offset, "an alignment that is a power of two", alignment);
    }
    let error = gguf_error(&Header::with_metadata(key, 6, &32_f32.to_le_bytes()).bytes());
    assert_refused(error, offset, "an alignment that is a power of two", 0);
    let once = Header::with_metadata(key, 4, &32_u32.to_le_bytes());
    Gguf::open(&once.bytes(), 0, |_| Ok(())).unwrap();
    let twice = Header { metadata_count: 2, metadata: once.metadata.repeat(2), ..Header::default() };
    let entry_size = once.metadata.len() as u64;
    assert_refused(gguf_error(&twice.bytes()), offset + entry_size, "general.alignment once", 2);
    // An alignment that puts the data beyond the end of the file.
    let error = gguf_error(&Header::with_metadata(key, 4, &(1_u32 << 31).to_le_bytes()).bytes());
    assert_eq!(error.expected, "the offset of a tensor that ends inside the file");
}

#[test]
fn bad_gguf_shapes_are_refused() {
    for rank in [0, 5, u32::MAX] {
        let error = gguf_error(&Header { rank, ..Header::default() }.bytes());
        assert_refused(error, 33, "1 to 4 dimensions", rank.into());
    }
    for dtype in [8, 39] {
        let error = gguf_error(&Header { dims: vec![33, 2], dtype, ..Header::default() }.bytes());
        assert_refused(error, 37, "rows of a multiple of 32 elements", 33);
    }
    for (dims, dtype) in [([1 << 62, 4], 8), ([1 << 63, 2], 1), ([32, u64::MAX], 39), ([u64::MAX, u64::MAX], 0)] {
        let error = gguf_error(&Header { dims: dims.to_vec(), dtype, ..Header::default() }.bytes());
        assert_refused(error, 37, "dimensions of a tensor below 2^64 bytes", dims[0]);
    }
}

#[test]
fn bad_gguf_tensor_offsets_are_refused() {
    let at = 57;
    for offset in [1, 31, 33, u64::MAX] {
        let error = gguf_error(&Header { offset, ..Header::default() }.bytes());
        assert_refused(error, at, "a tensor offset that is a multiple of the alignment", offset);
    }
    for offset in [32, 64, 96, 1 << 60, 1 << 63, u64::MAX - 31] {
        let error = gguf_error(&Header { offset, ..Header::default() }.bytes());
        assert_refused(error, at, "the offset of a tensor that ends inside the file", offset);
    }
    let error = gguf_error(&Header { data_len: 67, ..Header::default() }.bytes());
    assert_refused(error, at, "the offset of a tensor that ends inside the file", 0);
    // A second tensor, over the first.
    let mut bytes = Bytes(Header { tensor_count: 2, ..Header::default() }.bytes());
    bytes.0.truncate(65);
    bytes.text("u").u32(1).u64(4).u32(0).u64(64);
    bytes.0.resize(128 + 256, 0);
    assert_refused(gguf_error(&bytes.0), 90, "a tensor offset after the end of the tensor before", 64);
    bytes.0[90] = 96;
    Gguf::open(&bytes.0, 0, |_| Ok(())).unwrap();
}

#[test]
fn a_gguf_file_cut_anywhere_is_refused() {
    for name in GGUF_FILES {
        let bytes = data(name);
        let header_size = Gguf::open(&bytes, 0, |_| Ok(())).unwrap().tensors().next().unwrap().offset as usize;
        for len in (0..header_size).chain([header_size + 1, bytes.len() / 2, bytes.len() - 1]) {
            let error = gguf_error(&bytes[..len]);
            assert!(error.offset <= len as u64, "{name} cut to {len} bytes: {error}");
        }
    }
}

#[test]
fn a_gguf_file_with_any_byte_changed_is_refused_or_sound() {
    let file = &mut data(GGUF_FILES[0]);
    let header_size = Gguf::open(file, 0, |_| Ok(())).unwrap().tensors().next().unwrap().offset as usize;
    for at in 0..header_size {
        let good = file[at];
        for bad in [0, 0xff, good ^ 1, good ^ 0x80] {
            file[at] = bad;
            let mut values = 0;
            let opened = Gguf::open(file, 0, |metadata| {
                if let Some(array) = metadata.value.as_array() {
                    assert_eq!(array.iter().count(), array.len());
                    values += array.len();
                }
                Ok(())
            });
            if let Ok(gguf) = opened {
                let count = u64::from_le_bytes(file[8..16].try_into().unwrap());
                assert_eq!(gguf.tensors().count() as u64, count, "byte {at} is {bad}");
                assert!(
                    gguf.tensors()
                        .all(|tensor| tensor.dtype.size(tensor.shape()).unwrap_or(0) == tensor.data.len() as u64)
                );
            }
        }
        file[at] = good;
    }
}

// Bad safetensors.

fn safetensors(header: &str, data_len: usize) -> Vec<u8> {
    let mut bytes = Bytes::default();
    bytes.text(header);
    bytes.0.resize(bytes.0.len() + data_len, 0xaa);
    bytes.0
}

/// Asserts that a file with this header is refused at the first `place` in it.
#[track_caller]
fn assert_header_refused(header: &str, data_len: usize, place: &str, expected: &str, found: u64) {
    let offset = 8 + header.find(place).expect("a place in the header") as u64;
    assert_refused(safetensors_error(&safetensors(header, data_len)), offset, expected, found);
}

#[test]
fn safetensors_entries_and_their_fields_may_come_in_any_order() {
    let header = r#" {"__metadata__":{"format":"pt"},
        "b":{"data_offsets":[6,10],"dtype":"F32","shape":[]},
        "a":{"shape":[1,3,1,1],"extra":[{}],"dtype":"BF16","data_offsets":[0,6]}} "#;
    let file = safetensors(header, 10);
    let tensors: Vec<_> = Safetensors::open(&file, 0).unwrap().tensors().collect();
    assert_eq!((tensors[0].name, tensors[0].shape(), tensors[0].data.len()), ("b", &[][..], 4));
    assert_eq!((tensors[1].name, tensors[1].shape(), tensors[1].data.len()), ("a", &[1, 3, 1, 1][..], 6));
}

#[test]
fn bad_safetensors_header_sizes_are_refused() {
    assert_refused(safetensors_error(b"1234567"), 0, "8 more bytes", 7);
    for size in [100_000_001, 1 << 60, 1 << 63, u64::MAX] {
        assert_refused(safetensors_error(&size.to_le_bytes()), 0, "a header of at most 100000000 bytes", size);
    }
    let error = safetensors_error(b"\x03\0\0\0\0\0\0\0{}");
    assert_refused(error, 0, "a header that ends inside the file", 3);
    assert_refused(safetensors_error(&[0; 8]), 8, "a value", 0);
}

#[test]
fn bad_safetensors_headers_are_refused() {
    assert_header_refused("[]", 0, "[", "an object of tensors", 0);
    assert_header_refused(r#"{"t":1}"#, 0, "1", "an object of dtype, shape and data_offsets", 1);
    assert_header_refused(r#"{"t":{}} x"#, 0, "x", "the end of the text", b'x'.into());
    assert_header_refused(r#"{"t":{},x}"#, 0, "x", "a key in quotes", b'x'.into());
}

#[test]
fn bad_safetensors_entries_are_refused() {
    let all = "dtype, shape and data_offsets";
    let t = |fields: &str| format!(r#"{{"t":{{{fields}}}}}"#);
    assert_header_refused(&t(r#""dtype":"U8","shape":[4]"#), 4, r#"{"d"#, all, 0);
    assert_header_refused(&t(r#""dtype":"U8","data_offsets":[0,4]"#), 4, r#"{"d"#, all, 0);
    assert_header_refused(&t(r#""shape":[4],"data_offsets":[0,4]"#), 4, r#"{"s"#, all, 0);
    let twice = t(r#""dtype":"U8","shape":[4],"shape":[5],"data_offsets":[0,4]"#);
    assert_header_refused(&twice, 4, "[5]", "dtype, shape and data_offsets once each", 0);
    let header = t(r#""dtype":8,"shape":[4],"data_offsets":[0,4]"#);
    assert_header_refused(&header, 4, "8", "a type in quotes", 8);
    for shape in ["[1,1,1,1,4]", "[-4]", "[4.0]", "[\"4\"]", "4", "[18446744073709551616]", "null"] {
        let header = t(&format!(r#""dtype":"U8","shape":{shape},"data_offsets":[0,4]"#));
        let found = if shape == "4" { 4 } else { 0 };
        assert_header_refused(&header, 4, shape, "an array of at most 4 dimensions", found);
    }
    for extent in ["[0]", "[0,4,4]", "[]", "[-1,4]", "{}", "[0,1e1]"] {
        let header = t(&format!(r#""dtype":"U8","shape":[4],"data_offsets":{extent}"#));
        assert_header_refused(&header, 4, extent, "an array of two offsets", 0);
    }
    for (begin, end) in [(0, 5), (4, 0), (5, 9), (1 << 60, (1 << 60) + 4), (0, u64::MAX), (u64::MAX, u64::MAX)] {
        let extent = &format!("[{begin},{end}]");
        let header = t(&format!(r#""dtype":"U8","shape":[4],"data_offsets":{extent}"#));
        assert_header_refused(&header, 4, extent, "offsets in order and inside the file", end);
    }
    for (dtype, shape) in
        [("U8", "[5]"), ("F32", "[4]"), ("BF16", "[1]"), ("F16", "[]"), ("F32", "[9223372036854775808,2]")]
    {
        let header = t(&format!(r#""dtype":"{dtype}","shape":{shape},"data_offsets":[0,4]"#));
        assert_header_refused(&header, 4, "[0,4]", "offsets as far apart as type and shape demand", 4);
    }
    let header = r#"{"\u0074":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#;
    assert_header_refused(header, 4, r"\u0074", "a tensor name without escapes", 0);
}

#[test]
fn safetensors_with_overlaps_or_holes_are_refused() {
    let two = |first: [usize; 2], second: [usize; 2]| {
        let entry = |name, [begin, end]: [usize; 2]| {
            let len = end - begin;
            format!(r#""{name}":{{"dtype":"U8","shape":[{len}],"data_offsets":[{begin},{end}]}}"#)
        };
        format!("{{{},{}}}", entry("one", first), entry("two", second))
    };
    Safetensors::open(&safetensors(&two([0, 4], [4, 8]), 8), 7).unwrap();
    let error = safetensors_error(&safetensors(&two([0, 4], [2, 6]), 8));
    assert_eq!(error.expected, "a tensor after the end of the one before");
    for (first, second) in [([0, 4], [5, 8]), ([1, 4], [4, 8]), ([0, 4], [4, 7])] {
        let header = two(first, second);
        let error = safetensors_error(&safetensors(&header, 8));
        assert_refused(error, 8 + header.len() as u64, "as many bytes of data as the tensors take together", 7);
    }
}

#[test]
fn a_safetensors_file_cut_anywhere_is_refused() {
    for name in SAFETENSORS_FILES {
        let bytes = data(name);
        let header_size = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for len in (0..8 + header_size).chain([8 + header_size, bytes.len() - 1]) {
            let error = safetensors_error(&bytes[..len]);
            assert!(error.offset <= len as u64, "{name} cut to {len} bytes: {error}");
        }
    }
}

#[test]
fn a_safetensors_file_with_any_byte_changed_is_refused_or_sound() {
    let file = &mut data("tiny-b/hf-sharded/model-00000-of-00004.safetensors");
    let header_size = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let good_len = Safetensors::open(file, 0).unwrap().tensors().count();
    for at in 0..8 + header_size {
        let good = file[at];
        for bad in [0, b'"', b'9', b'}', good ^ 1, good ^ 0x80] {
            file[at] = bad;
            if let Ok(opened) = Safetensors::open(file, 0) {
                assert_eq!(opened.tensors().count(), good_len, "byte {at} is {bad}");
            }
        }
        file[at] = good;
    }
}
