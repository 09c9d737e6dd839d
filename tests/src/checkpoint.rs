//! A gpt-oss checkpoint as 64-bit floats, read from the layout in which OpenAI publishes it (the `original` folder).
//!
//! Every weight is exact: bfloat16 and MXFP4 values are 64-bit floats too.

use std::path::Path;

use serde_json::Value;

use crate::safetensors::Safetensors;

/// The numbers in `config.json`.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names are those of the model's hyper-parameters")]
pub struct Configuration {
    pub layers: usize,
    pub experts: usize,
    pub experts_per_token: usize,
    pub vocabulary: usize,
    pub hidden: usize,
    pub intermediate: usize,
    pub swiglu_limit: f64,
    pub head_dim: usize,
    pub query_heads: usize,
    pub kv_heads: usize,
    /// Positions that an even layer sees, the query's own included.
    pub sliding_window: usize,
    pub rope: Rope,
}

/// The rotary embedding's numbers.
#[derive(Debug, Clone)]
pub struct Rope {
    /// Values per head.
    pub head_dim: usize,
    /// Base of the geometric series of wavelengths.
    pub theta: f64,
    /// How many times longer the context became by YaRN.
    pub factor: f64,
    /// Rotations over the original context above which a pair is left alone (`rope_ntk_beta`).
    pub beta_fast: f64,
    /// Rotations over the original context below which a pair is fully interpolated (`rope_ntk_alpha`).
    pub beta_slow: f64,
    /// Tokens of context before YaRN.
    pub original_context: f64,
}

/// A matrix in row-major order.
#[derive(Debug, Clone)]
pub struct Matrix {
    /// Values per row: the length of what it multiplies.
    pub columns: usize,
    /// `[rows, columns]`
    pub values: Vec<f64>,
}

/// All weights of a model. H is the hidden size, I the intermediate size, V the vocabulary.
pub struct Weights {
    /// Sizes and constants.
    pub configuration: Configuration,
    /// `[V, H]`
    pub embedding: Matrix,
    /// From the first to the last.
    pub layers: Vec<Layer>,
    /// `[H]`
    pub norm: Vec<f64>,
    /// `[V, H]`
    pub unembedding: Matrix,
}

/// The weights of one layer.
pub struct Layer {
    /// `[H]`
    pub attention_norm: Vec<f64>,
    /// `[(query_heads + 2 kv_heads) * head_dim, H]`: query rows, then keys, then values.
    pub qkv: Matrix,
    /// One per row of `qkv`.
    pub qkv_bias: Vec<f64>,
    /// `[query_heads]`
    pub sinks: Vec<f64>,
    /// `[H, query_heads * head_dim]`
    pub attention_output: Matrix,
    /// `[H]`
    pub attention_output_bias: Vec<f64>,
    /// `[H]`
    pub mlp_norm: Vec<f64>,
    /// `[experts, H]`
    pub router: Matrix,
    /// `[experts]`
    pub router_bias: Vec<f64>,
    /// By index.
    pub experts: Vec<Expert>,
}

/// The weights of one expert.
pub struct Expert {
    /// `[2 I, H]`: rows alternate gate, linear.
    pub mlp1: Matrix,
    /// `[2 I]`
    pub mlp1_bias: Vec<f64>,
    /// `[H, I]`
    pub mlp2: Matrix,
    /// `[H]`
    pub mlp2_bias: Vec<f64>,
}

impl Configuration {
    /// Reads `config.json` of an `original` folder.
    pub fn load(path: &Path) -> Self {
        let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let json: Value = serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let real = |key: &str| json[key].as_f64().unwrap_or_else(|| panic!("{}: no number {key}", path.display()));
        let size = |key: &str| real(key) as usize;
        Configuration {
            layers: size("num_hidden_layers"),
            experts: size("num_experts"),
            experts_per_token: size("experts_per_token"),
            vocabulary: size("vocab_size"),
            hidden: size("hidden_size"),
            intermediate: size("intermediate_size"),
            swiglu_limit: real("swiglu_limit"),
            head_dim: size("head_dim"),
            query_heads: size("num_attention_heads"),
            kv_heads: size("num_key_value_heads"),
            sliding_window: size("sliding_window"),
            rope: Rope {
                head_dim: size("head_dim"),
                theta: real("rope_theta"),
                factor: real("rope_scaling_factor"),
                beta_fast: real("rope_ntk_beta"),
                beta_slow: real("rope_ntk_alpha"),
                original_context: real("initial_context_length"),
            },
        }
    }
}

impl Weights {
    /// Reads an `original` folder that holds `config.json` and one `model.safetensors`.
    pub fn load(folder: &Path) -> Self {
        let configuration = Configuration::load(&folder.join("config.json"));
        let file = Safetensors::open(&folder.join("model.safetensors"));
        let Configuration { vocabulary, hidden, query_heads, kv_heads, head_dim, experts, .. } = configuration;

        let vector = |name: String, length: usize| {
            assert_eq!(file.shape(&name), [length], "shape of {name}");
            file.f64s(&name)
        };
        let matrix = |name: String, rows: usize, columns: usize| {
            assert_eq!(file.shape(&name), [rows, columns], "shape of {name}");
            Matrix { columns, values: file.f64s(&name) }
        };
        let layer = |index: usize| {
            let block = |name: &str| format!("block.{index}.{name}");
            Layer {
                attention_norm: vector(block("attn.norm.scale"), hidden),
                qkv: matrix(block("attn.qkv.weight"), (query_heads + 2 * kv_heads) * head_dim, hidden),
                qkv_bias: vector(block("attn.qkv.bias"), (query_heads + 2 * kv_heads) * head_dim),
                sinks: vector(block("attn.sinks"), query_heads),
                attention_output: matrix(block("attn.out.weight"), hidden, query_heads * head_dim),
                attention_output_bias: vector(block("attn.out.bias"), hidden),
                mlp_norm: vector(block("mlp.norm.scale"), hidden),
                router: matrix(block("mlp.gate.weight"), experts, hidden),
                router_bias: vector(block("mlp.gate.bias"), experts),
                experts: load_experts(&file, &configuration, index),
            }
        };
        Weights {
            embedding: matrix("embedding.weight".into(), vocabulary, hidden),
            layers: (0..configuration.layers).map(layer).collect(),
            norm: vector("norm.scale".into(), hidden),
            unembedding: matrix("unembedding.weight".into(), vocabulary, hidden),
            configuration,
        }
    }

    /// The same model with its attention, embedding and unembedding matrices rounded to Q8_0, as the widespread GGUF files
    /// have them. Router, experts and vectors stay as they are.
    pub fn rounded_to_q8_0(mut self) -> Self {
        let round = |matrix: &mut Matrix| matrix.values.chunks_exact_mut(32).for_each(round_to_q8_0);
        round(&mut self.embedding);
        round(&mut self.unembedding);
        for layer in &mut self.layers {
            round(&mut layer.qkv);
            round(&mut layer.attention_output);
        }
        self
    }
}

fn load_experts(file: &Safetensors, configuration: &Configuration, layer: usize) -> Vec<Expert> {
    let Configuration { experts, hidden, intermediate, .. } = *configuration;
    // One matrix and one bias per expert.
    let load = |name: &str, rows: usize, columns: usize| -> Vec<(Matrix, Vec<f64>)> {
        let name = |part: &str| format!("block.{layer}.mlp.{name}_{part}");
        let [blocks, scales, bias] = [name("weight.blocks"), name("weight.scales"), name("bias")];
        assert_eq!(file.shape(&blocks), [experts, rows, columns / 32, 16], "shape of {blocks}");
        assert_eq!(file.shape(&scales), [experts, rows, columns / 32], "shape of {scales}");
        assert_eq!(file.shape(&bias), [experts, rows], "shape of {bias}");
        let values = mxfp4(file.u8s(&blocks), file.u8s(&scales));
        let matrices = values.chunks(rows * columns).map(|values| Matrix { columns, values: values.to_vec() });
        matrices.zip(file.f64s(&bias).chunks(rows).map(<[f64]>::to_vec)).collect()
    };
    let mlp1 = load("mlp1", 2 * intermediate, hidden);
    let mlp2 = load("mlp2", hidden, intermediate);
    let expert = |((mlp1, mlp1_bias), (mlp2, mlp2_bias))| Expert { mlp1, mlp1_bias, mlp2, mlp2_bias };
    mlp1.into_iter().zip(mlp2).map(expert).collect()
}

/// MXFP4 to floats, exactly. `blocks` has 16 bytes for 32 values, `scales` one byte. Byte j of a block holds value 2j in its low
/// four bits and value 2j + 1 in its high ones. (OCP Microscaling Formats 1.0: E2M1 elements, E8M0 scale.)
pub fn mxfp4(blocks: &[u8], scales: &[u8]) -> Vec<f64> {
    const CODES: [f64; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];
    assert_eq!(blocks.len(), 16 * scales.len(), "bytes of blocks");
    let mut values = Vec::with_capacity(32 * scales.len());
    for (block, &scale) in blocks.chunks(16).zip(scales) {
        let scale = if scale == 255 { f64::NAN } else { 2f64.powi(i32::from(scale) - 127) };
        for byte in block {
            values.push(scale * CODES[usize::from(byte & 15)]);
            values.push(scale * CODES[usize::from(byte >> 4)]);
        }
    }
    values
}

/// A Q8_0 block of 34 bytes to its 32 values: a 16-bit float, then 32 signed bytes that it multiplies.
pub fn q8_0(block: &[u8; 34]) -> [f64; 32] {
    let half = u16::from_le_bytes([block[0], block[1]]);
    let fraction = f64::from(half & 0x3ff) / 1024.0;
    let magnitude = match i32::from(half >> 10 & 0x1f) {
        0 => fraction * 2f64.powi(-14),
        31 => panic!("a scale of {half:#06x} is not a finite number"),
        exponent => (1.0 + fraction) * 2f64.powi(exponent - 15),
    };
    let scale = if half >> 15 == 1 { -magnitude } else { magnitude };
    std::array::from_fn(|index| scale * f64::from(block[2 + index] as i8))
}

/// Rounds 32 values to what a Q8_0 block can hold, in the 32-bit arithmetic of ggml's quantizer: the scale is the largest
/// magnitude divided by 127, the integers use that scale before it is itself rounded to 16 bits.
fn round_to_q8_0(values: &mut [f64]) {
    let largest = values.iter().fold(0f32, |largest, &value| largest.max((value as f32).abs()));
    let scale = largest / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    // To a multiple of the 16-bit float's last place, ties to even.
    let exponent = if scale == 0.0 { -14 } else { (f64::from(scale).log2().floor() as i32).max(-14) };
    let last_place = 2f64.powi(exponent - 10);
    let stored_scale = (f64::from(scale) / last_place).round_ties_even() * last_place;
    for value in values {
        *value = stored_scale * f64::from((*value as f32 * inverse).round());
    }
}
