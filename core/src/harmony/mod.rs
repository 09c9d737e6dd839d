//! Harmony, the chat format of gpt-oss: conversations to tokens and tokens to messages.
//!
//! * [`conversation`]: what a prompt is made of. [`builtin`]: the tools that the model knows from training.
//! * [`render`]: a conversation as the tokens of a prompt. [`history`]: which past messages are left out of it.
//!   [`type_text`]: a JSON schema as the type notation that the model was trained on.
//! * [`parse`]: the tokens that a model writes as messages. It is total: no input makes it fail or lose text.
//! * [`grammar`]: which tokens may come next, so that only well-formed headers come out.
//!
//! `docs/harmony.md` describes the format and gives the reason for every difference from the official library.

pub mod builtin;
pub mod conversation;
pub mod grammar;
mod header;
pub mod history;
pub mod parse;
pub mod render;
mod text;
pub mod type_text;

use crate::error::{Error, Result};
use crate::tokenizer::{Specials, Tokenizer};

/// Text to tokens and back, as far as the format needs it.
pub trait Vocabulary {
    /// Gives `emit` the tokens of `text`, all of them ordinary: text that looks like a special token is text.
    fn encode_ordinary(&self, text: &str, emit: &mut dyn FnMut(u32));

    /// The bytes that an ordinary token stands for, not always whole characters. `None` for special tokens and for ids that
    /// are no token.
    fn token_bytes(&self, token: u32) -> Option<&[u8]>;

    /// The ordinary token that stands for exactly these bytes.
    fn token_of(&self, bytes: &[u8]) -> Option<u32>;
}

impl Vocabulary for Tokenizer<'_> {
    fn encode_ordinary(&self, text: &str, emit: &mut dyn FnMut(u32)) {
        self.encode(text, Specials::None, emit);
    }

    fn token_bytes(&self, token: u32) -> Option<&[u8]> {
        if self.is_special(token) { None } else { Tokenizer::token_bytes(self, token) }
    }

    fn token_of(&self, bytes: &[u8]) -> Option<u32> {
        Tokenizer::token_of(self, bytes)
    }
}

/// The ids of the special tokens that give the format its structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialTokens {
    /// `<|start|>`, before the header of a message.
    pub start: u32,
    /// `<|channel|>`, before the channel's name.
    pub channel: u32,
    /// `<|constrain|>`, before a content type that the content must keep to.
    pub constrain: u32,
    /// `<|message|>`, between header and content.
    pub message: u32,
    /// `<|end|>`: the message is complete.
    pub end: u32,
    /// `<|call|>`: the message is complete, and a tool has to answer it.
    pub call: u32,
    /// `<|return|>`: the message and the model's turn are complete.
    pub return_: u32,
    /// `<|endoftext|>`, which ends anything.
    pub end_of_text: u32,
}

impl SpecialTokens {
    /// As in `o200k_harmony`, the vocabulary of the published models.
    pub const O200K_HARMONY: Self = Self {
        start: 200_006,
        channel: 200_005,
        constrain: 200_003,
        message: 200_008,
        end: 200_007,
        call: 200_012,
        return_: 200_002,
        end_of_text: 199_999,
    };

    /// Those of a vocabulary, by their names.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] if one is missing.
    pub fn of(tokenizer: &Tokenizer<'_>) -> Result<Self> {
        let special = |name, expected| {
            let found = tokenizer.vocabulary_len() as u64;
            tokenizer.special(name).ok_or(Error::Vocabulary { id: 0, expected, found })
        };
        Ok(Self {
            start: special("<|start|>", "a special token <|start|>")?,
            channel: special("<|channel|>", "a special token <|channel|>")?,
            constrain: special("<|constrain|>", "a special token <|constrain|>")?,
            message: special("<|message|>", "a special token <|message|>")?,
            end: special("<|end|>", "a special token <|end|>")?,
            call: special("<|call|>", "a special token <|call|>")?,
            return_: special("<|return|>", "a special token <|return|>")?,
            end_of_text: special("<|endoftext|>", "a special token <|endoftext|>")?,
        })
    }

    /// Each with its name.
    pub fn names(&self) -> [(u32, &'static str); 8] {
        [
            (self.start, "<|start|>"),
            (self.channel, "<|channel|>"),
            (self.constrain, "<|constrain|>"),
            (self.message, "<|message|>"),
            (self.end, "<|end|>"),
            (self.call, "<|call|>"),
            (self.return_, "<|return|>"),
            (self.end_of_text, "<|endoftext|>"),
        ]
    }
}
