//! A position in the bytes of a file.

use core::fmt;

use crate::error::{Error, FileError, Result};

/// Reads little-endian numbers, one after another, and knows where it is.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'f> {
    rest: &'f [u8],
    /// Bytes of the file that follow and are not in memory.
    beyond: u64,
    offset: u64,
    file: u16,
}

impl<'f> Cursor<'f> {
    /// At the start of a file of `size` bytes, of which `head` are the first; errors call it `file`.
    pub fn new(head: &'f [u8], size: u64, file: u16) -> Self {
        let have = usize::try_from(size).map_or(head.len(), |size| size.min(head.len()));
        Self { rest: &head[..have], beyond: size - have as u64, offset: 0, file }
    }

    /// Byte offset in the file.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes that are left.
    pub fn remaining(&self) -> u64 {
        self.rest.len() as u64 + self.beyond
    }

    /// Goes on after `len` bytes; `None`, and stays, where fewer are in memory.
    pub fn take(&mut self, len: u64) -> Option<&'f [u8]> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(len).ok()?)?;
        self.rest = rest;
        self.offset += len;
        Some(taken)
    }

    /// Why `len` bytes could not be taken: where the file has them, more of it has to be in memory; else as is said.
    pub fn lacking(&self, len: u64, refusal: Error) -> Error {
        if len > self.remaining() {
            return refusal;
        }
        let in_memory = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        Error::BufferTooSmall {
            need: in_memory(self.offset.saturating_add(len)),
            have: in_memory(self.offset + self.rest.len() as u64),
        }
    }

    /// Where `len` bytes from `first` on lie in the file, counted from here, and these bytes, or none if they are not all in
    /// memory; `None` where the file ends before.
    pub fn range(&self, first: u64, len: u64) -> Option<(u64, &'f [u8])> {
        let end = first.checked_add(len).filter(|end| *end <= self.remaining())?;
        let in_memory = usize::try_from(end).ok().and_then(|end| self.rest.get(first as usize..end));
        Some((self.offset + first, in_memory.unwrap_or(&[])))
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some((array, rest)) = self.rest.split_first_chunk::<N>() else {
            let expected = match N {
                1 => "1 more byte",
                2 => "2 more bytes",
                4 => "4 more bytes",
                _ => "8 more bytes",
            };
            return Err(self.lacking(N as u64, self.refuse(self.offset, expected, self.remaining())));
        };
        self.rest = rest;
        self.offset += N as u64;
        Ok(*array)
    }

    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A count of things that take at least `least` bytes each; refused where the file has no room for so many.
    pub fn count(&mut self, least: u64, expected: &'static str) -> Result<u64> {
        let offset = self.offset;
        let count = self.u64()?;
        if count > self.remaining() / least {
            return Err(self.refuse(offset, expected, count));
        }
        Ok(count)
    }

    /// A length, and so many bytes.
    pub fn string(&mut self) -> Result<&'f [u8]> {
        let offset = self.offset;
        let len = self.u64()?;
        let refusal = |cursor: &Self| cursor.refuse(offset, "the length of a string that ends inside the file", len);
        self.take(len).ok_or_else(|| self.lacking(len, refusal(self)))
    }

    /// [`Cursor::string`] in UTF-8.
    pub fn text(&mut self) -> Result<&'f str> {
        let bytes = self.string()?;
        core::str::from_utf8(bytes).map_err(|error| {
            let valid = error.valid_up_to();
            let offset = self.offset - (bytes.len() - valid) as u64;
            self.refuse(offset, "UTF-8", bytes.get(valid).map_or(0, |&byte| byte.into()))
        })
    }

    /// The error that says: at `offset`, `expected` and not `found`.
    pub fn refuse(&self, offset: u64, expected: &'static str, found: u64) -> Error {
        FileError { file: self.file, offset, expected, found }.into()
    }
}

impl fmt::Debug for Cursor<'_> {
    /// Where it is; not the gigabytes that follow.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor").field("offset", &self.offset).field("remaining", &self.remaining()).finish()
    }
}
