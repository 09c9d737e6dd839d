use core::ops::Range;

use crate::error::Result;
use crate::kernels::{Kernels, exp};
use crate::model::{Config, Layer, LayerExperts, Place};
use crate::parallel::{Groups, Parallel, Stage, Tile, for_each_block, for_each_tile};
use crate::region::Carver;

use super::activations::{Activations, all_finite, rms_norm};
use super::adaptation::Adaptation;
use super::linear::{piece, project, project_tile};
use super::session::Precision;

/// What the experts need for a batch of tokens. A *job* is one expert's work on one token; jobs are numbered expert by
/// expert, so that each expert's weights are read once for all its tokens. Experts that are in memory come first.
pub(super) struct Experts<'r> {
    /// The residual stream, normalized: [tokens][hidden].
    normalized: Activations<'r>,
    /// [tokens][experts].
    router_logits: &'r mut [f32],
    /// The experts chosen for each token, the best first: [tokens][experts_per_token].
    chosen: &'r mut [u32],
    /// How much each counts: [tokens][experts_per_token].
    weights: &'r mut [f32],
    /// The job of each choice: [tokens][experts_per_token].
    job_of: &'r mut [u32],
    /// The experts that were chosen, in the order of their jobs: [experts].
    order: &'r mut [u32],
    /// How many these are.
    groups: usize,
    /// The jobs of the expert `order[g]` are `bounds[g]..bounds[g + 1]`: [experts + 1].
    bounds: &'r mut [usize],
    /// While jobs are numbered, the next of each expert: [experts].
    next: &'r mut [usize],
    /// The token of each job: [jobs].
    token_of: &'r mut [u32],
    /// Gates and linear parts: [jobs][2 * intermediate].
    gate_up: &'r mut [f32],
    /// [jobs][intermediate].
    activated: Activations<'r>,
    /// [jobs][hidden].
    down: &'r mut [f32],
}

impl<'r> Experts<'r> {
    pub fn carve(carver: &mut Carver<'r>, config: &Config, tokens: usize, precision: Precision) -> Result<Self> {
        let jobs = tokens * config.experts_per_token;
        Ok(Self {
            normalized: Activations::carve(carver, tokens, config.hidden, precision)?,
            router_logits: carver.filled([tokens, config.experts], 0.0)?,
            chosen: carver.filled(jobs, 0)?,
            weights: carver.filled(jobs, 0.0)?,
            job_of: carver.filled(jobs, 0)?,
            order: carver.filled(config.experts, 0)?,
            groups: 0,
            bounds: carver.filled(config.experts + 1, 0)?,
            next: carver.filled(config.experts, 0)?,
            token_of: carver.filled(jobs, 0)?,
            gate_up: carver.filled([jobs, 2, config.intermediate], 0.0)?,
            activated: Activations::carve(carver, jobs, config.intermediate, precision)?,
            down: carver.filled([jobs, config.hidden], 0.0)?,
        })
    }

    /// residual += experts(norm(residual)); residual is [tokens][hidden].
    pub fn forward(
        &mut self,
        (parallel, kernels): (&dyn Parallel, Kernels),
        config: &Config,
        (number, layer, weights): (usize, &Layer<'_>, &mut LayerExperts<'_>),
        adaptation: &mut Adaptation<'_>,
        residual: &mut [f32],
    ) -> Result<()> {
        let Config { hidden, experts, experts_per_token, .. } = *config;
        let tokens = residual.len() / hidden;

        parallel.begin(Stage::Router);
        self.normalized.fill(parallel, kernels, 0..tokens, |token, out| {
            rms_norm(&residual[token * hidden..][..hidden], &layer.mlp_norm, config.norm_epsilon, out);
        });
        let out = Tile::new(self.router_logits, tokens, experts);
        let inputs = self.normalized.inputs(0);
        project(parallel, kernels, &layer.router, &inputs, out);
        let at = (number, Place::Router);
        let logits = (&mut *self.router_logits, experts);
        adaptation.add((parallel, kernels), at, (&[0], &[0, tokens]), |_| (inputs, None), logits);
        for token in 0..tokens {
            let choices = token * experts_per_token..(token + 1) * experts_per_token;
            let logits = &self.router_logits[token * experts..][..experts];
            choose(logits, &mut self.chosen[choices.clone()], &mut self.weights[choices]);
        }
        self.number_jobs(tokens, experts_per_token, |expert| weights.is_there(expert));
        let mut first = 0;
        while first < self.groups {
            let end = first + weights.fetch(parallel, &self.order[first..self.groups])?;
            self.work((parallel, kernels), config, (number, layer, weights), adaptation, first..end);
            first = end;
        }

        parallel.begin(Stage::Combine);
        let (down, weights, job_of) = (&*self.down, &*self.weights, &*self.job_of);
        for_each_block(parallel, residual, hidden, |token, residual| {
            let choices = token * experts_per_token..(token + 1) * experts_per_token;
            let outputs = |choice: usize| &down[job_of[choice] as usize * hidden..][..hidden];
            for (i, residual) in residual.iter_mut().enumerate() {
                // The sum of the experts comes first, in the order in which they were chosen.
                *residual += choices.clone().map(|choice| weights[choice] * outputs(choice)[i]).sum::<f32>();
            }
        });
        Ok(())
    }

    /// The jobs of some of the experts that were chosen, which are in memory.
    fn work(
        &mut self,
        (parallel, kernels): (&dyn Parallel, Kernels),
        config: &Config,
        (number, layer, weights): (usize, &Layer<'_>, &LayerExperts<'_>),
        adaptation: &mut Adaptation<'_>,
        groups: Range<usize>,
    ) {
        let Config { hidden, intermediate, .. } = *config;
        let (order, bounds) = (&self.order[groups.clone()], &self.bounds[groups.start..=groups.end]);
        let jobs = bounds[0]..bounds[order.len()];

        parallel.begin(Stage::GateUp);
        let inputs = self.normalized.inputs(0);
        let out = Tile::new(self.gate_up, jobs.end, 2 * intermediate);
        let width = piece(parallel, 2 * intermediate);
        for_each_tile(parallel, out, Groups::Bounds(bounds), width, |group, first, mut tile| {
            let tokens = &self.token_of[bounds[group]..bounds[group + 1]];
            project_tile(kernels, &weights.gate_up(order[group]), &inputs, Some(tokens), first, &mut tile);
        });
        let token_of = &*self.token_of;
        let inputs_of = |group: usize| (inputs, Some(&token_of[bounds[group]..bounds[group + 1]]));
        let out = (&mut *self.gate_up, 2 * intermediate);
        adaptation.add((parallel, kernels), (number, Place::GateUp), (order, bounds), inputs_of, out);

        parallel.begin(Stage::Activation);
        let gate_up = &*self.gate_up;
        self.activated.fill(parallel, kernels, jobs.clone(), |job, out| {
            let gate_up = &gate_up[job * 2 * intermediate..][..2 * intermediate];
            kernels.swiglu(gate_up, layer.interleaved, config.swiglu_limit, out);
            if !all_finite(gate_up) {
                out.fill(f32::NAN);
            }
        });

        parallel.begin(Stage::Down);
        let out = Tile::new(self.down, jobs.end, hidden);
        let width = piece(parallel, hidden);
        for_each_tile(parallel, out, Groups::Bounds(bounds), width, |group, first, mut tile| {
            let inputs = self.activated.inputs(bounds[group]);
            project_tile(kernels, &weights.down(order[group]), &inputs, None, first, &mut tile);
        });
        let inputs_of = |group: usize| (self.activated.inputs(bounds[group]), None);
        adaptation.add((parallel, kernels), (number, Place::Down), (order, bounds), inputs_of, (self.down, hidden));
    }

    /// Sorts the choices by expert, those that are there first, and among those of one expert by token.
    fn number_jobs(&mut self, tokens: usize, experts_per_token: usize, is_there: impl Fn(u32) -> bool) {
        let chosen = &self.chosen[..tokens * experts_per_token];
        self.next.fill(0);
        for expert in chosen {
            self.next[*expert as usize] += 1;
        }
        self.groups = 0;
        let mut jobs = 0;
        for there in [true, false] {
            for (expert, next) in self.next.iter_mut().enumerate() {
                if *next == 0 || is_there(expert as u32) != there {
                    continue;
                }
                self.order[self.groups] = expert as u32;
                self.groups += 1;
                // Its number of jobs makes way for the first of them.
                jobs += core::mem::replace(next, jobs);
                self.bounds[self.groups] = jobs;
            }
        }
        for (choice, expert) in chosen.iter().enumerate() {
            let job = &mut self.next[*expert as usize];
            self.job_of[choice] = *job as u32;
            self.token_of[*job] = (choice / experts_per_token) as u32;
            *job += 1;
        }
    }
}

/// The largest logits, the best first and the lowest expert first among equals, and the softmax over these alone.
fn choose(logits: &[f32], chosen: &mut [u32], weights: &mut [f32]) {
    for choice in 0..chosen.len() {
        let (before, rest) = chosen.split_at_mut(choice);
        let mut best: Option<usize> = None;
        for (expert, logit) in logits.iter().enumerate() {
            if !before.contains(&(expert as u32)) && best.is_none_or(|best| *logit > logits[best]) {
                best = Some(expert);
            }
        }
        rest[0] = best.expect("there are at least as many experts as choices") as u32;
    }
    let logit = |expert: u32| logits[expert as usize];
    let mut sum = 0.0;
    for (weight, expert) in weights.iter_mut().zip(&*chosen) {
        *weight = exp(logit(*expert) - logit(chosen[0]));
        sum += *weight;
    }
    weights.iter_mut().for_each(|weight| *weight /= sum);
    if !all_finite(logits) {
        weights.fill(f32::NAN);
    }
}
