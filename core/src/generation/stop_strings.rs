use crate::error::{Error, Result};

/// Longest stop string, in bytes.
const SIZE_MAX: usize = 128;

/// Watches text for strings that end it, and holds back what may be the beginning of one.
pub(super) struct StopStrings<'t> {
    strings: &'t [&'t str],
    /// Text that may be the beginning of a stop string.
    held: heapless::String<SIZE_MAX>,
}

impl<'t> StopStrings<'t> {
    pub fn new(strings: &'t [&'t str]) -> Result<Self> {
        if strings.iter().any(|string| string.is_empty() || string.len() > SIZE_MAX - 4) {
            return Err(Error::Setting { name: "stop", expected: "strings of 1 to 124 bytes" });
        }
        Ok(Self { strings, held: heapless::String::new() })
    }

    /// Takes text and gives `emit` what is surely before any stop string. True if one is complete; of several,
    /// the longest counts.
    pub fn push(&mut self, text: &str, emit: &mut dyn FnMut(&str)) -> bool {
        if self.strings.is_empty() {
            emit(text);
            return false;
        }
        for character in text.chars() {
            // There is room: what is held is shorter than the longest stop string.
            let _ = self.held.push(character);
            let complete = self.strings.iter().filter(|stop| self.held.ends_with(**stop));
            if let Some(stop) = complete.max_by_key(|stop| stop.len()) {
                let before = self.held.len() - stop.len();
                self.release(before, emit);
                self.held.clear();
                return true;
            }
            let may_begin = |tail: &str| self.strings.iter().any(|stop| stop.starts_with(tail));
            let mut tails = self.held.char_indices().map(|(at, _)| at);
            let keep_from = tails.find(|at| may_begin(&self.held[*at..])).unwrap_or(self.held.len());
            self.release(keep_from, emit);
        }
        false
    }

    /// No more text comes: gives `emit` what was held back.
    pub fn finish(&mut self, emit: &mut dyn FnMut(&str)) {
        self.release(self.held.len(), emit);
    }

    fn release(&mut self, size: usize, emit: &mut dyn FnMut(&str)) {
        if size == 0 {
            return;
        }
        let held = core::mem::take(&mut self.held);
        let (text, rest) = held.split_at(size);
        emit(text);
        // It was held in a string of the same size.
        let _ = self.held.push_str(rest);
    }
}
