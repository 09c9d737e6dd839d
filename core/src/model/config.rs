//! The numbers of a model, from GGUF metadata or a config.json.

use super::names::Naming;
use crate::error::{FileError, Result};
use crate::file::gguf::{self, Metadata};
use crate::file::json;
use crate::file::snapshot::Checksum;

/// The numbers that make one model of the family differ from another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Transformer layers.
    pub layers: usize,
    /// Values in the residual stream.
    pub hidden: usize,
    /// Values between the two matrices of an expert.
    pub intermediate: usize,
    /// Experts in a layer.
    pub experts: usize,
    /// Experts that work on a token.
    pub experts_per_token: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads.
    pub kv_heads: usize,
    /// Values in a head.
    pub head_dim: usize,
    /// Positions that a windowed layer sees, the token's own included.
    pub window: usize,
    /// Tokens that the model knows: rows of the embedding.
    pub vocabulary: usize,
    /// Positions that the model was made for.
    pub context_tokens: usize,
    /// Rotary position embedding.
    pub rope: Rope,
    /// Added to the mean square in every normalization.
    pub norm_epsilon: f32,
    /// Bound of the expert activation's inputs.
    pub swiglu_limit: f32,
    windowed: [u64; LAYERS_MAX / 64],
}

/// Rotary position embedding with YaRN (B. Peng et al., 2023). The ramp between the two frequencies is never rounded to
/// whole pairs, whatever the file says: the models were trained so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f32,
    /// By how much the context was stretched.
    pub factor: f32,
    /// Pairs that turn more often than this in the original context keep their frequency.
    pub beta_fast: f32,
    /// Pairs that turn less often than this are slowed by the whole factor.
    pub beta_slow: f32,
    /// Positions before the stretching.
    pub original_context: f32,
}

const LAYERS_MAX: usize = 256;

impl Config {
    pub(super) const VOCABULARY_MAX: u64 = 1 << 24;

    /// Whether a layer sees only the window.
    ///
    /// # Panics
    /// If the model has no such layer.
    pub fn is_windowed(&self, layer: usize) -> bool {
        assert!(layer < self.layers);
        self.windowed[layer / 64] >> (layer % 64) & 1 == 1
    }

    /// Query heads that share a key-value head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// A sum over all numbers.
    pub(super) fn fingerprint(&self) -> Checksum {
        let Rope { theta, factor, beta_fast, beta_slow, original_context } = self.rope;
        let counts = [
            self.layers,
            self.hidden,
            self.intermediate,
            self.experts,
            self.experts_per_token,
            self.heads,
            self.kv_heads,
            self.head_dim,
            self.window,
            self.vocabulary,
            self.context_tokens,
        ];
        let reals = [theta, factor, beta_fast, beta_slow, original_context, self.norm_epsilon, self.swiglu_limit]
            .map(f32::to_bits);
        let mut sum = Checksum::EMPTY;
        counts.iter().for_each(|count| sum.add(*count as u64));
        reals.iter().for_each(|real| sum.add(u64::from(*real)));
        self.windowed.iter().for_each(|word| sum.add(*word));
        sum
    }
}

#[derive(Clone, Copy)]
enum Field {
    Layers,
    Hidden,
    Intermediate,
    Experts,
    ExpertsPerToken,
    Heads,
    KvHeads,
    HeadDim,
    Window,
    Vocabulary,
    ContextTokens,
    Theta,
    Factor,
    BetaFast,
    BetaSlow,
    OriginalContext,
    NormEpsilon,
    SwigluLimit,
}

struct Rule {
    /// Keys of GGUF (behind "gpt-oss."), config.json of Hugging Face, and of the original checkpoints. Where one is missing
    /// that has no default, it is what the error expects.
    keys: [&'static str; 3],
    /// What errors expect.
    expected: &'static str,
    least: f64,
    most: f64,
    /// Where a file does not say.
    default: Option<f64>,
    whole: bool,
}

const fn count(keys: [&'static str; 3], expected: &'static str, most: f64) -> Rule {
    Rule { keys, expected, least: 1.0, most, default: None, whole: true }
}

const fn real(keys: [&'static str; 3], expected: &'static str, least: f64, most: f64, default: f64) -> Rule {
    Rule { keys, expected, least, most, default: Some(default), whole: false }
}

/// In the order of [`Field`]. The bounds are generous; they keep products of sizes far from overflow.
const RULES: [Rule; 18] = [
    count(["block_count", "num_hidden_layers", "num_hidden_layers"], "a layer count from 1 to 256", LAYERS_MAX as f64),
    count(["embedding_length", "hidden_size", "hidden_size"], "a hidden size from 1 to 65536", 65536.0),
    count(
        ["expert_feed_forward_length", "intermediate_size", "intermediate_size"],
        "an expert size from 1 to 65536",
        65536.0,
    ),
    count(["expert_count", "num_local_experts", "num_experts"], "an expert count from 1 to 4096", 4096.0),
    count(
        ["expert_used_count", "num_experts_per_tok", "experts_per_token"],
        "from 1 to 64 experts for each token",
        64.0,
    ),
    count(
        ["attention.head_count", "num_attention_heads", "num_attention_heads"],
        "a head count from 1 to 1024",
        1024.0,
    ),
    count(
        ["attention.head_count_kv", "num_key_value_heads", "num_key_value_heads"],
        "a key-value head count from 1 to 1024",
        1024.0,
    ),
    count(["attention.key_length", "head_dim", "head_dim"], "a head size from 1 to 1024", 1024.0),
    count(
        ["attention.sliding_window", "sliding_window", "sliding_window"],
        "a window from 1 to 1048576 tokens",
        1048576.0,
    ),
    count(["vocab_size", "vocab_size", "vocab_size"], "a vocabulary from 1 to 16777216 tokens", 16777216.0),
    Rule {
        keys: ["context_length", "max_position_embeddings", ""],
        expected: "a context from 1 to 16777216 tokens",
        least: 1.0,
        most: 16777216.0,
        default: Some(131072.0),
        whole: true,
    },
    real(["rope.freq_base", "rope_theta", "rope_theta"], "a RoPE base above 1", 1.001, 1e12, 150000.0),
    real(["rope.scaling.factor", "factor", "rope_scaling_factor"], "a YaRN factor of at least 1", 1.0, 1e6, 32.0),
    real(["rope.scaling.yarn_beta_fast", "beta_fast", "rope_ntk_beta"], "a positive YaRN beta", 1e-6, 1e6, 32.0),
    real(["rope.scaling.yarn_beta_slow", "beta_slow", "rope_ntk_alpha"], "a positive YaRN beta", 1e-6, 1e6, 1.0),
    real(
        ["rope.scaling.original_context_length", "original_max_position_embeddings", "initial_context_length"],
        "an original context of at least 1 token",
        1.0,
        16777216.0,
        4096.0,
    ),
    real(["attention.layer_norm_rms_epsilon", "rms_norm_eps", ""], "an epsilon from 0 to 1", 0.0, 1.0, 1e-5),
    real(["", "swiglu_limit", "swiglu_limit"], "an activation limit above 0", 1e-3, 1e6, 7.0),
];

/// Collects the numbers while a header is read.
pub(super) struct Reader<'f> {
    naming: Naming,
    /// Value and byte offset.
    fields: [Option<(f64, u64)>; RULES.len()],
    feed_forward: Option<(f64, u64)>,
    pattern: Pattern<'f>,
    architecture: bool,
    /// The tokens of the vocabulary, if the file has one.
    pub tokens: Option<gguf::Array<'f>>,
    /// The types of these tokens.
    pub token_types: Option<gguf::Array<'f>>,
    /// split.no, split.count.
    pub split: (u64, u64),
}

enum Pattern<'f> {
    /// All layers but each n-th; n = 2 makes the even ones windowed.
    Every(u64),
    Flags(gguf::Array<'f>),
    Types(json::Array<'f>),
}

fn refuse(offset: u64, expected: &'static str, found: u64) -> crate::error::Error {
    FileError { file: 0, offset, expected, found }.into()
}

impl<'f> Reader<'f> {
    pub fn new(naming: Naming) -> Self {
        Self {
            naming,
            fields: [None; RULES.len()],
            feed_forward: None,
            pattern: Pattern::Every(2),
            architecture: naming != Naming::Gguf,
            tokens: None,
            token_types: None,
            split: (0, 1),
        }
    }

    fn key(&self, rule: &Rule) -> &'static str {
        rule.keys[self.naming as usize]
    }

    fn set(&mut self, key: &str, value: Option<f64>, offset: u64) -> Result<()> {
        let Some(field) = RULES.iter().position(|rule| !key.is_empty() && self.key(rule) == key) else {
            return Ok(());
        };
        let rule = &RULES[field];
        let fits =
            |value: &f64| (rule.least..=rule.most).contains(value) && (!rule.whole || *value as u64 as f64 == *value);
        let Some(value) = value.filter(fits) else {
            return Err(refuse(offset, rule.expected, value.map_or(0, |value| value as u64)));
        };
        match self.fields[field].replace((value, offset)) {
            // Newer config.json files say some numbers twice.
            Some((before, _)) if before != value => {
                Err(refuse(offset, "the same number as the key had before", value as u64))
            }
            _ => Ok(()),
        }
    }

    /// One entry of GGUF metadata.
    pub fn metadata(&mut self, metadata: Metadata<'f>) -> Result<()> {
        let Metadata { key, offset, value } = metadata;
        match key {
            "general.architecture" => {
                if !matches!(value.as_bytes(), Some(b"gpt-oss" | b"gptoss")) {
                    return Err(refuse(offset, "the architecture gpt-oss or gptoss", 0));
                }
                self.architecture = true;
            }
            "tokenizer.ggml.tokens" => {
                let Some(tokens) = value.as_array().filter(|_| self.tokens.is_none()) else {
                    return Err(refuse(offset, "one array of tokens", 0));
                };
                self.tokens = Some(tokens);
                self.set("vocab_size", Some(tokens.len() as f64), offset)?;
            }
            "tokenizer.ggml.token_type" => self.token_types = value.as_array(),
            "split.no" => self.split.0 = value.as_u64().unwrap_or(u64::MAX),
            "split.count" => self.split.1 = value.as_u64().unwrap_or(u64::MAX),
            _ => {}
        }
        let Some(key) = key.strip_prefix("gpt-oss.").or_else(|| key.strip_prefix("gptoss.")) else { return Ok(()) };
        let number = value.as_u64().map(|value| value as f64).or(value.as_f64());
        match key {
            "feed_forward_length" => self.feed_forward = number.map(|number| (number, offset)),
            "attention.sliding_window_pattern" => {
                self.pattern = match (value.as_u64(), value.as_array()) {
                    (Some(every), _) if every > 0 => Pattern::Every(every),
                    (_, Some(flags)) => Pattern::Flags(flags),
                    _ => return Err(refuse(offset, "a window pattern: a number above 0, or an array", 0)),
                }
            }
            "rope.scaling.type" if value.as_bytes() != Some(b"yarn") => {
                return Err(refuse(offset, "RoPE scaling of type yarn", 0));
            }
            "attention.value_length" | "rope.dimension_count" => {
                self.set("attention.key_length", number, offset)?;
            }
            "rope.freq_base_swa" => self.set("rope.freq_base", number, offset)?,
            key => self.set(key, number, offset)?,
        }
        Ok(())
    }

    /// A config.json, in which errors give offsets.
    pub fn json(&mut self, text: &'f [u8]) -> Result<()> {
        let config = json::parse(text).map_err(|error| error.in_file(0, 0))?;
        let Some(config) = config.as_object() else { return Err(refuse(0, "an object", 0)) };
        for member in config.iter() {
            let offset = member.value.offset() as u64;
            let Some(key) = member.key.plain() else { continue };
            match key {
                "model_type" if member.value.as_str().and_then(|value| value.plain()) != Some("gpt_oss") => {
                    return Err(refuse(offset, "the model type gpt_oss", 0));
                }
                "rope_scaling" | "rope_parameters" => {
                    let Some(scaling) = member.value.as_object() else {
                        return Err(refuse(offset, "an object of RoPE scaling", 0));
                    };
                    for member in scaling.iter() {
                        let offset = member.value.offset() as u64;
                        match member.key.plain() {
                            Some("rope_type" | "type")
                                if member.value.as_str().and_then(|value| value.plain()) != Some("yarn") =>
                            {
                                return Err(refuse(offset, "RoPE scaling of type yarn", 0));
                            }
                            Some(key) => self.set(key, member.value.as_f64(), offset)?,
                            None => {}
                        }
                    }
                }
                "layer_types" => match member.value.as_array() {
                    Some(types) => self.pattern = Pattern::Types(types),
                    None => return Err(refuse(offset, "an array of layer types", 0)),
                },
                // Some files have only this name.
                "experts_per_token" => self.set(
                    RULES[Field::ExpertsPerToken as usize].keys[self.naming as usize],
                    member.value.as_f64(),
                    offset,
                )?,
                // Hugging Face keeps the original context also here.
                "initial_context_length" => {
                    self.set(self.key(&RULES[Field::OriginalContext as usize]), member.value.as_f64(), offset)?;
                }
                key => self.set(key, member.value.as_f64(), offset)?,
            }
        }
        Ok(())
    }

    fn get(&self, field: Field) -> Result<f64> {
        let rule = &RULES[field as usize];
        let found = self.fields[field as usize].map(|(value, _)| value);
        found.or(rule.default).ok_or_else(|| refuse(0, self.key(rule), 0))
    }

    fn offset(&self, field: Field) -> u64 {
        self.fields[field as usize].map_or(0, |(_, offset)| offset)
    }

    fn windowed(&self, layers: usize) -> Result<[u64; LAYERS_MAX / 64]> {
        let mut windowed = [0; LAYERS_MAX / 64];
        let mut count = 0;
        let mut set = |is_windowed: bool| {
            if count < layers && is_windowed {
                windowed[count / 64] |= 1 << (count % 64);
            }
            count += 1;
        };
        match &self.pattern {
            Pattern::Every(n) => (0..layers as u64).for_each(|layer| set(layer % n + 1 < *n)),
            Pattern::Flags(flags) => {
                for flag in flags.iter() {
                    set(flag.as_bool().or(flag.as_u64().map(|flag| flag != 0)).unwrap_or(false));
                }
            }
            Pattern::Types(types) => {
                for value in types.iter() {
                    match value.as_str().and_then(|value| value.plain()) {
                        Some("sliding_attention") => set(true),
                        Some("full_attention") => set(false),
                        _ => {
                            return Err(refuse(
                                value.offset() as u64,
                                "a layer type: sliding_attention or full_attention",
                                0,
                            ));
                        }
                    }
                }
            }
        }
        if count != layers {
            return Err(refuse(self.offset(Field::Layers), "as many layer types as layers", count as u64));
        }
        Ok(windowed)
    }

    /// The numbers, held against each other. The vocabulary may still be 0: then the embedding tells.
    pub fn finish(mut self) -> Result<Config> {
        if !self.architecture {
            return Err(refuse(0, "the key general.architecture", 0));
        }
        // Ollama's files have only the general name of the expert size.
        if self.fields[Field::Intermediate as usize].is_none()
            && let Some((value, offset)) = self.feed_forward
        {
            self.set("expert_feed_forward_length", Some(value), offset)?;
        }
        let whole = |field| self.get(field).map(|value| value as usize);
        let real = |field| self.get(field).map(|value| value as f32);
        let layers = whole(Field::Layers)?;
        let config = Config {
            layers,
            hidden: whole(Field::Hidden)?,
            intermediate: whole(Field::Intermediate)?,
            experts: whole(Field::Experts)?,
            experts_per_token: whole(Field::ExpertsPerToken)?,
            heads: whole(Field::Heads)?,
            kv_heads: whole(Field::KvHeads)?,
            head_dim: whole(Field::HeadDim)?,
            window: whole(Field::Window)?,
            vocabulary: self.fields[Field::Vocabulary as usize].map_or(0, |(value, _)| value as usize),
            context_tokens: whole(Field::ContextTokens)?,
            rope: Rope {
                theta: real(Field::Theta)?,
                factor: real(Field::Factor)?,
                beta_fast: real(Field::BetaFast)?,
                beta_slow: real(Field::BetaSlow)?,
                original_context: real(Field::OriginalContext)?,
            },
            norm_epsilon: real(Field::NormEpsilon)?,
            swiglu_limit: real(Field::SwigluLimit)?,
            windowed: self.windowed(layers)?,
        };
        let demand = |holds: bool, field: Field, expected, found: usize| {
            if holds { Ok(()) } else { Err(refuse(self.offset(field), expected, found as u64)) }
        };
        demand(
            config.hidden.is_multiple_of(32),
            Field::Hidden,
            "a hidden size that is a multiple of 32",
            config.hidden,
        )?;
        demand(
            config.intermediate.is_multiple_of(32),
            Field::Intermediate,
            "an expert size that is a multiple of 32",
            config.intermediate,
        )?;
        demand(
            config.experts_per_token <= config.experts,
            Field::ExpertsPerToken,
            "no more experts for a token than there are",
            config.experts_per_token,
        )?;
        demand(
            config.heads.is_multiple_of(config.kv_heads),
            Field::KvHeads,
            "a divisor of the number of heads",
            config.kv_heads,
        )?;
        demand(
            config.head_dim.is_multiple_of(2) && (config.heads * config.head_dim).is_multiple_of(32),
            Field::HeadDim,
            "an even head size that makes all heads a multiple of 32",
            config.head_dim,
        )?;
        demand(
            config.rope.beta_fast > config.rope.beta_slow,
            Field::BetaFast,
            "a fast YaRN beta above the slow one",
            config.rope.beta_fast as usize,
        )?;
        Ok(config)
    }
}
