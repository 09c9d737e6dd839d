//! Numbers of a model that cannot be are refused with their place, what was expected there, and what was found.

use ossicle_core::model::Files;
use ossicle_tests::engine::with_files;
use ossicle_tests::fixtures::Fixture;
use ossicle_tests::forgery::{Gguf, Metadata, kind, place};

fn tiny_a() -> Gguf {
    Gguf::read(&std::fs::read(Fixture::load("tiny-a").gguf).expect("the fixture"))
}

/// The vocabulary of the model.
fn accepted(gguf: &Gguf) -> usize {
    with_files(Files::gguf(&[&gguf.bytes()]), |model| model.config().vocabulary)
        .unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn assert_refused(gguf: &Gguf, expected: &str) {
    assert_eq!(with_files(Files::gguf(&[&gguf.bytes()]), |_| ()).expect_err("refused").to_string(), expected);
}

#[track_caller]
fn assert_value_refused(gguf: &Gguf, key: &str, expected: &str, found: u64) {
    let offset = place(&gguf.bytes(), key) + key.len() + 4;
    assert_refused(gguf, &format!("file 0, byte {offset}: expected {expected}, found {found}"));
}

/// The numbers without which there is no model, and what errors say of them.
const REQUIRED: [(&str, &str); 8] = [
    ("block_count", "a layer count from 1 to 256"),
    ("embedding_length", "a hidden size from 1 to 65536"),
    ("expert_count", "an expert count from 1 to 4096"),
    ("expert_used_count", "from 1 to 64 experts for each token"),
    ("attention.head_count", "a head count from 1 to 1024"),
    ("attention.head_count_kv", "a key-value head count from 1 to 1024"),
    ("attention.key_length", "a head size from 1 to 1024"),
    ("attention.sliding_window", "a window from 1 to 1048576 tokens"),
];

/// The numbers that have a default.
const OPTIONAL: [(&str, &str); 6] = [
    ("rope.freq_base", "a RoPE base above 1"),
    ("rope.scaling.factor", "a YaRN factor of at least 1"),
    ("rope.scaling.yarn_beta_fast", "a positive YaRN beta"),
    ("rope.scaling.yarn_beta_slow", "a positive YaRN beta"),
    ("rope.scaling.original_context_length", "an original context of at least 1 token"),
    ("attention.layer_norm_rms_epsilon", "an epsilon from 0 to 1"),
];

#[test]
fn numbers_that_are_missing_are_named() {
    for (key, _) in REQUIRED {
        let mut gguf = tiny_a();
        gguf.remove(&format!("gpt-oss.{key}"));
        gguf.remove("gpt-oss.attention.value_length");
        assert_refused(&gguf, &format!("file 0, byte 0: expected {key}, found 0"));
    }
    let mut gguf = tiny_a();
    gguf.remove("gpt-oss.expert_feed_forward_length");
    // Older files have the general name alone.
    accepted(&gguf);
    gguf.remove("gpt-oss.feed_forward_length");
    assert_refused(&gguf, "file 0, byte 0: expected expert_feed_forward_length, found 0");
    for (key, _) in OPTIONAL {
        let mut gguf = tiny_a();
        gguf.remove(&format!("gpt-oss.{key}"));
        accepted(&gguf);
    }
    let mut gguf = tiny_a();
    gguf.remove("general.architecture");
    assert_refused(&gguf, "file 0, byte 0: expected the key general.architecture, found 0");
}

#[test]
fn numbers_out_of_range_are_refused_where_they_are() {
    let also = [
        ("expert_feed_forward_length", "an expert size from 1 to 65536"),
        ("context_length", "a context from 1 to 16777216 tokens"),
    ];
    for (key, expected) in REQUIRED.into_iter().chain(also).chain(OPTIONAL) {
        let key = &format!("gpt-oss.{key}");
        let refuse = |kind: u32, value: &[u8], found: u64| {
            let mut gguf = tiny_a();
            gguf.set(key, kind, value);
            assert_value_refused(&gguf, key, expected, found);
        };
        if !key.ends_with("epsilon") {
            refuse(kind::U32, &0u32.to_le_bytes(), 0);
        }
        refuse(kind::U64, &u64::MAX.to_le_bytes(), u64::MAX);
        refuse(kind::I32, &(-1i32).to_le_bytes(), 0);
        refuse(kind::F32, &f32::NAN.to_le_bytes(), 0);
        refuse(kind::F32, &f32::INFINITY.to_le_bytes(), u64::MAX);
        refuse(kind::F32, &(-1f32).to_le_bytes(), 0);
        refuse(kind::BOOL, &[1], 0);
        refuse(kind::STRING, b"\x01\0\0\0\0\0\0\x004", 0);
        refuse(kind::ARRAY, b"\x04\0\0\0\x01\0\0\0\0\0\0\0\x04\0\0\0", 0);
        if !OPTIONAL.iter().any(|(optional, _)| key.ends_with(optional)) {
            refuse(kind::F32, &1.5f32.to_le_bytes(), 1);
            refuse(kind::U64, &(1u64 << 32).to_le_bytes(), 1 << 32);
        }
    }
}

#[test]
fn numbers_that_contradict_each_other_are_refused() {
    let refuse = |key: &str, value: u32, expected: &str| {
        let mut gguf = tiny_a();
        gguf.set(&format!("gpt-oss.{key}"), kind::U32, &value.to_le_bytes());
        assert_value_refused(&gguf, &format!("gpt-oss.{key}"), expected, value.into());
    };
    refuse("embedding_length", 65, "a hidden size that is a multiple of 32");
    refuse("expert_feed_forward_length", 95, "an expert size that is a multiple of 32");
    refuse("expert_used_count", 9, "no more experts for a token than there are");
    refuse("attention.head_count_kv", 3, "a divisor of the number of heads");
    refuse("attention.head_count_kv", 8, "a divisor of the number of heads");
    refuse("attention.value_length", 32, "the same number as the key had before");
    let mut gguf = tiny_a();
    gguf.remove("gpt-oss.attention.value_length");
    for size in [15u32, 4] {
        gguf.set("gpt-oss.attention.key_length", kind::U32, &size.to_le_bytes());
        let expected = "an even head size that makes all heads a multiple of 32";
        assert_value_refused(&gguf, "gpt-oss.attention.key_length", expected, size.into());
    }
    let mut gguf = tiny_a();
    gguf.set("gpt-oss.rope.scaling.yarn_beta_slow", kind::F32, &32f32.to_le_bytes());
    let expected = "a fast YaRN beta above the slow one";
    assert_value_refused(&gguf, "gpt-oss.rope.scaling.yarn_beta_fast", expected, 32);
    let mut gguf = tiny_a();
    let key = "gpt-oss.expert_count";
    gguf.metadata.push(Metadata { key: key.into(), kind: kind::U32, value: 16u32.to_le_bytes().into() });
    let bytes = gguf.bytes();
    let first = place(&bytes, key) + key.len();
    let offset = first + place(&bytes[first..], key) + key.len() + 4;
    let expected = "the same number as the key had before";
    assert_refused(&gguf, &format!("file 0, byte {offset}: expected {expected}, found 16"));
}

#[test]
fn what_the_arithmetic_does_not_implement_is_refused() {
    let string = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let refuse = |key: &str, kind: u32, value: &[u8], expected: &str| {
        let mut gguf = tiny_a();
        gguf.set(key, kind, value);
        assert_value_refused(&gguf, key, expected, 0);
    };
    let architecture = "the architecture gpt-oss or gptoss";
    refuse("general.architecture", kind::STRING, &string("llama"), architecture);
    refuse("general.architecture", kind::U32, &[0; 4], architecture);
    refuse("gpt-oss.rope.scaling.type", kind::STRING, &string("linear"), "RoPE scaling of type yarn");
    let pattern = "gpt-oss.attention.sliding_window_pattern";
    let expected = "a window pattern: a number above 0, or an array";
    refuse(pattern, kind::U32, &[0; 4], expected);
    refuse(pattern, kind::STRING, &string("x"), expected);
    let mut gguf = tiny_a();
    gguf.set(pattern, kind::ARRAY, b"\x07\0\0\0\x03\0\0\0\0\0\0\0\x01\0\x01");
    let offset = place(&gguf.bytes(), "gpt-oss.block_count") + "gpt-oss.block_count".len() + 4;
    assert_refused(&gguf, &format!("file 0, byte {offset}: expected as many layer types as layers, found 3"));
}

#[test]
fn a_vocabulary_that_is_not_the_embedding_s_is_refused() {
    let mut gguf = tiny_a();
    gguf.set("tokenizer.ggml.tokens", kind::ARRAY, b"\x08\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0a");
    let offset = gguf.data_offset("token_embd.weight");
    let expected = "shape [1, 64], found [512, 64]";
    assert_refused(&gguf, &format!("file 0, byte {offset}: tensor token_embd.weight: expected {expected}"));
    gguf.set("tokenizer.ggml.tokens", kind::ARRAY, b"\x08\0\0\0\0\0\0\0\0\0\0\0");
    let value = "a vocabulary from 1 to 16777216 tokens";
    assert_value_refused(&gguf, "tokenizer.ggml.tokens", value, 0);
    gguf.set("tokenizer.ggml.tokens", kind::STRING, &[0; 8]);
    assert_value_refused(&gguf, "tokenizer.ggml.tokens", "one array of tokens", 0);
    gguf.remove("tokenizer.ggml.tokens");
    assert_eq!(accepted(&gguf), 512, "without tokens, the embedding tells");
}

#[test]
fn bad_configurations_are_refused_where_they_are_wrong() {
    let fixture = Fixture::load("tiny-a");
    let weights = std::fs::read(fixture.hf.join("model.safetensors")).expect("the fixture");
    let good = std::fs::read_to_string(fixture.hf.join("config.json")).expect("the fixture");
    let error = |config: &str| {
        with_files(Files::safetensors(&[&weights], config.as_bytes()), |_| ()).expect_err("refused").to_string()
    };
    assert_eq!(error(""), "configuration, byte 0: expected a value, found 0");
    assert_eq!(error("[]"), "configuration, byte 0: expected an object, found 0");
    assert_eq!(error("{}"), "configuration, byte 0: expected num_hidden_layers, found 0");
    assert!(error(&good[..good.len() / 2]).starts_with("configuration, byte "));
    // What is replaced, by what, what errors expect there, and the number that they found.
    for (from, to, expected, found) in [
        ("\"num_hidden_layers\": 4", "0", "a layer count from 1 to 256", 0),
        ("\"num_hidden_layers\": 4", "257", "a layer count from 1 to 256", 257),
        ("\"num_hidden_layers\": 4", "1e9999", "a layer count from 1 to 256", 0),
        ("\"num_hidden_layers\": 4", "\"4\"", "a layer count from 1 to 256", 0),
        ("\"num_hidden_layers\": 4", "null", "a layer count from 1 to 256", 0),
        ("\"num_hidden_layers\": 4", "3", "as many layer types as layers", 4),
        ("\"hidden_size\": 64", "-64", "a hidden size from 1 to 65536", 0),
        ("\"hidden_size\": 64", "63", "a hidden size that is a multiple of 32", 63),
        ("\"num_experts_per_tok\": 4", "5", "the same number as the key had before", 5),
        ("\"sliding_window\": 8", "{}", "a window from 1 to 1048576 tokens", 0),
        ("\"rms_norm_eps\": 1e-05", "2", "an epsilon from 0 to 1", 2),
        ("\"swiglu_limit\": 7.0", "0", "an activation limit above 0", 0),
        ("\"model_type\": \"gpt_oss\"", "\"llama\"", "the model type gpt_oss", 0),
        ("\"rope_type\": \"yarn\"", "\"linear\"", "RoPE scaling of type yarn", 0),
        ("\"beta_fast\": 32.0", "1", "a fast YaRN beta above the slow one", 1),
        ("\"vocab_size\": 512", "0.5", "a vocabulary from 1 to 16777216 tokens", 0),
    ] {
        let value = from.find(": ").expect("a key and a value") + 2;
        let config = good.replacen(from, &format!("{}{to}", &from[..value]), 1);
        assert_ne!(config, good, "{from}");
        let offset = good.find(from).expect("in the file") + value;
        assert_eq!(
            error(&config),
            format!("configuration, byte {offset}: expected {expected}, found {found}"),
            "{from} {to}"
        );
    }
    let start = good.find("\"rope_scaling\": {").expect("in the file") + 16;
    let end = start + good[start..].find('}').expect("the end of an object") + 1;
    for other in ["null", "[]", "\"yarn\""] {
        let config = [&good[..start], other, &good[end..]].concat();
        let expected = "an object of RoPE scaling";
        assert_eq!(error(&config), format!("configuration, byte {start}: expected {expected}, found 0"));
    }
    let types = good.replacen("\"full_attention\"", "\"no_attention\"", 1);
    let offset = types.find("\"no_attention\"").expect("in the file");
    let expected = "a layer type: sliding_attention or full_attention";
    assert_eq!(error(&types), format!("configuration, byte {offset}: expected {expected}, found 0"));
    let vocabulary = good.replacen("\"vocab_size\": 512", "\"vocab_size\": 511", 1);
    assert!(
        error(&vocabulary).ends_with("tensor model.embed_tokens.weight: expected shape [511, 64], found [512, 64]")
    );
}
