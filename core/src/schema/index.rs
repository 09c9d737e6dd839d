//! The tokens of a vocabulary in the order of their bytes, and those that stay within a string.

use core::mem::MaybeUninit;

use crate::error::Result;
use crate::region::{Carver, Layout, List};
use crate::tokenizer::Tokenizer;

/// A token, or what of it is behind a quote.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub id: u32,
    /// Bytes before those that count.
    pub start: u16,
    /// Characters in those.
    pub characters: u16,
}

/// Texts in order: what each shares with the one before it, and which is the next that shares no more.
#[derive(Clone, Copy)]
pub(super) struct Sorted<'r> {
    pub entries: &'r [Entry],
    pub shared: &'r [u8],
    pub next: &'r [u32],
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
    /// Those that are longer than the last of these, by ascending length.
    long: &'r [Entry],
}

/// Bitmaps for so many lengths; the next is for all.
const LENGTHS: usize = 16;

enum Class {
    Plain(u16),
    Closing(Entry),
    Escaping,
    Other,
}

/// What a token is within a string, at a border of characters.
fn class(id: u32, bytes: &[u8]) -> Class {
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
    let characters = (text.chars().count() + usize::from(is_cut)) as u16;
    match special {
        None => Class::Plain(characters),
        Some(at) if bytes[at] == b'"' => Class::Closing(Entry { id, start: at as u16 + 1, characters }),
        Some(_) => Class::Escaping,
    }
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
            fits &= parts.all.entries.push(Entry { id, start: 0, characters: 0 });
            match class(id, bytes) {
                Class::Plain(characters) => {
                    let first = usize::from(characters).min(LENGTHS + 1);
                    parts.plain[(first - 1) * words + id as usize / 32] |= 1 << (id % 32);
                    if usize::from(characters) > LENGTHS {
                        fits &= parts.long.push(Entry { id, start: 0, characters });
                    }
                }
                Class::Closing(entry) => fits &= parts.closing.entries.push(entry),
                Class::Escaping => fits &= parts.escaping.entries.push(Entry { id, start: 0, characters: 0 }),
                Class::Other => {}
            }
        }
        debug_assert!(fits, "the same tokens were counted");
        for word in words..parts.plain.len() {
            parts.plain[word] |= parts.plain[word - words];
        }
        parts.long.sort_unstable_by_key(|entry| entry.characters);
        Ok(Self {
            tokenizer,
            all: parts.all.sort(&tokenizer),
            closing: parts.closing.sort(&tokenizer),
            escaping: parts.escaping.sort(&tokenizer),
            plain: parts.plain,
            long: parts.long.freeze(),
        })
    }

    /// Adds the tokens of at most so many characters that stay within a string.
    pub(super) fn add_plain(&self, characters: u32, mask: &mut [u32]) {
        let words = self.tokenizer.vocabulary_len().div_ceil(32);
        let map = (characters as usize).min(LENGTHS + 1);
        let Some(plain) = map.checked_sub(1).and_then(|map| self.plain.get(map * words..(map + 1) * words)) else {
            return;
        };
        let longer = if map > LENGTHS {
            &self.long[self.long.partition_point(|entry| u32::from(entry.characters) <= characters)..]
        } else {
            &[]
        };
        for (word, plain) in mask.iter_mut().zip(plain) {
            *word |= plain;
        }
        // No other token of the mask is plain: a state within a string is only added to by tokens that are not.
        for entry in longer {
            mask[entry.id as usize / 32] &= !(1 << (entry.id % 32));
        }
    }
}

impl Sorted<'_> {
    pub fn bytes<'t>(&self, tokenizer: &Tokenizer<'t>, index: usize) -> &'t [u8] {
        text_of(tokenizer, &self.entries[index])
    }
}

fn text_of<'t>(tokenizer: &Tokenizer<'t>, entry: &Entry) -> &'t [u8] {
    tokenizer.token_bytes(entry.id).and_then(|bytes| bytes.get(entry.start.into()..)).unwrap_or_default()
}

struct Parts<'r> {
    all: Unsorted<'r>,
    closing: Unsorted<'r>,
    escaping: Unsorted<'r>,
    plain: &'r mut [u32],
    long: List<'r, Entry>,
}

struct Unsorted<'r> {
    entries: List<'r, Entry>,
    shared: List<'r, u8>,
    next: &'r mut [u32],
}

impl<'r> Parts<'r> {
    fn carve(carver: &mut Carver<'r>, tokenizer: &Tokenizer<'_>) -> Result<Self> {
        let (mut all, mut closing, mut escaping, mut long) = (0, 0, 0, 0);
        for (id, bytes) in ordinary(tokenizer) {
            all += 1;
            match class(id, bytes) {
                Class::Plain(characters) => long += usize::from(usize::from(characters) > LENGTHS),
                Class::Closing(_) => closing += 1,
                Class::Escaping => escaping += 1,
                Class::Other => {}
            }
        }
        let words = tokenizer.vocabulary_len().div_ceil(32);
        Ok(Self {
            all: Unsorted::carve(carver, all)?,
            closing: Unsorted::carve(carver, closing)?,
            escaping: Unsorted::carve(carver, escaping)?,
            plain: carver.filled([LENGTHS + 1, words], 0)?,
            long: carver.list(long)?,
        })
    }
}

impl<'r> Unsorted<'r> {
    fn carve(carver: &mut Carver<'r>, len: usize) -> Result<Self> {
        Ok(Self { entries: carver.list(len)?, shared: carver.list(len)?, next: carver.filled(len, 0)? })
    }

    fn sort(mut self, tokenizer: &Tokenizer<'_>) -> Sorted<'r> {
        let text = |entry: &Entry| text_of(tokenizer, entry);
        self.entries.sort_unstable_by(|left, right| text(left).cmp(text(right)));
        for index in 0..self.entries.len() {
            let shared = match index.checked_sub(1) {
                None => 0,
                Some(before) => {
                    let pairs = text(&self.entries[before]).iter().zip(text(&self.entries[index]));
                    pairs.take_while(|(left, right)| left == right).count()
                }
            };
            // There is room for each entry, and a token has at most 256 bytes, the first of which its kind shares.
            let _ = self.shared.push(shared.min(255) as u8);
        }
        for index in (0..self.entries.len()).rev() {
            let mut next = index + 1;
            while self.shared.get(next).is_some_and(|shared| *shared > self.shared[index]) {
                next = self.next[next] as usize;
            }
            self.next[index] = next as u32;
        }
        Sorted { entries: self.entries.freeze(), shared: self.shared.freeze(), next: self.next }
    }
}
