//! Pieces that were seen before, and their tokens.
//!
//! A few thousand words and names make up most of any text. A look into a small table, which stays in the second cache of the
//! CPU, saves them one into large tables, or merging. The table only ever gives what those would give for the same bytes, so
//! ids do not depend on it.

use super::lookup::{Key, WORD, slot_of};

/// Only pieces of at most this many tokens are kept.
pub const IDS: usize = 3;

/// The tokens of a piece.
#[derive(Clone, Copy, Default)]
pub struct Ids {
    ids: [u32; IDS],
    /// How many there are; 0 if they are not known.
    len: u8,
    /// Bytes of the piece.
    size: u8,
}

impl Ids {
    /// A single token.
    pub fn one(id: u32) -> Self {
        Self { ids: [id, 0, 0], len: 1, size: 0 }
    }

    /// The tokens; none if they are not known.
    #[inline]
    pub fn known(&self) -> &[u32] {
        &self.ids[..usize::from(self.len).min(IDS)]
    }
}

/// A piece and its tokens. Half a cache line.
#[derive(Clone, Copy)]
#[repr(align(32))]
pub struct Entry {
    word: u128,
    ids: Ids,
}

impl Entry {
    /// An entry without a piece.
    pub const EMPTY: Self = Self { word: 0, ids: Ids { ids: [0; IDS], len: 0, size: 0 } };
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
    pub fn get(&self, key: &Key) -> Ids {
        let Some(entry) = self.entries.get(slot_of(key.hash, self.entries.len())) else { return Ids::default() };
        let same = entry.word == key.word && usize::from(entry.ids.size) == key.size();
        Ids { len: if same { entry.ids.len } else { 0 }, ..entry.ids }
    }

    /// Keeps the tokens of the piece with this key; unless they are too many, or the piece is too long.
    #[inline]
    pub fn keep(&mut self, key: &Key, ids: impl Iterator<Item = u32>) {
        let slot = slot_of(key.hash, self.entries.len());
        let Some(entry) = self.entries.get_mut(slot).filter(|_| key.size() <= WORD) else { return };
        let mut kept = Ids { size: key.size() as u8, ..Ids::default() };
        for id in ids {
            let Some(place) = kept.ids.get_mut(usize::from(kept.len)) else { return };
            *place = id;
            kept.len += 1;
        }
        *entry = Entry { word: key.word, ids: kept };
    }
}
