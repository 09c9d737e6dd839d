//! Chapter 2: what a call returns.

use core::ffi::{CStr, c_char};
use core::fmt::{self, Write};
use core::mem::{offset_of, size_of};

use ossicle_core::error::Error;
use ossicle_core::harmony::render::RenderError;
use ossicle_core::schema::{JsonPath, SchemaError};

/// The call did all that it was to do.
pub const OSSICLE_OK: i32 = 0;
/// The call did a part, and there is more: call again. Not an error.
pub const OSSICLE_MORE: i32 = 1;
/// A parameter is not what it should be: a null pointer, an unknown number, text that is not UTF-8.
pub const OSSICLE_ERROR_ARGUMENT: i32 = -1;
/// A pointer does not point to an object of that kind, or its memory was moved or overwritten.
pub const OSSICLE_ERROR_OBJECT: i32 = -2;
/// The struct_size of a struct is missing, or a later version's with fields that this library does not know.
pub const OSSICLE_ERROR_STRUCT_SIZE: i32 = -3;
/// The call does not fit the state of the object, which is as it was before.
pub const OSSICLE_ERROR_STATE: i32 = -4;
/// The object is in use: by another thread, or by the call that this callback belongs to.
pub const OSSICLE_ERROR_BUSY: i32 = -5;
/// An earlier call met a defect of the library and left the object unusable. Make a new one in its memory.
pub const OSSICLE_ERROR_FAILED: i32 = -6;
/// A region is smaller than its layout says.
pub const OSSICLE_ERROR_REGION_SIZE: i32 = -7;
/// A region does not start at a multiple of its layout's alignment.
pub const OSSICLE_ERROR_REGION_ALIGN: i32 = -8;
/// A buffer for results is too small. The needed size has been written.
pub const OSSICLE_ERROR_BUFFER: i32 = -9;
/// More was given than the object was made for.
pub const OSSICLE_ERROR_CAPACITY: i32 = -10;
/// A setting is outside its range.
pub const OSSICLE_ERROR_SETTING: i32 = -11;
/// The bytes of a file are not what its format says.
pub const OSSICLE_ERROR_FILE: i32 = -12;
/// A tensor is not what the model needs.
pub const OSSICLE_ERROR_TENSOR: i32 = -13;
/// A vocabulary is not as it should be.
pub const OSSICLE_ERROR_VOCABULARY: i32 = -14;
/// A token id that the model does not have.
pub const OSSICLE_ERROR_TOKEN: i32 = -15;
/// The session can no longer go back so far.
pub const OSSICLE_ERROR_REWIND: i32 = -16;
/// A number that is not finite came up: the weights are damaged. ossicle_model_check_values tells where.
pub const OSSICLE_ERROR_NOT_FINITE: i32 = -17;
/// A conversation cannot be rendered.
pub const OSSICLE_ERROR_RENDER: i32 = -18;
/// A callback of the host failed.
pub const OSSICLE_ERROR_CALLBACK: i32 = -19;
/// A callback of the host asked to stop.
pub const OSSICLE_ERROR_STOPPED: i32 = -20;
/// The operating system refused a file.
pub const OSSICLE_ERROR_SYSTEM: i32 = -21;
/// There is no memory.
pub const OSSICLE_ERROR_MEMORY: i32 = -22;
/// A defect of the library. The objects of the call are unusable; all others are as before.
pub const OSSICLE_ERROR_INTERNAL: i32 = -23;
/// A JSON schema is none, or cannot be enforced.
pub const OSSICLE_ERROR_SCHEMA: i32 = -24;
/// A tool of the library's is not to be had here: what it needs is missing, or it is no part of this library.
pub const OSSICLE_ERROR_TOOL: i32 = -25;

/// Bytes of the text in an ossicle_error, the zero at its end included.
pub const OSSICLE_ERROR_TEXT_SIZE: usize = 256;

/// What went wrong, where, and what was expected. A caller who wants to know passes one, with struct_size set, as the last
/// argument; null is allowed. It is written if the call fails, and only then.
#[repr(C)]
pub struct ossicle_error {
    /// sizeof (ossicle_error).
    pub struct_size: u32,
    /// What the call returned.
    pub status: i32,
    /// Which file it is about, from 0.
    pub file: u32,
    /// Bytes of the text, without the zero at its end.
    pub text_size: u32,
    /// Byte offset in that file, or in the text of a schema.
    pub offset: u64,
    /// English, for the log: names the tensor, the field or the byte, and what was expected. Ends in a zero byte.
    pub text: [c_char; OSSICLE_ERROR_TEXT_SIZE],
}

/// What went wrong in a call.
pub(crate) enum Failure {
    /// In the core.
    Core(Error),
    /// In the text of a schema.
    Schema(SchemaError, &'static str),
    /// At the border.
    Border(i32, &'static str),
    /// In the operating system.
    #[cfg(feature = "host")]
    Host(i32, std::string::String),
    /// In another function of the interface, which has told it.
    #[cfg(feature = "host")]
    Told(i32),
}

pub(crate) type Result<T> = core::result::Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Core(error)
    }
}

impl Failure {
    pub fn status(&self) -> i32 {
        match self {
            Self::Border(status, _) => *status,
            #[cfg(feature = "host")]
            Self::Host(status, _) | Self::Told(status) => *status,
            Self::Core(error) => status_of(error),
            Self::Schema(..) => OSSICLE_ERROR_SCHEMA,
        }
    }

    fn place(&self) -> (u32, u64) {
        match self {
            Self::Core(Error::File(error)) => (error.file.into(), error.offset),
            Self::Core(Error::Tensor(error)) => (error.file.into(), error.offset),
            Self::Core(Error::Read { file, offset, .. }) => ((*file).into(), *offset),
            Self::Schema(error, _) => (0, error.offset as u64),
            _ => (0, 0),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Core(error) => error.fmt(f),
            // The path comes last, since it alone can be long.
            Self::Schema(error, text) => write!(f, "{error}, at {}", JsonPath { text, offset: error.offset }),
            Self::Border(_, text) => f.write_str(text),
            #[cfg(feature = "host")]
            Self::Host(_, text) => f.write_str(text),
            #[cfg(feature = "host")]
            Self::Told(_) => Ok(()),
        }
    }
}

pub(crate) fn status_of(error: &Error) -> i32 {
    match error {
        Error::File(_) => OSSICLE_ERROR_FILE,
        Error::Tensor(_) => OSSICLE_ERROR_TENSOR,
        Error::Token { .. } => OSSICLE_ERROR_TOKEN,
        Error::Capacity { .. } => OSSICLE_ERROR_CAPACITY,
        Error::Setting { .. } => OSSICLE_ERROR_SETTING,
        Error::State(_) => OSSICLE_ERROR_STATE,
        Error::Rewind { .. } => OSSICLE_ERROR_REWIND,
        Error::NotFinite { .. } => OSSICLE_ERROR_NOT_FINITE,
        Error::RegionTooSmall { .. } => OSSICLE_ERROR_REGION_SIZE,
        Error::RegionAlign { .. } => OSSICLE_ERROR_REGION_ALIGN,
        Error::Vocabulary { .. } => OSSICLE_ERROR_VOCABULARY,
        Error::BufferTooSmall { .. } | Error::Render(RenderError::ScratchTooSmall { .. }) => OSSICLE_ERROR_BUFFER,
        Error::Render(_) => OSSICLE_ERROR_RENDER,
        Error::Schema(_) => OSSICLE_ERROR_SCHEMA,
        Error::Mask(_) | Error::Read { .. } => OSSICLE_ERROR_CALLBACK,
        // The core's errors may grow; each belongs here then.
        _ => OSSICLE_ERROR_INTERNAL,
    }
}

/// Runs the body of a function of the interface: no panic leaves it, and what fails is told in `error`.
pub(crate) fn call(error: *mut ossicle_error, body: impl FnOnce() -> Result<i32>) -> i32 {
    #[cfg(feature = "host")]
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body))
        .unwrap_or(Err(Failure::Border(OSSICLE_ERROR_INTERNAL, "the library has a defect; please report it")));
    #[cfg(not(feature = "host"))]
    let result = body();
    match result {
        Ok(status) => status,
        Err(failure) => {
            // SAFETY: null, or an ossicle_error with its struct_size, by the contract of every function.
            unsafe { tell(&failure, error) };
            failure.status()
        }
    }
}

/// # Safety
/// `error` is null, or writable for as many bytes as its `struct_size` says.
pub(crate) unsafe fn tell(failure: &Failure, error: *mut ossicle_error) {
    if error.is_null() || !error.is_aligned() {
        return;
    }
    #[cfg(feature = "host")]
    if matches!(failure, Failure::Told(_)) {
        return;
    }
    // SAFETY: not null; the first field of every version.
    let size = unsafe { (&raw const (*error).struct_size).read() } as usize;
    let room = size.min(size_of::<ossicle_error>()).saturating_sub(offset_of!(ossicle_error, text));
    if room == 0 {
        return;
    }
    let mut text = Text::<{ OSSICLE_ERROR_TEXT_SIZE - 1 }>::default();
    // Cut where the room ends.
    let _ = write!(text, "{failure}");
    let bytes = text.fitting(room - 1);
    let (file, offset) = failure.place();
    // SAFETY: the caller's struct reaches beyond the start of `text`, by `room` bytes.
    unsafe {
        (&raw mut (*error).status).write(failure.status());
        (&raw mut (*error).file).write(file);
        (&raw mut (*error).text_size).write(bytes.len() as u32);
        (&raw mut (*error).offset).write(offset);
        let out = (&raw mut (*error).text).cast::<u8>();
        out.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        out.add(bytes.len()).write(0);
    }
}

/// Text of fixed room; what does not fit is cut off.
pub(crate) struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self { bytes: [0; N], len: 0 }
    }
}

impl<const N: usize> Text<N> {
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// As much of it as fits, whole characters.
    fn fitting(&self, size: usize) -> &[u8] {
        let text = core::str::from_utf8(self.as_bytes()).unwrap_or("");
        &text.as_bytes()[..text.floor_char_boundary(size)]
    }
}

impl<const N: usize> Write for Text<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let size = text.floor_char_boundary(N - self.len);
        self.bytes[self.len..self.len + size].copy_from_slice(&text.as_bytes()[..size]);
        self.len += size;
        if size == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Chapter 2: status.
///
/// What a status means, in English, as text that ends in a zero byte. Known for every number.
///
/// Memory: the text is constant.
/// Errors: none.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ossicle_status_text(status: i32) -> *const c_char {
    let text: &CStr = match status {
        OSSICLE_OK => c"done",
        OSSICLE_MORE => c"there is more to do",
        OSSICLE_ERROR_ARGUMENT => c"a parameter is not what it should be",
        OSSICLE_ERROR_OBJECT => c"not an object of this kind",
        OSSICLE_ERROR_STRUCT_SIZE => c"a struct_size that this version does not know",
        OSSICLE_ERROR_STATE => c"the call does not fit the state of the object",
        OSSICLE_ERROR_BUSY => c"the object is in use",
        OSSICLE_ERROR_FAILED => c"an earlier defect left the object unusable",
        OSSICLE_ERROR_REGION_SIZE => c"the region is too small",
        OSSICLE_ERROR_REGION_ALIGN => c"the region is not aligned",
        OSSICLE_ERROR_BUFFER => c"the buffer is too small",
        OSSICLE_ERROR_CAPACITY => c"more than the object was made for",
        OSSICLE_ERROR_SETTING => c"a setting is outside its range",
        OSSICLE_ERROR_FILE => c"the bytes of a file are not what its format says",
        OSSICLE_ERROR_TENSOR => c"a tensor is not what the model needs",
        OSSICLE_ERROR_VOCABULARY => c"a vocabulary is not as it should be",
        OSSICLE_ERROR_TOKEN => c"a token that the model does not have",
        OSSICLE_ERROR_REWIND => c"the session can no longer go back so far",
        OSSICLE_ERROR_NOT_FINITE => c"a number that is not finite",
        OSSICLE_ERROR_RENDER => c"a conversation that cannot be rendered",
        OSSICLE_ERROR_CALLBACK => c"a callback failed",
        OSSICLE_ERROR_STOPPED => c"a callback asked to stop",
        OSSICLE_ERROR_SYSTEM => c"the operating system refused a file",
        OSSICLE_ERROR_MEMORY => c"there is no memory",
        OSSICLE_ERROR_INTERNAL => c"a defect of the library",
        OSSICLE_ERROR_SCHEMA => c"a schema that is none, or cannot be enforced",
        OSSICLE_ERROR_TOOL => c"a tool that is not to be had here",
        _ => c"a status that this version does not know",
    };
    text.as_ptr()
}
