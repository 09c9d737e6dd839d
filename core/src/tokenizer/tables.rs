//! The index of a vocabulary: constant tables in one block of memory.
//!
//! | table | what | o200k |
//! | --- | --- | --- |
//! | `bytes`, `offsets` | the bytes of all tokens in the order of their ids, and where each starts | 2.2 MB |
//! | `pairs` | two adjacent tokens, or bytes, to the token that they merge to | 3.0 MB |
//! | `short` | up to 8 bytes to the token they are | 2.7 MB |
//! | `long` | more bytes to the token they are | 0.7 MB |
//! | `characters` | characters of two or three bytes to the token they are | 0.3 MB |
//! | `together` | which characters stand next to each other in some token | 0.1 MB |
//! | `across` | which characters are sure to become tokens first (see [`super::merge`]) | 0.3 MB |
//!
//! `pairs`, `short` and `long` are hash tables (see [`super::lookup`]). The sizes follow from those of the vocabulary alone, so that
//! the same carving code measures and places.
//!
//! # Pairs
//! Under the merging rule only one pair of tokens ever merges to a token *t*: if the adjacent parts at the time when *t* is
//! the lowest id are *l* and *r*, then no merge crossed the ends of *t*'s bytes before, so the same merges were made as in
//! those bytes alone. So the pair is found by merging the bytes of *t* with the pairs of all lower ids. Where that leaves
//! two parts, they are the pair; otherwise merging never gives *t*. Such a token (o200k has none) can be decoded, but text
//! is not encoded to it.

use super::draft::{Draft, wrong};
use super::lookup::{
    Bucket, Key, NO_ID, PLACES, Pairs, TOGETHER, ask_short, at_home, find_long, find_short, first_long, long_hash,
    short_key, slot_of,
};
use super::merge::WINDOW;
use super::vocabulary::{IDS_MAX, Kind, Source, TOKEN_BYTES_MAX};
use crate::error::{Error, FileError, Result};
use crate::kernels::prefetch;
use crate::region::{ALIGN, Carver};

/// The most bytes that may decide about a token that ends before them (see [`super::merge`]): a window must hold them and
/// the tokens it gives.
pub const LOOKAHEAD_MAX: usize = WINDOW - 2 * TOKEN_BYTES_MAX;

/// How much the tables hold: what their sizes follow from. The first section of the index, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// One more than the highest id.
    pub ids: usize,
    /// Bytes of all tokens and names.
    pub bytes: usize,
    /// Names of special tokens.
    pub specials: usize,
    /// Ordinary tokens that have a [`short_key`].
    pub short: usize,
    /// The others.
    pub long: usize,
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
    short: &'r [Bucket],
    long: &'r [u64],
    /// The token that is the character with this code point, if it takes two or three bytes; [`NO_ID`] for all others.
    characters: &'r [u32; 1 << 16],
    /// For two bytes with a border of characters between them: the lowest id of a token that goes across this border and
    /// holds a part of the character before or behind it.
    across: &'r [u32; 256 * 256],
    /// What merges to what.
    pub pairs: Pairs<'r>,
    /// See [`super::merge`]. Bytes.
    pub lookahead: usize,
}

/// "OSTX" and the version of the index's form.
const HEADER: [u32; 2] = [0x4F53_5458, 6];
/// Numbers in the header: what it is, the counts, and last the lookahead.
pub const HEADER_LEN: usize = 8;

/// Slots for so many entries: at most 5/8 are taken.
pub fn slots(entries: usize) -> usize {
    entries + entries * 3 / 5 + 1
}

/// Buckets for so many short tokens: full by 70 %, so that few are turned away from their own.
pub fn buckets(entries: usize) -> usize {
    entries * 10 / (7 * PLACES) + 1
}

/// Words of the filter for so many pairs: about five bits each.
pub fn filter_words(pairs: usize) -> usize {
    pairs / 12 + 1
}

impl Counts {
    fn of(source: &impl Source) -> Result<Self> {
        let mut counts = Self::default();
        source.walk(&mut |token| {
            super::draft::check(&token)?;
            counts.ids = counts.ids.max(token.id as usize + 1);
            counts.bytes += token.bytes.len();
            match token.kind {
                Kind::Special => counts.specials += 1,
                Kind::Ordinary if short_key(token.bytes, 0, token.bytes.len()) == 0 => counts.long += 1,
                Kind::Ordinary => counts.short += 1,
                Kind::Unused => {}
            }
            // So that offsets fit.
            if counts.bytes > u32::MAX as usize || counts.specials > u32::MAX as usize {
                return Err(wrong(&token, "a vocabulary of less than 4 GiB"));
            }
            Ok(())
        })?;
        Ok(counts)
    }

    /// How many pairs there may be.
    pub fn pairs(&self) -> usize {
        self.short + self.long
    }
}

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
            characters: draft.characters.first_chunk().expect("65536 were carved"),
            across: draft.across.first_chunk().expect("65536 were carved"),
            short: draft.short,
            long: draft.long,
            pairs: Pairs {
                byte_ids: draft.byte_ids.first_chunk().expect("256 were carved"),
                byte_pairs: draft.byte_pairs.first_chunk().expect("65536 were carved"),
                filter: draft.filter,
                table: draft.pairs,
                together: draft.together.first_chunk().expect("as many were carved"),
            },
        }))
    }

    /// Hands the tables to `write`, part by part, as [`Tables::open`] takes them.
    pub fn save(&self, write: &mut dyn FnMut(&[u8])) {
        let sections: [&[u8]; 14] = [
            bytemuck::cast_slice(self.header),
            bytemuck::cast_slice(self.offsets),
            self.bytes,
            bytemuck::cast_slice(self.special),
            bytemuck::cast_slice(self.specials),
            bytemuck::cast_slice(self.pairs.byte_ids),
            bytemuck::cast_slice(self.pairs.byte_pairs),
            bytemuck::cast_slice(self.characters),
            bytemuck::cast_slice(self.across),
            bytemuck::cast_slice(self.pairs.together),
            bytemuck::cast_slice(self.pairs.filter),
            bytemuck::cast_slice(self.short),
            bytemuck::cast_slice(self.long),
            bytemuck::cast_slice(self.pairs.table),
        ];
        write_sections(&sections, write);
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
        if short + long > ids {
            return Err(cutter.wrong("at most one short or long token for each id", (short + long) as u64));
        }
        if lookahead > LOOKAHEAD_MAX {
            return Err(cutter.wrong("a lookahead of at most 512 bytes", lookahead as u64));
        }
        let offsets: &[u32] = cutter.cut(counts.ids + 1)?;
        let bytes: &[u8] = cutter.cut(counts.bytes)?;
        let is_token = |[start, end]: &[u32; 2]| start <= end && (end - start) as usize <= TOKEN_BYTES_MAX;
        if !offsets.array_windows().all(is_token) || offsets[ids] as usize > bytes.len() {
            return Err(cutter.wrong("tokens of at most 256 bytes, one behind the other", 0));
        }
        let special = cutter.cut(counts.ids.div_ceil(64))?;
        let specials: &[Special] = cutter.cut(counts.specials)?;
        let is_special = |[start, size, id]: &Special| {
            (1..=TOKEN_BYTES_MAX).contains(&name(bytes, *start, *size).len()) && (*id as usize) < ids
        };
        if !specials.iter().all(is_special) || !specials.is_sorted_by_key(|[start, size, _]| name(bytes, *start, *size))
        {
            return Err(cutter.wrong("names of special tokens, of 1 to 256 bytes and in order", 0));
        }
        let byte_ids = cutter.cut(256)?.first_chunk().expect("256 were cut");
        let byte_pairs = cutter.cut(256 * 256)?.first_chunk().expect("65536 were cut");
        let characters = cutter.cut(1 << 16)?.first_chunk().expect("65536 were cut");
        let across = cutter.cut(256 * 256)?.first_chunk().expect("65536 were cut");
        let together = cutter.cut(TOGETHER)?.first_chunk().expect("as many were cut");
        let filter = cutter.cut(filter_words(counts.pairs()))?;
        let short = cutter.cut(buckets(counts.short))?;
        let long = cutter.cut(slots(counts.long))?;
        let table = cutter.cut(slots(counts.pairs()))?;
        let pairs = Pairs { byte_ids, byte_pairs, filter, table, together };
        let special_leads = special_leads(bytes, specials);
        Ok(Self {
            header,
            offsets,
            bytes,
            special,
            specials,
            special_leads,
            short,
            long,
            characters,
            across,
            pairs,
            lookahead,
        })
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

    /// Copies a token to the start of `place`, if it fits, and returns its size.
    #[inline]
    pub fn copy_token(&self, id: u32, place: &mut [u8]) -> usize {
        let Some([start, end]) = self.offsets.get(id as usize..).and_then(<[u32]>::first_chunk) else { return 0 };
        let (start, size) = (*start as usize, end.wrapping_sub(*start) as usize);
        // Sixteen bytes at once, where there are so many on both sides, are faster than the right number.
        if size <= 16
            && let Some(from) = self.bytes.get(start..).and_then(<[u8]>::first_chunk::<16>)
            && let Some(to) = place.first_chunk_mut::<16>()
        {
            *to = *from;
            return size;
        }
        let Some(token) = self.token(id) else { return 0 };
        if let Some(to) = place.get_mut(..token.len()) {
            to.copy_from_slice(token);
        }
        token.len()
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
            } else if same > 0 && allowed(id) {
                return Some((same, id));
            } else {
                text = &text[..same.checked_sub(1)?];
            }
        }
    }

    /// The token that is the piece with this key, if merging gives it.
    #[inline]
    pub fn whole(&self, text: &[u8], key: &Key) -> Option<u32> {
        match short_key(text, key.start, key.end) {
            0 => {
                let piece = &text[key.start..key.end];
                find_long(self.long, long_hash(key, piece), |id| self.token(id) == Some(piece))
            }
            short => find_short(self.short, short),
        }
    }

    /// As [`Tables::whole`], if the piece is short enough for the table of short tokens.
    #[inline]
    pub fn short(&self, text: &[u8], start: usize, end: usize) -> Option<u32> {
        match short_key(text, start, end) {
            0 => None,
            key => find_short(self.short, key),
        }
    }

    /// Asks for what [`Tables::short`] looks at.
    #[inline]
    pub fn ask_short(&self, text: &[u8], start: usize, end: usize) {
        ask_short(self.short, short_key(text, start, end));
    }

    /// Asks for what [`Tables::whole`] looks at for a longer piece, in three steps with time between them: this one returns what
    /// the next takes, and that what [`Tables::ask_bytes`] takes.
    #[inline]
    pub fn ask_long(&self, text: &[u8], key: &Key) -> usize {
        let slot = slot_of(long_hash(key, &text[key.start..key.end]), self.long.len());
        prefetch(self.long, slot);
        slot
    }

    /// See [`Tables::ask_long`].
    #[inline]
    pub fn ask_offset(&self, slot: usize) -> usize {
        let id = first_long(self.long, slot);
        self.ask_place(id);
        id
    }

    /// Asks for where the bytes of a token are.
    #[inline]
    pub fn ask_place(&self, id: usize) {
        prefetch(self.offsets, id);
    }

    /// See [`Tables::ask_long`].
    #[inline]
    pub fn ask_bytes(&self, id: usize) {
        if let Some(offset) = self.offsets.get(id) {
            prefetch(self.bytes, *offset as usize);
        }
    }

    /// The token that is `text[start..end]`, if one look into the table of short ones finds it; [`NO_ID`] if not.
    #[inline]
    pub fn at_once(&self, text: &[u8], start: usize, end: usize) -> u32 {
        at_home(self.short, short_key(text, start, end))
    }

    /// Id and size of the character at byte `at`, if its bytes are merged to one token before any of them can be merged with
    /// others around; and what [`Tables::across`] says about its end. `before` is what that says about `at`. `text` is in UTF-8,
    /// except that it may end within a character.
    #[inline]
    pub fn character(&self, text: &[u8], at: usize, before: u32) -> Option<(u32, usize, u32)> {
        let (id, size) = match text[at..] {
            [lead @ 0xC2..=0xDF, second, ..] => (self.characters[code_point([lead & 0x1F, second])], 2),
            [lead @ 0xE0..=0xEF, second, third, ..] => (self.characters[code_point([lead & 0xF, second, third])], 3),
            [0xF0..=0xF4, _, _, _, ..] => (find_short(self.short, short_key(text, at, at + 4))?, 4),
            _ => return None,
        };
        let behind = self.across(text, at + size);
        (id < before.min(behind)).then_some((id, size, behind))
    }

    /// The lowest id of a token that may go across the border of characters at byte `at` and hold only a part of one of them;
    /// [`u32::MAX`] if there is none, as at both ends of the text.
    #[inline]
    pub fn across(&self, text: &[u8], at: usize) -> u32 {
        match (text.get(at.wrapping_sub(1)), text.get(at)) {
            (Some(before), Some(behind)) => self.across[border(*before, *behind)],
            _ => NO_ID,
        }
    }
}

/// The code point of a character whose bytes, behind the marks in the first, each give six bits.
#[inline]
fn code_point<const SIZE: usize>(bytes: [u8; SIZE]) -> usize {
    bytes.iter().fold(0, |code_point, byte| code_point << 6 | usize::from(byte & 0x3F))
}

/// The place of a border between two bytes in the table `across`.
pub fn border(before: u8, behind: u8) -> usize {
    usize::from(before) << 8 | usize::from(behind)
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

/// The name of a special token.
pub fn name(bytes: &[u8], start: u32, size: u32) -> &[u8] {
    bytes.get(start as usize..).and_then(|bytes| bytes.get(..size as usize)).unwrap_or(&[])
}

/// Writes sections one behind the other, each from a multiple of [`ALIGN`] on.
pub(crate) fn write_sections(sections: &[&[u8]], write: &mut dyn FnMut(&[u8])) {
    for section in sections {
        write(section);
        write(&[0; ALIGN][..section.len().next_multiple_of(ALIGN) - section.len()]);
    }
}

/// Cuts the sections of a saved index, in the order and with the alignment in which a carver gave them.
pub(crate) struct Cutter<'r> {
    pub index: &'r [u8],
    pub at: usize,
}

impl<'r> Cutter<'r> {
    pub fn cut<T: bytemuck::AnyBitPattern>(&mut self, len: usize) -> Result<&'r [T]> {
        let section = len
            .checked_mul(size_of::<T>())
            .and_then(|size| self.index.get(self.at..)?.get(..size))
            .ok_or(self.wrong("an index of the size that its header says", self.index.len() as u64))?;
        let elements = bytemuck::try_cast_slice(section)
            .map_err(|_| self.wrong("an index that starts at a multiple of 64 bytes in memory", 0))?;
        self.at = (self.at + section.len()).next_multiple_of(ALIGN);
        Ok(elements)
    }

    pub fn wrong(&self, expected: &'static str, found: u64) -> Error {
        FileError { file: 0, offset: self.at as u64, expected, found }.into()
    }
}
