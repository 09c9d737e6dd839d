//! Chapter 3: the small structs that all calls share, and how those of the caller are read.

use core::ffi::{c_char, c_void};
use core::mem::size_of;
use core::ptr;
use core::slice;

use ossicle_core::error::Error;
use ossicle_core::region::{Carver, Layout};

use crate::status::{Failure, OSSICLE_ERROR_ARGUMENT, OSSICLE_ERROR_STRUCT_SIZE, OSSICLE_OK, Result};

/// Text in UTF-8, which need not end in a zero byte. Null stands for no text.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_text {
    /// The first byte.
    pub start: *const c_char,
    /// Bytes.
    pub size: usize,
}

impl ossicle_text {
    pub(crate) const NONE: Self = Self { start: ptr::null(), size: 0 };

    pub(crate) fn of(text: &str) -> Self {
        Self { start: text.as_ptr().cast(), size: text.len() }
    }

    /// # Safety
    /// Null, or valid for `size` bytes for all of 'a.
    pub(crate) unsafe fn read<'a>(self) -> Result<Option<&'a str>> {
        if self.start.is_null() {
            return if self.size == 0 { Ok(None) } else { argument("a text that is not null, as it has a size") };
        }
        // SAFETY: as the caller promises.
        let bytes = unsafe { slice_of(self.start.cast::<u8>(), self.size) }?;
        core::str::from_utf8(bytes)
            .map(Some)
            .map_err(|_| Failure::Border(OSSICLE_ERROR_ARGUMENT, "expected text in UTF-8"))
    }
}

/// Bytes that need no alignment.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_bytes {
    /// The first byte.
    pub start: *const c_void,
    /// Bytes.
    pub size: usize,
}

impl ossicle_bytes {
    /// # Safety
    /// Null, or valid for `size` bytes for all of 'a.
    pub(crate) unsafe fn read<'a>(self) -> Result<Option<&'a [u8]>> {
        if self.start.is_null() && self.size == 0 {
            return Ok(None);
        }
        // SAFETY: as the caller promises.
        unsafe { slice_of(self.start.cast::<u8>(), self.size) }.map(Some)
    }
}

/// Size and alignment of a block of memory that an object is to be made in. The size is a multiple of the alignment.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_layout {
    /// Bytes.
    pub size: usize,
    /// Bytes; a power of two.
    pub align: usize,
}

impl From<Layout> for ossicle_layout {
    fn from(layout: Layout) -> Self {
        Self { size: layout.size, align: layout.align }
    }
}

/// A copy of a text; empty while measuring.
pub(crate) fn copy<'r>(carver: &mut Carver<'r>, text: &str) -> core::result::Result<&'r str, Error> {
    let copy = carver.try_from_fn(text.len(), |index| Ok(text.as_bytes()[index]))?;
    Ok(core::str::from_utf8(copy).unwrap_or_default())
}

/// A refusal of a parameter.
pub(crate) fn argument<T>(expected: &'static str) -> Result<T> {
    Err(Failure::Border(OSSICLE_ERROR_ARGUMENT, expected))
}

/// # Safety
/// Null, or valid for `len` elements for all of 'a.
pub(crate) unsafe fn slice_of<'a, T>(start: *const T, len: usize) -> Result<&'a [T]> {
    if len == 0 {
        return Ok(&[]);
    }
    if start.is_null() || !start.is_aligned() || len > isize::MAX as usize / size_of::<T>().max(1) {
        return argument("an array that is there and aligned, as its count is not zero");
    }
    // SAFETY: not null, aligned, not larger than memory; valid as the caller promises.
    Ok(unsafe { slice::from_raw_parts(start, len) })
}

/// # Safety
/// Null, or valid for `len` elements for all of 'a, and used by nobody else.
pub(crate) unsafe fn slice_of_mut<'a, T>(start: *mut T, len: usize) -> Result<&'a mut [T]> {
    if len == 0 {
        return Ok(&mut []);
    }
    if start.is_null() || !start.is_aligned() || len > isize::MAX as usize / size_of::<T>().max(1) {
        return argument("a buffer that is there and aligned, as its size is not zero");
    }
    // SAFETY: not null, aligned, not larger than memory; valid and exclusive as the caller promises.
    Ok(unsafe { slice::from_raw_parts_mut(start, len) })
}

/// Refuses a result that has no place to go. Called before anything is done.
pub(crate) fn demand_output<T>(out: *mut T) -> Result<()> {
    if out.is_null() || !out.is_aligned() { argument("a place for each result") } else { Ok(()) }
}

/// # Safety
/// `count` is writable.
pub(crate) unsafe fn counted(result: core::result::Result<usize, Error>, count: *mut usize) -> Result<i32> {
    if let Ok(needed) | Err(Error::BufferTooSmall { need: needed, .. }) = result {
        // SAFETY: as the caller promises.
        unsafe { count.write(needed) };
    }
    result?;
    Ok(OSSICLE_OK)
}

/// Puts what `save` writes in pieces into a buffer, and its size into `size`.
///
/// # Safety
/// `buffer` is null, or valid for `buffer_size` bytes and used by nobody else; `size` is null, or a place for a number.
pub(crate) unsafe fn gather(
    buffer: *mut c_void,
    buffer_size: usize,
    size: *mut usize,
    save: impl FnOnce(&mut dyn FnMut(&[u8])),
) -> Result<i32> {
    demand_output(size)?;
    // SAFETY: as the caller promises.
    let buffer = unsafe { slice_of_mut(buffer.cast::<u8>(), buffer_size) }?;
    let mut written = 0;
    save(&mut |part| {
        if let Some(place) = buffer.get_mut(written..).and_then(|rest| rest.get_mut(..part.len())) {
            place.copy_from_slice(part);
        }
        written += part.len();
    });
    let have = buffer.len();
    let result = if written > have { Err(Error::BufferTooSmall { need: written, have }) } else { Ok(written) };
    // SAFETY: a place for the result, by the check above.
    unsafe { counted(result, size) }
}

/// A struct of the caller that starts with its `struct_size`, of this version or another.
///
/// # Safety
/// All bytes zero is a valid value, and so is any value that C can give the fields.
pub(crate) unsafe trait Versioned: Copy {
    /// The default: every field zero.
    fn zero() -> Self {
        // SAFETY: by the contract of the trait.
        unsafe { core::mem::zeroed() }
    }

    /// Reads a struct of which the caller may know fewer fields than are known here, which are zero then; or more, which
    /// must be zero. Null stands for a struct of zeros.
    ///
    /// # Safety
    /// Null, or readable for as many bytes as its `struct_size` says.
    unsafe fn read(start: *const Self) -> Result<Self> {
        if start.is_null() {
            return Ok(Self::zero());
        }
        // SAFETY: as the caller promises.
        let (size, known) = (unsafe { struct_size(start) }?, size_of::<Self>());
        if size > known {
            // SAFETY: within the caller's struct.
            let unknown = unsafe { slice::from_raw_parts(start.cast::<u8>().add(known), size - known) };
            if unknown.iter().any(|byte| *byte != 0) {
                let expected = "expected zeros in the fields that only a later version knows";
                return Err(Failure::Border(OSSICLE_ERROR_STRUCT_SIZE, expected));
            }
        }
        let mut value = Self::zero();
        // SAFETY: both are as long as that.
        unsafe { (&raw mut value).cast::<u8>().copy_from_nonoverlapping(start.cast(), size.min(known)) };
        Ok(value)
    }

    /// Puts the fields behind `struct_size` into a struct of which the caller may know fewer fields than are known here, and gets
    /// no others; or more, which become zero.
    ///
    /// # Safety
    /// Null, or writable for as many bytes as its `struct_size` says.
    #[cfg(feature = "host")]
    unsafe fn write(&self, place: *mut Self) -> Result<()> {
        demand_output(place)?;
        // SAFETY: as the caller promises.
        let (size, begin) = (unsafe { struct_size(place) }?, size_of::<u32>());
        let known = size.min(size_of::<Self>());
        let place = place.cast::<u8>();
        // SAFETY: within both structs, and then within the caller's.
        unsafe {
            place.add(begin).copy_from_nonoverlapping(ptr::from_ref(self).cast::<u8>().add(begin), known - begin);
            place.add(known).write_bytes(0, size - known);
        }
        Ok(())
    }
}

/// What a struct of the caller says of its size.
///
/// # Safety
/// It starts with that, if it is aligned.
unsafe fn struct_size<T>(start: *const T) -> Result<usize> {
    if !start.is_aligned() {
        return argument("a struct that is aligned");
    }
    // SAFETY: as the caller promises.
    let size = unsafe { start.cast::<u32>().read() } as usize;
    if !(size_of::<u32>()..=MOST).contains(&size) {
        return Err(Failure::Border(OSSICLE_ERROR_STRUCT_SIZE, "expected struct_size to be the size of the struct"));
    }
    Ok(size)
}

/// No struct of any version will be larger, in bytes.
const MOST: usize = 4096;

/// An array of structs with a `struct_size` each, the same in all.
#[derive(Clone, Copy)]
pub(crate) struct Array<T> {
    start: *const T,
    pub len: usize,
    stride: usize,
}

impl<T: Versioned> Array<T> {
    /// # Safety
    /// Null, or valid for `len` elements of the size that the first says.
    pub unsafe fn of(start: *const T, len: usize) -> Result<Self> {
        if len == 0 {
            return Ok(Self { start, len, stride: 0 });
        }
        if start.is_null() || !start.is_aligned() {
            return argument("an array that is there and aligned, as its count is not zero");
        }
        // SAFETY: there is a first element, which starts with its size.
        let stride = unsafe { start.cast::<u32>().read() } as usize;
        if stride > MOST || !stride.is_multiple_of(align_of::<T>()) || len > isize::MAX as usize / MOST {
            return Err(Failure::Border(
                OSSICLE_ERROR_STRUCT_SIZE,
                "expected struct_size to be the size of the struct",
            ));
        }
        Ok(Self { start, len, stride })
    }

    /// # Safety
    /// As for [`Array::of`], and `index` is below `len`.
    pub unsafe fn get(&self, index: usize) -> Result<T> {
        // SAFETY: within the array.
        let element = unsafe { self.start.byte_add(index * self.stride) };
        // SAFETY: it starts with its size.
        if unsafe { element.cast::<u32>().read() } as usize != self.stride {
            let expected = "expected the same struct_size in all elements of an array";
            return Err(Failure::Border(OSSICLE_ERROR_STRUCT_SIZE, expected));
        }
        // SAFETY: of that size.
        unsafe { T::read(element) }
    }
}
