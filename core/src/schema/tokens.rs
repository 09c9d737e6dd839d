//! What tokens are within a string.

use core::ops::Range;

use super::characters::{COMMON, Characters, of_text};
use super::machine::ESCAPES;
use crate::tokenizer::Tokenizer;

/// What a token is within a string where any text may follow, at a border of characters.
pub enum Class {
    /// It stays within, and has so many characters. One that is cut off counts.
    Inside(u32),
    /// It closes the string, before any backslash.
    Closing,
    /// It closes the string behind one.
    Escaped,
    Outside,
}

/// What a token is within a string where any text may follow.
pub fn class(bytes: &[u8]) -> Class {
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

/// Whether a token holds a quote, a backslash, or a line end that only JSON takes for none.
pub fn is_special(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| matches!(byte, b'"' | b'\\'))
        || bytes.windows(3).any(|three| matches!(three, [0xE2, 0x80, 0xA8 | 0xA9]))
}

/// Whether a token is of digits only.
pub fn is_numeral(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_digit)
}

/// Where what is behind the first quote begins.
pub fn behind_quote(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| *byte == b'"').map_or(bytes.len(), |quote| quote + 1)
}

/// The set of the characters of a token and their number, if it is plain.
pub fn characters_of(bytes: &[u8]) -> Option<(Characters, u32)> {
    match class(bytes) {
        Class::Inside(count) if !is_special(bytes) => valid(bytes).map(|(text, is_cut)| (of_text(text, is_cut), count)),
        _ => None,
    }
}

/// Whether a token is a blank, and behind it only common characters.
pub fn is_spaced(bytes: &[u8]) -> bool {
    let common = |(characters, _): (Characters, u32)| characters & !COMMON == 0;
    bytes.strip_prefix(b" ").and_then(characters_of).is_some_and(common)
}

/// The tokens that text is made of.
pub fn ordinary<'t>(tokenizer: &Tokenizer<'t>) -> impl Iterator<Item = (u32, &'t [u8])> {
    let tokenizer = *tokenizer;
    (0..tokenizer.vocabulary_len() as u32).filter_map(move |id| {
        let bytes = tokenizer.token_bytes(id).filter(|bytes| !bytes.is_empty() && !tokenizer.is_special(id))?;
        Some((id, bytes))
    })
}
