//! Vocabularies: the bundled one, and those of Hugging Face's files.

use std::collections::HashSet;

use ossicle_core::error::{Error, Result};
pub use ossicle_core::tokenizer::vocabulary::gguf;
use ossicle_core::tokenizer::vocabulary::{TOKEN_BYTES_MAX, from_byte_alphabet};
use ossicle_core::tokenizer::{Kind, Source, Token, Tokenizer};
use serde_json::Value as Json;

/// The index of o200k_harmony, the vocabulary of gpt-oss, as [`Tokenizer::open`] takes it.
pub fn o200k_harmony_index() -> &'static [u8] {
    &O200K.0
}

/// Constant data that starts on a cache line.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static O200K: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/o200k.index")));

static O200K_TOKENS: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/o200k.tokens")));

/// What masks of schemas need to know of o200k_harmony, as [`TokenIndex::open`](ossicle_core::schema::TokenIndex::open) takes it.
pub fn o200k_token_index() -> &'static [u8] {
    &O200K_TOKENS.0
}

/// The tokenizer of gpt-oss, o200k_harmony, over tables that are part of the program.
///
/// # Panics
/// Never: the tables were made by the same version's build.
pub fn o200k_harmony() -> Tokenizer<'static> {
    Tokenizer::open(&O200K.0).expect("the index was saved by the build script")
}

/// What is wrong with a `tokenizer.json`.
#[derive(Debug)]
pub enum TokenizerJsonError {
    /// It is not JSON.
    Json(serde_json::Error),
    /// A field lacks, or is not of the kind that it should be.
    Field(&'static str),
}

impl std::fmt::Display for TokenizerJsonError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Json(error) => write!(f, "tokenizer.json: {error}"),
            Self::Field(expected) => write!(f, "tokenizer.json: expected {expected}"),
        }
    }
}

impl std::error::Error for TokenizerJsonError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Json(error) => Some(error),
            Self::Field(_) => None,
        }
    }
}

/// The vocabulary of a Hugging Face `tokenizer.json` with a byte-level BPE model.
///
/// Its ids must be its ranks, as in every such file of this family; the list of merges says nothing more and is not read.
#[derive(Clone, Debug, Default)]
pub struct TokenizerJson {
    ordinary: Vec<(u32, String)>,
    special: Vec<(u32, String)>,
}

impl TokenizerJson {
    /// Reads the text of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`TokenizerJsonError`] if it is not JSON, or lacks a vocabulary.
    pub fn parse(text: &[u8]) -> std::result::Result<Self, TokenizerJsonError> {
        use TokenizerJsonError::Field;
        fn id(value: Option<&Json>) -> Option<u32> {
            value?.as_u64()?.try_into().ok()
        }
        let file: Json = serde_json::from_slice(text).map_err(TokenizerJsonError::Json)?;
        let model = file.get("model").ok_or(Field("a model"))?;
        if model.get("type").is_some_and(|kind| kind != "BPE") {
            return Err(Field("a model of type BPE"));
        }
        let added = match file.get("added_tokens") {
            Some(added) => added.as_array().ok_or(Field("added_tokens as a list"))?.as_slice(),
            None => &[],
        };
        let mut vocabulary = Self::default();
        for token in added {
            let content = token.get("content").and_then(Json::as_str).ok_or(Field("a content for each added token"))?;
            let id = id(token.get("id")).ok_or(Field("an id for each added token"))?;
            vocabulary.special.push((id, content.to_owned()));
        }
        let vocab = model.get("vocab").and_then(Json::as_object).ok_or(Field("a vocab in the model"))?;
        // Some files list added tokens among the others as well.
        let special: HashSet<u32> = vocabulary.special.iter().map(|(id, _)| *id).collect();
        for (text, value) in vocab {
            let id = id(Some(value)).ok_or(Field("an id for each token of the vocab"))?;
            if !special.contains(&id) {
                vocabulary.ordinary.push((id, text.clone()));
            }
        }
        Ok(vocabulary)
    }
}

impl Source for TokenizerJson {
    fn walk(&self, visit: &mut dyn FnMut(Token<'_>) -> Result<()>) -> Result<()> {
        for (id, text) in &self.ordinary {
            let mut bytes = [0; TOKEN_BYTES_MAX];
            let size = from_byte_alphabet(text.as_bytes(), &mut bytes).ok_or(Error::Vocabulary {
                id: *id,
                expected: "at most 256 characters of the byte alphabet",
                found: text.len() as u64,
            })?;
            visit(Token { id: *id, bytes: &bytes[..size], kind: Kind::Ordinary })?;
        }
        for (id, name) in &self.special {
            visit(Token { id: *id, bytes: name.as_bytes(), kind: Kind::Special })?;
        }
        Ok(())
    }
}
