//! The sizes of models, and what follows from them: metadata, tensors, how large their numbers are.

use ossicle_core::file::TensorType;
use ossicle_core::model::{Naming, Role, TensorId};

use super::weights::Distribution;
use crate::gguf_writer::Header;

/// The sizes of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometry {
    /// As `--geometry` spells it.
    pub name: &'static str,
    /// Transformer layers.
    pub layers: u16,
    /// Values in the residual stream.
    pub hidden: u64,
    /// Values between the two matrices of an expert.
    pub intermediate: u64,
    /// Experts in a layer.
    pub experts: u64,
    /// Query heads.
    pub heads: u64,
    /// Key-value heads.
    pub kv_heads: u64,
    /// Ids in the vocabulary.
    pub vocabulary: u64,
    /// How many of them are ordinary tokens.
    pub ordinary: u64,
    /// The deviation of the routers' biases. The logits that they are added to have 1: the larger this is, the more often are the same
    /// experts chosen.
    pub router_bias: f32,
}

const HEAD_DIM: u64 = 64;

impl Geometry {
    /// Small enough to be sent along with a program: less than a megabyte.
    pub const TINY: Self = Self {
        name: "tiny",
        layers: 4,
        hidden: 64,
        intermediate: 64,
        experts: 8,
        heads: 4,
        kv_heads: 2,
        vocabulary: 2048,
        ordinary: 2016,
        router_bias: 0.1,
    };
    /// gpt-oss-20b.
    pub const SMALL: Self = Self {
        name: "20b",
        layers: 24,
        hidden: 2880,
        intermediate: 2880,
        experts: 32,
        heads: 64,
        kv_heads: 8,
        vocabulary: 201_088,
        ordinary: 199_998,
        router_bias: 0.1,
    };
    /// gpt-oss-120b.
    pub const LARGE: Self = Self { name: "120b", layers: 36, experts: 128, ..Self::SMALL };
}

/// Adds what a GGUF file says about its model; the keys and values are those of the published files.
pub fn describe(geometry: &Geometry, header: &mut Header) {
    header.string("general.architecture", "gpt-oss");
    header.string("general.type", "model");
    header.string("general.name", &format!("gpt-oss-{} with random weights", geometry.name));
    header.string("general.description", "Made by ossicle synth to measure speed and memory. It has learnt nothing.");
    header.u32("general.file_type", 38); // LLAMA_FTYPE_MOSTLY_MXFP4_MOE
    header.u32("general.quantization_version", 2);
    let mut number = |key: &str, value: u64| header.u32(&format!("gpt-oss.{key}"), value as u32);
    number("block_count", geometry.layers.into());
    number("context_length", 131_072);
    number("embedding_length", geometry.hidden);
    number("feed_forward_length", geometry.intermediate);
    number("expert_feed_forward_length", geometry.intermediate);
    number("attention.head_count", geometry.heads);
    number("attention.head_count_kv", geometry.kv_heads);
    number("attention.key_length", HEAD_DIM);
    number("attention.value_length", HEAD_DIM);
    number("attention.sliding_window", 128);
    number("expert_count", geometry.experts);
    number("expert_used_count", 4);
    number("rope.scaling.original_context_length", 4096);
    header.f32("gpt-oss.attention.layer_norm_rms_epsilon", 1e-5);
    header.f32("gpt-oss.rope.freq_base", 150_000.0);
    header.string("gpt-oss.rope.scaling.type", "yarn");
    header.f32("gpt-oss.rope.scaling.factor", 32.0);
    header.f32("gpt-oss.rope.scaling.yarn_beta_fast", 32.0);
    header.f32("gpt-oss.rope.scaling.yarn_beta_slow", 1.0);
}

/// Shows every tensor in the order of the file: what it is, its type, its shape (outermost first) and its numbers.
///
/// The residual begins with deviation 1, and what each block adds is so much smaller that the token stays the largest part of
/// it to the end: otherwise all tokens of a text would go to the same experts. The deviation of a matrix is that which its
/// outputs get from inputs of deviation 1, divided by the square root of their number.
pub fn for_each_tensor(
    geometry: &Geometry,
    dense: TensorType,
    mut show: impl FnMut(TensorId, TensorType, &[u64], Distribution),
) {
    let Geometry { layers, hidden, intermediate, experts, heads, kv_heads, vocabulary, .. } = *geometry;
    let (queries, keys) = (heads * HEAD_DIM, kv_heads * HEAD_DIM);
    let mut tensor = |role, layer, dtype, shape: &[u64], mean, deviation| {
        show(TensorId { role, layer, naming: Naming::Gguf }, dtype, shape, Distribution { mean, deviation });
    };
    let per_input = |inputs: u64, outputs: f32| outputs / (inputs as f32).sqrt();

    use Role::*;
    use TensorType::{F32, Mxfp4};
    tensor(Embedding, 0, dense, &[vocabulary, hidden], 0.0, 1.0);
    for layer in 0..layers {
        let mut gain = |role| tensor(role, layer, F32, &[hidden], 1.0, 0.1);
        gain(AttentionNorm);
        gain(MlpNorm);
        let mut linear = |weight, bias, dtype, shape: &[u64], outputs: f32| {
            let (inputs, rows) = shape.split_last().expect("a matrix");
            tensor(weight, layer, dtype, shape, 0.0, per_input(*inputs, outputs));
            let bias_deviation = if bias == RouterBias { geometry.router_bias } else { 0.1 };
            tensor(bias, layer, F32, rows, 0.0, bias_deviation * outputs);
        };
        linear(QueryWeight, QueryBias, dense, &[queries, hidden], 1.0);
        linear(KeyWeight, KeyBias, dense, &[keys, hidden], 1.0);
        linear(ValueWeight, ValueBias, dense, &[keys, hidden], 1.0);
        linear(AttentionOutputWeight, AttentionOutputBias, dense, &[hidden, queries], 0.25);
        linear(RouterWeight, RouterBias, F32, &[experts, hidden], 1.0);
        linear(GateWeight, GateBias, Mxfp4, &[experts, intermediate, hidden], 0.8);
        linear(UpWeight, UpBias, Mxfp4, &[experts, intermediate, hidden], 0.8);
        linear(DownWeight, DownBias, Mxfp4, &[experts, hidden, intermediate], 0.2);
        tensor(Sinks, layer, F32, &[heads], 0.0, 1.0);
    }
    tensor(OutputNorm, 0, F32, &[hidden], 1.0, 0.1);
    // Logits of a deviation like that of a trained model.
    tensor(Unembedding, 0, dense, &[vocabulary, hidden], 0.0, per_input(hidden, 2.5));
}
