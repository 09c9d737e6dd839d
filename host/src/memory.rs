use std::alloc::{Layout as BlockLayout, alloc, dealloc};
use std::io;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::slice;

use ossicle_core::region::Layout;

/// A block of memory for one object of the core, freed when dropped. Pages are committed as they are first used.
pub struct Memory {
    start: NonNull<u8>,
    layout: BlockLayout,
}

// SAFETY: the block is owned, and reached only through a mutable borrow.
unsafe impl Send for Memory {}

impl Memory {
    /// A block for an object with this layout.
    ///
    /// # Errors
    /// [`io::ErrorKind::OutOfMemory`] with the number of bytes: a file may ask for more than there is.
    pub fn new(layout: Layout) -> io::Result<Self> {
        let refused = || io::Error::new(io::ErrorKind::OutOfMemory, format!("{} bytes of memory", layout.size));
        let layout = BlockLayout::from_size_align(layout.size.max(1), layout.align).map_err(|_| refused())?;
        // Not zeroed: with an alignment of 64 that would touch every page.
        // SAFETY: the size is not zero.
        let start = NonNull::new(unsafe { alloc(layout) }).ok_or_else(refused)?;
        Ok(Self { start, layout })
    }

    /// The block.
    pub fn region(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: the block is `layout.size()` bytes long and borrowed exclusively through `self`.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.layout.size()) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and nothing borrows it any more.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}
