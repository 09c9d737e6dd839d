//! The tokens of a vocabulary, as masks find them: in the order of their bytes, and by what they are within a string.

use core::mem::MaybeUninit;

use super::characters::{COMMON, Characters, GROUPS};
use super::sorted::{Sorted, Unsorted, sort};
use super::table::{Table, mix};
use super::tokens::{Class, behind_quote, characters_of, class, is_numeral, is_spaced, is_special, ordinary};
use crate::error::Result;
use crate::region::{Carver, Layout, List};
use crate::tokenizer::Tokenizer;
use crate::tokenizer::tables::{Cutter, write_sections};
use crate::tokenizer::vocabulary::TOKEN_BYTES_MAX;

/// What a mask needs to know of a vocabulary. Shared freely between threads.
#[derive(Clone, Copy)]
pub struct TokenIndex<'r> {
    pub(super) tokenizer: Tokenizer<'r>,
    /// Ordinary tokens with other characters than digits, and where those begin that begin with each byte.
    pub(super) all: Sorted<'r>,
    firsts: &'r [u32],
    /// The others.
    pub(super) numerals: Sorted<'r>,
    /// Bytes of the longest of these.
    pub(super) numeral_max: u32,
    /// Tokens with a quote before any backslash, by what is behind the quote.
    pub(super) closing: Sorted<'r>,
    /// Tokens that close a string behind an escape.
    pub(super) escaped: Sorted<'r>,
    /// Tokens with a quote, a backslash, or a line end that only JSON takes for none.
    pub(super) special: Sorted<'r>,
    /// Bitmaps by number of characters: the tokens that stay within a string, are no longer, and may be followed by more.
    lengths: &'r [u32],
    /// Those that are longer than the last of these, by ascending number of characters: it, and the token.
    long: &'r [[u32; 2]],
    /// Bitmaps of those that stay within a string and are not special; of those of them with only [`COMMON`] characters; of those that
    /// are a blank and such characters; and of the tokens with characters of each of [`GROUPS`].
    plain: &'r [u32],
    common: &'r [u32],
    spaced: &'r [u32],
    having: &'r [u32],
    /// All other plain tokens by the set of their characters: the sets, the empty one standing for any others; of the tokens with each the
    /// first and how many; the tokens; and how many characters each has.
    sets: &'r [Characters],
    places: &'r [[u32; 2]],
    mixed: Sorted<'r>,
    characters: &'r [u16],
}

/// Bitmaps for so many lengths; the next is for all.
pub(super) const LENGTHS: usize = 16;
/// "OSIX" and the version of the index's form.
const HEADER: [u32; 2] = [0x4F53_4958, 1];
/// Numbers in the header: these, the fingerprint, and the counts that sizes follow from.
const HEADER_LEN: usize = 13;
/// Where the tokens begin that begin with each byte, and where the last of them end.
const FIRSTS: usize = 257;
/// Sets of characters that are told apart.
const SETS: usize = 2048;

/// Some of the bitmaps for [`GROUPS`].
type Maps<'r> = heapless::Vec<&'r [u32], { GROUPS.len() }>;

/// A hash of all ordinary tokens.
fn fingerprint(tokenizer: &Tokenizer<'_>) -> [u32; 2] {
    let hash = ordinary(tokenizer).fold(tokenizer.vocabulary_len() as u64, |hash, (id, bytes)| {
        let hash = mix(hash, u64::from(id) << 32 | bytes.len() as u64);
        bytes.chunks(8).fold(hash, |hash, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            mix(hash, u64::from_le_bytes(word))
        })
    });
    [hash as u32, (hash >> 32) as u32]
}

fn set(map: &mut [u32], id: u32) {
    if let Some(word) = map.get_mut(id as usize / 32) {
        *word |= 1 << (id % 32);
    }
}

fn has(map: &[u32], id: u32) -> bool {
    map.get(id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1)
}

impl<'r> TokenIndex<'r> {
    /// The vocabulary.
    pub fn tokenizer(&self) -> &Tokenizer<'r> {
        &self.tokenizer
    }

    /// The memory that [`TokenIndex::new`] needs for this vocabulary.
    ///
    /// # Errors
    /// [`crate::error::Error::RegionTooSmall`] if it is more than an address space.
    pub fn layout(tokenizer: &Tokenizer<'_>) -> Result<Layout> {
        let mut carver = Carver::measuring();
        Parts::carve(&mut carver, tokenizer)?;
        Ok(carver.layout())
    }

    /// Sorts the tokens of a vocabulary.
    ///
    /// # Errors
    /// [`crate::error::Error::RegionTooSmall`], [`crate::error::Error::RegionAlign`].
    pub fn new(region: &'r mut [MaybeUninit<u8>], tokenizer: Tokenizer<'r>) -> Result<Self> {
        let mut parts = Parts::carve(&mut Carver::placing(region)?, &tokenizer)?;
        let words = tokenizer.vocabulary_len().div_ceil(32);
        let mut numeral_max = 0;
        // For sets beyond those that there is room for.
        let mut fits = parts.mixed.sets.push(0) && parts.mixed.places.push([0; 2]);
        for (id, bytes) in ordinary(&tokenizer) {
            if is_numeral(bytes) {
                fits &= parts.numerals.ids.push(id);
                numeral_max = numeral_max.max(bytes.len() as u32);
            } else {
                fits &= parts.all.ids.push(id);
            }
            if is_special(bytes) {
                fits &= parts.special.ids.push(id);
            }
            match class(bytes) {
                Class::Inside(characters) => {
                    let first = (characters as usize).min(LENGTHS + 1);
                    set(&mut parts.lengths[(first - 1) * words..], id);
                    if characters as usize > LENGTHS {
                        fits &= parts.long.push([characters, id]);
                    }
                }
                Class::Closing => fits &= parts.closing.ids.push(id),
                Class::Escaped => fits &= parts.escaped.ids.push(id),
                Class::Outside => {}
            }
            if let Some((characters, _)) = characters_of(bytes) {
                set(parts.plain, id);
                for (group, having) in GROUPS.iter().zip(parts.having.chunks_exact_mut(words)) {
                    if characters & group != 0 {
                        set(having, id);
                    }
                }
                if characters & !COMMON == 0 {
                    set(parts.common, id);
                } else if is_spaced(bytes) {
                    set(parts.spaced, id);
                } else {
                    let set = parts.mixed.of(characters);
                    parts.mixed.places[set][1] += 1;
                    fits &= parts.mixed.tokens.ids.push(id);
                }
            }
        }
        debug_assert!(fits, "the tokens were counted");
        for word in words..parts.lengths.len() {
            parts.lengths[word] |= parts.lengths[word - words];
        }
        // Few are so long.
        parts.long.sort_unstable();
        let all = parts.all.sort(&tokenizer, |_| 0);
        let first = |id: &u32| tokenizer.token_bytes(*id).map_or(0, |bytes| usize::from(bytes[0]));
        for (byte, begin) in parts.firsts.iter_mut().enumerate() {
            *begin = all.ids.partition_point(|id| first(id) < byte) as u32;
        }
        let (sets, places, mixed, characters) = parts.mixed.fill(&tokenizer);
        Ok(Self {
            tokenizer,
            all,
            firsts: parts.firsts,
            numerals: parts.numerals.sort(&tokenizer, |_| 0),
            numeral_max,
            closing: parts.closing.sort(&tokenizer, behind_quote),
            escaped: parts.escaped.sort(&tokenizer, |_| 0),
            special: parts.special.sort(&tokenizer, |_| 0),
            lengths: parts.lengths,
            long: parts.long.freeze(),
            plain: parts.plain,
            common: parts.common,
            spaced: parts.spaced,
            having: parts.having,
            sets,
            places,
            mixed,
            characters,
        })
    }

    /// Takes an index that [`TokenIndex::save`] wrote, on a machine with the same byte order, by this version.
    ///
    /// A changed index may give wrong masks, but nothing worse.
    ///
    /// # Errors
    /// [`crate::error::Error::File`] if it is no such index, is one of other tokens, or does not start at a multiple of 64 bytes in memory.
    pub fn open(index: &'r [u8], tokenizer: Tokenizer<'r>) -> Result<Self> {
        let mut cutter = Cutter { index, at: 0 };
        let header: &[u32] = cutter.cut(HEADER_LEN)?;
        if header[..2] != HEADER {
            return Err(cutter.wrong("the header of an index for this machine", header[0].into()));
        }
        if header[2..4] != fingerprint(&tokenizer) {
            return Err(cutter.wrong("an index of the tokens of this vocabulary", header[2].into()));
        }
        let [numeral_max, all, numerals, closing, escaped, special, long, sets, mixed] =
            core::array::from_fn(|field| header[4 + field]);
        let words = tokenizer.vocabulary_len().div_ceil(32);
        Ok(Self {
            tokenizer,
            numeral_max,
            all: Sorted::open(&mut cutter, all, |_| 0)?,
            firsts: cutter.cut(FIRSTS)?,
            numerals: Sorted::open(&mut cutter, numerals, |_| 0)?,
            closing: Sorted::open(&mut cutter, closing, behind_quote)?,
            escaped: Sorted::open(&mut cutter, escaped, |_| 0)?,
            special: Sorted::open(&mut cutter, special, |_| 0)?,
            lengths: cutter.cut((LENGTHS + 1) * words)?,
            long: cutter.cut(long as usize)?,
            plain: cutter.cut(words)?,
            common: cutter.cut(words)?,
            spaced: cutter.cut(words)?,
            having: cutter.cut(GROUPS.len() * words)?,
            sets: cutter.cut(sets as usize)?,
            places: cutter.cut(sets as usize)?,
            mixed: Sorted::open(&mut cutter, mixed, |_| 0)?,
            characters: cutter.cut(mixed as usize)?,
        })
    }

    /// Hands the index to `write`, part by part, as [`TokenIndex::open`] takes it.
    pub fn save(&self, write: &mut dyn FnMut(&[u8])) {
        let mut header = [0; HEADER_LEN];
        header[..2].copy_from_slice(&HEADER);
        header[2..4].copy_from_slice(&fingerprint(&self.tokenizer));
        header[4] = self.numeral_max;
        let sorted = [&self.all, &self.numerals, &self.closing, &self.escaped, &self.special];
        let counts = sorted.map(|sorted| sorted.ids.len());
        let counts = counts.into_iter().chain([self.long.len(), self.sets.len(), self.mixed.ids.len()]);
        header[5..].iter_mut().zip(counts).for_each(|(place, count)| *place = count as u32);
        let [all, others @ ..] = sorted.map(Sorted::sections);
        write_sections(&[bytemuck::bytes_of(&header)], write);
        write_sections(&all, write);
        write_sections(&[bytemuck::cast_slice(self.firsts)], write);
        others.iter().for_each(|sections| write_sections(sections, write));
        let bitmaps = [self.plain, self.common, self.spaced, self.having].map(bytemuck::cast_slice);
        write_sections(&[bytemuck::cast_slice(self.lengths), bytemuck::cast_slice(self.long)], write);
        write_sections(&bitmaps, write);
        write_sections(&[bytemuck::cast_slice(self.sets), bytemuck::cast_slice(self.places)], write);
        write_sections(&self.mixed.sections(), write);
        write_sections(&[bytemuck::cast_slice(self.characters)], write);
    }

    /// The tokens that begin with a byte, but those of digits only.
    pub(super) fn beginning_with(&self, byte: u8) -> Sorted<'r> {
        let place = |byte: usize| self.firsts.get(byte).map_or(0, |begin| *begin as usize);
        self.all.part(place(byte.into())..place(usize::from(byte) + 1))
    }

    /// The plain tokens that are not of common characters, by sets of characters, the empty one standing for any: the set, the tokens, and
    /// how many characters each has.
    pub(super) fn mixed(&self) -> impl Iterator<Item = (Characters, Sorted<'r>, &'r [u16])> + use<'r> {
        let (mixed, characters) = (self.mixed, self.characters);
        self.sets.iter().zip(self.places).map(move |(set, [first, count])| {
            let range = *first as usize..(*first as usize).saturating_add(*count as usize);
            (*set, mixed.part(range.clone()), characters.get(range).unwrap_or_default())
        })
    }

    /// No plain token has more characters.
    pub(super) fn longest(&self) -> u32 {
        self.long.last().map_or(LENGTHS as u32, |[count, _]| *count).min(TOKEN_BYTES_MAX as u32)
    }

    /// Adds the tokens of at most so many characters that stay within a string.
    pub(super) fn add_inside(&self, characters: u32, mask: &mut [u32]) {
        self.add_lengths(characters, mask, &[], &[]);
    }

    /// Adds the plain tokens of at most so many characters. Those of more than [`LENGTHS`] that are longer are returned.
    pub(super) fn add_plain(&self, characters: u32, mask: &mut [u32]) -> impl Iterator<Item = u32> + use<'r> {
        self.add_lengths(characters, mask, &[self.plain], &[]);
        let (long, plain) = (self.long, self.plain);
        let longer = long.partition_point(|[count, _]| *count <= characters);
        long[longer..].iter().map(|[_, id]| *id).filter(move |id| has(plain, *id))
    }

    /// Adds the tokens of at most so many characters, all of which are in this set and common.
    pub(super) fn add_common(&self, characters: u32, set: Characters, mask: &mut [u32]) {
        self.add_lengths(characters, mask, &[self.common], &self.with_others(set));
    }

    /// Adds the tokens of a blank and at most so many characters, all of which are in this set and common.
    pub(super) fn add_spaced(&self, characters: u32, set: Characters, mask: &mut [u32]) {
        self.add_lengths(characters + 1, mask, &[self.spaced], &self.with_others(set));
    }

    /// The common tokens of an alphabet with characters that are not in this set.
    pub(super) fn holding_others(&self, set: Characters, alphabet: Characters) -> impl Iterator<Item = u32> + use<'r> {
        let words = self.common.len();
        let having = GROUPS.iter().zip(self.having.chunks_exact(words.max(1)));
        let others = having.clone().filter(|(group, _)| alphabet & !set & **group != 0);
        let without = having.filter(|(group, _)| alphabet & **group == 0);
        let [others, without]: [Maps<'r>; 2] =
            [others.map(|(_, having)| having).collect(), without.map(|(_, having)| having).collect()];
        let words = self.common.iter().take(if others.is_empty() { 0 } else { words });
        words.enumerate().flat_map(move |(word, common)| {
            let any = |maps: &Maps<'r>| maps.iter().fold(0, |bits, map| bits | map[word]);
            let mut bits = common & any(&others) & !any(&without);
            core::iter::from_fn(move || {
                let bit = bits.trailing_zeros();
                bits &= bits.wrapping_sub(1);
                (bit < 32).then_some(word as u32 * 32 + bit)
            })
        })
    }

    /// Bitmaps of the tokens with common characters that are not in this set.
    fn with_others(&self, set: Characters) -> Maps<'r> {
        let having = GROUPS.iter().zip(self.having.chunks_exact(self.common.len().max(1)));
        having.filter(|(group, _)| set & **group != **group).map(|(_, having)| having).collect()
    }

    /// Adds the tokens of at most so many characters that stay within a string, are in all of `within`, and in none of `without`.
    fn add_lengths(&self, characters: u32, mask: &mut [u32], within: &[&[u32]], without: &[&[u32]]) {
        /// Words at a time: the tables are gone through side by side.
        const PART: usize = 64;
        let words = self.plain.len();
        let short = self.long.partition_point(|[count, _]| *count <= characters);
        let (map, longer) = match characters as usize {
            few @ ..=LENGTHS => (few, &[][..]),
            _ if short == self.long.len() => (LENGTHS + 1, &[][..]),
            _ => (LENGTHS, &self.long[..short]),
        };
        let Some(lengths) = map.checked_sub(1).and_then(|map| self.lengths.get(map * words..(map + 1) * words)) else {
            return;
        };
        for (part, (mask, lengths)) in mask.chunks_mut(PART).zip(lengths.chunks(PART)).enumerate() {
            let mut found = [0; PART];
            found[..lengths.len()].copy_from_slice(lengths);
            let begin = part * PART;
            for map in within {
                found.iter_mut().zip(&map[begin..]).for_each(|(found, map)| *found &= map);
            }
            for map in without {
                found.iter_mut().zip(&map[begin..]).for_each(|(found, map)| *found &= !map);
            }
            mask.iter_mut().zip(found).for_each(|(mask, found)| *mask |= found);
        }
        for [_, id] in longer {
            if within.iter().all(|map| has(map, *id)) && !without.iter().any(|map| has(map, *id)) {
                set(mask, *id);
            }
        }
    }
}

struct Parts<'r> {
    all: Unsorted<'r>,
    firsts: &'r mut [u32],
    numerals: Unsorted<'r>,
    closing: Unsorted<'r>,
    escaped: Unsorted<'r>,
    special: Unsorted<'r>,
    lengths: &'r mut [u32],
    long: List<'r, [u32; 2]>,
    plain: &'r mut [u32],
    common: &'r mut [u32],
    spaced: &'r mut [u32],
    having: &'r mut [u32],
    mixed: Mixed<'r>,
}

/// Tokens by their sets of characters.
struct Mixed<'r> {
    sets: List<'r, Characters>,
    places: List<'r, [u32; 2]>,
    /// Where each set is.
    table: Table<'r>,
    tokens: Unsorted<'r>,
    characters: &'r mut [u16],
}

impl<'r> Parts<'r> {
    fn carve(carver: &mut Carver<'r>, tokenizer: &Tokenizer<'_>) -> Result<Self> {
        // At most so many are of each class: to tell the classes exactly takes longer.
        let (mut all, mut numerals, mut special, mut quoted, mut escaped, mut long, mut mixed) = (0, 0, 0, 0, 0, 0, 0);
        for (_, bytes) in ordinary(tokenizer) {
            let count = |counter: &mut usize, is_one: bool| *counter += usize::from(is_one);
            count(&mut numerals, is_numeral(bytes));
            count(&mut all, !is_numeral(bytes));
            count(&mut special, is_special(bytes));
            count(&mut quoted, bytes.contains(&b'"'));
            count(&mut escaped, bytes.contains(&b'"') && bytes.contains(&b'\\'));
            count(&mut long, bytes.len() > LENGTHS);
            let behind = bytes.strip_prefix(b" ").filter(|behind| !behind.is_empty()).unwrap_or(bytes);
            let is_rare = |byte: &u8| matches!(byte, b' ' | 0x7F) || byte.is_ascii_punctuation();
            count(&mut mixed, behind.iter().any(is_rare));
        }
        let words = tokenizer.vocabulary_len().div_ceil(32);
        Ok(Self {
            all: Unsorted::carve(carver, all)?,
            firsts: carver.filled(FIRSTS, 0)?,
            numerals: Unsorted::carve(carver, numerals)?,
            closing: Unsorted::carve(carver, quoted)?,
            escaped: Unsorted::carve(carver, escaped)?,
            special: Unsorted::carve(carver, special)?,
            lengths: carver.filled([LENGTHS + 1, words], 0)?,
            long: carver.list(long)?,
            plain: carver.filled(words, 0)?,
            common: carver.filled(words, 0)?,
            spaced: carver.filled(words, 0)?,
            having: carver.filled([GROUPS.len(), words], 0)?,
            mixed: Mixed {
                sets: carver.list(SETS)?,
                places: carver.list(SETS)?,
                table: Table::new(carver.filled(2 * SETS, 0)?),
                tokens: Unsorted::carve(carver, mixed)?,
                characters: carver.filled(mixed, 0)?,
            },
        })
    }
}

impl<'r> Mixed<'r> {
    /// Where a set of characters is, new or not.
    fn of(&mut self, characters: Characters) -> usize {
        let hash = mix(mix(1, characters as u64), (characters >> 64) as u64);
        let (sets, new) = (&*self.sets, self.sets.len());
        let is_it = |set: u32| sets[set as usize] == characters;
        if let Some(set) = self.table.get(hash, is_it) {
            return set as usize;
        }
        if new == self.sets.capacity() {
            return 0;
        }
        self.table.get_or_put(hash, new as u32, is_it);
        let _ = self.sets.push(characters) && self.places.push([0; 2]);
        new
    }

    /// Puts the tokens that were counted in the order of their sets, and sorts those of each.
    fn fill(mut self, tokenizer: &Tokenizer<'_>) -> (&'r [Characters], &'r [[u32; 2]], Sorted<'r>, &'r [u16]) {
        let mut begin = 0;
        for [first, count] in self.places.iter_mut() {
            *first = begin;
            begin += core::mem::take(count);
        }
        for (id, bytes) in ordinary(tokenizer) {
            let is_mixed = |(characters, _): &(Characters, u32)| characters & !COMMON != 0 && !is_spaced(bytes);
            if let Some((characters, _)) = characters_of(bytes).filter(is_mixed) {
                let set = self.of(characters);
                let [first, count] = &mut self.places[set];
                self.tokens.ids[(*first + *count) as usize] = id;
                *count += 1;
            }
        }
        for [first, count] in self.places.iter() {
            let range = *first as usize..(*first + *count) as usize;
            sort(&mut self.tokens.ids[range.clone()], &mut self.tokens.shared[range], tokenizer, |_| 0);
        }
        for (count, id) in self.characters.iter_mut().zip(self.tokens.ids.iter()) {
            let bytes = tokenizer.token_bytes(*id).unwrap_or_default();
            *count = characters_of(bytes).map_or(0, |(_, count)| count as u16);
        }
        let characters = &self.characters[..self.tokens.ids.len()];
        (self.sets.freeze(), self.places.freeze(), self.tokens.look_ahead(|_| 0), characters)
    }
}
