//! Pieces that were seen before, and their tokens.
//!
//! A few thousand words and names make up most of any text. A look into a small table, which stays in the second cache of the
//! CPU, saves them one into large tables, or merging. The table only ever gives what those would give for the same bytes, so
//! ids do not depend on it.

use super::lookup::{Key, WORD, slot_of};

/// Only pieces of at most this many tokens are kept.
const IDS: usize = 3;

/// A piece and its tokens. Half a cache line.
#[derive(Clone, Copy)]
#[repr(align(32))]
pub struct Entry {
    word: u128,
    ids: [u32; IDS],
    /// Bytes of the piece; 0 for an empty entry.
    size: u16,
    len: u16,
}

impl Entry {
    /// An entry without a piece.
    pub const EMPTY: Self = Self { word: 0, ids: [0; IDS], size: 0, len: 0 };

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

    /// What was kept for the piece with this key.
    #[inline]
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        let entry = self.entries.get(slot_of(key.hash, self.entries.len()))?;
        ((entry.word == key.word) & (usize::from(entry.size) == key.size())).then_some(entry)
    }

    /// Keeps the tokens of the piece with this key; unless they are too many, or the piece is too long.
    pub fn keep(&mut self, key: &Key, ids: impl Iterator<Item = u32>) {
        let slot = slot_of(key.hash, self.entries.len());
        let Some(entry) = self.entries.get_mut(slot).filter(|_| key.size() <= WORD) else { return };
        let mut kept = Entry { word: key.word, size: key.size() as u16, ..Entry::EMPTY };
        for id in ids {
            let Some(place) = kept.ids.get_mut(usize::from(kept.len)) else { return };
            *place = id;
            kept.len += 1;
        }
        *entry = kept;
    }
}
