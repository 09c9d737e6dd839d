//! Pieces that were seen before, and their tokens.
//!
//! A few thousand words and names make up most of any text. A look into a small table, which stays in the CPU's second cache,
//! saves them one into large tables, or merging. The table only ever gives what those would give for the same bytes, so
//! ids do not depend on it.

use super::lookup::{Key, WORD, slot_of};

/// Only pieces of at most this many tokens are kept.
const IDS: usize = 7;

/// A piece and its tokens. One cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct Entry {
    word: u128,
    tail: u128,
    ids: [u32; IDS],
    /// Bytes of the piece; 0 for an empty entry.
    size: u8,
    len: u8,
}

impl Entry {
    /// An entry without a piece.
    pub const EMPTY: Self = Self { word: 0, tail: 0, ids: [0; IDS], size: 0, len: 0 };

    /// The tokens of the piece.
    #[inline]
    pub fn ids(&self) -> &[u32] {
        &self.ids[..usize::from(self.len).min(IDS)]
    }
}

/// A cache in which each piece has one place, where the latest stays.
pub struct Cache<'c> {
    entries: &'c mut [Entry],
}

impl<'c> Cache<'c> {
    /// A cache of these entries. It may have none.
    pub fn new(entries: &'c mut [Entry]) -> Self {
        Self { entries }
    }

    /// What was kept for the piece with this key. The key says all about a piece that is short enough to be kept.
    #[inline]
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        let entry = self.entries.get(slot_of(key.hash, self.entries.len()))?;
        ((entry.word == key.word) & (entry.tail == key.tail) & (usize::from(entry.size) == key.size())).then_some(entry)
    }

    /// Keeps the tokens of the piece with this key; unless they are too many, or the piece is too long.
    pub fn keep(&mut self, key: &Key, ids: impl Iterator<Item = u32>) {
        let slot = slot_of(key.hash, self.entries.len());
        let Some(entry) = self.entries.get_mut(slot).filter(|_| key.size() <= 2 * WORD) else { return };
        let mut kept = Entry { word: key.word, tail: key.tail, size: key.size() as u8, ..Entry::EMPTY };
        for id in ids {
            let Some(place) = kept.ids.get_mut(usize::from(kept.len)) else { return };
            *place = id;
            kept.len += 1;
        }
        *entry = kept;
    }
}
