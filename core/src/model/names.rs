//! What the tensors of a checkpoint are called: by GGUF files, by Hugging Face's and by OpenAI's.

use core::fmt;

/// Whose names a file uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// llama.cpp's and Ollama's, in GGUF files.
    Gguf,
    /// Hugging Face's, in safetensors files.
    HuggingFace,
    /// OpenAI's, in the safetensors files of the original checkpoints.
    Original,
}

/// What a tensor is for.
#[allow(missing_docs, reason = "the names say it; shapes are in `weights`")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Embedding,
    OutputNorm,
    Unembedding,
    AttentionNorm,
    QueryKeyValueWeight,
    QueryKeyValueBias,
    QueryWeight,
    QueryBias,
    KeyWeight,
    KeyBias,
    ValueWeight,
    ValueBias,
    Sinks,
    AttentionOutputWeight,
    AttentionOutputBias,
    MlpNorm,
    RouterWeight,
    RouterBias,
    GateUpWeight,
    GateUpScales,
    GateUpBias,
    GateWeight,
    GateBias,
    UpWeight,
    UpBias,
    DownWeight,
    DownScales,
    DownBias,
}

impl Role {
    /// Whether it is a part of the experts.
    pub fn is_expert(self) -> bool {
        self as usize >= Self::GateUpWeight as usize
    }

    /// How many roles a model has once; they come first.
    pub(super) const PER_MODEL: usize = 3;
    /// How many roles each layer has.
    pub(super) const PER_LAYER: usize = Self::DownBias as usize + 1 - Self::PER_MODEL;
}

/// The tensors of the experts that are large, and of which each expert has a contiguous part.
pub(super) const EXPERT_MATRICES: [Role; 6] =
    [Role::GateUpWeight, Role::GateUpScales, Role::GateWeight, Role::UpWeight, Role::DownWeight, Role::DownScales];

/// One tensor of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorId {
    /// What it is for.
    pub role: Role,
    /// The layer, from 0; 0 for the tensors that a model has once.
    pub layer: u16,
    /// Whose names its file uses.
    pub naming: Naming,
}

struct Names {
    role: Role,
    gguf: &'static str,
    hugging_face: &'static str,
    original: &'static str,
}

const fn names(role: Role, gguf: &'static str, hugging_face: &'static str, original: &'static str) -> Names {
    Names { role, gguf, hugging_face, original }
}

/// In the order of [`Role`]. An empty name: such files have no such tensor. Layers are prefixed, see [`prefix`].
const NAMES: [Names; Role::PER_MODEL + Role::PER_LAYER] = [
    names(Role::Embedding, "token_embd.weight", "model.embed_tokens.weight", "embedding.weight"),
    names(Role::OutputNorm, "output_norm.weight", "model.norm.weight", "norm.scale"),
    names(Role::Unembedding, "output.weight", "lm_head.weight", "unembedding.weight"),
    names(Role::AttentionNorm, "attn_norm.weight", "input_layernorm.weight", "attn.norm.scale"),
    names(Role::QueryKeyValueWeight, "attn_qkv.weight", "", "attn.qkv.weight"),
    names(Role::QueryKeyValueBias, "attn_qkv.bias", "", "attn.qkv.bias"),
    names(Role::QueryWeight, "attn_q.weight", "self_attn.q_proj.weight", ""),
    names(Role::QueryBias, "attn_q.bias", "self_attn.q_proj.bias", ""),
    names(Role::KeyWeight, "attn_k.weight", "self_attn.k_proj.weight", ""),
    names(Role::KeyBias, "attn_k.bias", "self_attn.k_proj.bias", ""),
    names(Role::ValueWeight, "attn_v.weight", "self_attn.v_proj.weight", ""),
    names(Role::ValueBias, "attn_v.bias", "self_attn.v_proj.bias", ""),
    names(Role::Sinks, "attn_sinks.weight", "self_attn.sinks", "attn.sinks"),
    names(Role::AttentionOutputWeight, "attn_output.weight", "self_attn.o_proj.weight", "attn.out.weight"),
    names(Role::AttentionOutputBias, "attn_output.bias", "self_attn.o_proj.bias", "attn.out.bias"),
    names(Role::MlpNorm, "post_attention_norm.weight", "post_attention_layernorm.weight", "mlp.norm.scale"),
    names(Role::RouterWeight, "ffn_gate_inp.weight", "mlp.router.weight", "mlp.gate.weight"),
    names(Role::RouterBias, "ffn_gate_inp.bias", "mlp.router.bias", "mlp.gate.bias"),
    names(Role::GateUpWeight, "", "mlp.experts.gate_up_proj_blocks", "mlp.mlp1_weight.blocks"),
    names(Role::GateUpScales, "", "mlp.experts.gate_up_proj_scales", "mlp.mlp1_weight.scales"),
    names(Role::GateUpBias, "", "mlp.experts.gate_up_proj_bias", "mlp.mlp1_bias"),
    names(Role::GateWeight, "ffn_gate_exps.weight", "", ""),
    names(Role::GateBias, "ffn_gate_exps.bias", "", ""),
    names(Role::UpWeight, "ffn_up_exps.weight", "", ""),
    names(Role::UpBias, "ffn_up_exps.bias", "", ""),
    names(Role::DownWeight, "ffn_down_exps.weight", "mlp.experts.down_proj_blocks", "mlp.mlp2_weight.blocks"),
    names(Role::DownScales, "", "mlp.experts.down_proj_scales", "mlp.mlp2_weight.scales"),
    names(Role::DownBias, "ffn_down_exps.bias", "mlp.experts.down_proj_bias", "mlp.mlp2_bias"),
];

/// What stands before a layer's number.
fn prefix(naming: Naming) -> &'static str {
    match naming {
        Naming::Gguf => "blk.",
        Naming::HuggingFace => "model.layers.",
        Naming::Original => "block.",
    }
}

impl Names {
    fn of(&self, naming: Naming) -> &'static str {
        match naming {
            Naming::Gguf => self.gguf,
            Naming::HuggingFace => self.hugging_face,
            Naming::Original => self.original,
        }
    }
}

impl TensorId {
    /// The tensor that such files call `name`, if it is one of a gpt-oss model.
    pub(super) fn parse(name: &str, naming: Naming) -> Option<Self> {
        let (layer, name, table) = match name.strip_prefix(prefix(naming)) {
            Some(rest) => {
                let (layer, name) = rest.split_once('.')?;
                // No sign, no leading zero: one tensor has one name.
                let canonical =
                    layer.bytes().all(|byte| byte.is_ascii_digit()) && (layer == "0" || !layer.starts_with('0'));
                (layer.parse().ok().filter(|_| canonical)?, name, &NAMES[Role::PER_MODEL..])
            }
            None => (0, name, &NAMES[..Role::PER_MODEL]),
        };
        let names = table.iter().find(|names| !name.is_empty() && names.of(naming) == name)?;
        Some(Self { role: names.role, layer, naming })
    }

    /// Whether the tensor belongs to a layer.
    pub fn in_layer(&self) -> bool {
        self.role as usize >= Role::PER_MODEL
    }

    /// Its place among all tensors of a model, layer by layer.
    pub(super) fn slot(&self) -> usize {
        self.role as usize + usize::from(self.layer) * Role::PER_LAYER
    }
}

impl fmt::Display for TensorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.in_layer() {
            write!(f, "{}{}.", prefix(self.naming), self.layer)?;
        }
        f.write_str(NAMES[self.role as usize].of(self.naming))
    }
}
