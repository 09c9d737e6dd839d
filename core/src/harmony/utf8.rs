//! Bytes that come piece by piece, as text.

const REPLACEMENT: &str = "\u{fffd}";

/// Holds back a character that is not complete yet; what is no UTF-8 becomes U+FFFD, one for each maximal part of a
/// character, as everywhere in Rust.
#[derive(Clone, Debug, Default)]
pub(super) struct Utf8 {
    held: [u8; 4],
    len: usize,
}

impl Utf8 {
    /// Gives `emit` the text that is complete with these bytes. No piece is empty.
    pub(super) fn push(&mut self, mut bytes: &[u8], emit: &mut dyn FnMut(&str)) {
        while self.len > 0 {
            let Some((&next, rest)) = bytes.split_first() else { return };
            self.held[self.len] = next;
            match core::str::from_utf8(&self.held[..self.len + 1]) {
                Ok(character) => {
                    emit(character);
                    self.len = 0;
                    bytes = rest;
                }
                // Still one incomplete character: never more than three bytes.
                Err(error) if error.error_len().is_none() => {
                    self.len += 1;
                    bytes = rest;
                }
                // The byte does not continue what is held: it begins something new.
                Err(_) => self.flush(emit),
            }
        }
        loop {
            match core::str::from_utf8(bytes) {
                Ok("") => return,
                Ok(text) => return emit(text),
                Err(error) => {
                    let (valid, rest) = bytes.split_at(error.valid_up_to());
                    if let Ok(text) = core::str::from_utf8(valid)
                        && !text.is_empty()
                    {
                        emit(text);
                    }
                    let Some(invalid) = error.error_len() else {
                        self.held[..rest.len()].copy_from_slice(rest);
                        self.len = rest.len();
                        return;
                    };
                    emit(REPLACEMENT);
                    bytes = &rest[invalid..];
                }
            }
        }
    }

    /// What is held back will not be completed.
    pub(super) fn flush(&mut self, emit: &mut dyn FnMut(&str)) {
        if self.len > 0 {
            self.len = 0;
            emit(REPLACEMENT);
        }
    }
}
