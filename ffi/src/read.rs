//! Chapter 5: files that cannot be mapped.

use core::ffi::c_void;

use crate::input::{Versioned, argument, demand_output, ossicle_bytes, slice_of_mut};
use crate::status::{
    Failure, OSSICLE_ERROR_BUFFER, OSSICLE_ERROR_CALLBACK, OSSICLE_ERROR_STOPPED, OSSICLE_OK, call, ossicle_error,
};

/// Fills `buffer` with `size` bytes of the file from `offset` on. Returns 0, or anything else if it cannot.
pub type ossicle_read =
    Option<unsafe extern "C" fn(data: *mut c_void, offset: u64, buffer: *mut c_void, size: usize) -> i32>;

/// Is told how many bytes of how many have been read. Returns 0, or anything else to stop.
pub type ossicle_progress = Option<unsafe extern "C" fn(data: *mut c_void, done: u64, total: u64) -> i32>;

/// A file that the host reads itself: from a pak file, an encrypted store, a network.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_source {
    /// sizeof (ossicle_source).
    pub struct_size: u32,
    /// Most bytes to ask for at once; 0 for 1 MiB.
    pub block_size: u32,
    /// Bytes in the file.
    pub size: u64,
    /// Handed to both callbacks.
    pub data: *mut c_void,
    /// Reads.
    pub read: ossicle_read,
    /// Null if nobody wants to know.
    pub progress: ossicle_progress,
}

// SAFETY: pointers that may be null, and numbers.
unsafe impl Versioned for ossicle_source {}

const BLOCK: usize = 1 << 20;

/// Chapter 5: files that cannot be mapped.
///
/// Reads a whole file through the host's callback into the host's memory. A model is then made of `file` like of any other
/// bytes. Where a file can be mapped, map it instead: weights are read in place.
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
        let source = unsafe { ossicle_source::read(source) }?;
        let Some(read) = source.read else { return argument("a source with a read callback") };
        // SAFETY: as the header says.
        let buffer = unsafe { slice_of_mut(buffer.cast::<u8>(), buffer_size) }?;
        let Some(buffer) = usize::try_from(source.size).ok().and_then(|size| buffer.get_mut(..size)) else {
            return Err(Failure::Border(OSSICLE_ERROR_BUFFER, "expected a buffer as large as the file"));
        };
        let block = if source.block_size == 0 { BLOCK } else { source.block_size as usize };
        let mut done = 0;
        for part in buffer.chunks_mut(block) {
            // SAFETY: the host's function, with the host's data and as much memory as it is told.
            if unsafe { read(source.data, done, part.as_mut_ptr().cast(), part.len()) } != 0 {
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
