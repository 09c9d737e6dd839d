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
    /// Not known.
    pub const NONE: Self = Self { ids: [0; IDS], len: 0, size: 0 };

    pub fn more(start: usize, count: usize) -> Self {
        Self { ids: [start as u32, count as u32, 0], len: u8::MAX, size: 0 }
    }

    pub fn spilled(&self) -> Option<(usize, usize)> {
        (self.len == u8::MAX).then_some((self.ids[0] as usize, self.ids[1] as usize))
    }

    /// These tokens, if they are few enough.
    #[inline]
    pub fn of(ids: impl Iterator<Item = u32>) -> Option<Self> {
        let mut few = Self::default();
        for id in ids {
            *few.ids.get_mut(usize::from(few.len))? = id;
            few.len += 1;
        }
        Some(few)
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
        let same = (entry.word == key.word) & (usize::from(entry.ids.size) == key.size());
        Ids { len: entry.ids.len * u8::from(same), ..entry.ids }
    }

    /// Something from the place of the piece with this key: to have it on its way before it is needed.
    #[inline]
    pub fn touch(&self, key: &Key) -> u8 {
        self.entries.get(slot_of(key.hash, self.entries.len())).map_or(0, |entry| entry.ids.size)
    }

    /// Keeps the tokens of the piece with this key, unless that is too long.
    #[inline]
    pub fn keep(&mut self, key: &Key, ids: Ids) {
        let slot = slot_of(key.hash, self.entries.len());
        if let Some(entry) = self.entries.get_mut(slot).filter(|_| key.size() <= WORD) {
            *entry = Entry { word: key.word, ids: Ids { size: key.size() as u8, ..ids } };
        }
    }
}
