//! Vocabularies, from a tokenizer.json or GGUF metadata to either.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ossicle_core::file::gguf::{self, Array, Gguf};
use serde_json::{Map, Value, json};

use crate::gguf_writer::Header;
use crate::synth::vocabulary::Vocabulary as Builtin;

/// Token types of GGUF (`llama_token_type` of llama.cpp).
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// The published vocabulary: how many of its ids are ordinary tokens, and how many there are.
const PUBLISHED: (u32, u32) = (199_998, 201_088);

/// What the tokens of a vocabulary are: in the alphabet in which both formats spell bytes, and of which type; by id.
#[derive(Default)]
pub struct Vocabulary {
    tokens: Vec<String>,
    types: Vec<i32>,
    /// Two tokens with a space between them, the first to be merged first.
    merges: Vec<String>,
    /// What begins a text, what ends an answer, what fills rows.
    bos: Option<u32>,
    eos: Option<u32>,
    padding: Option<u32>,
    chat_template: Option<String>,
}

impl Vocabulary {
    /// The vocabulary that a GGUF file describes.
    pub fn of_gguf(file: &[u8]) -> Result<Self> {
        fn texts(array: Option<Array<'_>>) -> Option<Vec<String>> {
            array?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
        }
        let token_type = |kind| match kind {
            gguf::Value::Signed(kind) => i32::try_from(kind).unwrap_or(UNUSED),
            kind => kind.as_u64().and_then(|kind| kind.try_into().ok()).unwrap_or(UNUSED),
        };
        let mut vocabulary = Self::default();
        let mut wrong = None;
        Gguf::open(file, 0, |metadata| {
            let (key, value) = (metadata.key, metadata.value);
            let id = || value.as_u64().and_then(|id| id.try_into().ok());
            match key {
                "tokenizer.ggml.tokens" | "tokenizer.ggml.merges" => match texts(value.as_array()) {
                    Some(texts) if key == "tokenizer.ggml.tokens" => vocabulary.tokens = texts,
                    Some(texts) => vocabulary.merges = texts,
                    None => wrong = Some(key),
                },
                "tokenizer.ggml.token_type" => match value.as_array() {
                    Some(types) => vocabulary.types = types.iter().map(token_type).collect(),
                    None => wrong = Some(key),
                },
                "tokenizer.ggml.bos_token_id" => vocabulary.bos = id(),
                "tokenizer.ggml.eos_token_id" => vocabulary.eos = id(),
                "tokenizer.ggml.padding_token_id" => vocabulary.padding = id(),
                "tokenizer.chat_template" => vocabulary.chat_template = value.as_str().map(str::to_owned),
                _ => {}
            }
            Ok(())
        })?;
        if let Some(key) = wrong {
            bail!("{key}: expected an array of texts, or of numbers for types");
        }
        ensure!(
            vocabulary.types.len() == vocabulary.tokens.len(),
            "tokenizer.ggml.token_type: expected one for each token"
        );
        Ok(vocabulary)
    }

    /// The vocabulary of gpt-oss, if a model with `size` ids can have it.
    pub fn published(size: usize) -> Option<Result<Self>> {
        (size == PUBLISHED.1 as usize).then(|| {
            let mut header = Header::default();
            Builtin::new(PUBLISHED.0, PUBLISHED.1).describe(&mut header);
            Self::of_gguf(&header.finish())
        })
    }

    /// The vocabulary of a tokenizer.json for a model with `size` ids, whose special ids are those of the config.json `config`; and
    /// the chat template beside it.
    pub fn of_tokenizer_json(path: &Path, config: Option<&[u8]>, size: usize) -> Result<Self> {
        let text = fs::read(path)?;
        let file: Value = serde_json::from_slice(&text).context("expected JSON")?;
        let mut vocabulary = Self { types: vec![UNUSED; size], ..Self::default() };
        vocabulary.tokens = (0..size).map(|id| format!("[PAD{id}]")).collect();
        let model = &file["model"];
        let vocab = model["vocab"].as_object().context("expected a vocab in the model")?;
        for (token, id) in vocab {
            vocabulary.set(id, token, NORMAL)?;
        }
        for token in file["added_tokens"].as_array().into_iter().flatten() {
            let kind = if token["special"] == false { USER_DEFINED } else { CONTROL };
            vocabulary.set(
                &token["id"],
                token["content"].as_str().context("expected a content for each added token")?,
                kind,
            )?;
        }
        for merge in model["merges"].as_array().context("expected merges in the model")? {
            // Older files have the two in one string.
            let pair = match (merge.as_str(), merge[0].as_str(), merge[1].as_str()) {
                (Some(pair), ..) => pair.to_owned(),
                (_, Some(left), Some(right)) => format!("{left} {right}"),
                _ => bail!("expected pairs of tokens as merges"),
            };
            vocabulary.merges.push(pair);
        }
        let config: Value = config.and_then(|config| serde_json::from_slice(config).ok()).unwrap_or_default();
        let id = |key: &str, name: &str| {
            // Some have a list of ids that end an answer.
            let id = config[key].as_u64().or(config[key][0].as_u64()).and_then(|id| id.try_into().ok());
            id.or(vocabulary.control(name))
        };
        (vocabulary.bos, vocabulary.eos, vocabulary.padding) = (
            id("bos_token_id", "<|startoftext|>"),
            id("eos_token_id", "<|return|>"),
            id("pad_token_id", "<|endoftext|>"),
        );
        vocabulary.chat_template = fs::read_to_string(path.with_file_name(CHAT_TEMPLATE)).ok();
        Ok(vocabulary)
    }

    fn set(&mut self, id: &Value, token: &str, kind: i32) -> Result<()> {
        let slot = id.as_u64().and_then(|id| usize::try_from(id).ok()).filter(|id| *id < self.tokens.len());
        let slot =
            slot.with_context(|| format!("expected an id below {} for {token}, found {id}", self.tokens.len()))?;
        self.tokens[slot] = token.to_owned();
        self.types[slot] = kind;
        Ok(())
    }

    fn control(&self, name: &str) -> Option<u32> {
        let mut tokens = self.tokens.iter().zip(&self.types);
        tokens.position(|(token, kind)| *kind == CONTROL && token == name).map(|id| id as u32)
    }

    /// Adds all that a GGUF file says about its tokenizer.
    pub fn describe(&self, header: &mut Header) {
        header.string("tokenizer.ggml.model", "gpt2");
        header.string("tokenizer.ggml.pre", "gpt-4o");
        header.strings("tokenizer.ggml.tokens", self.tokens.iter());
        header.i32s("tokenizer.ggml.token_type", self.types.iter().copied());
        header.strings("tokenizer.ggml.merges", self.merges.iter());
        let ids = [("bos", self.bos), ("eos", self.eos), ("padding", self.padding)];
        for (name, id) in ids.iter().filter_map(|(name, id)| Some((name, (*id)?))) {
            header.u32(&format!("tokenizer.ggml.{name}_token_id"), id);
        }
        header.bool("tokenizer.ggml.add_bos_token", false);
        if let Some(template) = &self.chat_template {
            header.string("tokenizer.chat_template", template);
        }
    }

    /// What a config.json and a generation_config.json say about special tokens: what begins a text, what ends an answer, what
    /// fills rows; and all that end one.
    pub fn special_ids(&self) -> ([Option<u32>; 3], Vec<u32>) {
        let ends = ["<|return|>", "<|endoftext|>", "<|call|>"].into_iter().filter_map(|name| self.control(name));
        ([self.bos, self.eos, self.padding], ends.collect())
    }

    /// Writes what transformers reads a tokenizer from: tokenizer.json, tokenizer_config.json, and the chat template if there is one.
    pub fn write_hugging_face(&self, folder: &Path) -> Result<()> {
        ensure!(!self.merges.is_empty(), "tokenizer.ggml.merges: expected merges");
        let mut vocab = Map::new();
        let mut added = Vec::new();
        for (id, (token, kind)) in self.tokens.iter().zip(&self.types).enumerate() {
            match *kind {
                NORMAL => drop(vocab.insert(token.clone(), json!(id))),
                CONTROL | USER_DEFINED => added.push(json!({
                    "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                    "special": *kind == CONTROL,
                })),
                _ => {}
            }
        }
        let merges: Option<Vec<_>> =
            self.merges.iter().map(|merge| merge.split_once(' ').map(|(a, b)| json!([a, b]))).collect();
        let merges = merges.context("tokenizer.ggml.merges: expected two tokens in each")?;
        let byte_level =
            json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
            "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
                { "type": "Split", "pattern": { "Regex": SPLIT }, "behavior": "Isolated", "invert": false },
                byte_level,
            ]},
            "post_processor": null,
            "decoder": byte_level,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocab, "merges": merges,
            },
        });
        write_json(&folder.join("tokenizer.json"), &tokenizer)?;
        let name = |id: Option<u32>| id.and_then(|id| self.tokens.get(id as usize));
        let named = [("bos_token", self.bos), ("eos_token", self.eos), ("pad_token", self.padding)];
        let mut config: BTreeMap<_, _> = named.iter().filter_map(|(key, id)| Some((*key, json!(name(*id)?)))).collect();
        config.insert("tokenizer_class", json!("PreTrainedTokenizerFast"));
        write_json(&folder.join("tokenizer_config.json"), &json!(config))?;
        match &self.chat_template {
            Some(template) => Ok(fs::write(folder.join(CHAT_TEMPLATE), template)?),
            None => Ok(()),
        }
    }
}

/// Where Hugging Face's folders have the template for chat.
const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// Writes a value as text with lines.
pub fn write_json(path: &Path, value: &Value) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    fs::write(path, text).with_context(|| path.display().to_string())
}

/// How o200k cuts text into words (`pat_str` of o200k_base in tiktoken).
const SPLIT: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"|\s*[\r\n]+",
    r"|\s+(?!\S)",
    r"|\s+",
);
