//! Where the pieces of ASCII text start, for up to 64 bytes at once.
//!
//! Each class of characters is a word with a bit for each byte, the first lowest, and what [`super::split`] does character by
//! character is said about all bytes together: `a << 1` are the bytes behind those in `a`, and adding a bit to a run of ones
//! carries it to the end of the run. Most of what decides about a piece lies close by; where it does not, the answer ends early.

pub use crate::kernels::ascii::BLOCK;
use crate::kernels::ascii::planes;

/// The bytes after the first at which a piece starts for sure, given that one starts at the first.
#[inline]
pub fn starts(text: &[u8; BLOCK]) -> u64 {
    let [letter, upper, digit, white, tail, other, mark, beyond] = planes(text);
    let known = beyond.trailing_zeros() as usize;
    // The start of white space at the end depends on what follows, but for its first byte.
    let open = (white << (BLOCK - known.max(1))).leading_ones() as usize;
    let mut certain = known - open.saturating_sub(1).min(known);

    // Line ends and slashes that belong to the punctuation before them: runs from a line end right behind it on.
    let first = white & tail & other << 1;
    let taken = tail & (tail.wrapping_add(first) ^ tail | first);
    let (white, other) = (white & !taken, other & !taken);
    let (newline, space) = (white & tail, white & mark);
    let blank = white & !newline;

    // White space is cut behind its last line end, and before its last character.
    let behind = blank & newline << 1;
    let mut starts = white & !(white << 1) | behind | blank & !(white >> 1);
    let mut again = blank.wrapping_add(behind) & newline;
    while again != 0 {
        let before = behind & again.wrapping_sub(1) & !again;
        starts &= !(1 << before.ilog2());
        again &= again - 1;
    }

    // Digits are cut after every third.
    let mut digits = digit & !(digit << 1);
    while digits != 0 {
        starts |= digits;
        digits = digits << 3 & digit << 2 & digit << 1 & digit;
    }

    let punctuation = other & !(other << 1) & !(space << 1);
    let word = letter & !(letter << 1) & !((blank | punctuation) << 1);
    starts |= punctuation | word | upper & (letter & !upper) << 1;

    let mut apostrophes = other & mark & letter << 1;
    let mut end = 0;
    while apostrophes != 0 {
        let at = apostrophes.trailing_zeros() as usize;
        apostrophes &= apostrophes - 1;
        let Some([first, second, _]) = text[at + 1..known.max(at + 1)].first_chunk() else {
            certain = certain.min(at);
            break;
        };
        let size = contraction([*first, *second]);
        // What follows a contraction can not be one.
        if size > 0 && at != end {
            end = at + size;
            starts = starts & !(u64::MAX >> (BLOCK - size) << at) | letter & 1 << end;
        }
    }
    starts & !1 & u64::MAX.checked_shr((BLOCK - certain) as u32).unwrap_or(0)
}

/// The size of the contraction that an apostrophe before these bytes begins; 0 if there is none.
#[inline]
pub fn contraction(behind: [u8; 2]) -> usize {
    match behind.map(|byte| byte.to_ascii_lowercase()) {
        [b'r', b'e'] | [b'v', b'e'] | [b'l', b'l'] => 3,
        [b's' | b't' | b'm' | b'd', _] => 2,
        // U+017F, the long s, folds to s.
        [0xC5, 0xBF] => 3,
        _ => 0,
    }
}
