//! The vocabulary of a synthetic model: o200k_harmony, or its first tokens.

use std::collections::HashMap;

use ossicle_core::tokenizer::Tokenizer;
use ossicle_host::vocabulary::o200k_harmony;

use crate::gguf_writer::Header;

/// The id of the first control token in o200k_harmony.
const FIRST_CONTROL: u32 = 199_998;
/// How many ids, from there on, the published files call control tokens. They are in the same order in every vocabulary
/// here, whatever the id of the first.
const CONTROL_COUNT: u32 = 21;

/// Token types of GGUF (`llama_token_type` of llama.cpp).
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const UNUSED: i32 = 5;

/// The first tokens of o200k, then the control tokens, then ids without a meaning.
///
/// Any number of o200k's first tokens, from 256 on, is a vocabulary: the bytes come first, and each other token is made of
/// two earlier ones.
pub struct Vocabulary {
    tokenizer: Tokenizer<'static>,
    /// How many of o200k's tokens.
    ordinary: u32,
    /// How many ids in all.
    size: u32,
}

impl Vocabulary {
    /// The vocabulary with `ordinary` tokens of o200k, and `size` ids in all.
    pub fn new(ordinary: u32, size: u32) -> Self {
        assert!((256..=FIRST_CONTROL).contains(&ordinary) && size >= ordinary + CONTROL_COUNT);
        Self { tokenizer: o200k_harmony(), ordinary, size }
    }

    /// Adds all that a GGUF file says about its tokenizer.
    pub fn describe(&self, header: &mut Header) {
        let spelled: Vec<String> = self.ordinary_tokens().map(spell).collect();
        let merges = self.merges();
        header.string("tokenizer.ggml.model", "gpt2");
        header.string("tokenizer.ggml.pre", "gpt-4o");
        let tokens = (0..self.size).map(|id| match spelled.get(id as usize) {
            Some(token) => token.clone(),
            None => self.special_name(id),
        });
        header.strings("tokenizer.ggml.tokens", tokens);
        header.i32s("tokenizer.ggml.token_type", (0..self.size).map(|id| self.token_type(id)));
        let merges = merges.iter().map(|[left, right]| {
            let [left, right] = [*left, *right].map(|id| &spelled[id as usize]);
            format!("{left} {right}")
        });
        header.strings("tokenizer.ggml.merges", merges);
        header.u32("tokenizer.ggml.bos_token_id", self.ordinary); // <|startoftext|>
        header.u32("tokenizer.ggml.eos_token_id", self.ordinary + 4); // <|return|>
        header.u32("tokenizer.ggml.padding_token_id", self.ordinary + 1); // <|endoftext|>
        header.bool("tokenizer.ggml.add_bos_token", false);
    }

    fn ordinary_tokens(&self) -> impl Iterator<Item = &'static [u8]> {
        (0..self.ordinary).map(|id| self.tokenizer.token_bytes(id).expect("o200k has all ids below its control tokens"))
    }

    /// Every way to make a token of two others, in the order of the published `tokenizer.json`: by the token's rank, then by
    /// the ranks of the halves.
    pub fn merges(&self) -> Vec<[u32; 2]> {
        let ids: HashMap<&[u8], u32> = self.ordinary_tokens().zip(0..).collect();
        let mut merges = Vec::new();
        for token in self.ordinary_tokens() {
            let first = merges.len();
            merges.extend((1..token.len()).filter_map(|at| {
                let (left, right) = token.split_at(at);
                Some([*ids.get(left)?, *ids.get(right)?])
            }));
            merges[first..].sort_unstable();
        }
        merges
    }

    fn token_type(&self, id: u32) -> i32 {
        match id.checked_sub(self.ordinary) {
            None => NORMAL,
            Some(..CONTROL_COUNT) => CONTROL,
            Some(_) => UNUSED,
        }
    }

    fn special_name(&self, id: u32) -> String {
        if self.token_type(id) == UNUSED {
            return format!("[PAD{id}]");
        }
        let name = self.tokenizer.token_bytes(FIRST_CONTROL + (id - self.ordinary)).expect("a control token");
        if name.starts_with(b"<|reserved_") {
            return format!("<|reserved_{id}|>");
        }
        String::from_utf8_lossy(name).into_owned()
    }
}

/// A token in the alphabet in which vocabularies since GPT-2's spell bytes: the printable ones of Latin-1 are their own
/// characters, the others, in order, are those from U+0100 on.
fn spell(token: &[u8]) -> String {
    let printable = |byte: u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let character = |byte: u8| {
        if printable(byte) {
            return char::from(byte);
        }
        let unprintable_before = (0..byte).filter(|byte| !printable(*byte)).count();
        char::from_u32(0x100 + unprintable_before as u32).expect("a letter of Latin Extended-A")
    };
    token.iter().map(|byte| character(*byte)).collect()
}
