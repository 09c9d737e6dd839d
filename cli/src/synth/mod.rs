//! `ossicle synth`: models of random weights.
//!
//! They have the geometry, the tensor types and the tokenizer of the real ones, and numbers of a like size in their
//! activations, but have learnt nothing. Speed and memory can be measured on them without downloading a model.

mod geometry;
mod plan;
pub mod vocabulary;
mod weights;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use ossicle_core::file::TensorType;

use crate::chunked_file::progress_bar;
use geometry::Geometry;
use plan::Plan;

/// Arguments of `ossicle synth`.
#[derive(Args)]
pub struct Arguments {
    /// Which model to be as large as.
    #[arg(long, value_enum)]
    geometry: GeometryOption,
    /// The GGUF file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The same seed gives the same bytes.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Type of the attention, embedding and output matrices.
    #[arg(long, value_enum, default_value = "q8_0")]
    dense: DenseOption,
    /// Another number of layers, for experiments.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    layers: Option<u16>,
    /// Deviation of the biases of the routers, whose logits have 1: with 1 too, some experts are chosen much more often than others.
    #[arg(long, default_value_t = 0.1)]
    router_bias: f32,
}

#[derive(Clone, Copy, ValueEnum)]
enum GeometryOption {
    /// gpt-oss-20b: 12.1 GB with --dense q8_0.
    #[value(name = "20b")]
    Small,
    /// gpt-oss-120b: 63.4 GB with --dense q8_0.
    #[value(name = "120b")]
    Large,
    /// Less than a megabyte.
    Tiny,
}

#[derive(Clone, Copy, ValueEnum)]
enum DenseOption {
    /// As in the published GGUF files.
    #[value(name = "q8_0")]
    Q8_0,
    /// As in the original checkpoints.
    Bf16,
}

/// Runs `ossicle synth`.
pub fn run(arguments: &Arguments) -> Result<()> {
    let mut geometry = match arguments.geometry {
        GeometryOption::Small => Geometry::SMALL,
        GeometryOption::Large => Geometry::LARGE,
        GeometryOption::Tiny => Geometry::TINY,
    };
    geometry.layers = arguments.layers.unwrap_or(geometry.layers);
    geometry.router_bias = arguments.router_bias;
    ensure!(
        (0.0..=1e6).contains(&geometry.router_bias),
        "--router-bias is {}, and has to be from 0 to 1000000",
        geometry.router_bias
    );
    let dense = match arguments.dense {
        DenseOption::Q8_0 => TensorType::Q8_0,
        DenseOption::Bf16 => TensorType::Bf16,
    };
    let plan = Plan::new(&geometry, dense);
    let bar = progress_bar(plan.size, "writing");
    plan.write(&arguments.out, arguments.seed, |written| bar.set_position(written))
        .with_context(|| arguments.out.display().to_string())?;
    bar.finish_and_clear();
    Ok(())
}
