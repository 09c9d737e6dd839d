use std::alloc::{Layout as BlockLayout, alloc_zeroed, dealloc, handle_alloc_error};
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
    /// # Panics
    /// If the layout is larger than an address space. Where there is no memory, the process ends, as with a `Vec`.
    pub fn new(layout: Layout) -> Self {
        let layout = BlockLayout::from_size_align(layout.size.max(1), layout.align).expect("a layout from the core");
        // SAFETY: the size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start, layout }
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
