//! Pieces that were seen before, and their tokens.
//!
//! A few thousand words and names make up most of any text. A look into a small table, which stays in the CPU's second cache,
//! saves them one into large tables, or merging. It only ever gives what those would give for the same bytes, so ids do not
//! depend on it. There are two tables: one for short pieces of few tokens, which nearly all are, and one for others. In each
//! a piece has one place, where the latest stays.

use crate::kernels::prefetch;

use super::lookup::{Key, WORD, pair_hash, slot_of, word_at};

/// Up to three tokens, and behind them how many. Four words, so that all are moved at once.
pub type Few = [u32; FEW + 1];

/// Tokens that [`Few`] has room for.
pub const FEW: usize = 3;

/// Tokens that a longer entry has room for.
pub const MANY: usize = 7;

/// A piece of at most 15 bytes and its tokens. Half a cache line.
#[derive(Clone, Copy)]
#[repr(align(32))]
pub struct Short {
    /// The bytes of the piece, and in the last byte how many; so never 0.
    key: u128,
    ids: Few,
}

impl Short {
    /// An entry without a piece.
    pub const EMPTY: Self = Self { key: 0, ids: [0; FEW + 1] };
}

/// A piece of at most 32 bytes and its tokens. One cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct Long {
    word: u128,
    tail: u128,
    ids: [u32; MANY],
    /// Bytes of the piece; 0 for an empty entry.
    size: u8,
    len: u8,
}

impl Long {
    /// An entry without a piece.
    pub const EMPTY: Self = Self { word: 0, tail: 0, ids: [0; MANY], size: 0, len: 0 };

    /// The tokens of the piece.
    #[inline]
    pub fn ids(&self) -> &[u32] {
        &self.ids[..usize::from(self.len).min(MANY)]
    }
}

/// The tables. Either may be empty.
pub struct Cache<'c> {
    /// For short pieces of few tokens.
    pub short: &'c mut [Short],
    /// For others.
    pub long: &'c mut [Long],
}

impl Cache<'_> {
    /// Key and place of the piece `text[start..end]` among the short ones. Asks for what [`Cache::short`] looks at.
    #[inline]
    pub fn ask_short(&self, text: &[u8], start: usize, end: usize) -> (u128, usize) {
        let key = short_key(text, start, end);
        let slot = short_slot(key, self.short.len());
        prefetch(self.short, slot);
        (key, slot)
    }

    /// What was kept for the piece with this key and place; nothing, if it was not. Without a branch on that: it cannot be
    /// predicted.
    #[inline]
    pub fn short(&self, (key, slot): (u128, usize)) -> Few {
        let Some(entry) = self.short.get(slot) else { return [0; FEW + 1] };
        let [first, second, third, len] = entry.ids;
        let other = ((entry.key ^ key) as u64) | ((entry.key ^ key) >> 64) as u64;
        // All ones if there is no difference.
        let same = !((other | other.wrapping_neg()) as i64 >> 63) as u32;
        [first, second, third, len & same]
    }

    /// Asks for what [`Cache::long`] looks at.
    #[inline]
    pub fn ask_long(&self, key: &Key) {
        prefetch(self.long, slot_of(key.hash, self.long.len()));
    }

    /// What was kept for the piece with this key among the others. The key says all about a piece that is short enough to be
    /// kept.
    #[inline]
    pub fn long(&self, key: &Key) -> Option<Long> {
        let entry = self.long.get(slot_of(key.hash, self.long.len()))?;
        ((entry.word == key.word) & (entry.tail == key.tail) & (usize::from(entry.size) == key.size()))
            .then_some(*entry)
    }

    /// Keeps the tokens of the piece with this key, unless they are too many or the piece is too long: a short piece of few among
    /// the short ones, a piece of several, which took merging, among the others too, where those of one do not drive it out.
    pub fn keep(&mut self, text: &[u8], key: &Key, ids: &[u32]) {
        let size = key.size();
        self.keep_short(text, key.start, key.end, ids);
        if (size >= WORD || ids.len() > 1)
            && size <= 2 * WORD
            && ids.len() <= MANY
            && let Some(entry) = self.long.get_mut(slot_of(key.hash, self.long.len()))
        {
            let Key { word, tail, .. } = *key;
            *entry = Long { word, tail, size: size as u8, len: ids.len() as u8, ..Long::EMPTY };
            entry.ids[..ids.len()].copy_from_slice(ids);
        }
    }

    /// Keeps the tokens of the piece `text[start..end]`, if they are few and the piece is short.
    #[inline]
    pub fn keep_short(&mut self, text: &[u8], start: usize, end: usize, ids: &[u32]) {
        if end - start < WORD && ids.len() <= FEW {
            let short = short_key(text, start, end);
            if let Some(entry) = self.short.get_mut(short_slot(short, self.short.len())) {
                let mut few = [0; FEW + 1];
                few[..ids.len()].copy_from_slice(ids);
                few[FEW] = ids.len() as u32;
                *entry = Short { key: short, ids: few };
            }
        }
    }
}

/// The place of a key among so many.
#[inline]
fn short_slot(key: u128, len: usize) -> usize {
    slot_of(pair_hash(key as u64 ^ ((key >> 64) as u64).rotate_left(32)), len)
}

/// The key of a short piece; of a longer one what no entry has.
#[inline]
fn short_key(text: &[u8], start: usize, end: usize) -> u128 {
    /// By the size of a piece: the bits of the key that are its bytes, and the size in the last byte; in halves.
    static OWN: [[u64; 4]; WORD + 1] = {
        let mut own = [[0; 4]; WORD + 1];
        let mut size = 0;
        while size <= WORD {
            if size < WORD {
                let bits = (1 << (8 * size)) - 1_u128;
                (own[size][0], own[size][1]) = (bits as u64, (bits >> 64) as u64);
            }
            own[size][3] = (size as u64) << 56;
            size += 1;
        }
        own
    };
    let word = word_at(text, start);
    let [low, high, _, size] = OWN[(end - start).min(WORD)];
    u128::from(word as u64 & low) | u128::from((word >> 64) as u64 & high | size) << 64
}
