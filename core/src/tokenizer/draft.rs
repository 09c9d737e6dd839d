//! Building the index of a vocabulary: see [`super::tables`].

use super::lookup::{
    Bucket, EMPTY, EMPTY_BUCKET, NO_ID, Pairs, TOGETHER, find_short, insert_long, insert_pair, insert_short,
    insert_together, short_key,
};
use super::merge::Merger;
use super::tables::{Counts, HEADER_LEN, LOOKAHEAD_MAX, Special, border, buckets, filter_words, name, slots};
use super::utf8::character;
use super::vocabulary::{IDS_MAX, Kind, Source, TOKEN_BYTES_MAX, Token};
use crate::error::{Error, Result};
use crate::region::Carver;

/// The index, being built.
pub struct Draft<'r> {
    pub header: &'r mut [u32],
    pub offsets: &'r mut [u32],
    pub bytes: &'r mut [u8],
    pub special: &'r mut [u64],
    pub specials: &'r mut [Special],
    pub byte_ids: &'r mut [u32],
    pub byte_pairs: &'r mut [u32],
    pub characters: &'r mut [u32],
    pub across: &'r mut [u32],
    pub together: &'r mut [u64],
    pub filter: &'r mut [u64],
    pub short: &'r mut [Bucket],
    pub long: &'r mut [u64],
    pub pairs: &'r mut [u64],
    /// See [`super::merge`]; only needed to build.
    pub reach: &'r mut [u16],
}

impl<'r> Draft<'r> {
    /// Carves room for so much.
    pub fn carve(counts: &Counts, carver: &mut Carver<'r>) -> Result<Self> {
        Ok(Self {
            header: carver.filled(HEADER_LEN, 0)?,
            offsets: carver.filled(counts.ids + 1, 0)?,
            bytes: carver.filled(counts.bytes, 0)?,
            special: carver.filled(counts.ids.div_ceil(64), 0)?,
            specials: carver.filled(counts.specials, [0; 3])?,
            byte_ids: carver.filled(256, NO_ID)?,
            byte_pairs: carver.filled(256 * 256, NO_ID)?,
            characters: carver.filled(1 << 16, NO_ID)?,
            across: carver.filled(256 * 256, NO_ID)?,
            together: carver.filled(TOGETHER, 0)?,
            filter: carver.filled(filter_words(counts.pairs()), 0)?,
            short: carver.filled(buckets(counts.short), EMPTY_BUCKET)?,
            long: carver.filled(slots(counts.long), EMPTY)?,
            pairs: carver.filled(slots(counts.pairs()), EMPTY)?,
            reach: carver.filled(counts.ids, 0)?,
        })
    }

    /// Fills all tables, and the last number of the header.
    pub fn fill(&mut self, source: &impl Source) -> Result<()> {
        self.place_bytes(source)?;
        self.order_specials();
        self.name_bytes()?;
        self.derive_pairs()?;
        self.note_together();
        Ok(())
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
                insert_short(self.short, short_key(&[byte], 0, 1), id as u32);
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

    /// Fills `pairs`, `short`, `long`, `characters`, `across` and `reach`, and with them the header.
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
            let together = self.together.first_chunk().expect("as many were carved");
            let (filter, table) = (&*self.filter, &*self.pairs);
            merger.merge_bytes(Pairs { byte_ids, byte_pairs, filter, table, together }, bytes);
            let mut parts = merger.parts();
            let (Some((left, size)), Some((right, end))) = (parts.next(), parts.next()) else { continue };
            if end != bytes.len() {
                continue;
            }
            insert_pair(self.filter, self.pairs, [left, right, id as u32]);
            if let [left, right] = *bytes {
                self.byte_pairs[usize::from(left) << 8 | usize::from(right)] = id as u32;
            }
            match short_key(bytes, 0, bytes.len()) {
                0 => insert_long(self.long, bytes, id as u32),
                key => insert_short(self.short, key, id as u32),
            }
            if let Ok(text) = core::str::from_utf8(bytes)
                && let Some(character) = text.chars().next()
                && character.len_utf8() == text.len()
                && let Some(place) = self.characters.get_mut(character as usize)
            {
                *place = id as u32;
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

impl Draft<'_> {
    /// Fills `together`, when all else is filled.
    fn note_together(&mut self) {
        for id in 0..self.offsets.len() - 1 {
            if !self.is_ordinary(id) {
                continue;
            }
            let bytes = &self.bytes[self.offsets[id] as usize..self.offsets[id + 1] as usize];
            let mut before = None;
            let mut at = 0;
            while at < bytes.len() {
                let character = character(bytes, at);
                let end = at + character.size;
                let this = match character.valid {
                    false => None,
                    true if character.size == 1 => Some(self.byte_ids[usize::from(bytes[at])]),
                    true => match self.characters.get(character.code_point as usize) {
                        Some(id) => Some(*id).filter(|id| *id != NO_ID),
                        None => find_short(self.short, short_key(bytes, at, end)),
                    },
                };
                if let (Some(left), Some(right)) = (before, this) {
                    insert_together(self.together, left, right);
                }
                before = this;
                at = end;
            }
        }
    }
}

const CHANGED: &str = "the same vocabulary each time it is walked";

/// Notes the borders of characters that a token goes across while it holds only a part of the character on one side.
pub fn mark_borders(across: &mut [u32], bytes: &[u8], id: u32) {
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

/// What is wrong with a token.
pub fn wrong(token: &Token<'_>, expected: &'static str) -> Error {
    Error::Vocabulary { id: token.id, expected, found: token.bytes.len() as u64 }
}

/// Refuses tokens that the tables cannot hold.
pub fn check(token: &Token<'_>) -> Result<()> {
    if token.id >= IDS_MAX {
        return Err(wrong(token, "an id below 2097151"));
    }
    match (token.kind, token.bytes.len()) {
        (Kind::Unused, 0) | (Kind::Ordinary | Kind::Special, 1..=TOKEN_BYTES_MAX) => Ok(()),
        (Kind::Unused, _) => Err(wrong(token, "no bytes, being unused")),
        _ => Err(wrong(token, "1 to 256 bytes")),
    }
}
