//! Grammars and regular expressions, through llguidance: from a text to the mask of a turn.
//!
//! A [`Grammars`] knows a vocabulary; a [`GrammarMask`] follows one text.

use std::fmt;
use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use ossicle_core::error::{Error, Result};
use ossicle_core::sampling::TokenMask;
use ossicle_core::tokenizer::Tokenizer;

/// What a grammar is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// Rules as the Lark library has them, in the dialect of llguidance.
    Lark,
    /// A regular expression, in the syntax of the regex crate, that the whole text matches.
    Regex,
}

/// Why a grammar cannot be used, in the words of llguidance.
#[derive(Debug)]
pub struct GrammarError(String);

impl fmt::Display for GrammarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for GrammarError {}

/// What grammars need to know of a vocabulary. Once for a model: it takes some time.
pub struct Grammars {
    factory: ParserFactory,
    end: u32,
}

/// Longer tokens are left out: the tree of llguidance is not deep enough.
const TOKEN_BYTES_MAX: usize = 255;

impl Grammars {
    /// Sorts the tokens of a vocabulary.
    ///
    /// # Errors
    /// If it has no token that ends a turn.
    pub fn new(tokenizer: &Tokenizer<'_>) -> std::result::Result<Self, GrammarError> {
        let end = tokenizer.special("<|return|>").ok_or(GrammarError("expected a token <|return|>".into()))?;
        let word = |id| match tokenizer.token_bytes(id) {
            Some(name) if tokenizer.is_special(id) => [&[TokTrie::SPECIAL_TOKEN_MARKER], name].concat(),
            // In no text: it would be taken for the mark of a special token.
            Some([TokTrie::SPECIAL_TOKEN_MARKER, ..]) | None => Vec::new(),
            Some(bytes) => bytes.to_vec(),
        };
        let words = (0..tokenizer.vocabulary_len() as u32).map(word);
        let words: Vec<_> = words.map(|word| if word.len() > TOKEN_BYTES_MAX { Vec::new() } else { word }).collect();
        let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, end), &words);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &[]);
        let mut factory = factory.map_err(|error| GrammarError(error.to_string()))?;
        factory.quiet();
        Ok(Self { factory, end })
    }

    /// A mask for texts that a grammar has.
    ///
    /// # Errors
    /// What is wrong with the grammar, and where.
    pub fn mask(&self, syntax: Syntax, text: &str) -> std::result::Result<GrammarMask, GrammarError> {
        let grammar = match syntax {
            Syntax::Lark => TopLevelGrammar::from_lark(text.to_owned()),
            Syntax::Regex => TopLevelGrammar::from_regex(text),
        };
        let start = Matcher::new(self.factory.create_parser(grammar));
        match start.get_error() {
            Some(error) => Err(GrammarError(error)),
            None => Ok(GrammarMask { current: start.clone(), start, end: self.end }),
        }
    }
}

/// Follows one text that a grammar has.
pub struct GrammarMask {
    start: Matcher,
    current: Matcher,
    end: u32,
}

impl TokenMask for GrammarMask {
    fn begin(&mut self) {
        self.current = self.start.clone();
    }

    fn allowed(&mut self, mask: &mut [u32]) -> Result<bool> {
        let found = self.current.compute_mask_or_eos();
        let found = found.map_err(|_| Error::Mask("a grammar within the limits of llguidance"))?;
        mask.fill(0);
        mask.iter_mut().zip(found.as_slice()).for_each(|(word, found)| *word = *found);
        Ok(found.is_allowed(self.end))
    }

    fn accept(&mut self, token: u32) -> bool {
        self.current.consume_token(token).is_ok()
    }
}
