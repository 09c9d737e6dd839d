//! A GGUF file as llama.cpp's converter writes it.

use std::path::Path;

use anyhow::{Result, ensure};
use ossicle_core::file::TensorType;
use ossicle_core::model::{Config, Naming, Role, TensorId};

use super::rows::Format;
use super::source::{LAYER_ROLES, Source, shape};
use super::target::{Target, Tensor};
use super::vocabulary::Vocabulary;
use crate::gguf_writer::Header;

/// The file for a model; `dense` is the format of the attention, embedding and output matrices: of none, Q8_0 stays as it is, and
/// the rest becomes BF16.
pub fn target<'w>(
    source: &mut Source<'w>,
    vocabulary: &Vocabulary,
    name: &str,
    dense: Option<Format>,
    path: &Path,
) -> Result<Target<'w>> {
    let config = *source.config();
    // The format has no key for it, and its readers compute with this.
    ensure!(config.swiglu_limit == 7.0, "swiglu_limit: expected 7, found {}", config.swiglu_limit);
    let mut header = Header::default();
    describe(&config, name, &mut header);
    vocabulary.describe(&mut header);

    let mut tensors = Vec::new();
    let mut add = |role: Role, layer: usize| -> Result<()> {
        let rows = source.rows(role, layer)?;
        let shape: Vec<u64> = shape(&config, role).iter().map(|dim| *dim as u64).collect();
        let format = match role {
            Role::GateWeight | Role::UpWeight | Role::DownWeight => Format::Mxfp4,
            Role::RouterWeight => Format::F32,
            _ if shape.len() == 2 && !role.is_expert() => match dense {
                Some(dense) => dense,
                None if rows.is_q8_0() => Format::Q8_0,
                None => Format::Bf16,
            },
            _ => Format::F32,
        };
        let dtype = match format {
            Format::Bf16 => TensorType::Bf16,
            Format::Q8_0 => TensorType::Q8_0,
            Format::Mxfp4 => TensorType::Mxfp4,
            _ => TensorType::F32,
        };
        let name = TensorId { role, layer: layer as u16, naming: Naming::Gguf }.to_string();
        let offset = header.tensor(&name, dtype, &shape);
        tensors.push((Tensor { name, format, shape, parts: vec![rows] }, offset));
        Ok(())
    };
    add(Role::Embedding, 0)?;
    for layer in 0..config.layers {
        let experts =
            [Role::GateWeight, Role::GateBias, Role::UpWeight, Role::UpBias, Role::DownWeight, Role::DownBias];
        LAYER_ROLES.into_iter().chain(experts).try_for_each(|role| add(role, layer))?;
    }
    add(Role::OutputNorm, 0)?;
    add(Role::Unembedding, 0)?;

    let data_size = header.data_size();
    let header = header.finish();
    let data_start = header.len() as u64;
    tensors.iter_mut().for_each(|(_, offset)| *offset += data_start);
    Ok(Target { path: path.into(), header, tensors, size: data_start + data_size })
}

fn describe(config: &Config, name: &str, header: &mut Header) {
    header.string("general.architecture", "gpt-oss");
    header.string("general.type", "model");
    header.string("general.name", name);
    header.u32("general.file_type", 38); // LLAMA_FTYPE_MOSTLY_MXFP4_MOE
    header.u32("general.quantization_version", 2);
    let numbers = [
        ("block_count", config.layers),
        ("context_length", config.context_tokens),
        ("embedding_length", config.hidden),
        ("feed_forward_length", config.intermediate),
        ("expert_feed_forward_length", config.intermediate),
        ("attention.head_count", config.heads),
        ("attention.head_count_kv", config.kv_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        ("attention.sliding_window", config.window),
        ("expert_count", config.experts),
        ("expert_used_count", config.experts_per_token),
        ("rope.scaling.original_context_length", config.rope.original_context as usize),
    ];
    for (key, value) in numbers {
        header.u32(&format!("gpt-oss.{key}"), value as u32);
    }
    header.f32("gpt-oss.attention.layer_norm_rms_epsilon", config.norm_epsilon);
    header.f32("gpt-oss.rope.freq_base", config.rope.theta);
    header.string("gpt-oss.rope.scaling.type", "yarn");
    header.f32("gpt-oss.rope.scaling.factor", config.rope.factor);
    header.f32("gpt-oss.rope.scaling.yarn_beta_fast", config.rope.beta_fast);
    header.f32("gpt-oss.rope.scaling.yarn_beta_slow", config.rope.beta_slow);
    // Readers take the even layers for windowed where nothing is said.
    let windowed: Vec<_> = (0..config.layers).map(|layer| config.is_windowed(layer)).collect();
    if windowed.iter().enumerate().any(|(layer, windowed)| *windowed != layer.is_multiple_of(2)) {
        header.bools("gpt-oss.attention.sliding_window_pattern", windowed.into_iter());
    }
}
