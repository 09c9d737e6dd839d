//! Text put together in memory that the caller lends.

use core::fmt;

/// What has been written so far. Past the end of the memory, text is only counted.
pub(super) struct Text<'s> {
    memory: &'s mut [u8],
    len: usize,
    /// How often `null` has been written, and how much of another one.
    nulls: usize,
    matched: usize,
}

impl<'s> Text<'s> {
    pub(super) fn new(memory: &'s mut [u8]) -> Self {
        Self { memory, len: 0, nulls: 0, matched: 0 }
    }

    /// The length of the text, in bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The text; `None` if the memory was too small.
    pub(super) fn as_str(&self) -> Option<&str> {
        self.memory.get(..self.len).and_then(|text| core::str::from_utf8(text).ok())
    }

    /// How often `null` stands in the text. One that stands across a call does not count.
    pub(super) fn nulls(&mut self) -> usize {
        self.matched = 0;
        self.nulls
    }

    /// Appends, which cannot fail.
    pub(super) fn push(&mut self, text: &str) {
        for byte in text.bytes() {
            self.matched = match (byte, self.matched) {
                (b'u', 1) => 2,
                (b'l', 2) => 3,
                (b'l', 3) => {
                    self.nulls += 1;
                    0
                }
                (b'n', _) => 1,
                _ => 0,
            };
        }
        let end = self.len.saturating_add(text.len());
        if let Some(place) = self.memory.get_mut(self.len..end) {
            place.copy_from_slice(text.as_bytes());
        }
        self.len = end;
    }
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text);
        Ok(())
    }
}
