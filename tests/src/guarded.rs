//! Memory that notices when it is touched out of bounds.

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

/// An output between two canaries: elements on both sides that nobody may write to.
pub struct Output<T> {
    /// The output, with [`MARGIN`] elements before and after it.
    elements: Vec<T>,
}

/// Elements in each canary: more than the widest vector register holds.
const MARGIN: usize = 67;

/// What every byte is before a kernel writes to it. As a 32-bit float it is -3e-16, which no kernel gives by accident.
const CANARY: u8 = 0xa5;

impl<T: Pod> Output<T> {
    /// Room for `len` elements. They too start as the canary's bytes, so that an element left out shows in a comparison.
    pub fn of(len: usize) -> Self {
        let mut elements = vec![T::zeroed(); MARGIN + len + MARGIN];
        bytemuck::cast_slice_mut(&mut elements).fill(CANARY);
        Output { elements }
    }

    /// The room between the canaries, to be written.
    pub fn room(&mut self) -> &mut [T] {
        let end = self.elements.len() - MARGIN;
        &mut self.elements[MARGIN..end]
    }

    /// What was written. Panics if a canary has changed, with its distance from the output in elements.
    pub fn written(&self) -> &[T] {
        let end = self.elements.len() - MARGIN;
        let changed = |element: &T| bytemuck::bytes_of(element).iter().any(|&byte| byte != CANARY);
        if let Some(index) = self.elements[..MARGIN].iter().rposition(changed) {
            panic!("an element was written {} before the output", MARGIN - index);
        }
        if let Some(index) = self.elements[end..].iter().position(changed) {
            panic!("an element was written {} after the output's last", index + 1);
        }
        &self.elements[MARGIN..end]
    }
}
