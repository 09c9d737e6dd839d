//! Cuts text into the pieces within which tokens are merged.
//!
//! The pieces are those of o200k's pattern. Its alternatives are tried in order at every position:
//!
//! ```text
//! 1  [^\r\n\p{L}\p{N}]? [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]* [\p{Ll}\p{Lm}\p{Lo}\p{M}]+ (?i:'s|'t|'re|'ve|'m|'ll|'d)?
//! 2  [^\r\n\p{L}\p{N}]? [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+ [\p{Ll}\p{Lm}\p{Lo}\p{M}]* (?i:'s|'t|'re|'ve|'m|'ll|'d)?
//! 3  \p{N}{1,3}
//! 4  [ ]?[^\s\p{L}\p{N}]+ [\r\n/]*
//! 5  \s* [\r\n]+
//! 6  \s+ (?!\S)
//! 7  \s+
//! ```
//!
//! A regular expression engine gets there by backtracking; here is what comes out, said directly. Letters without case,
//! modifiers and marks are in both classes of a word, so in alternative 1 the first class takes the longest run of upper
//! case and uncased letters. If a lower case letter follows, the second class takes on from there. If none does, the
//! second class needs at least one character back, and gets the last uncased one of the run: the word ends right behind
//! it. Only a run that holds none is left to alternative 2, which takes it whole.

use super::ascii;
use super::classes::{LOWER, MARK, NUMBER, OTHER, SPACE, UNCASED, UPPER, class};
use super::utf8::character;

/// Room for the ends of pieces that are found together.
pub const BATCH: usize = 2 * ascii::BLOCK;

/// Ends that are written at once.
const GROUP: usize = 8;

/// The pieces of a text, in order. Ill-formed parts count as U+FFFD.
pub struct Pieces<'t> {
    text: &'t [u8],
    at: usize,
    valid: bool,
    /// Whether a piece depends on what stands behind the text.
    is_open: bool,
    /// Where the last valid character is that took more than one byte, its class, and its size: the one that ends a piece is
    /// looked at again.
    last: (usize, u8, usize),
}

/// The end of the word that starts at some place, by alternatives 1 and 2.
enum Word {
    /// Alternative 1 matches, up to here.
    Lower(usize),
    /// Only alternative 2 matches, up to here.
    Upper(usize),
    /// There is no word.
    None,
}

impl<'t> Pieces<'t> {
    /// The pieces of `text`.
    pub fn new(text: &'t [u8]) -> Self {
        Self { text, at: 0, valid: true, is_open: false, last: (usize::MAX, OTHER, 0) }
    }

    /// The end of the first piece of all texts that begin with `text`, if it is the same for all.
    pub fn settled(text: &'t [u8]) -> Option<usize> {
        let mut pieces = Self::new(text);
        let end = pieces.end_of_piece();
        (!pieces.is_open).then_some(end)
    }

    /// Class and size in bytes of the character at byte `at`; none at the end.
    fn class_at(&mut self, at: usize) -> Option<(u8, usize)> {
        let Some(&byte) = self.text.get(at) else {
            self.is_open = true;
            return None;
        };
        if byte < 0x80 {
            return Some((ASCII[byte as usize], 1));
        }
        let (last, class_of_last, size_of_last) = self.last;
        if at == last {
            return Some((class_of_last, size_of_last));
        }
        let character = character(self.text, at);
        let class = class(character.code_point);
        if character.valid {
            self.last = (at, class, character.size);
        } else {
            self.valid = false;
        }
        Some((class, character.size))
    }

    /// The end of the longest run from `at` on of characters whose class is accepted.
    fn run(&mut self, mut at: usize, accepts: impl Fn(u8) -> bool) -> usize {
        while let Some((class, size)) = self.class_at(at)
            && accepts(class)
        {
            at += size;
        }
        at
    }

    /// Finds the next pieces, at least as many as half of [`BATCH`] if there are so many and all are in UTF-8, and puts their ends
    /// behind the first of `borders`. Returns how many, and whether the last is in UTF-8; the others are.
    pub fn fill(&mut self, borders: &mut [usize; BATCH + 1]) -> (usize, bool) {
        let ends = &mut borders[1..];
        let mut len = 0;
        while len < BATCH - ascii::BLOCK && self.at < self.text.len() {
            let (block, mut starts) = (self.at, self.look_ahead());
            if starts == 0 {
                self.valid = true;
                self.at = self.end_of_piece();
                ends[len] = self.at;
                len += 1;
                if !self.valid {
                    return (len, false);
                }
                continue;
            }
            let count = starts.count_ones() as usize;
            // Always some more than there are: the number of rounds is easier to predict than that of pieces.
            for places in ends[len..].as_chunks_mut::<GROUP>().0 {
                for place in places {
                    *place = block + starts.trailing_zeros() as usize;
                    starts &= starts.wrapping_sub(1);
                }
                if starts == 0 {
                    break;
                }
            }
            len += count;
            self.at = ends[len - 1];
        }
        (len, true)
    }

    /// Finds the next pieces all at once, if they are in ASCII: the bytes from here on at which further ones start, one bit each.
    #[inline]
    fn look_ahead(&self) -> u64 {
        match self.text[self.at..].first_chunk() {
            Some(block) if block.first_chunk().is_some_and(|bytes| u64::from_le_bytes(*bytes) & HIGH == 0) => {
                ascii::starts(block)
            }
            _ => 0,
        }
    }

    fn end_of_piece(&mut self) -> usize {
        let start = self.at;
        let Some((first, size)) = self.class_at(start) else { return start };
        match first {
            UPPER | LOWER | UNCASED => match self.word(start) {
                Word::Lower(end) | Word::Upper(end) => self.contraction(end),
                Word::None => start + size,
            },
            NUMBER => {
                let mut end = start + size;
                for _ in 1..3 {
                    match self.class_at(end) {
                        Some((NUMBER, size)) => end += size,
                        _ => break,
                    }
                }
                end
            }
            _ if is_newline(self.text[start]) => self.white_space(start),
            _ => {
                // The word's optional first character. A mark may as well be the word's first letter, and alternative 1
                // is tried that way before alternative 2 is tried at all.
                let word = match self.word(start + size) {
                    Word::Upper(_) | Word::None if first == MARK => self.word(start),
                    word => word,
                };
                match word {
                    Word::Lower(end) | Word::Upper(end) => self.contraction(end),
                    Word::None => self.punctuation(start),
                }
            }
        }
    }

    fn word(&mut self, start: usize) -> Word {
        let mut at = start;
        let mut behind_uncased = None;
        loop {
            at = match self.class_at(at) {
                Some((UPPER, size)) => at + size,
                Some((UNCASED | MARK, size)) => {
                    at = uncased_run(self.text, at + size);
                    behind_uncased = Some(at);
                    at
                }
                Some((LOWER, _)) => {
                    let mut end = at;
                    loop {
                        end = lower_run(self.text, end);
                        match self.class_at(end) {
                            Some((LOWER | UNCASED | MARK, size)) => end += size,
                            _ => return Word::Lower(end),
                        }
                    }
                }
                _ => {
                    return match behind_uncased {
                        Some(end) => Word::Lower(end),
                        None if at > start => Word::Upper(at),
                        None => Word::None,
                    };
                }
            }
        }
    }

    /// The end of the contraction at `at`; `at` itself if there is none.
    fn contraction(&mut self, at: usize) -> usize {
        let behind = |ahead| self.text.get(at + ahead).copied().unwrap_or(0);
        self.is_open |= behind(0) == b'\'' && at + 2 >= self.text.len();
        if behind(0) == b'\'' { at + ascii::contraction([behind(1), behind(2)]) } else { at }
    }

    fn punctuation(&mut self, start: usize) -> usize {
        let from = start + usize::from(self.text[start] == b' ');
        let end = self.run(from, |class| matches!(class, OTHER | MARK));
        if end == from {
            return self.white_space(start);
        }
        let rest = &self.text[end..];
        let behind = rest.iter().position(|byte| !matches!(byte, b'\r' | b'\n' | b'/'));
        self.is_open |= behind.is_none();
        end + behind.unwrap_or(rest.len())
    }

    fn white_space(&mut self, start: usize) -> usize {
        let mut end = start;
        let mut last = start;
        let mut behind_newline = None;
        while let Some((SPACE, size)) = self.class_at(end) {
            last = end;
            end += size;
            if is_newline(self.text[last]) {
                behind_newline = Some(end);
            }
        }
        match behind_newline {
            Some(end) => end,
            // The last one is left to the word or punctuation behind it.
            None if end < self.text.len() && last > start => last,
            None => end,
        }
    }
}

fn is_newline(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// The high bit of each of eight bytes.
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The high bit of each byte that lies between `FIRST` and `LAST`, both ASCII.
#[inline]
fn ascii_range<const FIRST: u8, const LAST: u8>(bytes: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // In each byte without its high bit: the high bit of the sum says whether it is at least `FIRST`, and above `LAST`.
    let low = bytes & !HIGH;
    let from_first = low + u64::from(0x80 - FIRST) * ONES;
    let above_last = low + u64::from(0x7F - LAST) * ONES;
    from_first & !above_last & !bytes & HIGH
}

/// The end of a run of lower case letters that starts at `at`, `a` to `z` eight bytes at a time, then characters of two bytes. It
/// may go on.
#[inline]
fn lower_run(text: &[u8], mut at: usize) -> usize {
    while let Some(bytes) = text.get(at..).and_then(<[u8]>::first_chunk) {
        let others = !ascii_range::<b'a', b'z'>(u64::from_le_bytes(*bytes)) & HIGH;
        at += others.trailing_zeros() as usize / 8;
        if others != 0 {
            break;
        }
    }
    while let Some(bytes) = text.get(at..).and_then(<[u8]>::first_chunk) {
        let bytes = u16::from_le_bytes(*bytes);
        let code_point = usize::from((bytes & 0x1F) << 6 | bytes >> 8 & 0x3F);
        if bytes & 0xC0E0 != 0x80C0 || LOWER_OF_TWO[code_point / 64] >> (code_point % 64) & 1 == 0 {
            break;
        }
        at += 2;
    }
    at
}

/// The end of a run of letters without case that starts at `at`, of three bytes each, from blocks that hold nothing else. It may
/// go on.
#[inline]
fn uncased_run(text: &[u8], mut at: usize) -> usize {
    while let Some(bytes) = text.get(at..).and_then(<[u8]>::first_chunk) {
        let bytes = u32::from_le_bytes(*bytes);
        let block = ((bytes & 0xF) << 6 | bytes >> 8 & 0x3F) as usize;
        if bytes & 0xC0_C0F0 != 0x80_80E0 || UNCASED_OF_THREE[block / 64] >> (block % 64) & 1 == 0 {
            break;
        }
        at += 3;
    }
    at
}

/// A bit for each code point below U+0800 that takes two bytes and is a lower case letter.
static LOWER_OF_TWO: [u64; 32] = {
    let mut bits = [0; 32];
    let mut code_point = 0x80;
    while code_point < 0x800 {
        if class(code_point) == LOWER {
            bits[code_point as usize / 64] |= 1 << (code_point % 64);
        }
        code_point += 1;
    }
    bits
};

/// A bit for each 64 code points from U+0000 to U+FFFF that take three bytes and are all letters without case.
static UNCASED_OF_THREE: [u64; 16] = {
    let mut bits = [0; 16];
    let mut block = 0x800 / 64;
    while block < 1024 {
        let mut code_point = 64 * block;
        while code_point < 64 * block + 64 && class(code_point) == UNCASED {
            code_point += 1;
        }
        if code_point == 64 * block + 64 {
            bits[block as usize / 64] |= 1 << (block % 64);
        }
        block += 1;
    }
    bits
};

/// The classes of the characters below U+0080.
static ASCII: [u8; 128] = {
    let mut classes = [OTHER; 128];
    let mut byte = 0u8;
    while byte < 128 {
        classes[byte as usize] = match byte {
            b'A'..=b'Z' => UPPER,
            b'a'..=b'z' => LOWER,
            b'0'..=b'9' => NUMBER,
            b'\t'..=b'\r' | b' ' => SPACE,
            _ => OTHER,
        };
        byte += 1;
    }
    classes
};
