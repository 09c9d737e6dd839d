//! Pieces that were merged before, or are a long token, and their tokens.
//!
//! Names, technical terms and inflected words come again and again; a few thousand of them save most of the merging, and
//! most of the looks into the large tables that it takes to find a long token. The cache only ever gives what merging gives
//! for the same bytes, so ids do not depend on it.

use super::lookup::{same, slot_of};

/// Only pieces of at most this many bytes are kept.
const PIECE: usize = 32;

/// Only pieces of at most this many tokens are kept.
const IDS: usize = 7;

/// A piece, and what it was merged to. One cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct Entry {
    piece: [u8; PIECE],
    ids: [u32; IDS],
    /// Bytes; 0 for an empty entry.
    size: u8,
    len: u8,
}

impl Entry {
    /// An entry without a piece.
    pub const EMPTY: Self = Self { piece: [0; PIECE], ids: [0; IDS], size: 0, len: 0 };
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

    /// What was kept for `piece`, which has this hash.
    #[inline]
    pub fn get(&self, hash: u64, piece: &[u8]) -> Option<&[u32]> {
        let entry = self.entries.get(slot_of(hash, self.entries.len()))?;
        let kept = entry.piece.get(..usize::from(entry.size))?;
        same(kept, piece).then(|| &entry.ids[..usize::from(entry.len)])
    }

    /// Something from the place of pieces with this hash: to have it on its way before it is needed.
    #[inline]
    pub fn touch(&self, hash: u64) -> u8 {
        self.entries.get(slot_of(hash, self.entries.len())).map_or(0, |entry| entry.size)
    }

    /// Keeps what `piece`, which has this hash, was merged to; unless it is too long.
    pub fn keep(&mut self, hash: u64, piece: &[u8], ids: impl Iterator<Item = u32>) {
        let slot = slot_of(hash, self.entries.len());
        let Some(entry) = self.entries.get_mut(slot).filter(|_| piece.len() <= PIECE) else { return };
        entry.size = 0;
        let mut len = 0;
        for id in ids {
            let Some(place) = entry.ids.get_mut(len) else { return };
            *place = id;
            len += 1;
        }
        entry.piece[..piece.len()].copy_from_slice(piece);
        entry.len = len as u8;
        entry.size = piece.len() as u8;
    }
}
