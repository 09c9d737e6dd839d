//! `ossicle info`: what a model is.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use ossicle_core::file::TensorType;
use ossicle_core::model::{Config, Model, Naming, Role};
use ossicle_core::transformer::{CacheFormat, Precision, Session, SessionConfig};
use serde_json::{Map, Value, json};

use crate::open::{Opened, with_files};

/// Arguments of `ossicle info`.
#[derive(Args)]
pub struct Arguments {
    /// A GGUF file, a safetensors file or index, or the folder of a checkpoint.
    path: PathBuf,
    /// Positions of the session whose memory is shown [default: 8192, or as many as the model has].
    #[arg(long)]
    context: Option<usize>,
    /// Reads all weights and refuses those that are not finite numbers.
    #[arg(long)]
    check: bool,
    /// Lists every tensor.
    #[arg(long)]
    tensors: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `ossicle info`.
pub fn run(arguments: &Arguments) -> Result<()> {
    with_files(&arguments.path, |opened| {
        if arguments.check {
            opened.model.check_values().map_err(|error| opened.checkpoint.error(error))?;
        }
        let facts = facts(arguments, &opened)?;
        if arguments.json {
            println!("{}", serde_json::to_string_pretty(&facts)?);
        } else {
            print(&facts, 0);
        }
        Ok(())
    })
}

/// Bytes of weights that one decoded token reads, context aside.
pub fn bytes_per_token(model: &Model<'_, '_>) -> u64 {
    let Config { experts, experts_per_token, vocabulary, .. } = *model.config();
    let share = |len: u64, part: usize, of: usize| (u128::from(len) * part as u128 / of as u128) as u64;
    let bytes = model.tensors().map(|tensor| {
        let len = tensor.size;
        match tensor.id.role {
            Role::Embedding => share(len, 1, vocabulary),
            role if role.is_expert() => share(len, experts_per_token, experts),
            _ => len,
        }
    });
    bytes.sum()
}

fn facts(arguments: &Arguments, opened: &Opened<'_>) -> Result<Value> {
    let (model, config) = (opened.model, opened.model.config());
    let mut types: Map<String, Value> = Map::new();
    let mut parameters = 0_u64;
    let mut size = 0_u64;
    for tensor in model.tensors() {
        let entry = types.entry(type_name(tensor.dtype, tensor.id.role)).or_insert(json!({ "tensors": 0, "bytes": 0 }));
        let bytes = tensor.size;
        entry["tensors"] = json!(entry["tensors"].as_u64().unwrap_or(0) + 1);
        entry["bytes"] = json!(entry["bytes"].as_u64().unwrap_or(0) + bytes);
        size += bytes;
        // Codes come two in a byte, their scales count with them.
        parameters += match (tensor.dtype, tensor.id.role) {
            (TensorType::U8, Role::GateUpScales | Role::DownScales) => 0,
            (TensorType::U8, _) => 2 * bytes,
            _ => tensor.dims.iter().fold(1, |product: u64, dim| product.saturating_mul(*dim)),
        };
    }
    let default = SessionConfig::within(config);
    let context_tokens = arguments.context.unwrap_or(default.context_tokens);
    let session = |precision, cache| -> Result<usize> {
        let session = SessionConfig { context_tokens, precision, cache, ..default };
        Ok(Session::layout(model, &session)?.size)
    };
    let windowed = (0..config.layers).filter(|layer| config.is_windowed(*layer)).count();
    let mut facts = json!({
        "architecture": "gpt-oss",
        "layout": match opened.files.naming() {
            Naming::Gguf => "GGUF",
            Naming::HuggingFace => "Hugging Face safetensors",
            Naming::Original => "original safetensors",
        },
        "files": opened.checkpoint.paths().len(),
        "parameters": parameters,
        "tensor_bytes": size,
        "tensor_types": types,
        "layers": config.layers,
        "windowed_layers": windowed,
        "window_tokens": config.window,
        "hidden": config.hidden,
        "experts": config.experts,
        "experts_per_token": config.experts_per_token,
        "expert_size": config.intermediate,
        "heads": config.heads,
        "key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "vocabulary": config.vocabulary,
        "context_tokens": config.context_tokens,
        "bytes_per_decoded_token": bytes_per_token(model),
        "session": {
            "context_tokens": context_tokens,
            "bytes": session(Precision::Standard, None)?,
            "bytes_int8_cache": session(Precision::Standard, Some(CacheFormat::Int8))?,
            "bytes_precise": session(Precision::Precise, None)?,
        },
    });
    if arguments.tensors {
        facts["tensors"] = model
            .tensors()
            .map(|tensor| {
                json!({
                    "name": tensor.id.to_string(),
                    "type": tensor.dtype.to_string(),
                    "shape": tensor.dims,
                    "file": tensor.file,
                    "offset": tensor.offset,
                    "bytes": tensor.size,
                })
            })
            .collect();
    }
    Ok(facts)
}

fn type_name(dtype: TensorType, role: Role) -> String {
    match (dtype, role) {
        (TensorType::U8, Role::GateUpScales | Role::DownScales) => "MXFP4 scales".into(),
        (TensorType::U8, _) => "MXFP4 codes".into(),
        _ => dtype.to_string(),
    }
}

/// Prints an object as lines of names and values.
fn print(value: &Value, indent: usize) {
    let entries: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(name, value)| (name.replace('_', " "), value)).collect(),
        Value::Array(list) => list.iter().map(|value| ("-".to_owned(), value)).collect(),
        _ => return,
    };
    for (name, value) in entries {
        match value {
            Value::Object(map) if name == "-" => {
                let line: Vec<_> = map.iter().map(|(name, value)| format!("{name} {value}")).collect();
                println!("{:indent$}{}", "", line.join(", "));
            }
            Value::Object(_) | Value::Array(_) => {
                println!("{:indent$}{name}", "");
                print(value, indent + 2);
            }
            Value::String(text) => println!("{:indent$}{name:width$} {text}", "", width = 26 - indent),
            Value::Number(number) if name.contains("bytes") => {
                println!("{:indent$}{name:width$} {number} ({})", "", mebibytes(number), width = 26 - indent);
            }
            _ => println!("{:indent$}{name:width$} {value}", "", width = 26 - indent),
        }
    }
}

fn mebibytes(number: &serde_json::Number) -> String {
    format!("{:.1} MiB", number.as_f64().unwrap_or(0.0) / f64::from(1 << 20))
}
