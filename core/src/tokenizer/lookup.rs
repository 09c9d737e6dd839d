//! Hash tables over slices, with open addressing and linear probing.
//!
//! Keys are spread by multiplication; a search ends at the first empty slot, or after all.

use super::vocabulary::IDS_MAX;
use crate::kernels::prefetch;

/// One cache line of the table `short`: five keys (see [`short_key`]), their ids at half the size, and 1 in the last half if a
/// token found no place.
pub type Bucket = [u64; 8];

/// Tokens that a bucket holds.
pub const PLACES: usize = 5;

/// A bucket without a token.
pub const EMPTY_BUCKET: Bucket = [0, 0, 0, 0, 0, u64::MAX, u64::MAX, NO_ID as u64];

/// Bytes that fit into a key.
pub const WORD: usize = 16;

/// No token.
pub const NO_ID: u32 = u32::MAX;

/// What an empty slot of `pairs` and `long` holds.
pub const EMPTY: u64 = u64::MAX;

/// An id within an entry of `pairs` and `long`.
const ID_BITS: u32 = 21;
const ID_MASK: u64 = (1 << ID_BITS) - 1;
const _: () = assert!(IDS_MAX as u64 <= ID_MASK);

/// What a piece is looked up by.
#[derive(Clone, Copy, Default)]
pub struct Key {
    /// The first byte of the piece.
    pub start: usize,
    /// The byte behind it.
    pub end: usize,
    /// A hash of `word` and `tail`.
    pub hash: u64,
    /// The first bytes of the piece as a number, the first lowest.
    pub word: u128,
    /// The last bytes, if there are more.
    pub tail: u128,
}

impl Key {
    /// The size of the piece, in bytes.
    #[inline]
    pub fn size(&self) -> usize {
        self.end - self.start
    }

    /// The key of `text[start..end]`.
    #[inline]
    pub fn of(text: &[u8], start: usize, end: usize) -> Self {
        /// By the size of a piece: the bits of the word that are its own.
        const OWN: [u128; WORD + 1] = {
            let mut own = [0; WORD + 1];
            let mut size = 1;
            while size <= WORD {
                own[size] = own[size - 1] << 8 | 0xFF;
                size += 1;
            }
            own
        };
        let word = word_at(text, start) & OWN[(end - start).min(WORD)];
        let (mut hash, mut tail) = (word_hash(word), 0);
        if end - start > WORD {
            tail = u128::from_le_bytes(*text[start..end].last_chunk().expect("more than a word"));
            hash = hash.rotate_left(32) ^ word_hash(tail);
        }
        Self { start, end, hash, word, tail }
    }
}

/// The sixteen bytes from `start` on, with zeros behind the end: all at once, where the text goes on so far.
#[inline]
pub fn word_at(text: &[u8], start: usize) -> u128 {
    let rest = &text[start..];
    u128::from_le_bytes(rest.first_chunk().copied().unwrap_or_else(|| {
        let mut bytes = [0; WORD];
        bytes[..rest.len()].copy_from_slice(rest);
        bytes
    }))
}

/// What `text[start..end]` is looked up by in the table `short`: its bytes and, if there is room, their number. 0 for what is never
/// there: nothing, more than eight bytes, and eight bytes that could be taken for fewer and their number.
#[inline]
pub fn short_key(text: &[u8], start: usize, end: usize) -> u64 {
    /// By the size of a piece: the bits of the word that are its own, and the size in the last byte.
    const OWN: [[u64; 2]; 10] = {
        let mut own = [[0; 2]; 10];
        let mut size = 1;
        while size < 8 {
            own[size] = [(1 << (8 * size)) - 1, (size as u64) << 56];
            size += 1;
        }
        own[8] = [u64::MAX, 0];
        own
    };
    let rest = &text[start..];
    let bytes = rest.first_chunk().copied().unwrap_or_else(|| {
        let mut bytes = [0; 8];
        bytes[..rest.len()].copy_from_slice(rest);
        bytes
    });
    let [own, size] = OWN[(end - start).min(9)];
    let key = u64::from_le_bytes(bytes) & own | size;
    if size == 0 && key >> 56 < 8 { 0 } else { key }
}

/// The token with this key, if it is in its own bucket of the table `short`; [`NO_ID`] if it is in none, or in a later one.
#[inline]
pub fn at_home(table: &[Bucket], key: u64) -> u32 {
    table.get(slot_of(pair_hash(key), table.len())).map_or(NO_ID, |bucket| within(bucket, key))
}

/// The token with this key in a bucket. Looks at all, since which one it is cannot be predicted.
#[inline]
fn within(bucket: &Bucket, key: u64) -> u32 {
    (0..PLACES).fold(NO_ID, |id, place| if bucket[place] == key { id_in(bucket, place) } else { id })
}

#[inline]
fn id_in(bucket: &Bucket, place: usize) -> u32 {
    (bucket[PLACES + place / 2] >> (place % 2 * 32)) as u32
}

/// The token with this key among the short ones.
pub fn find_short(table: &[Bucket], key: u64) -> Option<u32> {
    let mut slot = slot_of(pair_hash(key), table.len());
    for _ in 0..table.len() {
        let id = within(&table[slot], key);
        if id != NO_ID {
            return Some(id);
        }
        if table[slot][7] >> 32 == 0 {
            break;
        }
        slot = next_slot(slot, table.len());
    }
    None
}

/// Asks for the bucket where [`find_short`] starts.
#[inline]
pub fn ask_short(table: &[Bucket], key: u64) {
    prefetch(table, slot_of(pair_hash(key), table.len()));
}

/// The token where [`find_long`] starts, if there is one; some other number if not.
#[inline]
pub fn first_long(table: &[u64], slot: usize) -> usize {
    table.get(slot).map_or(0, |entry| (entry & ID_MASK) as usize)
}

/// The token with this hash (see [`long_hash`]) among the long ones that `is_it`.
pub fn find_long(table: &[u64], hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
    let mut slot = slot_of(hash, table.len());
    for _ in 0..table.len() {
        let entry = table[slot];
        if entry == EMPTY {
            break;
        }
        let id = (entry & ID_MASK) as u32;
        if entry >> ID_BITS == hash >> ID_BITS && is_it(id) {
            return Some(id);
        }
        slot = next_slot(slot, table.len());
    }
    None
}

/// What merges to what.
#[derive(Clone, Copy)]
pub struct Pairs<'p> {
    /// The id of each single byte.
    pub byte_ids: &'p [u32; 256],
    /// The id to which two bytes merge.
    pub byte_pairs: &'p [u32; 256 * 256],
    /// Two bits in one word for each of many hashes: set if a pair has them. Most lookups end here, in memory that stays in the
    /// second cache.
    pub filter: &'p [u64],
    /// Entries of left id, right id and the id they merge to.
    pub table: &'p [u64],
    /// A bit for each of many hashes: set if some token holds two characters with it, next to each other.
    pub together: &'p [u64; TOGETHER],
}

/// Words of [`Pairs::together`]. In o200k some 24,000 pairs of characters set one bit in 22.
pub const TOGETHER: usize = 1 << 13;

impl Pairs<'_> {
    /// The token that is this byte.
    #[inline]
    pub fn byte_id(&self, byte: u8) -> u32 {
        self.byte_ids[usize::from(byte)]
    }

    /// The token to which these bytes merge; [`u32::MAX`] if there is none.
    #[inline]
    pub fn of_bytes(&self, left: u8, right: u8) -> u32 {
        self.byte_pairs[usize::from(left) << 8 | usize::from(right)]
    }

    /// Whether a token may hold the characters that are these tokens next to each other.
    #[inline]
    pub fn together(&self, left: u32, right: u32) -> bool {
        let bit = slot_of(pair_hash(u64::from(left) << ID_BITS | u64::from(right)), TOGETHER * 64);
        self.together[bit / 64 % TOGETHER] >> (bit % 64) & 1 == 1
    }

    /// Asks for what [`Pairs::get`] looks at.
    #[inline]
    pub fn ask(&self, left: u32, right: u32) {
        let hash = pair_hash(u64::from(left) << ID_BITS | u64::from(right));
        prefetch(self.filter, slot_of(hash, self.filter.len()));
        prefetch(self.table, slot_of(hash, self.table.len()));
    }

    /// The token to which `left` and `right` merge; [`u32::MAX`] if there is none.
    #[inline]
    pub fn get(&self, left: u32, right: u32) -> u32 {
        let key = u64::from(left) << ID_BITS | u64::from(right);
        let hash = pair_hash(key);
        if filter_bits(hash) & !self.filter[slot_of(hash, self.filter.len())] != 0 {
            return NO_ID;
        }
        let mut slot = slot_of(hash, self.table.len());
        for _ in 0..self.table.len() {
            let entry = self.table[slot];
            if entry >> ID_BITS == key {
                return (entry & ID_MASK) as u32;
            }
            if entry == EMPTY {
                break;
            }
            slot = next_slot(slot, self.table.len());
        }
        NO_ID
    }
}

/// The two bits that stand for a pair with this hash in its word of the filter.
#[inline]
fn filter_bits(hash: u64) -> u64 {
    1 << (hash >> 20 & 63) | 1 << (hash >> 26 & 63)
}

/// Notes that a token holds the characters with these ids next to each other.
pub fn insert_together(together: &mut [u64], left: u32, right: u32) {
    let bit = slot_of(pair_hash(u64::from(left) << ID_BITS | u64::from(right)), together.len() * 64);
    together[bit / 64] |= 1 << (bit % 64);
}

/// Adds a pair: left id, right id, and the id to which they merge.
pub fn insert_pair(filter: &mut [u64], table: &mut [u64], [left, right, id]: [u32; 3]) {
    let key = u64::from(left) << ID_BITS | u64::from(right);
    let hash = pair_hash(key);
    filter[slot_of(hash, filter.len())] |= filter_bits(hash);
    let mut slot = slot_of(hash, table.len());
    while table[slot] != EMPTY {
        slot = next_slot(slot, table.len());
    }
    table[slot] = key << ID_BITS | u64::from(id);
}

/// Adds a token that has this key. Where a bucket is full, those that come later, and are rarer, have to go to the next.
pub fn insert_short(table: &mut [Bucket], key: u64, id: u32) {
    let mut slot = slot_of(pair_hash(key), table.len());
    loop {
        let bucket = &mut table[slot];
        if let Some(place) = bucket[..PLACES].iter().position(|other| *other == 0) {
            bucket[place] = key;
            bucket[PLACES + place / 2] ^= u64::from(NO_ID ^ id) << (place % 2 * 32);
            return;
        }
        bucket[7] |= 1 << 32;
        slot = next_slot(slot, table.len());
    }
}

/// Adds a token without a key among the short ones.
pub fn insert_long(table: &mut [u64], bytes: &[u8], id: u32) {
    let hash = long_hash(&Key::of(bytes, 0, bytes.len()), bytes);
    let mut slot = slot_of(hash, table.len());
    while table[slot] != EMPTY {
        slot = next_slot(slot, table.len());
    }
    table[slot] = (hash >> ID_BITS) << ID_BITS | u64::from(id);
}

/// 2^64 over the golden ratio: multiplying by it spreads keys over the upper bits (Knuth, The Art of Computer Programming,
/// volume 3, section 6.4).
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

#[inline]
fn word_hash(word: u128) -> u64 {
    let folded = word as u64 ^ ((word >> 64) as u64).wrapping_mul(GOLDEN).rotate_left(32);
    folded.wrapping_mul(GOLDEN)
}

/// A hash of eight bytes.
#[inline]
pub fn pair_hash(key: u64) -> u64 {
    key.wrapping_mul(GOLDEN)
}

/// A hash of all bytes of a piece with this key: a key says nothing of the middle of a very long one.
#[inline]
pub fn long_hash(key: &Key, piece: &[u8]) -> u64 {
    if piece.len() <= WORD {
        return key.hash;
    }
    let mix = |hash: u64, word: &[u8; 8]| {
        let hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(GOLDEN);
        hash ^ hash >> 32
    };
    let (words, _) = piece.as_chunks();
    let hash = words.iter().fold(piece.len() as u64, mix);
    // The last eight, whether or not some of them were among those before.
    let hash = piece.last_chunk().map_or(hash, |last| mix(hash, last));
    hash.wrapping_mul(GOLDEN)
}

/// A slot from the upper half of a hash, for any number of slots below 2^32.
#[inline]
pub fn slot_of(hash: u64, slots: usize) -> usize {
    (((hash >> 32) * slots as u64) >> 32) as usize
}

#[inline]
fn next_slot(slot: usize, slots: usize) -> usize {
    if slot + 1 == slots { 0 } else { slot + 1 }
}
