//! The vocabulary of the published models, from the crate tiktoken-rs.

use std::collections::HashMap;
use std::sync::LazyLock;

use ossicle_core::harmony::Vocabulary;
use tiktoken_rs::CoreBPE;

/// `o200k_harmony`, read once.
pub static O200K_HARMONY: LazyLock<Tiktoken> = LazyLock::new(Tiktoken::new);

/// How many ordinary tokens it has.
pub const ORDINARY_TOKENS: u32 = 199_998;

/// A vocabulary of tiktoken.
pub struct Tiktoken {
    bpe: CoreBPE,
    bytes: Vec<Vec<u8>>,
    tokens: HashMap<Vec<u8>, u32>,
}

impl Tiktoken {
    fn new() -> Self {
        let bpe = tiktoken_rs::o200k_harmony().expect("the vocabulary is part of the crate");
        let bytes: Vec<_> =
            (0..ORDINARY_TOKENS).map(|token| bpe.decode_bytes(&[token]).expect("an ordinary token")).collect();
        let tokens = bytes.iter().cloned().zip(0..).collect();
        Self { bpe, bytes, tokens }
    }

    /// The tokens of an ordinary text.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.bpe.encode_ordinary(text)
    }
}

impl Vocabulary for Tiktoken {
    fn encode_ordinary(&self, text: &str, emit: &mut dyn FnMut(u32)) {
        self.encode(text).into_iter().for_each(emit);
    }

    fn token_bytes(&self, token: u32) -> Option<&[u8]> {
        self.bytes.get(token as usize).map(Vec::as_slice)
    }

    fn token_of(&self, bytes: &[u8]) -> Option<u32> {
        self.tokens.get(bytes).copied()
    }
}
