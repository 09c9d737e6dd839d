//! gpt-oss as mathematics: 64-bit floats, one position after another, no cache, nothing clever.
//!
//! This is what the engine is compared with. It shares no code with it and is written to be read from top to bottom, in the
//! order in which a token passes through the model. Sizes: H hidden, I intermediate, V vocabulary, D head_dim (64), Q query
//! heads, K key-value heads, E experts, T tokens. The source is OpenAI's `gpt_oss/torch/model.py`.

use std::path::Path;

use crate::checkpoint::{Layer, Matrix, Rope, Weights};

/// Added to the mean square in every norm.
const RMS_EPSILON: f64 = 1e-5;
/// Gain of the gate inside its sigmoid.
const SWIGLU_ALPHA: f64 = 1.702;

/// A model, ready to run.
pub struct Reference {
    weights: Weights,
    /// `[D/2]` radians per position.
    frequencies: Vec<f32>,
}

/// Everything that a forward pass computes.
pub struct Trace {
    /// `[T][H]`
    pub embedding: Vec<Vec<f64>>,
    /// `[layers][T]`
    pub layers: Vec<Vec<LayerTrace>>,
    /// `[T][H]`
    pub final_norm: Vec<Vec<f64>>,
    /// `[T][V]`
    pub logits: Vec<Vec<f64>>,
}

/// What one layer computes for one position, in order.
pub struct LayerTrace {
    /// The residual stream, normalized. `[H]`
    pub attention_norm: Vec<f64>,
    /// Queries, before and after rotation. `[Q * D]`
    pub q: Vec<f64>,
    /// `[Q * D]`
    pub q_rope: Vec<f64>,
    /// Keys, before and after rotation. `[K * D]`
    pub k: Vec<f64>,
    /// `[K * D]`
    pub k_rope: Vec<f64>,
    /// `[K * D]`
    pub v: Vec<f64>,
    /// Values weighted by attention. `[Q * D]`
    pub attention_context: Vec<f64>,
    /// Its projection. `[H]`
    pub attention_output: Vec<f64>,
    /// The residual stream after attention. `[H]`
    pub residual_attention: Vec<f64>,
    /// The same, normalized. `[H]`
    pub mlp_norm: Vec<f64>,
    /// `[E]`
    pub router_logits: Vec<f64>,
    /// The chosen experts, best first. `[experts_per_token]`
    pub router_index: Vec<usize>,
    /// Their weights, which sum to one. `[experts_per_token]`
    pub router_weight: Vec<f64>,
    /// First expert matrix with bias; gate and linear alternate. `[experts_per_token][2 I]`
    pub expert_mlp1: Vec<Vec<f64>>,
    /// `[experts_per_token][I]`
    pub expert_activation: Vec<Vec<f64>>,
    /// Second expert matrix with bias, not yet weighted. `[experts_per_token][H]`
    pub expert_output: Vec<Vec<f64>>,
    /// The weighted sum. `[H]`
    pub moe_output: Vec<f64>,
    /// The residual stream that leaves the layer. `[H]`
    pub residual_output: Vec<f64>,
}

impl Reference {
    /// A model with the given weights.
    pub fn new(weights: Weights) -> Self {
        let frequencies = yarn_frequencies(&weights.configuration.rope);
        Self::with_frequencies(weights, frequencies)
    }

    /// A model with the given weights and rotary frequencies, in radians per position. `[D/2]`
    pub fn with_frequencies(weights: Weights, frequencies: Vec<f32>) -> Self {
        Reference { weights, frequencies }
    }

    /// Reads an `original` folder. Panics with the name of what is wrong in it.
    pub fn load(folder: &Path) -> Self {
        Self::new(Weights::load(folder))
    }

    /// The weights that it runs with.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Runs all tokens, from position 0, and keeps every intermediate (some 20 kB per token and layer of the test models).
    pub fn forward(&self, tokens: &[u32]) -> Trace {
        let mut layers = Vec::new();
        let (final_norm, logits) = self.run(tokens, |layer| layers.push(layer));
        Trace { embedding: self.embed(tokens), layers, final_norm, logits }
    }

    /// The logits after every token. `[T][V]`
    pub fn logits(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        self.run(tokens, drop).1
    }

    /// The last norm `[T][H]` and the logits `[T][V]`; each layer's trace goes to `keep`.
    fn run(&self, tokens: &[u32], mut keep: impl FnMut(Vec<LayerTrace>)) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
        let mut residual = self.embed(tokens); // [T][H]
        for (index, layer) in self.weights.layers.iter().enumerate() {
            // Even layers see a window that ends at the query's own position; odd layers see everything before it.
            let window = if index % 2 == 0 { self.weights.configuration.sliding_window } else { usize::MAX };
            let trace = self.layer(layer, window, &residual);
            residual = trace.iter().map(|position| position.residual_output.clone()).collect();
            keep(trace);
        }
        let final_norm = each_position(tokens.len(), |t| rms_norm(&residual[t], &self.weights.norm));
        let logits = each_position(tokens.len(), |t| product(&self.weights.unembedding, &final_norm[t]));
        (final_norm, logits)
    }

    fn embed(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let Matrix { columns, values } = &self.weights.embedding;
        tokens.iter().map(|&token| values[token as usize * columns..][..*columns].to_vec()).collect()
    }

    /// One layer over all positions. `residual`: `[T][H]`
    fn layer(&self, layer: &Layer, window: usize, residual: &[Vec<f64>]) -> Vec<LayerTrace> {
        let configuration = &self.weights.configuration;
        let head_dim = configuration.head_dim;
        let query_rows = configuration.query_heads * head_dim;
        let kv_rows = configuration.kv_heads * head_dim;

        let attention_norm = each_position(residual.len(), |t| rms_norm(&residual[t], &layer.attention_norm)); // [T][H]
        let qkv = each_position(residual.len(), |t| affine(&layer.qkv, &layer.qkv_bias, &attention_norm[t]));
        let q: Vec<&[f64]> = qkv.iter().map(|rows| &rows[..query_rows]).collect(); // [T][Q * D]
        let k: Vec<&[f64]> = qkv.iter().map(|rows| &rows[query_rows..][..kv_rows]).collect(); // [T][K * D]
        let v: Vec<&[f64]> = qkv.iter().map(|rows| &rows[query_rows + kv_rows..]).collect(); // [T][K * D]
        let k_rope = each_position(k.len(), |t| self.rotate(k[t], t));

        each_position(residual.len(), |t| {
            let q_rope = self.rotate(q[t], t); // [Q * D]
            let visible = (t + 1).saturating_sub(window)..t + 1;
            let attention_context = attention(&q_rope, &k_rope[visible.clone()], &v[visible], &layer.sinks, head_dim);
            let attention_output = affine(&layer.attention_output, &layer.attention_output_bias, &attention_context);
            let residual_attention = sum(&residual[t], &attention_output); // [H]

            let mlp_norm = rms_norm(&residual_attention, &layer.mlp_norm); // [H]
            let router_logits = affine(&layer.router, &layer.router_bias, &mlp_norm); // [E]
            let (router_index, router_weight) = route(&router_logits, configuration.experts_per_token);
            let chosen = || router_index.iter().map(|&index| &layer.experts[index]);
            let expert_mlp1: Vec<_> =
                chosen().map(|expert| affine(&expert.mlp1, &expert.mlp1_bias, &mlp_norm)).collect();
            let expert_activation: Vec<_> =
                expert_mlp1.iter().map(|mlp1| swiglu(mlp1, configuration.swiglu_limit)).collect();
            let expert_output: Vec<_> = chosen()
                .zip(&expert_activation)
                .map(|(expert, activation)| affine(&expert.mlp2, &expert.mlp2_bias, activation))
                .collect();
            let mut moe_output = vec![0.0; configuration.hidden];
            for (weight, output) in router_weight.iter().zip(&expert_output) {
                add_scaled(&mut moe_output, *weight, output);
            }
            let residual_output = sum(&residual_attention, &moe_output);

            LayerTrace {
                attention_norm: attention_norm[t].clone(),
                q: q[t].to_vec(),
                q_rope,
                k: k[t].to_vec(),
                k_rope: k_rope[t].clone(),
                v: v[t].to_vec(),
                attention_context,
                attention_output,
                residual_attention,
                mlp_norm,
                router_logits,
                router_index,
                router_weight,
                expert_mlp1,
                expert_activation,
                expert_output,
                moe_output,
                residual_output,
            }
        })
    }

    fn rotate(&self, heads: &[f64], position: usize) -> Vec<f64> {
        rotate(heads, position, &self.frequencies, concentration(&self.weights.configuration.rope))
    }
}

/// x / sqrt(mean(x^2) + epsilon), times a gain per value. Both `[H]`
pub fn rms_norm(x: &[f64], gain: &[f64]) -> Vec<f64> {
    let mean_square = dot(x, x) / x.len() as f64;
    let scale = 1.0 / (mean_square + RMS_EPSILON).sqrt();
    x.iter().zip(gain).map(|(x, gain)| x * scale * gain).collect()
}

/// Radians per position for every pair of a head `[D/2]`: rotary frequencies stretched by YaRN (arXiv 2309.00071, section 3.2).
/// Pairs that turn more than `beta_fast` times over the original context keep their frequency, those that turn less than
/// `beta_slow` times are slowed by the factor, with a straight ramp between. The ramp's ends are not rounded to whole pairs.
///
/// The arithmetic is 32-bit and in the order of the published code, because far positions magnify its rounding. Only the power is
/// taken in 64 bits and then rounded: libraries differ in the last bit of a 32-bit power.
pub fn yarn_frequencies(rope: &Rope) -> Vec<f32> {
    let pairs = rope.head_dim / 2;
    let pair_that_turns = |times: f64| {
        pairs as f64 * (rope.original_context / (times * 2.0 * std::f64::consts::PI)).ln() / rope.theta.ln()
    };
    let low = pair_that_turns(rope.beta_fast);
    let high = pair_that_turns(rope.beta_slow);
    let frequency = |pair: usize| {
        let wavelength = rope.theta.powf(2.0 * pair as f64 / rope.head_dim as f64) as f32; // over 2 pi
        if rope.factor <= 1.0 {
            return 1.0 / wavelength;
        }
        let ramp = ((pair as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
        let keep = 1.0 - ramp;
        (1.0 / (rope.factor as f32 * wavelength)) * (1.0 - keep) + (1.0 / wavelength) * keep
    };
    (0..pairs).map(frequency).collect()
}

/// YaRN's factor on both cosine and sine.
pub fn concentration(rope: &Rope) -> f64 {
    if rope.factor > 1.0 { 0.1 * rope.factor.ln() + 1.0 } else { 1.0 }
}

/// Cosine and sine for every pair at a position, with the concentration. The angle is a 32-bit product, as published.
pub fn cosine_sine(position: usize, frequencies: &[f32], concentration: f64) -> Vec<(f64, f64)> {
    let angles = frequencies.iter().map(|frequency| f64::from(position as f32 * frequency));
    angles.map(|angle| (angle.cos() * concentration, angle.sin() * concentration)).collect()
}

/// Rotates every head `[D]` of `[heads * D]`: value i is paired with value i + D/2.
pub fn rotate(heads: &[f64], position: usize, frequencies: &[f32], concentration: f64) -> Vec<f64> {
    let rotations = cosine_sine(position, frequencies, concentration); // [D/2]
    let half = rotations.len();
    let mut rotated = Vec::with_capacity(heads.len());
    for head in heads.chunks(2 * half) {
        let (first, second) = head.split_at(half);
        let pairs = || rotations.iter().zip(first.iter().zip(second));
        rotated.extend(pairs().map(|((cosine, sine), (a, b))| a * cosine - b * sine));
        rotated.extend(pairs().map(|((cosine, sine), (a, b))| b * cosine + a * sine));
    }
    rotated
}

/// What one position gathers from the `visible` ones. `query`: `[Q * D]`, `keys` and `values`: `[visible][K * D]`, `sinks`: `[Q]`.
/// Query heads share key-value heads in groups of Q / K. Result: `[Q * D]`
pub fn attention<K, V>(query: &[f64], keys: &[K], values: &[V], sinks: &[f64], head_dim: usize) -> Vec<f64>
where
    K: AsRef<[f64]>,
    V: AsRef<[f64]>,
{
    let query_heads = query.len() / head_dim;
    let kv_heads = keys[0].as_ref().len() / head_dim;
    let mut context = vec![0.0; query.len()];
    for (head, out) in context.chunks_mut(head_dim).enumerate() {
        let query = &query[head * head_dim..][..head_dim];
        let kv_start = head / (query_heads / kv_heads) * head_dim;
        let shared = kv_start..kv_start + head_dim;
        let score = |key: &K| dot(query, &key.as_ref()[shared.clone()]) / (head_dim as f64).sqrt();
        let scores: Vec<f64> = keys.iter().map(score).collect(); // [visible]
        for (weight, value) in softmax_with_sink(&scores, sinks[head]).iter().zip(values) {
            add_scaled(out, *weight, &value.as_ref()[shared.clone()]);
        }
    }
    context
}

/// Softmax over the scores and one more logit, the sink, whose own share is dropped: the result sums to less than one.
pub fn softmax_with_sink(scores: &[f64], sink: f64) -> Vec<f64> {
    let largest = scores.iter().copied().fold(sink, f64::max);
    let exponentials: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let total = (sink - largest).exp() + exponentials.iter().sum::<f64>();
    exponentials.iter().map(|exponential| exponential / total).collect()
}

/// The `count` experts with the largest logits, best first, the lower index first among equals; and the softmax over their
/// logits alone.
pub fn route(logits: &[f64], count: usize) -> (Vec<usize>, Vec<f64>) {
    let mut index: Vec<usize> = (0..logits.len()).collect();
    index.sort_by(|&a, &b| logits[b].partial_cmp(&logits[a]).expect("router logits are numbers")); // stable
    index.truncate(count);
    let chosen: Vec<f64> = index.iter().map(|&expert| logits[expert]).collect();
    (index, softmax_with_sink(&chosen, f64::NEG_INFINITY))
}

/// The activation between an expert's two matrices. Gate and linear values alternate: `[2 I]` to `[I]`. The gate is clamped from
/// above only, the linear part on both sides and raised by one.
pub fn swiglu(mlp1: &[f64], limit: f64) -> Vec<f64> {
    let activation = |pair: &[f64]| {
        let gate = pair[0].min(limit);
        let linear = pair[1].clamp(-limit, limit);
        gate / (1.0 + (-SWIGLU_ALPHA * gate).exp()) * (linear + 1.0)
    };
    mlp1.chunks(2).map(activation).collect()
}

/// W x + b
fn affine(matrix: &Matrix, bias: &[f64], x: &[f64]) -> Vec<f64> {
    sum(&product(matrix, x), bias)
}

/// W x
pub fn product(matrix: &Matrix, x: &[f64]) -> Vec<f64> {
    assert_eq!(matrix.columns, x.len(), "columns of a matrix, length of a vector");
    matrix.values.chunks(matrix.columns).map(|row| dot(row, x)).collect()
}

/// a . b, in eight partial sums so that the compiler can use vector instructions.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut partial = [0.0; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for ((partial, a), b) in partial.iter_mut().zip(a).zip(b) {
            *partial += a * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    partial.iter().sum::<f64>() + rest
}

fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
    assert_eq!(a.len(), b.len(), "lengths of two terms");
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn add_scaled(total: &mut [f64], factor: f64, term: &[f64]) {
    total.iter_mut().zip(term).for_each(|(total, term)| *total += factor * term);
}

/// `compute(t)` for every t, on all processors. The result does not depend on how many there are.
fn each_position<T: Send>(count: usize, compute: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let compute = &compute;
    let mut shares: Vec<_> = std::thread::scope(|scope| {
        let start = |first| scope.spawn(move || (first..count).step_by(threads).map(compute).collect::<Vec<T>>());
        let running: Vec<_> = (0..threads).map(start).collect();
        running.into_iter().map(|share| share.join().expect("no thread panics").into_iter()).collect()
    });
    (0..count).map(|t| shares[t % threads].next().expect("one result per position")).collect()
}
