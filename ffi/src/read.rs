//! Chapter 5: files that cannot be mapped.

use core::ffi::c_void;

use ossicle_core::error::Error;
use ossicle_core::file::{ReadFailed, Storage, read_head};

use crate::input::{Versioned, argument, demand_output, ossicle_bytes, slice_of_mut};
use crate::status::{
    Failure, OSSICLE_ERROR_BUFFER, OSSICLE_ERROR_CALLBACK, OSSICLE_ERROR_STOPPED, OSSICLE_OK, Result, call,
    ossicle_error,
};

/// Fills `buffer` with `size` bytes of the file from `offset` on. Returns 0, or anything else if it cannot.
pub type ossicle_read =
    Option<unsafe extern "C" fn(data: *mut c_void, offset: u64, buffer: *mut c_void, size: usize) -> i32>;

/// Is told that `size` bytes of the file from `offset` on are about to be read. Whoever can fetches them ahead, and returns at once.
pub type ossicle_will_need = Option<unsafe extern "C" fn(data: *mut c_void, offset: u64, size: usize)>;

/// Is told how many bytes of how many have been read. Returns 0, or anything else to stop.
pub type ossicle_progress = Option<unsafe extern "C" fn(data: *mut c_void, done: u64, total: u64) -> i32>;

/// A file that the host reads itself: from a pak file, an encrypted store, a network. The same bytes each time.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_source {
    /// sizeof (ossicle_source).
    pub struct_size: u32,
    /// Most bytes to ask for at once; 0 for 1 MiB.
    pub block_size: u32,
    /// Bytes in the file.
    pub size: u64,
    /// Handed to all callbacks.
    pub data: *mut c_void,
    /// Reads.
    pub read: ossicle_read,
    /// Null if nobody wants to know.
    pub progress: ossicle_progress,
    /// Null if nothing can be fetched ahead.
    pub will_need: ossicle_will_need,
}

// SAFETY: pointers that may be null, and numbers.
unsafe impl Versioned for ossicle_source {}

const BLOCK: usize = 1 << 20;

impl ossicle_source {
    fn fill(&self, offset: u64, buffer: &mut [u8]) -> core::result::Result<(), ReadFailed> {
        let read = self.read.ok_or(ReadFailed)?;
        // SAFETY: the host's function, with the host's data and as much memory as it is told.
        match unsafe { read(self.data, offset, buffer.as_mut_ptr().cast(), buffer.len()) } {
            0 => Ok(()),
            _ => Err(ReadFailed),
        }
    }
}

/// The files of a model that is read as it is needed.
pub(crate) struct Sources<'w>(pub &'w [ossicle_source]);

// SAFETY: the header says that the callbacks of such sources are called on several threads at once; `data` is only handed on.
unsafe impl Sync for Sources<'_> {}

// SAFETY: the same.
unsafe impl Send for Sources<'_> {}

impl Storage for Sources<'_> {
    fn size(&self, file: u16) -> u64 {
        self.0[usize::from(file)].size
    }

    fn read(&self, file: u16, offset: u64, buffer: &mut [u8]) -> core::result::Result<(), ReadFailed> {
        self.0[usize::from(file)].fill(offset, buffer)
    }

    fn will_need(&self, file: u16, offset: u64, size: usize) {
        let source = &self.0[usize::from(file)];
        if let Some(will_need) = source.will_need {
            // SAFETY: the host's function, with the host's data.
            unsafe { will_need(source.data, offset, size) };
        }
    }
}

/// # Safety
/// As the header says of the source.
unsafe fn source_of(source: *const ossicle_source) -> Result<ossicle_source> {
    // SAFETY: as the caller promises.
    let source = unsafe { ossicle_source::read(source) }?;
    if source.read.is_none() {
        return argument("a source with a read callback");
    }
    Ok(source)
}

/// Chapter 5: files that cannot be mapped.
///
/// Reads a whole file through the host's callback into the host's memory. A model is then made of `file` like of any other
/// bytes. Where a file can be mapped, map it instead: weights are read in place. Where it is larger than the memory,
/// ossicle_file_read_head reads its beginning, and the model what it needs.
///
/// `source`: the file. `buffer`, `buffer_size`: where to, in bytes; no alignment is needed. `file`: gets start and size of
/// what was read.
///
/// Memory: the buffer stays the caller's, and has to outlive the model.
/// Errors: OSSICLE_ERROR_BUFFER if the buffer is smaller than the file, OSSICLE_ERROR_CALLBACK if a read failed,
/// OSSICLE_ERROR_STOPPED if the progress callback asked for it. The call can be repeated.
/// Threads: any; the callbacks are called on the calling thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_file_read(
    source: *const ossicle_source,
    buffer: *mut c_void,
    buffer_size: usize,
    file: *mut ossicle_bytes,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(file)?;
        // SAFETY: as the header says.
        let source = unsafe { source_of(source) }?;
        // SAFETY: as the header says.
        let buffer = unsafe { slice_of_mut(buffer.cast::<u8>(), buffer_size) }?;
        let Some(buffer) = usize::try_from(source.size).ok().and_then(|size| buffer.get_mut(..size)) else {
            return Err(Failure::Border(OSSICLE_ERROR_BUFFER, "expected a buffer as large as the file"));
        };
        let block = if source.block_size == 0 { BLOCK } else { source.block_size as usize };
        let mut done = 0;
        for part in buffer.chunks_mut(block) {
            if source.fill(done, part).is_err() {
                return Err(Failure::Border(OSSICLE_ERROR_CALLBACK, "the read callback failed"));
            }
            done += part.len() as u64;
            if let Some(progress) = source.progress {
                // SAFETY: the host's function, with the host's data.
                if unsafe { progress(source.data, done, source.size) } != 0 {
                    return Err(Failure::Border(OSSICLE_ERROR_STOPPED, "the progress callback asked to stop"));
                }
            }
        }
        // SAFETY: a place for the result, by the check above.
        unsafe { file.write(ossicle_bytes { start: buffer.as_ptr().cast(), size: buffer.len() }) };
        Ok(OSSICLE_OK)
    })
}

/// Reads the head of a GGUF or safetensors file: so much of its beginning that its header is in it, which is all that a model with
/// `sources` needs in `files`.
///
/// `source`: the file; its block_size and progress are not used. `buffer`, `buffer_size`: where to, in bytes; no alignment is needed.
/// The header of gpt-oss in GGUF has some 13 MB, most of it the vocabulary, and 64 MiB are enough for all that is known; what is
/// not needed is not touched. `head`: gets start and size of what was read.
///
/// Memory: the buffer stays the caller's, and has to outlive the model; what comes behind the head in it is free.
/// Errors: OSSICLE_ERROR_BUFFER if the buffer is smaller than the head: `head` then has no start, and a size that it takes at
/// least. OSSICLE_ERROR_CALLBACK if a read failed; OSSICLE_ERROR_FILE.
/// Threads: any; the callback is called on the calling thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_file_read_head(
    source: *const ossicle_source,
    buffer: *mut c_void,
    buffer_size: usize,
    head: *mut ossicle_bytes,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(head)?;
        // SAFETY: as the header says.
        let (source, buffer) = unsafe { (source_of(source)?, slice_of_mut(buffer.cast::<u8>(), buffer_size)?) };
        let found = match read_head(&Sources(&[source]), 0, buffer) {
            Ok(size) => ossicle_bytes { start: buffer.as_ptr().cast(), size },
            Err(Error::BufferTooSmall { need, .. }) => ossicle_bytes { start: core::ptr::null(), size: need },
            Err(error) => return Err(error.into()),
        };
        // SAFETY: a place for the result, by the check above.
        unsafe { head.write(found) };
        match found.start.is_null() {
            true => Err(Error::BufferTooSmall { need: found.size, have: buffer.len() }.into()),
            false => Ok(OSSICLE_OK),
        }
    })
}
