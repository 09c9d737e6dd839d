//! Text to token ids and back.
//!
//! The encoding is byte-level byte-pair encoding as OpenAI's tiktoken defines it, with the split pattern of o200k and any
//! vocabulary. Encoding takes three steps:
//!
//! 1. Special tokens that the caller allows are found in the text, leftmost first, the longest where several match. Each ends
//!    the text before it. What is not allowed is ordinary text, whatever it looks like.
//! 2. Ordinary text is cut into pieces, roughly words ([`split`]). No token crosses the border of a piece.
//! 3. A piece that is a token is that token: most are. In any other, adjacent parts are merged ([`merge`]), which takes
//!    memory of fixed size and time in proportion to the text, whatever the text. An [`Encoder`] remembers pieces that it has seen.
//!
//! What takes the time of a text that is new is less the work than the waiting for tables of megabytes. So some hundred pieces are
//! looked up together: each table is asked for the cache line with a piece while others are worked on ([`prefetch`]), those of the
//! next hundred among them. Pieces that have to be merged take turns at it.
//!
//! [`prefetch`]: crate::kernels::prefetch()
//!
//! Text that is not UTF-8 is encoded as if each maximal ill-formed part were U+FFFD. Decoding is exact: the bytes of the
//! tokens, one after the other; [`Utf8Stream`] turns them into text as they come.
//!
//! A [`Tokenizer`] borrows an index ([`tables`]). It is either built from the tokens of a vocabulary ([`Source`]), in memory
//! that the caller lends, or taken as it is from constant data that was saved before.

mod ascii;
pub mod cache;
pub mod classes;
mod draft;
mod encoder;
pub mod lookup;
pub mod merge;
pub mod split;
pub mod tables;
pub mod utf8;
pub mod vocabulary;

use core::mem::MaybeUninit;

pub use utf8::Utf8Stream;
pub use vocabulary::{Gguf, Harmony, Kind, RankFile, Source, Token};

use crate::error::{Error, Result};
use crate::region::{Carver, Layout};
use cache::{Cache, Long, Short};
use encoder::{Buffer, Encoding, Sink};
use lookup::Key;
use merge::Merger;
use tables::Tables;

/// Which special tokens are recognized in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specials<'s> {
    /// None: right for every text that a user, a tool or a file provides.
    None,
    /// Those with these ids.
    Only(&'s [u32]),
    /// All.
    All,
}

/// Encodes text to token ids and decodes them. Shared freely between threads.
#[derive(Clone, Copy)]
pub struct Tokenizer<'r> {
    tables: Tables<'r>,
}

impl<'r> Tokenizer<'r> {
    /// The memory that [`Tokenizer::new`] needs for this vocabulary.
    ///
    /// # Errors
    /// Those of the source; [`Error::Vocabulary`] if a token is out of bounds.
    pub fn layout(source: &impl Source) -> Result<Layout> {
        let mut carver = Carver::measuring();
        Tables::build(source, &mut carver)?;
        Ok(carver.layout())
    }

    /// A tokenizer whose index is built in `region`.
    ///
    /// # Errors
    /// Those of the source; [`Error::Vocabulary`] if a token is out of bounds, an id is given twice, a single byte has no
    /// token, or merges depend on text too far behind them; [`Error::RegionTooSmall`], [`Error::RegionAlign`].
    pub fn new(source: &impl Source, region: &'r mut [MaybeUninit<u8>]) -> Result<Self> {
        let mut carver = Carver::placing(region)?;
        let tables = Tables::build(source, &mut carver)?;
        Ok(Self { tables: tables.expect("a carver that is not measuring gives tables") })
    }

    /// A tokenizer over an index that [`Tokenizer::save`] wrote, on a machine with the same byte order, by this version.
    ///
    /// A changed index may give wrong ids or bytes, but nothing worse.
    ///
    /// # Errors
    /// [`Error::File`] if it is no such index, or does not start at a multiple of 64 bytes in memory.
    pub fn open(index: &'r [u8]) -> Result<Self> {
        Ok(Self { tables: Tables::open(index)? })
    }

    /// Hands the index to `write`, part by part.
    pub fn save(&self, write: &mut dyn FnMut(&[u8])) {
        self.tables.save(write);
    }

    /// The size of the vocabulary: one more than the highest id.
    pub fn vocabulary_len(&self) -> usize {
        self.tables.ids()
    }

    /// The bytes that a token stands for, special ones for their name; nothing if there is no such token.
    #[inline]
    pub fn token_bytes(&self, id: u32) -> Option<&'r [u8]> {
        self.tables.token(id)
    }

    /// Asks for what [`Tokenizer::token_bytes`] reads, in two steps with time between them: one token comes later than the other.
    #[inline]
    pub(crate) fn ask_token(&self, later: u32, sooner: u32) {
        self.tables.ask_place(later as usize);
        self.tables.ask_bytes(sooner as usize);
    }

    /// Whether a token is special.
    pub fn is_special(&self, id: u32) -> bool {
        self.tables.is_special(id)
    }

    /// The id of the special token with this name, such as `<|start|>`.
    pub fn special(&self, name: &str) -> Option<u32> {
        self.tables.special_at(name.as_bytes(), |_| true).filter(|(size, _)| *size == name.len()).map(|(_, id)| id)
    }

    /// The ordinary token that stands for exactly these bytes, if text can be encoded to it.
    pub fn token_of(&self, bytes: &[u8]) -> Option<u32> {
        if bytes.is_empty() { None } else { self.tables.whole(bytes, &Key::of(bytes, 0, bytes.len())) }
    }

    /// The token that `text` is encoded to first, if that is so whatever stands behind it.
    pub fn first_settled(&self, text: &str) -> Option<u32> {
        split::Pieces::settled(text.as_bytes())?;
        let mut first = None;
        self.encode(text, Specials::None, |token| first = first.or(Some(token)));
        first
    }

    /// The special tokens that end a model's turn: `<|return|>`, `<|call|>`, and `<|endoftext|>`, as far as there are such.
    pub fn stop_ids(&self) -> impl Iterator<Item = u32> {
        ["<|return|>", "<|call|>", "<|endoftext|>"].into_iter().filter_map(|name| self.special(name))
    }

    /// Encodes `text` and hands the ids to `emit`, in order. Takes 32 KB of stack. An [`Encoder`] is faster.
    pub fn encode(&self, text: impl AsRef<[u8]>, specials: Specials<'_>, mut emit: impl FnMut(u32)) {
        self.encode_to(text.as_ref(), specials, &mut emit);
    }

    /// Encodes `text` into the start of `ids` and returns how many there are. One for each byte of a text in UTF-8 is always
    /// room enough; three for each, if it may not be UTF-8. Numbers behind those may change.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] with the number needed; the ids that have room are in place.
    pub fn encode_into(&self, text: impl AsRef<[u8]>, specials: Specials<'_>, ids: &mut [u32]) -> Result<usize> {
        let have = ids.len();
        let mut buffer = Buffer { ids, len: 0 };
        self.encode_to(text.as_ref(), specials, &mut buffer);
        fits(buffer.len, have)
    }

    fn encode_to(&self, text: &[u8], specials: Specials<'_>, sink: &mut impl Sink) {
        let cache = Cache { short: &mut [], long: &mut [] };
        Encoding { tables: &self.tables, merger: &mut Merger::default(), cache }.encode(text, specials, sink);
    }

    /// Hands the bytes of each token to `emit`, in order. Ids that are no token give nothing.
    pub fn decode(&self, ids: &[u32], mut emit: impl FnMut(&'r [u8])) {
        for bytes in ids.iter().filter_map(|id| self.token_bytes(*id)) {
            emit(bytes);
        }
    }

    /// Decodes `ids` into the start of `bytes` and returns how many there are. Bytes behind those may change.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] with the number needed; the tokens that have room are in place.
    pub fn decode_into(&self, ids: &[u32], bytes: &mut [u8]) -> Result<usize> {
        let have = bytes.len();
        let mut len = 0;
        for id in ids {
            len += self.tables.copy_token(*id, bytes.get_mut(len..).unwrap_or_default());
        }
        fits(len, have)
    }
}

/// A tokenizer with memory to work in, to encode many texts. One thread at a time.
///
/// It gives the same ids as the tokenizer alone, but remembers pieces that it has seen.
pub struct Encoder<'t, 'm> {
    tokenizer: Tokenizer<'t>,
    merger: &'m mut [Merger],
    short: &'m mut [Short],
    long: &'m mut [Long],
}

impl<'t, 'm> Encoder<'t, 'm> {
    /// The memory that [`Encoder::new`] needs to remember so many pieces (64 bytes each).
    ///
    /// # Errors
    /// [`Error::RegionTooSmall`] if the size overflows.
    pub fn layout(pieces: usize) -> Result<Layout> {
        let mut carver = Carver::measuring();
        Self::carve(pieces, &mut carver)?;
        Ok(carver.layout())
    }

    /// An encoder that remembers up to so many short pieces, and half as many others. 8192 are a good number.
    ///
    /// # Errors
    /// [`Error::RegionTooSmall`], [`Error::RegionAlign`].
    pub fn new(tokenizer: Tokenizer<'t>, pieces: usize, region: &'m mut [MaybeUninit<u8>]) -> Result<Self> {
        let (merger, short, long) = Self::carve(pieces, &mut Carver::placing(region)?)?;
        Ok(Self { tokenizer, merger, short, long })
    }

    fn carve(pieces: usize, carver: &mut Carver<'m>) -> Result<(&'m mut [Merger], &'m mut [Short], &'m mut [Long])> {
        Ok((
            carver.filled(1, Merger::default())?,
            carver.filled(pieces, Short::EMPTY)?,
            carver.filled(pieces.div_ceil(2), Long::EMPTY)?,
        ))
    }

    /// How many bytes it had to merge so far, each time that it did: what the time beyond splitting and looking up grows
    /// with. At most about twice the bytes encoded, whatever the text.
    pub fn merged_bytes(&self) -> u64 {
        self.merger.iter().map(|merger| merger.merged_bytes).sum()
    }

    /// Encodes `text` and hands the ids to `emit`, in order.
    pub fn encode(&mut self, text: impl AsRef<[u8]>, specials: Specials<'_>, mut emit: impl FnMut(u32)) {
        self.encode_to(text.as_ref(), specials, &mut emit);
    }

    /// Encodes `text` into the start of `ids`, as [`Tokenizer::encode_into`] does.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] with the number needed; the ids that have room are in place.
    pub fn encode_into(&mut self, text: impl AsRef<[u8]>, specials: Specials<'_>, ids: &mut [u32]) -> Result<usize> {
        let have = ids.len();
        let mut buffer = Buffer { ids, len: 0 };
        self.encode_to(text.as_ref(), specials, &mut buffer);
        fits(buffer.len, have)
    }

    fn encode_to(&mut self, text: &[u8], specials: Specials<'_>, sink: &mut impl Sink) {
        let [merger] = self.merger else { return };
        let cache = Cache { short: self.short, long: self.long };
        Encoding { tables: &self.tokenizer.tables, merger, cache }.encode(text, specials, sink);
    }
}

fn fits(need: usize, have: usize) -> Result<usize> {
    if need > have { Err(Error::BufferTooSmall { need, have }) } else { Ok(need) }
}
