use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;
use region::Protection;

/// Values that end where accessible memory ends: touching one byte past them ends the process, instead of going unnoticed.
pub struct Guarded<T> {
    /// Accessible pages, then one that is not.
    memory: region::Allocation,
    /// Bytes from the start of `memory` to the first value.
    offset: usize,
    len: usize,
    values: PhantomData<T>,
}

impl<T: Pod> Guarded<T> {
    /// A copy of the values.
    pub fn copy_of(values: &[T]) -> Self {
        let size = size_of_val(values);
        let page = region::page::size();
        let accessible = size.next_multiple_of(page);
        let mut memory = region::alloc(accessible + page, Protection::READ_WRITE).expect("memory for a test");
        // SAFETY: the last page of `memory`, to which nobody has a reference.
        unsafe { region::protect(memory.as_ptr::<u8>().add(accessible), page, Protection::NONE) }
            .expect("a page can be made inaccessible");
        let offset = accessible - size;
        assert!(page.is_multiple_of(align_of::<T>()), "an alignment of more than a page");
        // SAFETY: `size` bytes at `offset` are the end of the accessible pages, and nobody else refers to them. Their start is
        // aligned for T: a page's end is, and `size` is a multiple of T's size, hence of its alignment.
        unsafe {
            memory.as_mut_ptr::<u8>().add(offset).cast::<T>().copy_from_nonoverlapping(values.as_ptr(), values.len());
        }
        Guarded { memory, offset, len: values.len(), values: PhantomData }
    }
}

impl<T: Pod> Deref for Guarded<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `copy_of` has initialized `len` values at `offset`, aligned for T, in memory that lives as long as `self`;
        // nothing writes to them but through `deref_mut`, which borrows `self` exclusively.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr::<u8>().add(self.offset).cast(), self.len) }
    }
}

impl<T: Pod> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; the borrow of `self` is exclusive, and every bit pattern is a T.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_mut_ptr::<u8>().add(self.offset).cast(), self.len) }
    }
}
