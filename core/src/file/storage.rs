//! Files that are read as they are needed.

use super::gguf::Gguf;
use super::safetensors::Safetensors;
use crate::error::{Error, Result};

/// Where files are that are not in memory as a whole: a disk, a pak file, an encrypted store, a network. Shared between threads.
pub trait Storage: Sync {
    /// Bytes in a file; files are numbered from 0. The same in every call.
    fn size(&self, file: u16) -> u64;

    /// Fills `buffer` with the bytes of a file from `offset` on, which are the same in every call. Called on any of the threads
    /// that the host lends, and on several at once.
    ///
    /// # Errors
    /// [`ReadFailed`] if it cannot; it may be asked again.
    fn read(&self, file: u16, offset: u64, buffer: &mut [u8]) -> core::result::Result<(), ReadFailed>;

    /// These bytes of a file are about to be read: whoever can fetches them ahead, and returns at once.
    fn will_need(&self, _file: u16, _offset: u64, _size: usize) {}
}

/// The bytes could not be read. Why is the host's to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadFailed;

pub(crate) fn read(storage: &dyn Storage, file: u16, offset: u64, buffer: &mut [u8]) -> Result<()> {
    let size = buffer.len();
    storage.read(file, offset, buffer).map_err(|ReadFailed| Error::Read { file, offset, size })
}

/// So much is read first, in bytes: the header of a safetensors file as a rule.
const FIRST: usize = 1 << 16;

/// Reads the head of a GGUF or safetensors file: so much of its beginning that the header is in it. Returns how many bytes of
/// the buffer it is. That of gpt-oss in GGUF has some 13 MB, most of it the vocabulary; a buffer of 64 MiB is large enough for
/// all that is known, and the rest of it stays untouched.
///
/// # Errors
/// [`Error::BufferTooSmall`] if the header is larger than the buffer, with a size in bytes that it takes at least;
/// [`Error::Read`]; [`Error::File`] where it is neither.
pub fn read_head(storage: &dyn Storage, file: u16, buffer: &mut [u8]) -> Result<usize> {
    let size = storage.size(file);
    let whole = usize::try_from(size).unwrap_or(usize::MAX);
    let (mut have, mut need) = (0, FIRST.min(whole).min(buffer.len()));
    loop {
        let have_room = buffer.len();
        let Some(more) = buffer.get_mut(have..need) else {
            return Err(Error::BufferTooSmall { need, have: have_room });
        };
        if !more.is_empty() {
            read(storage, file, have as u64, more)?;
        }
        have = need;
        let head = &buffer[..have];
        let opened = match head.starts_with(b"GGUF") {
            true => Gguf::open_head(head, size, file, |_| Ok(())).map(|_| ()),
            false => Safetensors::open_head(head, size, file).map(|_| ()),
        };
        match opened {
            Ok(()) => return Ok(have),
            // What it takes is more than there was, and in the file.
            Err(Error::BufferTooSmall { need: least, .. }) => {
                need = least.max(have.saturating_mul(2).min(whole).min(buffer.len()));
            }
            Err(error) => return Err(error),
        }
    }
}
