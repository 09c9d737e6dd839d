//! The index of a vocabulary: constant tables in one block of memory.
//!
//! | table | what | o200k |
//! | --- | --- | --- |
//! | `bytes`, `offsets` | the bytes of all tokens in the order of their ids, and where each starts | 2.2 MB |
//! | `pairs` | two adjacent tokens, or bytes, to the token that they merge to | 3.7 MB |
//! | `short` | up to 8 bytes to the token they are | 4.7 MB |
//! | `long` | more bytes to the token they are | 0.8 MB |
//!
//! All lookups are hash tables with open addressing and linear probing.
//!
//! # Pairs
//! Under the merging rule only one pair of tokens ever merges to a token *t*: if the adjacent parts at the time when *t* is
//! the lowest id are *l* and *r*, then no merge crossed the ends of *t*'s bytes before, so the same merges were made as in
//! those bytes alone. So the pair is found by merging the bytes of *t* with the pairs of all lower ids. Where that leaves
//! two parts, they are the pair; otherwise merging never gives *t*. Such a token (o200k has none) can be decoded, but text
//! is not encoded to it.

use super::merge::{Merger, WINDOW};
use super::vocabulary::{IDS_MAX, Kind, Source, TOKEN_BYTES_MAX, Token};
use crate::error::{Error, FileError, Result};
use crate::region::{ALIGN, Carver};

/// The most bytes that may decide about a token that ends before them (see [`super::merge`]): a window must hold them and
/// the tokens it gives.
const LOOKAHEAD_MAX: usize = WINDOW - 2 * TOKEN_BYTES_MAX;

/// Bytes that fit into a key of the table `short`.
const SHORT: usize = 8;

/// No token.
const NO_ID: u32 = u32::MAX;

/// What an empty slot of `pairs` and `long` holds.
const EMPTY: u64 = u64::MAX;

/// An id within an entry of `pairs` and `long`.
const ID_BITS: u32 = 21;
const ID_MASK: u64 = (1 << ID_BITS) - 1;
const _: () = assert!(IDS_MAX as u64 <= ID_MASK);

/// How much the tables hold: what their sizes follow from. The first section of the index, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    ids: usize,
    bytes: usize,
    specials: usize,
    short: usize,
    long: usize,
}

/// A name of a special token, somewhere in `bytes`: start, size, id.
pub type Special = [u32; 3];

/// The index, shared.
#[derive(Clone, Copy)]
pub struct Tables<'r> {
    header: &'r [u32],
    offsets: &'r [u32],
    bytes: &'r [u8],
    special: &'r [u64],
    specials: &'r [Special],
    /// The bytes with which names of special tokens start, one bit each.
    special_leads: [u64; 4],
    short: &'r [[u64; 2]],
    long: &'r [u64],
    /// For two bytes with a border of characters between them: the lowest id of a token that goes across this border and
    /// holds a part of the character before or behind it.
    across: &'r [u32; 256 * 256],
    /// What merges to what.
    pub pairs: Pairs<'r>,
    /// See [`super::merge`]. Bytes.
    pub lookahead: usize,
}

/// The index, being built.
struct Draft<'r> {
    header: &'r mut [u32],
    offsets: &'r mut [u32],
    bytes: &'r mut [u8],
    special: &'r mut [u64],
    specials: &'r mut [Special],
    byte_ids: &'r mut [u32],
    byte_pairs: &'r mut [u32],
    across: &'r mut [u32],
    filter: &'r mut [u64],
    short: &'r mut [[u64; 2]],
    long: &'r mut [u64],
    pairs: &'r mut [u64],
    /// See [`super::merge`]; only needed to build.
    reach: &'r mut [u16],
}

/// "OSTX" and the version of the index's form.
const HEADER: [u32; 2] = [0x4F53_5458, 1];
const HEADER_LEN: usize = 8;

/// Slots for so many entries: at most 5/8 are taken.
fn slots(entries: usize) -> usize {
    entries + entries * 3 / 5 + 1
}

/// Slots for so many short tokens: at most half are taken, because nearly every piece is looked up there first.
fn short_slots(entries: usize) -> usize {
    2 * entries + 1
}

/// Words of the filter for so many pairs: about ten bits each.
fn filter_words(pairs: usize) -> usize {
    pairs / 6 + 1
}

impl Counts {
    fn of(source: &impl Source) -> Result<Self> {
        let mut counts = Self::default();
        source.walk(&mut |token| {
            check(&token)?;
            counts.ids = counts.ids.max(token.id as usize + 1);
            counts.bytes += token.bytes.len();
            match (token.kind, token.bytes.len()) {
                (Kind::Special, _) => counts.specials += 1,
                (Kind::Ordinary, 1..=SHORT) => counts.short += 1,
                (Kind::Ordinary, _) => counts.long += 1,
                (Kind::Unused, _) => {}
            }
            // So that offsets fit.
            if counts.bytes > u32::MAX as usize || counts.specials > u32::MAX as usize {
                return Err(wrong(&token, "a vocabulary of less than 4 GiB"));
            }
            Ok(())
        })?;
        Ok(counts)
    }

    fn pairs(&self) -> usize {
        self.short + self.long
    }
}

fn wrong(token: &Token<'_>, expected: &'static str) -> Error {
    Error::Vocabulary { id: token.id, expected, found: token.bytes.len() as u64 }
}

fn check(token: &Token<'_>) -> Result<()> {
    if token.id >= IDS_MAX {
        return Err(wrong(token, "an id below 2097151"));
    }
    match (token.kind, token.bytes.len()) {
        (Kind::Unused, 0) | (Kind::Ordinary | Kind::Special, 1..=TOKEN_BYTES_MAX) => Ok(()),
        (Kind::Unused, _) => Err(wrong(token, "no bytes, being unused")),
        _ => Err(wrong(token, "1 to 256 bytes")),
    }
}

impl<'r> Draft<'r> {
    fn carve(counts: &Counts, carver: &mut Carver<'r>) -> Result<Self> {
        Ok(Self {
            header: carver.filled(HEADER_LEN, 0)?,
            offsets: carver.filled(counts.ids + 1, 0)?,
            bytes: carver.filled(counts.bytes, 0)?,
            special: carver.filled(counts.ids.div_ceil(64), 0)?,
            specials: carver.filled(counts.specials, [0; 3])?,
            byte_ids: carver.filled(256, NO_ID)?,
            byte_pairs: carver.filled(256 * 256, NO_ID)?,
            across: carver.filled(256 * 256, NO_ID)?,
            filter: carver.filled(filter_words(counts.pairs()), 0)?,
            short: carver.filled(short_slots(counts.short), [0; 2])?,
            long: carver.filled(slots(counts.long), EMPTY)?,
            pairs: carver.filled(slots(counts.pairs()), EMPTY)?,
            reach: carver.filled(counts.ids, 0)?,
        })
    }

    fn fill(&mut self, source: &impl Source) -> Result<()> {
        self.place_bytes(source)?;
        self.order_specials();
        self.name_bytes()?;
        self.derive_pairs()
    }

    /// Fills `bytes`, `offsets`, `special` and `specials`.
    fn place_bytes(&mut self, source: &impl Source) -> Result<()> {
        // First the sizes, each behind its token's place, so that summing them up gives the offsets.
        source.walk(&mut |token| {
            check(&token)?;
            let id = token.id as usize;
            let size = self.offsets.get_mut(id + 1).ok_or(wrong(&token, CHANGED))?;
            let special = self.special[id / 64] >> (id % 64) & 1 == 1;
            if *size == 0 {
                *size = token.bytes.len() as u32;
                self.special[id / 64] |= u64::from(token.kind == Kind::Special) << (id % 64);
            } else if !special || token.kind != Kind::Special {
                return Err(wrong(&token, "each id once, except for further names of special tokens"));
            }
            Ok(())
        })?;
        let mut end = 0u32;
        for offset in self.offsets.iter_mut() {
            end = end.saturating_add(*offset);
            *offset = end;
        }
        self.special.fill(0);
        let mut names = self.specials.iter_mut();
        source.walk(&mut |token| {
            check(&token)?;
            let id = token.id as usize;
            let size = token.bytes.len();
            let mut start = *self.offsets.get(id).ok_or(wrong(&token, CHANGED))?;
            if token.kind == Kind::Special {
                if self.special[id / 64] >> (id % 64) & 1 == 1 {
                    // A further name lies behind the bytes of all tokens.
                    start = end;
                    end = end.saturating_add(size as u32);
                }
                self.special[id / 64] |= 1 << (id % 64);
                *names.next().ok_or(wrong(&token, CHANGED))? = [start, size as u32, token.id];
            }
            let place = self.bytes.get_mut(start as usize..).and_then(|bytes| bytes.get_mut(..size));
            place.ok_or(wrong(&token, CHANGED))?.copy_from_slice(token.bytes);
            Ok(())
        })
    }

    /// Sorts the special tokens by their names.
    fn order_specials(&mut self) {
        let bytes = &*self.bytes;
        self.specials.sort_unstable_by_key(|[start, size, _]| name(bytes, *start, *size));
    }

    fn is_ordinary(&self, id: usize) -> bool {
        self.special[id / 64] >> (id % 64) & 1 == 0
    }

    fn token(&self, id: usize) -> &[u8] {
        &self.bytes[self.offsets[id] as usize..self.offsets[id + 1] as usize]
    }

    /// Fills `byte_ids`, and `short` with them.
    fn name_bytes(&mut self) -> Result<()> {
        for id in 0..self.offsets.len() - 1 {
            if self.is_ordinary(id)
                && let [byte] = *self.token(id)
                && self.byte_ids[byte as usize] == NO_ID
            {
                self.byte_ids[byte as usize] = id as u32;
                insert_short(self.short, &[byte], id as u32);
            }
        }
        match self.byte_ids.iter().position(|id| *id == NO_ID) {
            None => Ok(()),
            Some(byte) => Err(Error::Vocabulary {
                id: 0,
                expected: "a token for every single byte, also this",
                found: byte as u64,
            }),
        }
    }

    /// Fills `pairs`, `short`, `long` and `reach`, and with them the header.
    fn derive_pairs(&mut self) -> Result<()> {
        let mut merger = Merger::default();
        let mut lookahead = 0;
        for id in 0..self.offsets.len() - 1 {
            let bytes = &self.bytes[self.offsets[id] as usize..self.offsets[id + 1] as usize];
            if bytes.len() < 2 || !self.is_ordinary(id) {
                continue;
            }
            let byte_ids = self.byte_ids.first_chunk().expect("256 were carved");
            let byte_pairs = self.byte_pairs.first_chunk().expect("65536 were carved");
            merger.merge_bytes(Pairs { byte_ids, byte_pairs, filter: self.filter, table: self.pairs }, bytes);
            let mut parts = merger.parts();
            let (Some((left, size)), Some((right, end))) = (parts.next(), parts.next()) else { continue };
            if end != bytes.len() {
                continue;
            }
            insert_pair(self.filter, self.pairs, [left, right, id as u32]);
            if let [left, right] = *bytes {
                self.byte_pairs[usize::from(left) << 8 | usize::from(right)] = id as u32;
            }
            if bytes.len() <= SHORT {
                insert_short(self.short, bytes, id as u32);
            } else {
                insert_long(self.long, bytes, id as u32);
            }
            mark_borders(self.across, bytes, id as u32);
            let distance = self.reach[right as usize] + size as u16;
            if usize::from(distance) > LOOKAHEAD_MAX {
                return Err(Error::Vocabulary {
                    id: id as u32,
                    expected: "merges that depend on at most 512 bytes behind them",
                    found: u64::from(distance),
                });
            }
            lookahead = lookahead.max(distance);
            self.reach[id] = self.reach[id].max(self.reach[left as usize]).max(distance);
            self.reach[left as usize] = self.reach[left as usize].max(distance);
        }
        self.header[HEADER_LEN - 1] = u32::from(lookahead);
        Ok(())
    }
}

const CHANGED: &str = "the same vocabulary each time it is walked";

impl<'r> Tables<'r> {
    /// Builds the tables in memory from `carver`; or only carves, if that is measuring.
    pub fn build(source: &impl Source, carver: &mut Carver<'r>) -> Result<Option<Self>> {
        let counts = Counts::of(source)?;
        let mut draft = Draft::carve(&counts, carver)?;
        if carver.is_measuring() {
            return Ok(None);
        }
        draft.fill(source)?;
        let sizes = [counts.ids, counts.bytes, counts.specials, counts.short, counts.long];
        draft.header[..2].copy_from_slice(&HEADER);
        for (place, size) in draft.header[2..].iter_mut().zip(sizes) {
            *place = size as u32;
        }
        Ok(Some(Self {
            lookahead: draft.header[HEADER_LEN - 1] as usize,
            header: draft.header,
            offsets: draft.offsets,
            bytes: draft.bytes,
            special: draft.special,
            special_leads: special_leads(draft.bytes, draft.specials),
            specials: draft.specials,
            across: draft.across.first_chunk().expect("65536 were carved"),
            short: draft.short,
            long: draft.long,
            pairs: Pairs {
                byte_ids: draft.byte_ids.first_chunk().expect("256 were carved"),
                byte_pairs: draft.byte_pairs.first_chunk().expect("65536 were carved"),
                filter: draft.filter,
                table: draft.pairs,
            },
        }))
    }

    /// Hands the tables to `write`, part by part, as [`Tables::open`] takes them.
    pub fn save(&self, write: &mut dyn FnMut(&[u8])) {
        let sections: [&[u8]; 12] = [
            bytemuck::cast_slice(self.header),
            bytemuck::cast_slice(self.offsets),
            self.bytes,
            bytemuck::cast_slice(self.special),
            bytemuck::cast_slice(self.specials),
            bytemuck::cast_slice(self.pairs.byte_ids),
            bytemuck::cast_slice(self.pairs.byte_pairs),
            bytemuck::cast_slice(self.across),
            bytemuck::cast_slice(self.pairs.filter),
            bytemuck::cast_slice(self.short),
            bytemuck::cast_slice(self.long),
            bytemuck::cast_slice(self.pairs.table),
        ];
        for section in sections {
            write(section);
            write(&[0; ALIGN][..section.len().next_multiple_of(ALIGN) - section.len()]);
        }
    }

    /// Takes tables as [`Tables::save`] wrote them, without a copy.
    pub fn open(index: &'r [u8]) -> Result<Self> {
        let mut cutter = Cutter { index, at: 0 };
        let header: &[u32] = cutter.cut(HEADER_LEN)?;
        if header[..2] != HEADER {
            return Err(cutter.wrong("the header of an index for this machine", u64::from(header[0])));
        }
        let [ids, bytes, specials, short, long, lookahead] = core::array::from_fn(|field| header[2 + field] as usize);
        let counts = Counts { ids, bytes, specials, short, long };
        // Bounds the sizes computed below.
        if ids > IDS_MAX as usize || specials.max(short).max(long) > index.len() / 8 {
            return Err(cutter.wrong("an index of at most 2097151 ids", ids as u64));
        }
        if lookahead > LOOKAHEAD_MAX {
            return Err(cutter.wrong("a lookahead of at most 512 bytes", lookahead as u64));
        }
        let offsets = cutter.cut(counts.ids + 1)?;
        let bytes = cutter.cut(counts.bytes)?;
        let special = cutter.cut(counts.ids.div_ceil(64))?;
        let specials = cutter.cut(counts.specials)?;
        let byte_ids = cutter.cut(256)?.first_chunk().expect("256 were cut");
        let byte_pairs = cutter.cut(256 * 256)?.first_chunk().expect("65536 were cut");
        let across = cutter.cut(256 * 256)?.first_chunk().expect("65536 were cut");
        let filter = cutter.cut(filter_words(counts.pairs()))?;
        let short = cutter.cut(short_slots(counts.short))?;
        let long = cutter.cut(slots(counts.long))?;
        let table = cutter.cut(slots(counts.pairs()))?;
        let pairs = Pairs { byte_ids, byte_pairs, filter, table };
        let special_leads = special_leads(bytes, specials);
        Ok(Self { header, offsets, bytes, special, specials, special_leads, short, long, across, pairs, lookahead })
    }

    /// How many ids there are.
    pub fn ids(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The bytes of a token.
    #[inline]
    pub fn token(&self, id: u32) -> Option<&'r [u8]> {
        let id = id as usize;
        let start = *self.offsets.get(id)? as usize;
        let end = *self.offsets.get(id + 1)? as usize;
        self.bytes.get(start..end).filter(|bytes| !bytes.is_empty())
    }

    /// Whether a token is special.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.get(id as usize / 64).is_some_and(|bits| bits >> (id % 64) & 1 == 1)
    }

    /// Whether the name of a special token starts with this byte.
    pub fn leads_special(&self, byte: u8) -> bool {
        self.special_leads[usize::from(byte / 64)] >> (byte % 64) & 1 == 1
    }

    /// The longest name of a special token that `text` starts with, among the ids that are allowed.
    pub fn special_at(&self, text: &[u8], allowed: impl Fn(u32) -> bool) -> Option<(usize, u32)> {
        let mut text = &text[..text.len().min(TOKEN_BYTES_MAX)];
        loop {
            // All names that `text` starts with are prefixes of the last name that does not come after it.
            let behind = self.specials.partition_point(|[start, size, _]| name(self.bytes, *start, *size) <= text);
            let [start, size, id] = *self.specials.get(behind.checked_sub(1)?)?;
            let name = name(self.bytes, start, size);
            let same = name.iter().zip(text).take_while(|(left, right)| left == right).count();
            if same < name.len() {
                text = &text[..same];
            } else if allowed(id) {
                return Some((same, id));
            } else {
                text = &text[..same.checked_sub(1)?];
            }
        }
    }

    /// The token that is the piece with this key, if merging gives it.
    #[inline]
    pub fn whole(&self, text: &[u8], key: &Key) -> Option<u32> {
        if key.end - key.start <= SHORT { self.short(key) } else { self.long(&text[key.start..key.end], key.hash) }
    }

    /// Something from where the search for a key begins: to have that memory on its way before it is needed.
    #[inline]
    pub fn touch(&self, key: &Key) -> u64 {
        if key.end - key.start <= SHORT {
            self.short[slot_of(key.hash, self.short.len())][1]
        } else {
            self.long[slot_of(key.hash, self.long.len())]
        }
    }

    #[inline]
    fn short(&self, key: &Key) -> Option<u32> {
        let size = (key.end - key.start) as u64;
        let mut slot = slot_of(key.hash, self.short.len());
        for _ in 0..self.short.len() {
            let [word, entry] = self.short[slot];
            if word == key.word && entry >> 32 == size {
                return Some(entry as u32);
            }
            if entry == 0 {
                break;
            }
            slot = next_slot(slot, self.short.len());
        }
        None
    }

    fn long(&self, bytes: &[u8], hash: u64) -> Option<u32> {
        let mut slot = slot_of(hash, self.long.len());
        for _ in 0..self.long.len() {
            let entry = self.long[slot];
            if entry == EMPTY {
                break;
            }
            let id = (entry & ID_MASK) as u32;
            if entry >> ID_BITS == hash >> ID_BITS && self.token(id) == Some(bytes) {
                return Some(id);
            }
            slot = next_slot(slot, self.long.len());
        }
        None
    }

    /// Id and size of the character at byte `at`, if its bytes are merged to one token before any of them can be merged with
    /// others around. `text` is in UTF-8, except that it may end within a character.
    #[inline]
    pub fn character(&self, text: &[u8], at: usize) -> Option<(u32, usize)> {
        let size = match text[at] {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            _ => return None,
        };
        let end = at + size;
        if end > text.len() {
            return None;
        }
        let id = self.short(&Key::of(text, at, end))?;
        let safe = |end: usize| match text.get(end) {
            Some(next) if end > 0 => self.across[border(text[end - 1], *next)] > id,
            _ => true,
        };
        (safe(at) && safe(end)).then_some((id, size))
    }
}

/// What a piece is looked up by.
#[derive(Clone, Copy, Default)]
pub struct Key {
    /// The first byte of the piece.
    pub start: usize,
    /// The byte behind it.
    pub end: usize,
    /// A hash of its bytes.
    pub hash: u64,
    /// Its bytes as a number, the first lowest, if there are at most eight.
    word: u64,
}

impl Key {
    /// The key of `text[start..end]`.
    #[inline]
    pub fn of(text: &[u8], start: usize, end: usize) -> Self {
        let size = end - start;
        if size > SHORT {
            return Self { start, end, hash: long_hash(&text[start..end]), word: 0 };
        }
        // Eight bytes at once, where the text goes on so far.
        let word = match text.get(start..).and_then(<[u8]>::first_chunk) {
            Some(chunk) if size > 0 => u64::from_le_bytes(*chunk) & (u64::MAX >> (8 * (SHORT - size) as u32)),
            _ => short_word(&text[start..end]),
        };
        Self { start, end, hash: word.wrapping_mul(GOLDEN), word }
    }
}

fn special_leads(bytes: &[u8], specials: &[Special]) -> [u64; 4] {
    let mut leads = [0; 4];
    for [start, size, _] in specials {
        if let Some(lead) = name(bytes, *start, *size).first() {
            leads[usize::from(lead / 64)] |= 1 << (lead % 64);
        }
    }
    leads
}

fn name(bytes: &[u8], start: u32, size: u32) -> &[u8] {
    bytes.get(start as usize..).and_then(|bytes| bytes.get(..size as usize)).unwrap_or(&[])
}

/// Cuts the sections of a saved index, in the order and with the alignment in which a carver gave them.
struct Cutter<'r> {
    index: &'r [u8],
    at: usize,
}

impl<'r> Cutter<'r> {
    fn cut<T: bytemuck::AnyBitPattern>(&mut self, len: usize) -> Result<&'r [T]> {
        let section = len
            .checked_mul(size_of::<T>())
            .and_then(|size| self.index.get(self.at..)?.get(..size))
            .ok_or(self.wrong("an index of the size that its header says", self.index.len() as u64))?;
        let elements = bytemuck::try_cast_slice(section)
            .map_err(|_| self.wrong("an index that starts at a multiple of 64 bytes in memory", 0))?;
        self.at = (self.at + section.len()).next_multiple_of(ALIGN);
        Ok(elements)
    }

    fn wrong(&self, expected: &'static str, found: u64) -> Error {
        FileError { file: 0, offset: self.at as u64, expected, found }.into()
    }
}

/// What merges to what.
#[derive(Clone, Copy)]
pub struct Pairs<'p> {
    /// The id of each single byte.
    byte_ids: &'p [u32; 256],
    /// The id to which two bytes merge.
    byte_pairs: &'p [u32; 256 * 256],
    /// A bit for each of many hashes: set if a pair has it. Most lookups end here, in memory that stays in the second cache.
    filter: &'p [u64],
    /// Entries of left id, right id and the id they merge to.
    table: &'p [u64],
}

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

    /// The token to which `left` and `right` merge; [`u32::MAX`] if there is none.
    #[inline]
    pub fn get(&self, left: u32, right: u32) -> u32 {
        let key = u64::from(left) << ID_BITS | u64::from(right);
        let hash = pair_hash(key);
        let bit = slot_of(hash, self.filter.len() * 64);
        if self.filter[bit / 64] >> (bit % 64) & 1 == 0 {
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

fn insert_pair(filter: &mut [u64], table: &mut [u64], [left, right, id]: [u32; 3]) {
    let key = u64::from(left) << ID_BITS | u64::from(right);
    let hash = pair_hash(key);
    let bit = slot_of(hash, filter.len() * 64);
    filter[bit / 64] |= 1 << (bit % 64);
    let mut slot = slot_of(hash, table.len());
    while table[slot] != EMPTY {
        slot = next_slot(slot, table.len());
    }
    table[slot] = key << ID_BITS | u64::from(id);
}

fn insert_short(table: &mut [[u64; 2]], bytes: &[u8], id: u32) {
    let Key { hash, word, .. } = Key::of(bytes, 0, bytes.len());
    let mut slot = slot_of(hash, table.len());
    while table[slot][1] != 0 {
        slot = next_slot(slot, table.len());
    }
    table[slot] = [word, (bytes.len() as u64) << 32 | u64::from(id)];
}

fn insert_long(table: &mut [u64], bytes: &[u8], id: u32) {
    let hash = long_hash(bytes);
    let mut slot = slot_of(hash, table.len());
    while table[slot] != EMPTY {
        slot = next_slot(slot, table.len());
    }
    table[slot] = (hash >> ID_BITS) << ID_BITS | u64::from(id);
}

fn border(before: u8, behind: u8) -> usize {
    usize::from(before) << 8 | usize::from(behind)
}

/// Notes the borders of characters that a token goes across while it holds only a part of the character on one side.
fn mark_borders(across: &mut [u32], bytes: &[u8], id: u32) {
    let starts_character = |byte: &u8| byte & 0xC0 != 0x80;
    let mut mark = |at: usize| {
        if at > 0 && at < bytes.len() {
            let border = &mut across[border(bytes[at - 1], bytes[at])];
            *border = id.min(*border);
        }
    };
    // Bytes before the first start are the end of a character; those from the last start on may be the start of one.
    let (Some(first), Some(last)) = (bytes.iter().position(starts_character), bytes.iter().rposition(starts_character))
    else {
        return;
    };
    mark(first);
    let size = match bytes[last] {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => 1,
    };
    if bytes.len() - last < size {
        mark(last);
    }
}

/// Up to eight bytes as a number, the first lowest.
fn short_word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |key, byte| key << 8 | u64::from(*byte))
}

/// 2^64 over the golden ratio: multiplying by it spreads keys over the upper bits (Knuth, The Art of Computer Programming,
/// volume 3, section 6.4).
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

#[inline]
fn pair_hash(key: u64) -> u64 {
    key.wrapping_mul(GOLDEN)
}

/// A hash of more than eight bytes.
#[inline]
fn long_hash(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, word: &[u8; SHORT]| {
        let hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(GOLDEN);
        hash ^ hash >> 32
    };
    let (words, _) = bytes.as_chunks::<SHORT>();
    let hash = words.iter().fold(bytes.len() as u64, mix);
    // The last eight, whether or not some of them were among those before.
    let hash = bytes.last_chunk().map_or(hash, |last| mix(hash, last));
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
