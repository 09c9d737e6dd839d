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

/// A piece of text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Its first byte.
    pub start: usize,
    /// The byte behind its last.
    pub end: usize,
    /// Whether all its bytes are UTF-8. May also be false because of bytes right behind it.
    pub valid: bool,
}

/// The pieces of a text, in order. Ill-formed parts count as U+FFFD.
pub struct Pieces<'t> {
    text: &'t [u8],
    at: usize,
    valid: bool,
    /// Where `starts` was found.
    block: usize,
    /// Whether a piece depends on what stands behind the text.
    is_open: bool,
    /// Bytes from `block` on at which further pieces start: one bit each.
    starts: u64,
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
        Self { text, at: 0, valid: true, block: 0, is_open: false, starts: 0 }
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
        let character = character(self.text, at);
        self.valid &= character.valid;
        Some((class(character.code_point), character.size))
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

    /// Finds the next pieces all at once, if they are in ASCII.
    fn look_ahead(&mut self) {
        if let Some(block) = self.text[self.at..].first_chunk()
            && block.first_chunk().is_some_and(|bytes| u64::from_le_bytes(*bytes) & HIGH == 0)
        {
            self.block = self.at;
            self.starts = ascii::starts(block);
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
                    behind_uncased = Some(at + size);
                    at + size
                }
                Some((LOWER, _)) => {
                    let mut end = at;
                    loop {
                        end = ascii_lower_run(self.text, end);
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

impl Iterator for Pieces<'_> {
    type Item = Piece;

    #[inline]
    fn next(&mut self) -> Option<Piece> {
        let start = self.at;
        if start >= self.text.len() {
            return None;
        }
        if self.starts == 0 {
            self.look_ahead();
        }
        self.valid = true;
        let end = if self.starts == 0 {
            self.end_of_piece()
        } else {
            let ahead = self.starts.trailing_zeros() as usize;
            self.starts &= self.starts - 1;
            self.block + ahead
        };
        self.at = end;
        Some(Piece { start, end, valid: self.valid })
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

/// The end of the run of `a` to `z` from `at` on, eight bytes at a time.
#[inline]
fn ascii_lower_run(text: &[u8], mut at: usize) -> usize {
    while let Some(bytes) = text.get(at..).and_then(<[u8]>::first_chunk) {
        let others = !ascii_range::<b'a', b'z'>(u64::from_le_bytes(*bytes)) & HIGH;
        if others != 0 {
            return at + others.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while text.get(at).is_some_and(u8::is_ascii_lowercase) {
        at += 1;
    }
    at
}

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
