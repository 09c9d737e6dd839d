//! The tokens of a vocabulary in the order of their bytes, and those that stay within a string.

use core::mem::MaybeUninit;
use core::ops::Range;

use super::dfa::WORDS;
use crate::error::Result;
use crate::region::{Carver, Layout, List};
use crate::tokenizer::Tokenizer;

/// Texts in order, and what each shares with the one before it.
#[derive(Clone, Copy)]
pub(super) struct Sorted<'r> {
    pub ids: &'r [u32],
    /// Bytes, of at most 254.
    pub shared: &'r [u8],
    /// Where the text of a token begins.
    pub start: fn(&[u8]) -> usize,
}

/// What a mask needs to know of a vocabulary. Shared freely between threads.
#[derive(Clone, Copy)]
pub struct TokenIndex<'r> {
    pub(super) tokenizer: Tokenizer<'r>,
    /// All ordinary tokens.
    pub(super) all: Sorted<'r>,
    /// Tokens with a quote before any backslash, by what is behind the quote.
    pub(super) closing: Sorted<'r>,
    /// Tokens with a backslash before any quote.
    pub(super) escaping: Sorted<'r>,
    /// By number of characters: the tokens that stay within a string, are no longer, and may be followed by more.
    plain: &'r [u32],
    /// Those that are longer than the last of these, by ascending number of characters: it, and the token.
    long: &'r [(u16, u32)],
    /// Tokens that stay within a string, and hold a line end that only JSON takes for none.
    pub(super) separating: &'r [u32],
    /// Tokens of [`WORDS`] only, one bit each; and those that are a blank and such characters.
    pub(super) words: &'r [u32],
    pub(super) spaced: &'r [u32],
    /// All others.
    pub(super) others: Sorted<'r>,
}

/// Bitmaps for so many lengths; the next is for all.
pub(super) const LENGTHS: usize = 16;

/// Whether a text has only characters of [`WORDS`]. It may end within one.
fn is_words(text: &[u8]) -> bool {
    let (text, is_whole) = match core::str::from_utf8(text) {
        Ok(text) => (text, true),
        Err(error) => (core::str::from_utf8(&text[..error.valid_up_to()]).unwrap_or(""), error.error_len().is_none()),
    };
    is_whole
        && text.chars().map(u32::from).all(|character| {
            let range = WORDS.partition_point(|[_, high]| *high < character);
            WORDS.get(range).is_some_and(|[low, _]| *low <= character)
        })
}

enum Class {
    Plain(u16),
    Separating,
    Closing,
    Escaping,
    Other,
}

/// What a token is within a string, at a border of characters.
fn class(bytes: &[u8]) -> Class {
    let special = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\'));
    let before = &bytes[..special.unwrap_or(bytes.len())];
    let (text, is_cut) = match core::str::from_utf8(before) {
        Ok(text) => (text, false),
        Err(error) if error.error_len().is_none() && special.is_none() => {
            (core::str::from_utf8(&before[..error.valid_up_to()]).unwrap_or(""), true)
        }
        Err(_) => return Class::Other,
    };
    if before.iter().any(|byte| *byte < 0x20) {
        return Class::Other;
    }
    match special {
        None if text.contains(['\u{2028}', '\u{2029}']) => Class::Separating,
        None => Class::Plain((text.chars().count() + usize::from(is_cut)) as u16),
        Some(at) if bytes[at] == b'"' => Class::Closing,
        Some(_) => Class::Escaping,
    }
}

/// Where what is behind the first quote begins.
fn behind_quote(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| *byte == b'"').map_or(bytes.len(), |quote| quote + 1)
}

fn ordinary<'t>(tokenizer: &Tokenizer<'t>) -> impl Iterator<Item = (u32, &'t [u8])> {
    let tokenizer = *tokenizer;
    (0..tokenizer.vocabulary_len() as u32).filter_map(move |id| {
        let bytes = tokenizer.token_bytes(id).filter(|bytes| !bytes.is_empty() && !tokenizer.is_special(id))?;
        Some((id, bytes))
    })
}

impl<'r> TokenIndex<'r> {
    /// The vocabulary.
    pub fn tokenizer(&self) -> &Tokenizer<'r> {
        &self.tokenizer
    }

    /// The memory that [`TokenIndex::new`] needs for this vocabulary.
    ///
    /// # Errors
    /// [`crate::error::Error::RegionTooSmall`] if it is more than an address space.
    pub fn layout(tokenizer: &Tokenizer<'_>) -> Result<Layout> {
        let mut carver = Carver::measuring();
        Parts::carve(&mut carver, tokenizer)?;
        Ok(carver.layout())
    }

    /// Sorts the tokens of a vocabulary.
    ///
    /// # Errors
    /// [`crate::error::Error::RegionTooSmall`], [`crate::error::Error::RegionAlign`].
    pub fn new(region: &'r mut [MaybeUninit<u8>], tokenizer: Tokenizer<'r>) -> Result<Self> {
        let mut parts = Parts::carve(&mut Carver::placing(region)?, &tokenizer)?;
        let words = tokenizer.vocabulary_len().div_ceil(32);
        let mut fits = true;
        for (id, bytes) in ordinary(&tokenizer) {
            fits &= parts.all.ids.push(id);
            match bytes.strip_prefix(b" ") {
                None if is_words(bytes) => parts.words[id as usize / 32] |= 1 << (id % 32),
                Some(bytes) if is_words(bytes) => parts.spaced[id as usize / 32] |= 1 << (id % 32),
                _ => fits &= parts.others.ids.push(id),
            }
            match class(bytes) {
                Class::Plain(characters) => {
                    let first = usize::from(characters).min(LENGTHS + 1);
                    parts.plain[(first - 1) * words + id as usize / 32] |= 1 << (id % 32);
                    if usize::from(characters) > LENGTHS {
                        fits &= parts.long.push((characters, id));
                    }
                }
                Class::Separating => fits &= parts.separating.push(id),
                Class::Closing => fits &= parts.closing.ids.push(id),
                Class::Escaping => fits &= parts.escaping.ids.push(id),
                Class::Other => {}
            }
        }
        debug_assert!(fits, "the tokens were counted");
        for word in words..parts.plain.len() {
            parts.plain[word] |= parts.plain[word - words];
        }
        // Few are so long.
        parts.long.sort_unstable();
        Ok(Self {
            tokenizer,
            all: parts.all.sort(&tokenizer, |_| 0),
            closing: parts.closing.sort(&tokenizer, behind_quote),
            escaping: parts.escaping.sort(&tokenizer, |_| 0),
            plain: parts.plain,
            long: parts.long.freeze(),
            separating: parts.separating.freeze(),
            words: parts.words,
            spaced: parts.spaced,
            others: parts.others.sort(&tokenizer, |_| 0),
        })
    }

    /// Adds the tokens of at most so many characters that stay within a string. Those of more than [`LENGTHS`] that are longer
    /// are returned, with their number of characters before them.
    pub(super) fn add_plain(&self, characters: u32, mask: &mut [u32]) -> &'r [(u16, u32)] {
        let words = self.tokenizer.vocabulary_len().div_ceil(32);
        let (short, longer) =
            self.long.split_at(self.long.partition_point(|(count, _)| u32::from(*count) <= characters));
        let (map, short) = match characters as usize {
            few @ ..=LENGTHS => (few, &[][..]),
            _ if longer.is_empty() => (LENGTHS + 1, &[][..]),
            _ => (LENGTHS, short),
        };
        let Some(plain) = map.checked_sub(1).and_then(|map| self.plain.get(map * words..(map + 1) * words)) else {
            return &[];
        };
        for (word, plain) in mask.iter_mut().zip(plain) {
            *word |= plain;
        }
        for (_, id) in short {
            mask[*id as usize / 32] |= 1 << (id % 32);
        }
        longer
    }
}

impl<'r> Sorted<'r> {
    /// Those that begin with a byte.
    pub fn beginning_with(&self, byte: u8, tokenizer: &Tokenizer<'_>) -> Self {
        let first = |id: &u32| tokenizer.token_bytes(*id).and_then(|bytes| bytes.first().copied());
        let begin = self.ids.partition_point(|id| first(id) < Some(byte));
        let end = self.ids.partition_point(|id| first(id) <= Some(byte));
        Self { ids: &self.ids[begin..end], shared: &self.shared[begin..end], ..*self }
    }

    /// The bytes of a token before its text, and the text.
    pub fn text<'t>(&self, tokenizer: &Tokenizer<'t>, index: usize) -> (&'t [u8], &'t [u8]) {
        let bytes = tokenizer.token_bytes(self.ids[index]).unwrap_or_default();
        bytes.split_at((self.start)(bytes))
    }
}

struct Parts<'r> {
    all: Unsorted<'r>,
    closing: Unsorted<'r>,
    escaping: Unsorted<'r>,
    plain: &'r mut [u32],
    long: List<'r, (u16, u32)>,
    separating: List<'r, u32>,
    words: &'r mut [u32],
    spaced: &'r mut [u32],
    others: Unsorted<'r>,
}

struct Unsorted<'r> {
    ids: List<'r, u32>,
    shared: &'r mut [u8],
}

impl<'r> Parts<'r> {
    fn carve(carver: &mut Carver<'r>, tokenizer: &Tokenizer<'_>) -> Result<Self> {
        // At most so many are of each class: to tell the classes exactly takes longer.
        let (mut all, mut special, mut long, mut separating, mut others) = (0, 0, 0, 0, 0);
        for (_, bytes) in ordinary(tokenizer) {
            let has = |byte: u8| usize::from(bytes.contains(&byte));
            all += 1;
            special += has(b'"') | has(b'\\');
            others += usize::from(!is_words(bytes.strip_prefix(b" ").unwrap_or(bytes)));
            long += usize::from(bytes.len() > LENGTHS);
            let separators = bytes.windows(3).filter(|three| matches!(three, [0xE2, 0x80, 0xA8 | 0xA9]));
            separating += separators.count().min(1);
        }
        let words = tokenizer.vocabulary_len().div_ceil(32);
        Ok(Self {
            all: Unsorted::carve(carver, all)?,
            closing: Unsorted::carve(carver, special)?,
            escaping: Unsorted::carve(carver, special)?,
            plain: carver.filled([LENGTHS + 1, words], 0)?,
            long: carver.list(long)?,
            separating: carver.list(separating)?,
            words: carver.filled(words, 0)?,
            spaced: carver.filled(words, 0)?,
            others: Unsorted::carve(carver, others)?,
        })
    }
}

/// A text whose border to the one before it has not been found.
const UNKNOWN: u8 = u8::MAX;
/// Of longer texts it is enough to know that they share so much.
const SHARED_MAX: usize = 254;
/// So many texts are sorted by comparing them.
const FEW: usize = 24;

impl<'r> Unsorted<'r> {
    fn carve(carver: &mut Carver<'r>, len: usize) -> Result<Self> {
        Ok(Self { ids: carver.list(len)?, shared: carver.filled(len, UNKNOWN)? })
    }

    /// Sorts texts by their first byte, then those with the same first byte by their second, and so on. The time grows with
    /// the bytes, and where two texts part says what they share.
    fn sort(mut self, tokenizer: &Tokenizer<'_>, start: fn(&[u8]) -> usize) -> Sorted<'r> {
        // 0 is the end of a text.
        let key = |id: u32, depth: usize| {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            bytes.get(start(bytes) + depth).map_or(0, |byte| usize::from(*byte) + 1)
        };
        self.shared = &mut core::mem::take(&mut self.shared)[..self.ids.len()];
        if let Some(first) = self.shared.first_mut() {
            *first = 0;
        }
        let (mut at, mut depth) = (0, 0);
        while at < self.ids.len() {
            let behind = &self.shared[at + 1..];
            let end = at + 1 + behind.iter().position(|shared| *shared != UNKNOWN).unwrap_or(behind.len());
            if end - at <= FEW {
                self.sort_few(at..end, tokenizer, start);
                at = end;
                depth = self.shared.get(at).map_or(0, |shared| usize::from(*shared) + 1);
            } else {
                split(&mut self.ids[at..end], &mut self.shared[at..end], depth, |id| key(id, depth));
                depth += 1;
            }
        }
        Sorted { ids: self.ids.freeze(), shared: self.shared, start }
    }

    fn sort_few(&mut self, range: Range<usize>, tokenizer: &Tokenizer<'_>, start: fn(&[u8]) -> usize) {
        let text = |id: u32| {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            &bytes[start(bytes)..]
        };
        self.ids[range.clone()].sort_unstable_by(|left, right| text(*left).cmp(text(*right)));
        for index in range.skip(1) {
            let pairs = text(self.ids[index - 1]).iter().zip(text(self.ids[index]));
            let shared = pairs.take_while(|(left, right)| left == right).count();
            self.shared[index] = shared.min(SHARED_MAX) as u8;
        }
    }
}

/// Sorts texts that share `depth` bytes by the next byte, in place, and marks where it changes and where texts end.
fn split(ids: &mut [u32], shared: &mut [u8], depth: usize, key: impl Fn(u32) -> usize) {
    let mut ends = [0; 257];
    ids.iter().for_each(|id| ends[key(*id)] += 1);
    let ended = ends[0];
    let mut end = 0;
    let mut next = ends.each_mut().map(|count| {
        let begin = end;
        end += *count;
        *count = end;
        begin
    });
    for bucket in 0..ends.len() {
        while next[bucket] < ends[bucket] {
            let place = next[bucket];
            let of = key(ids[place]);
            ids.swap(place, next[of]);
            next[of] += 1;
        }
    }
    let mark = depth.min(SHARED_MAX) as u8;
    let begins = ends.into_iter().filter(|begin| *begin < ids.len()).chain(0..ended);
    begins.filter(|begin| *begin > 0).for_each(|begin| shared[begin] = mark);
}
