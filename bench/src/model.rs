//! A model of few layers in memory, and sessions of it. They live as long as the program.

use ossicle_core::file::TensorType;
use ossicle_core::kernels::Kernels;
use ossicle_core::model::{Files, Model};
use ossicle_core::transformer::{Session, SessionConfig};
use ossicle_host::Memory;
use ossicle_tests::forgery::{Gguf, Tensor, kind};
use ossicle_tests::numbers::Numbers;

use crate::kernels::weights;

/// The sizes that differ.
pub struct Geometry {
    /// Transformer layers.
    pub layers: u32,
    /// Values in the residual stream, and between the two matrices of an expert.
    pub hidden: u32,
    /// Experts in a layer; four of them are used.
    pub experts: u32,
    /// Query heads of 64 values; eight share a key-value head.
    pub heads: u32,
    /// Ids in the vocabulary.
    pub vocabulary: u32,
}

impl Geometry {
    /// Two layers as wide as those of gpt-oss-20b, a quarter of its experts, a small vocabulary: 290 MB.
    pub const TWO_LAYERS: Self = Self { layers: 2, hidden: 2880, experts: 8, heads: 64, vocabulary: 4096 };
    /// For counting instructions, and for a look at the answers.
    pub const TINY: Self = Self { layers: 2, hidden: 576, experts: 4, heads: 8, vocabulary: 1024 };
}

/// The GGUF file: matrices in Q8_0, experts in MXFP4, the rest in F32, as in the published files.
fn gguf(geometry: &Geometry) -> Vec<u8> {
    let Geometry { layers, hidden, experts, heads, vocabulary } = *geometry;
    let mut gguf = Gguf::default();
    let name = b"gpt-oss";
    let value = [&(name.len() as u64).to_le_bytes()[..], name].concat();
    gguf.set("general.architecture", kind::STRING, &value);
    for (key, value) in [
        ("block_count", layers),
        ("context_length", 8192),
        ("embedding_length", hidden),
        ("expert_feed_forward_length", hidden),
        ("expert_count", experts),
        ("expert_used_count", 4),
        ("attention.head_count", heads),
        ("attention.head_count_kv", heads / 8),
        ("attention.key_length", 64),
        ("attention.sliding_window", 128),
    ] {
        gguf.set(&format!("gpt-oss.{key}"), kind::U32, &value.to_le_bytes());
    }
    let mut numbers = Numbers::seeded(0);
    let mut tensor = |name: String, dtype: TensorType, dims: &[u32]| {
        let dims: Vec<u64> = dims.iter().copied().map(u64::from).collect();
        let data = weights(&mut numbers, dtype, dims.iter().product::<u64>() as usize);
        let kind = match dtype {
            TensorType::F32 => 0,
            TensorType::Q8_0 => 8,
            _ => 39,
        };
        gguf.tensors.push(Tensor { name, kind, dims, data });
    };
    use TensorType::{F32, Mxfp4, Q8_0};
    let (queries, keys) = (64 * heads, 8 * heads);
    tensor("token_embd.weight".to_owned(), Q8_0, &[vocabulary, hidden]);
    for layer in 0..layers {
        for (name, dtype, dims) in [
            ("attn_norm.weight", F32, &[hidden][..]),
            ("attn_q.weight", Q8_0, &[queries, hidden]),
            ("attn_q.bias", F32, &[queries]),
            ("attn_k.weight", Q8_0, &[keys, hidden]),
            ("attn_k.bias", F32, &[keys]),
            ("attn_v.weight", Q8_0, &[keys, hidden]),
            ("attn_v.bias", F32, &[keys]),
            ("attn_sinks.weight", F32, &[heads]),
            ("attn_output.weight", Q8_0, &[hidden, queries]),
            ("attn_output.bias", F32, &[hidden]),
            ("post_attention_norm.weight", F32, &[hidden]),
            ("ffn_gate_inp.weight", F32, &[experts, hidden]),
            ("ffn_gate_inp.bias", F32, &[experts]),
            ("ffn_gate_exps.weight", Mxfp4, &[experts, hidden, hidden]),
            ("ffn_gate_exps.bias", F32, &[experts, hidden]),
            ("ffn_up_exps.weight", Mxfp4, &[experts, hidden, hidden]),
            ("ffn_up_exps.bias", F32, &[experts, hidden]),
            ("ffn_down_exps.weight", Mxfp4, &[experts, hidden, hidden]),
            ("ffn_down_exps.bias", F32, &[experts, hidden]),
        ] {
            tensor(format!("blk.{layer}.{name}"), dtype, dims);
        }
    }
    tensor("output_norm.weight".to_owned(), F32, &[hidden]);
    tensor("output.weight".to_owned(), Q8_0, &[vocabulary, hidden]);
    gguf.bytes()
}

/// Opens a model of these sizes.
pub fn open(geometry: &Geometry) -> &'static Model<'static, 'static> {
    let bytes: &'static [u8] = gguf(geometry).leak();
    let files = Files::gguf(vec![bytes].leak()).expect("a model");
    let memory = Box::leak(Box::new(Memory::new(Model::layout(&files).expect("a size")).expect("memory")));
    Box::leak(Box::new(Model::new(memory.region(), &files).expect("a model")))
}

/// An empty session of the default size.
pub fn session(model: &'static Model<'static, 'static>, kernels: Kernels) -> Session<'static, 'static> {
    let config = SessionConfig::within(model.config());
    let layout = Session::layout(model, &config).expect("a size");
    let memory = Box::leak(Box::new(Memory::new(layout).expect("memory")));
    Session::new(memory.region(), model, kernels, &config).expect("a session")
}
