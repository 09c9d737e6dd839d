//! UTF-8 that may be broken: on its way in, read with replacement; on its way out, cut anywhere by tokens.
//!
//! Both follow the Unicode recommendation (The Unicode Standard, chapter 3, "U+FFFD Substitution of Maximal Subparts"):
//! one U+FFFD for each maximal part of an ill-formed sequence. `String::from_utf8_lossy` does the same.

/// The UTF-8 form of U+FFFD.
pub const REPLACEMENT: &str = "\u{FFFD}";

/// What is at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Character {
    /// The code point; U+FFFD for an ill-formed part.
    pub code_point: u32,
    /// How many bytes it takes, 1 to 4.
    pub size: usize,
    /// Whether these bytes are UTF-8.
    pub valid: bool,
}

/// The character that `text` has at byte `at`, which lies within it.
#[inline]
pub fn character(text: &[u8], at: usize) -> Character {
    // Nearly all that is not ASCII takes two or three bytes: these are told by the fixed bits of all their bytes.
    if let Some(bytes) = text[at..].first_chunk() {
        let bytes = u32::from_le_bytes(*bytes);
        let [second, third] = [bytes >> 8 & 0x3F, bytes >> 16 & 0x3F];
        let two = (bytes & 0x1F) << 6 | second;
        if bytes & 0xC0E0 == 0x80C0 && two >= 0x80 {
            return Character { code_point: two, size: 2, valid: true };
        }
        let three = (bytes & 0xF) << 12 | second << 6 | third;
        if bytes & 0xC0_C0F0 == 0x80_80E0 && matches!(three, 0x800..=0xD7FF | 0xE000..) {
            return Character { code_point: three, size: 3, valid: true };
        }
    }
    any_character(text, at)
}

/// What [`character`] gives.
#[inline(never)]
fn any_character(text: &[u8], at: usize) -> Character {
    let ill_formed = |size| Character { code_point: 0xFFFD, size, valid: false };
    let lead = text[at];
    // The bytes that may follow the lead byte (The Unicode Standard, table 3-7).
    let (size, second) = match lead {
        0x00..=0x7F => return Character { code_point: u32::from(lead), size: 1, valid: true },
        0xC2..=0xDF => (2, 0x80..=0xBF),
        0xE0 => (3, 0xA0..=0xBF),
        0xED => (3, 0x80..=0x9F),
        0xE1..=0xEF => (3, 0x80..=0xBF),
        0xF0 => (4, 0x90..=0xBF),
        0xF1..=0xF3 => (4, 0x80..=0xBF),
        0xF4 => (4, 0x80..=0x8F),
        _ => return ill_formed(1),
    };
    let mut code_point = u32::from(lead) & (0x7F >> size);
    for have in 1..size {
        let allowed = if have == 1 { second.clone() } else { 0x80..=0xBF };
        match text.get(at + have) {
            Some(byte) if allowed.contains(byte) => code_point = code_point << 6 | u32::from(byte & 0x3F),
            _ => return ill_formed(have),
        }
    }
    Character { code_point, size, valid: true }
}

/// Turns the bytes of tokens into text as early as it is complete.
///
/// A token may end within a character. Only such an incomplete end, at most three bytes, is held back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Utf8Stream {
    held: [u8; 4],
    len: usize,
}

impl Utf8Stream {
    /// A stream that holds nothing back.
    pub const fn new() -> Self {
        Self { held: [0; 4], len: 0 }
    }

    /// Takes the next bytes and hands all text that is complete by now to `text`, in one or more parts.
    pub fn push(&mut self, mut bytes: &[u8], text: &mut impl FnMut(&str)) {
        while self.len > 0
            && let Some((&byte, rest)) = bytes.split_first()
        {
            self.held[self.len] = byte;
            match core::str::from_utf8(&self.held[..=self.len]) {
                Ok(character) => {
                    text(character);
                    self.len = 0;
                    bytes = rest;
                }
                Err(error) if error.error_len().is_none() => {
                    self.len += 1;
                    bytes = rest;
                }
                // What was held is a maximal part; the new byte begins something else.
                Err(_) => {
                    text(REPLACEMENT);
                    self.len = 0;
                }
            }
        }
        let mut rest = bytes.len();
        for chunk in bytes.utf8_chunks() {
            let (valid, invalid) = (chunk.valid(), chunk.invalid());
            if !valid.is_empty() {
                text(valid);
            }
            rest -= valid.len() + invalid.len();
            match core::str::from_utf8(invalid) {
                Err(error) if rest == 0 && error.error_len().is_none() => {
                    self.held[..invalid.len()].copy_from_slice(invalid);
                    self.len = invalid.len();
                }
                Err(_) => text(REPLACEMENT),
                Ok(_) => {}
            }
        }
    }

    /// Ends the text: an incomplete character becomes U+FFFD.
    pub fn finish(&mut self, text: &mut impl FnMut(&str)) {
        if core::mem::take(&mut self.len) > 0 {
            text(REPLACEMENT);
        }
    }
}
