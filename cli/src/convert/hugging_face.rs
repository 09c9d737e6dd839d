//! A folder as Hugging Face's transformers reads it: safetensors and the JSON files beside them.

use std::path::Path;

use anyhow::Result;
use ossicle_core::format::mxfp4::BLOCK_SIZE;
use ossicle_core::model::{Config, Naming, Role, TensorId};
use serde_json::{Map, Value, json};

use super::rows::{Format, Rows};
use super::source::{LAYER_ROLES, Source, shape};
use super::target::{Target, Tensor};
use super::vocabulary::{Vocabulary, write_json};

/// The safetensors files for a model, in the folder, none with more than `shard_size` bytes of tensors unless one tensor has.
pub fn targets<'w>(source: &mut Source<'w>, folder: &Path, shard_size: u64) -> Result<Vec<Target<'w>>> {
    let mut shards: Vec<Vec<Tensor<'w>>> = vec![Vec::new()];
    let mut filled = 0;
    for tensor in tensors(source)? {
        filled += tensor.size();
        if filled > shard_size && filled > tensor.size() {
            shards.push(Vec::new());
            filled = tensor.size();
        }
        shards.last_mut().expect("there is always one").push(tensor);
    }
    let count = shards.len();
    let names = (1..).map(|number| match count {
        1 => "model.safetensors".to_owned(),
        _ => format!("model-{number:05}-of-{count:05}.safetensors"),
    });
    Ok(shards.into_iter().zip(names).map(|(tensors, name)| file(tensors, &folder.join(name))).collect())
}

/// Writes the files beside the tensors: the index, if there are several files of them, and the configurations.
pub fn write_configuration(
    folder: &Path,
    config: &Config,
    targets: &[Target<'_>],
    vocabulary: Option<&Vocabulary>,
) -> Result<()> {
    if targets.len() > 1 {
        let mut map = Map::new();
        for target in targets {
            let file = target.path.file_name().and_then(|name| name.to_str());
            map.extend(target.tensors.iter().map(|(tensor, _)| (tensor.name.clone(), json!(file))));
        }
        let size: u64 = targets.iter().flat_map(|target| &target.tensors).map(|(tensor, _)| tensor.size()).sum();
        let index = json!({ "metadata": { "total_size": size }, "weight_map": map });
        write_json(&folder.join("model.safetensors.index.json"), &index)?;
    }
    let mut settings = configuration(config);
    if let Some(vocabulary) = vocabulary {
        let ([bos, eos, padding], ends) = vocabulary.special_ids();
        let mut generation = json!({ "do_sample": true, "eos_token_id": ends });
        for (key, id) in [("bos_token_id", bos), ("eos_token_id", eos), ("pad_token_id", padding)] {
            if let Some(id) = id {
                settings[key] = json!(id);
                if key != "eos_token_id" {
                    generation[key] = json!(id);
                }
            }
        }
        write_json(&folder.join("generation_config.json"), &generation)?;
        vocabulary.write_hugging_face(folder)?;
    }
    write_json(&folder.join("config.json"), &settings)
}

fn tensors<'w>(source: &mut Source<'w>) -> Result<Vec<Tensor<'w>>> {
    let config = *source.config();
    let mut tensors = Vec::new();
    let mut add = |role: Role, layer: usize, format: Format, parts: Vec<Rows<'w>>| {
        let name = TensorId { role, layer: layer as u16, naming: Naming::HuggingFace }.to_string();
        let mut shape: Vec<u64> = shape(&config, role).iter().map(|dim| *dim as u64).collect();
        if format == Format::Mxfp4Codes {
            let columns = shape.pop().expect("experts have three dimensions");
            let (block_len, _) = format.block();
            shape.extend([columns / block_len as u64, BLOCK_SIZE as u64]);
        }
        tensors.push(Tensor { name, format, shape, parts });
    };
    add(Role::Embedding, 0, Format::Bf16, vec![source.rows(Role::Embedding, 0)?]);
    for layer in 0..config.layers {
        for role in LAYER_ROLES {
            add(role, layer, Format::Bf16, vec![source.rows(role, layer)?]);
        }
        let mut gate_up = |whole, gate, up| match source.is_interleaved() {
            true => Ok::<_, anyhow::Error>(vec![source.rows(whole, layer)?]),
            false => Ok(vec![source.rows(gate, layer)?, source.rows(up, layer)?]),
        };
        let weights = gate_up(Role::GateUpWeight, Role::GateWeight, Role::UpWeight)?;
        let biases = gate_up(Role::GateUpBias, Role::GateBias, Role::UpBias)?;
        add(Role::GateUpWeight, layer, Format::Mxfp4Codes, weights.clone());
        add(Role::GateUpScales, layer, Format::Mxfp4Scales, weights);
        add(Role::GateUpBias, layer, Format::Bf16, biases);
        let down = vec![source.rows(Role::DownWeight, layer)?];
        add(Role::DownWeight, layer, Format::Mxfp4Codes, down.clone());
        add(Role::DownScales, layer, Format::Mxfp4Scales, down);
        add(Role::DownBias, layer, Format::Bf16, vec![source.rows(Role::DownBias, layer)?]);
    }
    add(Role::OutputNorm, 0, Format::Bf16, vec![source.rows(Role::OutputNorm, 0)?]);
    add(Role::Unembedding, 0, Format::Bf16, vec![source.rows(Role::Unembedding, 0)?]);
    Ok(tensors)
}

/// One safetensors file. Format: <https://github.com/huggingface/safetensors#format>.
fn file<'w>(tensors: Vec<Tensor<'w>>, path: &Path) -> Target<'w> {
    // Loaders ask for this entry.
    let mut json = Map::from_iter([("__metadata__".to_owned(), json!({ "format": "pt" }))]);
    let mut end = 0;
    let mut offsets = Vec::new();
    for tensor in &tensors {
        let dtype = if tensor.format == Format::Bf16 { "BF16" } else { "U8" };
        let begin = end;
        end += tensor.size();
        offsets.push(begin);
        let entry = json!({ "dtype": dtype, "shape": tensor.shape, "data_offsets": [begin, end] });
        json.insert(tensor.name.clone(), entry);
    }
    let mut text = Value::Object(json).to_string();
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend(text.as_bytes());
    let data_start = header.len() as u64;
    let tensors = tensors.into_iter().zip(offsets.iter().map(|offset| data_start + offset)).collect();
    Target { path: path.into(), header, tensors, size: data_start + end }
}

fn configuration(config: &Config) -> Value {
    let layer_types: Vec<_> = (0..config.layers)
        .map(|layer| if config.is_windowed(layer) { "sliding_attention" } else { "full_attention" })
        .collect();
    json!({
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "attention_bias": true,
        "attention_dropout": 0.0,
        "experts_per_token": config.experts_per_token,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.hidden,
        "initial_context_length": config.rope.original_context as u64,
        "initializer_range": 0.02,
        "intermediate_size": config.intermediate,
        "layer_types": layer_types,
        "max_position_embeddings": config.context_tokens,
        "num_attention_heads": config.heads,
        "num_experts_per_tok": config.experts_per_token,
        "num_hidden_layers": config.layers,
        "num_key_value_heads": config.kv_heads,
        "num_local_experts": config.experts,
        "output_router_logits": false,
        "quantization_config": {
            "modules_to_not_convert":
                ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"],
            "quant_method": "mxfp4",
        },
        "rms_norm_eps": shortest(config.norm_epsilon),
        "rope_scaling": {
            "beta_fast": shortest(config.rope.beta_fast),
            "beta_slow": shortest(config.rope.beta_slow),
            "factor": shortest(config.rope.factor),
            "original_max_position_embeddings": config.rope.original_context as u64,
            "rope_type": "yarn",
            "truncate": false,
        },
        "rope_theta": shortest(config.rope.theta),
        "router_aux_loss_coef": 0.9,
        "sliding_window": config.window,
        "swiglu_limit": shortest(config.swiglu_limit),
        "tie_word_embeddings": false,
        "torch_dtype": "bfloat16",
        "use_cache": true,
        "vocab_size": config.vocabulary,
    })
}

/// The shortest number in decimal that is this one in single precision: 0.00001, not 0.0000099999997.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().expect("a number that was just written")
}
