//! The tokens of a vocabulary in the order of their bytes, and those that stay within a string.

use core::mem::MaybeUninit;
use core::ops::Range;

use super::characters::{COMMON, Characters, GROUPS, of_text};
use super::machine::ESCAPES;
use super::table::{Table, mix};
use crate::error::Result;
use crate::region::{Carver, Layout, List};
use crate::tokenizer::Tokenizer;
use crate::tokenizer::tables::{Cutter, write_sections};
use crate::tokenizer::vocabulary::TOKEN_BYTES_MAX;

/// Texts in order.
#[derive(Clone, Copy)]
pub(super) struct Sorted<'r> {
    pub ids: &'r [u32],
    /// Bytes that each shares with the one before it, of at most 254.
    pub shared: &'r [u8],
    /// How far behind each comes one that shares less with the one before it, or one at least that none before shares less.
    pub ahead: &'r [u16],
    /// Where the text of a token begins.
    pub start: fn(&[u8]) -> usize,
}

/// What a mask needs to know of a vocabulary. Shared freely between threads.
#[derive(Clone, Copy)]
pub struct TokenIndex<'r> {
    pub(super) tokenizer: Tokenizer<'r>,
    /// Ordinary tokens with other characters than digits, and where those begin that begin with each byte.
    all: Sorted<'r>,
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
    characters: &'r [u8],
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

/// What a token is within a string where any text may follow, at a border of characters.
enum Class {
    /// It stays within, and has so many characters. One that is cut off counts.
    Inside(u32),
    /// It closes the string, before any backslash.
    Closing,
    /// It closes the string behind one.
    Escaped,
    Outside,
}

fn class(bytes: &[u8]) -> Class {
    let (mut characters, mut rest) = (0, bytes);
    loop {
        let special = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'));
        let before = &rest[..special.unwrap_or(rest.len())];
        if before.iter().any(|byte| *byte < 0x20) {
            return Class::Outside;
        }
        characters += match valid(before) {
            Some((text, is_cut)) if !is_cut || special.is_none() => text.chars().count() + usize::from(is_cut),
            _ => return Class::Outside,
        };
        match special {
            None => return Class::Inside(characters as u32),
            Some(at) if rest[at] == b'"' && rest.len() == bytes.len() => return Class::Closing,
            Some(at) if rest[at] == b'"' => return Class::Escaped,
            Some(at) => {
                let Some(size) = escape(&rest[at..]) else { return Class::Outside };
                characters += 1;
                rest = rest.get(at + size..).unwrap_or_default();
            }
        }
    }
}

/// The whole characters of a text that begins with one, and whether it ends within one; `None` if it is no such text.
fn valid(bytes: &[u8]) -> Option<(&str, bool)> {
    match core::str::from_utf8(bytes) {
        Ok(text) => Some((text, false)),
        Err(error) if error.error_len().is_none() => {
            Some((core::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(), true))
        }
        Err(_) => None,
    }
}

/// How many bytes an escape takes from its backslash on, which are more than there are if it is cut off. `None` if it is none.
fn escape(text: &[u8]) -> Option<usize> {
    let can_be = |at: usize, bytes: &[u8]| text.get(at).is_none_or(|byte| bytes.contains(&byte.to_ascii_lowercase()));
    let are_digits = |mut range: Range<usize>| range.all(|at| can_be(at, b"0123456789abcdef"));
    match text.get(1) {
        None => Some(2),
        Some(b'u') if !are_digits(2..6) => None,
        Some(b'u') => match (text.get(2), text.get(3)) {
            // Surrogates come in pairs.
            (Some(b'd' | b'D'), Some(b'c'..=b'f' | b'C'..=b'F')) => None,
            (Some(b'd' | b'D'), Some(b'8' | b'9' | b'a' | b'b' | b'A' | b'B')) => {
                let is_pair = [&b"\\"[..], b"u", b"d", b"cdef"].iter().zip(6..).all(|(bytes, at)| can_be(at, bytes));
                (is_pair && text.get(7) != Some(&b'U') && are_digits(10..12)).then_some(12)
            }
            _ => Some(6),
        },
        Some(letter) => ESCAPES.iter().any(|(escaped, _)| escaped == letter).then_some(2),
    }
}

fn is_special(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| matches!(byte, b'"' | b'\\'))
        || bytes.windows(3).any(|three| matches!(three, [0xE2, 0x80, 0xA8 | 0xA9]))
}

fn is_numeral(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_digit)
}

/// Where what is behind the first quote begins.
fn behind_quote(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| *byte == b'"').map_or(bytes.len(), |quote| quote + 1)
}

/// The set of the characters of a token and their number, if it is plain.
fn characters_of(bytes: &[u8]) -> Option<(Characters, u32)> {
    match class(bytes) {
        Class::Inside(count) if !is_special(bytes) => valid(bytes).map(|(text, is_cut)| (of_text(text, is_cut), count)),
        _ => None,
    }
}

/// Whether a token is a blank, and behind it only common characters.
fn is_spaced(bytes: &[u8]) -> bool {
    let common = |(characters, _): (Characters, u32)| characters & !COMMON == 0;
    bytes.strip_prefix(b" ").and_then(characters_of).is_some_and(common)
}

fn ordinary<'t>(tokenizer: &Tokenizer<'t>) -> impl Iterator<Item = (u32, &'t [u8])> {
    let tokenizer = *tokenizer;
    (0..tokenizer.vocabulary_len() as u32).filter_map(move |id| {
        let bytes = tokenizer.token_bytes(id).filter(|bytes| !bytes.is_empty() && !tokenizer.is_special(id))?;
        Some((id, bytes))
    })
}

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
        write_sections(&[self.characters], write);
    }

    /// The tokens that begin with a byte, but those of digits only.
    pub(super) fn beginning_with(&self, byte: u8) -> Sorted<'r> {
        let place = |byte: usize| self.firsts.get(byte).map_or(0, |begin| *begin as usize);
        self.all.part(place(byte.into())..place(usize::from(byte) + 1))
    }

    /// The plain tokens that are not of common characters, by sets of characters, the empty one standing for any: the set, the tokens, and
    /// how many characters each has.
    pub(super) fn mixed(&self) -> impl Iterator<Item = (Characters, Sorted<'r>, &'r [u8])> + use<'r> {
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

impl<'r> Sorted<'r> {
    fn open(cutter: &mut Cutter<'r>, len: u32, start: fn(&[u8]) -> usize) -> Result<Self> {
        let len = len as usize;
        let (ids, shared, ahead) = (cutter.cut(len)?, cutter.cut(len)?, cutter.cut(len)?);
        Ok(Self { ids, shared, ahead, start })
    }

    fn sections(&self) -> [&'r [u8]; 3] {
        [bytemuck::cast_slice(self.ids), self.shared, bytemuck::cast_slice(self.ahead)]
    }

    pub fn part(&self, range: Range<usize>) -> Self {
        let Self { ids, shared, ahead, start } = *self;
        let (ids, shared) = (ids.get(range.clone()), shared.get(range.clone()));
        let ahead = ahead.get(range).unwrap_or_default();
        Self { ids: ids.unwrap_or_default(), shared: shared.unwrap_or_default(), ahead, start }
    }

    /// The bytes of a token before its text, and the text.
    pub fn text<'t>(&self, tokenizer: &Tokenizer<'t>, index: usize) -> (&'t [u8], &'t [u8]) {
        let bytes = tokenizer.token_bytes(self.ids[index]).unwrap_or_default();
        bytes.split_at((self.start)(bytes))
    }

    /// Asks for the bytes of tokens soon to come.
    pub fn ask(&self, tokenizer: &Tokenizer<'_>, index: usize) {
        let id = |ahead: usize| self.ids.get(index + ahead).copied().unwrap_or_default();
        tokenizer.ask_token(id(16), id(8));
    }

    /// The next behind one that shares at most `depth` bytes with it.
    pub fn next(&self, index: usize, depth: usize) -> usize {
        let mut next = index + 1;
        while let Some(shared) = self.shared.get(next)
            && usize::from(*shared) > depth
        {
            next += usize::from(self.ahead[next]).max(1);
        }
        next
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
    characters: &'r mut [u8],
}

struct Unsorted<'r> {
    ids: List<'r, u32>,
    shared: &'r mut [u8],
    ahead: &'r mut [u16],
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
    fn fill(mut self, tokenizer: &Tokenizer<'_>) -> (&'r [Characters], &'r [[u32; 2]], Sorted<'r>, &'r [u8]) {
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
            *count = characters_of(bytes).map_or(0, |(_, count)| count.min(u8::MAX.into()) as u8);
        }
        let characters = &self.characters[..self.tokens.ids.len()];
        (self.sets.freeze(), self.places.freeze(), self.tokens.look_ahead(|_| 0), characters)
    }
}

/// A text whose border to the one before it has not been found.
const UNKNOWN: u8 = u8::MAX;
/// Of longer texts it is enough to know that they share so much.
const SHARED_MAX: usize = 254;
/// So many texts are sorted by comparing them.
const FEW: usize = 24;

impl<'r> Unsorted<'r> {
    fn carve(carver: &mut Carver<'r>, len: usize) -> Result<Self> {
        Ok(Self { ids: carver.list(len)?, shared: carver.filled(len, UNKNOWN)?, ahead: carver.filled(len, 0)? })
    }

    fn sort(mut self, tokenizer: &Tokenizer<'_>, start: fn(&[u8]) -> usize) -> Sorted<'r> {
        let shared = &mut self.shared[..self.ids.len()];
        sort(&mut self.ids, shared, tokenizer, start);
        self.look_ahead(start)
    }

    /// Finds how far what shares more can be passed over.
    fn look_ahead(self, start: fn(&[u8]) -> usize) -> Sorted<'r> {
        let Self { ids, shared, ahead } = self;
        let len = ids.len();
        for index in (0..len).rev() {
            let mut next = index + 1;
            while next < len && shared[next] >= shared[index] {
                next += usize::from(ahead[next]);
            }
            ahead[index] = (next - index).min(u16::MAX.into()) as u16;
        }
        Sorted { ids: ids.freeze(), shared: &shared[..len], ahead: &ahead[..len], start }
    }
}

/// Sorts texts by their first byte, then those with the same first byte by their second, and so on. The time grows with the bytes, and
/// where two texts part says what they share.
fn sort(ids: &mut [u32], shared: &mut [u8], tokenizer: &Tokenizer<'_>, start: fn(&[u8]) -> usize) {
    // 0 is the end of a text.
    let key = |id: u32, depth: usize| {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default();
        bytes.get(start(bytes) + depth).map_or(0, |byte| usize::from(*byte) + 1)
    };
    if let Some(first) = shared.first_mut() {
        *first = 0;
    }
    let (mut at, mut depth) = (0, 0);
    while at < ids.len() {
        let behind = &shared[at + 1..];
        let end = at + 1 + behind.iter().position(|shared| *shared != UNKNOWN).unwrap_or(behind.len());
        if end - at <= FEW {
            sort_few(&mut ids[at..end], &mut shared[at..end], tokenizer, start);
            at = end;
            depth = shared.get(at).map_or(0, |shared| usize::from(*shared) + 1);
        } else {
            split(&mut ids[at..end], &mut shared[at..end], depth, |id| key(id, depth));
            depth += 1;
        }
    }
}

fn sort_few(ids: &mut [u32], shared: &mut [u8], tokenizer: &Tokenizer<'_>, start: fn(&[u8]) -> usize) {
    let text = |id: u32| {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default();
        &bytes[start(bytes)..]
    };
    ids.sort_unstable_by(|left, right| text(*left).cmp(text(*right)));
    for index in 1..ids.len() {
        let pairs = text(ids[index - 1]).iter().zip(text(ids[index]));
        let same = pairs.take_while(|(left, right)| left == right).count();
        shared[index] = same.min(SHARED_MAX) as u8;
    }
}

/// Sorts texts that share `depth` bytes by the next byte, in place, and marks where it changes and where texts end.
fn split(ids: &mut [u32], shared: &mut [u8], depth: usize, key: impl Fn(u32) -> usize) {
    let mut ends = [0; 257];
    ids.iter().for_each(|id| ends[key(*id)] += 1);
    let ended = ends[0];
    let mut end = 0;
    let mut next = ends.each_mut().map(|count| {
        let begin = end;
        end += *count;
        *count = end;
        begin
    });
    for bucket in 0..ends.len() {
        while next[bucket] < ends[bucket] {
            let place = next[bucket];
            let of = key(ids[place]);
            ids.swap(place, next[of]);
            next[of] += 1;
        }
    }
    let mark = depth.min(SHARED_MAX) as u8;
    let begins = ends.into_iter().filter(|begin| *begin < ids.len()).chain(0..ended);
    begins.filter(|begin| *begin > 0).for_each(|begin| shared[begin] = mark);
}
