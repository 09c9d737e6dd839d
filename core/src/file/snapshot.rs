//! Snapshots: the state of an object as bytes, to go on from in another process or on another machine.
//!
//! Little-endian 64-bit words: a magic, the version of the format, the kind of object, its fields, and a checksum over all of
//! that. Narrower numbers fill up words. A snapshot is refused as a whole if a single bit of it changed, before anything of
//! it is used.

use crate::error::{Error, FileError, Result};

const MAGIC: u64 = u64::from_le_bytes(*b"ossicle\n");
const VERSION: u64 = 2;
const BUFFER_WORDS: usize = 64;

/// A sum that differs, for certain, where a single word does: each step can be undone.
#[derive(Clone, Copy)]
pub struct Checksum(u64);

impl Checksum {
    /// Over nothing.
    pub const EMPTY: Self = Self(MAGIC);

    /// Takes in a word. Multiplies by the odd number nearest to 2^64 over the golden ratio, as in Fibonacci hashing.
    pub fn add(&mut self, word: u64) {
        let product = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ product >> 32;
    }

    /// Over all words so far.
    pub fn value(self) -> u64 {
        self.0
    }
}

/// Writes a snapshot, in pieces of at most 512 bytes.
pub struct Writer<'a> {
    write: &'a mut dyn FnMut(&[u8]),
    checksum: Checksum,
    buffer: [u8; 8 * BUFFER_WORDS],
    used: usize,
}

impl<'a> Writer<'a> {
    /// Begins a snapshot of this kind of object.
    pub fn new(kind: [u8; 8], write: &'a mut dyn FnMut(&[u8])) -> Self {
        let mut writer = Self { write, checksum: Checksum::EMPTY, buffer: [0; _], used: 0 };
        writer.words([MAGIC, VERSION, u64::from_le_bytes(kind)]);
        writer
    }

    /// Adds words.
    pub fn words(&mut self, words: impl IntoIterator<Item = u64>) {
        self.bytes(words.into_iter().map(u64::to_le_bytes));
    }

    /// Adds numbers by their bytes.
    pub fn bytes<const N: usize>(&mut self, numbers: impl IntoIterator<Item = [u8; N]>) {
        for number in numbers {
            if self.used + N > self.buffer.len() {
                self.flush();
            }
            self.buffer[self.used..self.used + N].copy_from_slice(&number);
            self.used += N;
        }
    }

    /// Fills up the last word.
    pub fn align(&mut self) {
        let end = self.used.next_multiple_of(8);
        self.buffer[self.used..end].fill(0);
        self.used = end;
    }

    /// Writes the whole words so far.
    fn flush(&mut self) {
        let whole = self.used / 8 * 8;
        for word in self.buffer[..whole].as_chunks::<8>().0 {
            self.checksum.add(u64::from_le_bytes(*word));
        }
        (self.write)(&self.buffer[..whole]);
        self.buffer.copy_within(whole..self.used, 0);
        self.used -= whole;
    }

    /// Ends the snapshot.
    pub fn finish(mut self) {
        self.align();
        self.flush();
        (self.write)(&self.checksum.value().to_le_bytes());
    }
}

/// Reads a snapshot whose checksum is right. Its numbers may still be anything.
#[derive(Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Begins to read a snapshot of this kind of object.
    ///
    /// # Errors
    /// [`Error::File`] if it is no snapshot, or one of another kind or version, or not as it was written.
    pub fn new(kind: [u8; 8], bytes: &'a [u8]) -> Result<Self> {
        let Some((body, checksum)) = bytes.split_last_chunk().filter(|(body, _)| body.len().is_multiple_of(8)) else {
            return Err(refuse(0, "a snapshot, which is whole words of 8 bytes", bytes.len() as u64));
        };
        let mut reader = Self { bytes: body, at: 0 };
        reader.expect(MAGIC, "a snapshot")?;
        reader.expect(VERSION, "version 2 of the snapshot format")?;
        reader.expect(u64::from_le_bytes(kind), "a snapshot of this kind of object")?;
        let mut sum = Checksum::EMPTY;
        body.as_chunks().0.iter().for_each(|word| sum.add(u64::from_le_bytes(*word)));
        let checksum = u64::from_le_bytes(*checksum);
        if sum.value() != checksum {
            return Err(refuse(body.len(), "the checksum of what stands before", checksum));
        }
        Ok(reader)
    }

    /// Bytes of the snapshot, which bound how many of anything are in it.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The next word.
    ///
    /// # Errors
    /// [`Error::File`] at the end.
    pub fn word(&mut self) -> Result<u64> {
        let bytes = self.take(1, 8)?;
        Ok(u64::from_le_bytes(*bytes.first_chunk().expect("eight were taken")))
    }

    /// The next word, which must be this one.
    ///
    /// # Errors
    /// [`Error::File`] if it is another.
    pub fn expect(&mut self, word: u64, expected: &'static str) -> Result<()> {
        match self.word()? {
            found if found == word => Ok(()),
            found => Err(refuse(self.at - 8, expected, found)),
        }
    }

    /// The next word, which must be from `least` to `most`.
    ///
    /// # Errors
    /// [`Error::File`] if it is not.
    pub fn within(&mut self, least: usize, most: usize, expected: &'static str) -> Result<usize> {
        match self.word()? {
            found if (least as u64..=most as u64).contains(&found) => Ok(found as usize),
            found => Err(refuse(self.at - 8, expected, found)),
        }
    }

    /// The bytes of the next `len` numbers of `size` bytes.
    ///
    /// # Errors
    /// [`Error::File`] if there are fewer.
    pub fn take(&mut self, len: usize, size: usize) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let taken = len.checked_mul(size).and_then(|size| rest.get(..size));
        let taken = taken.ok_or(refuse(self.at, "more bytes", rest.len() as u64))?;
        self.at += taken.len();
        Ok(taken)
    }

    /// Goes on at the next whole word.
    pub fn align(&mut self) {
        self.at = self.at.next_multiple_of(8);
    }

    /// So many bytes must be left.
    ///
    /// # Errors
    /// [`Error::File`] if there are more or fewer.
    pub fn expect_left(&self, size: Option<usize>) -> Result<()> {
        let left = self.bytes.len() - self.at;
        if size == Some(left) { Ok(()) } else { Err(refuse(self.at, "as many bytes as its numbers say", left as u64)) }
    }
}

fn refuse(offset: usize, expected: &'static str, found: u64) -> Error {
    Error::File(FileError { file: 0, offset: offset as u64, expected, found })
}
