use crate::kernels::{ATTENTION_TOKENS, Kernels};
use crate::model::{self, Config, Layer};
use crate::parallel::{Groups, Parallel, Stage, Tile, for_each_tile};

use super::activations::{Activations, all_finite, rms_norm};
use super::adaptation::Adaptation;
use super::kv_cache::{KvCache, Place};
use super::linear::project;
use super::rope::Rotations;

/// What attention needs for a batch of tokens.
pub(super) struct Attention<'r> {
    /// The residual stream, normalized: [tokens][hidden].
    pub normalized: Activations<'r>,
    /// [tokens][(heads + 2 kv_heads) head_dim]: queries, keys, values.
    pub query_key_value: &'r mut [f32],
    /// What the heads read: [tokens][heads * head_dim].
    pub context: Activations<'r>,
    /// What is added to the residual stream: [tokens][hidden].
    pub output: &'r mut [f32],
    /// One for each query head.
    pub sinks: &'r mut [f32],
    /// For the tokens of the batch.
    pub rotations: Rotations<'r>,
    /// Of all layers.
    pub cache: KvCache<'r>,
}

impl Attention<'_> {
    /// residual += attention(norm(residual)), for tokens at `position` and after; residual is [tokens][hidden].
    pub fn forward(
        &mut self,
        (parallel, kernels): (&dyn Parallel, Kernels),
        config: &Config,
        (place, layer): (Place, &Layer<'_>),
        adaptation: &mut Adaptation<'_>,
        position: usize,
        residual: &mut [f32],
    ) {
        let Config { hidden, head_dim, heads, kv_heads, .. } = *config;
        let tokens = residual.len() / hidden;
        let row = (heads + 2 * kv_heads) * head_dim;
        let (keys_at, values_at) = (heads * head_dim, (heads + kv_heads) * head_dim);

        parallel.begin(Stage::AttentionNorm);
        self.normalized.fill(parallel, kernels, 0..tokens, |token, out| {
            rms_norm(&residual[token * hidden..][..hidden], &layer.attention_norm, config.norm_epsilon, out);
        });

        parallel.begin(Stage::QueryKeyValue);
        let out = Tile::new(self.query_key_value, tokens, row);
        let inputs = self.normalized.inputs(0);
        project(parallel, kernels, &layer.query_key_value, &inputs, out);
        let at = (place.number, model::Place::QueryKeyValue);
        adaptation.add((parallel, kernels), at, (&[0], &[0, tokens]), |_| (inputs, None), (self.query_key_value, row));

        parallel.begin(Stage::Cache);
        for (token, row) in self.query_key_value.chunks_mut(row).take(tokens).enumerate() {
            if !all_finite(row) {
                row.fill(f32::NAN);
            }
            row[..values_at].chunks_mut(head_dim).for_each(|head| self.rotations.rotate(token, head));
            self.cache.write(place, position + token, &row[keys_at..values_at], &row[values_at..]);
        }

        parallel.begin(Stage::Attention);
        // The query heads that share a key-value head lie side by side.
        let shared = config.group() * head_dim;
        layer.sinks.read(0, self.sinks);
        if !all_finite(self.sinks) {
            self.sinks.fill(f32::NAN);
        }
        let (queries, sinks, cache) = (&*self.query_key_value, &*self.sinks, &self.cache);
        let context = Tile::new(self.context.values_mut(), tokens, heads * head_dim);
        // Few tokens still go to many threads.
        let together = (tokens * kv_heads / 4 / parallel.workers().saturating_add(1)).clamp(1, ATTENTION_TOKENS);
        for_each_tile(parallel, context, Groups::Of(together), shared, |group, first, mut out| {
            let (token, kv_head) = (group * together, first / shared);
            kernels.attend(
                (&queries[token * row + first..], row),
                cache.head(place, kv_head),
                cache.visible(place, position + token),
                &sinks[kv_head * config.group()..][..config.group()],
                &mut out,
            );
        });

        parallel.begin(Stage::AttentionOutput);
        self.context.fill(parallel, kernels, 0..tokens, |_, _| {});
        let out = Tile::new(self.output, tokens, hidden);
        let inputs = self.context.inputs(0);
        project(parallel, kernels, &layer.attention_output, &inputs, out);
        let at = (place.number, model::Place::AttentionOutput);
        adaptation.add((parallel, kernels), at, (&[0], &[0, tokens]), |_| (inputs, None), (self.output, hidden));
        for (residual, output) in residual.iter_mut().zip(&*self.output) {
            *residual += output;
        }
    }
}
