//! Memory that the caller lends.
//!
//! Whatever needs variable storage is carved from one block. The same carving code runs twice: over a measuring
//! [`Carver`] to learn the [`Layout`], and over a placing one to build the object, so that the two can never disagree.

use core::marker::PhantomData;
use core::mem::{MaybeUninit, align_of, size_of};

use bytemuck::Zeroable;

use crate::error::{Error, Result};

/// Every region starts on a cache line, and so does every slice carved from it.
pub const ALIGN: usize = 64;

/// Size and alignment, in bytes, of a block of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes.
    pub size: usize,
    /// Bytes; a power of two.
    pub align: usize,
}

/// How many elements a slice has: a number, or the numbers of rows, columns and so on, whose product may not overflow.
pub trait Shape {
    /// The number of elements, if there is such a number.
    fn elements(self) -> Option<usize>;
}

impl Shape for usize {
    fn elements(self) -> Option<usize> {
        Some(self)
    }
}

impl<const N: usize> Shape for [usize; N] {
    fn elements(self) -> Option<usize> {
        self.into_iter().try_fold(1, usize::checked_mul)
    }
}

/// Cuts slices from a region, one after another; or only adds up what they would take.
pub struct Carver<'r> {
    /// The start of the region; null while measuring.
    start: *mut u8,
    size: usize,
    used: usize,
    region: PhantomData<&'r mut [MaybeUninit<u8>]>,
}

impl<'r> Carver<'r> {
    /// A carver that hands out empty slices and adds up what they would take.
    pub fn measuring() -> Self {
        Self { start: core::ptr::null_mut(), size: usize::MAX, used: 0, region: PhantomData }
    }

    /// A carver over `region`, which need not be initialized.
    ///
    /// # Errors
    /// [`Error::RegionAlign`] if the region does not start at a multiple of [`ALIGN`].
    pub fn placing(region: &'r mut [MaybeUninit<u8>]) -> Result<Self> {
        let start = region.as_mut_ptr().cast::<u8>();
        if !start.addr().is_multiple_of(ALIGN) {
            return Err(Error::RegionAlign { need: ALIGN });
        }
        Ok(Self { start, size: region.len(), used: 0, region: PhantomData })
    }

    /// Whether this carver only measures: its slices are empty.
    pub fn is_measuring(&self) -> bool {
        self.start.is_null()
    }

    /// What has been carved so far.
    pub fn layout(&self) -> Layout {
        Layout { size: self.used, align: ALIGN }
    }

    /// Elements, each set to `value`. Empty while measuring.
    ///
    /// # Errors
    /// [`Error::RegionTooSmall`] if the region ends before, or if the size overflows.
    pub fn filled<T: Copy>(&mut self, shape: impl Shape, value: T) -> Result<&'r mut [T]> {
        self.try_from_fn(shape, |_| Ok(value))
    }

    /// Elements, each made by `make` from its index. Empty while measuring.
    ///
    /// # Errors
    /// [`Error::RegionTooSmall`] if the region ends before, or if the size overflows; and what `make` returns.
    pub fn try_from_fn<T>(
        &mut self,
        shape: impl Shape,
        mut make: impl FnMut(usize) -> Result<T>,
    ) -> Result<&'r mut [T]> {
        let memory = self.reserve::<T>(shape)?;
        for (index, element) in memory.iter_mut().enumerate() {
            element.write(make(index)?);
        }
        // SAFETY: the loop above initialized every element.
        Ok(unsafe { &mut *(core::ptr::from_mut(memory) as *mut [T]) })
    }

    /// `len` elements, each of which carves for itself, measuring or placing. Empty while measuring.
    ///
    /// # Errors
    /// [`Error::RegionTooSmall`] if the region ends before, or if the size overflows; and what `make` returns.
    pub fn carve_each<T>(
        &mut self,
        len: usize,
        mut make: impl FnMut(&mut Self, usize) -> Result<T>,
    ) -> Result<&'r mut [T]> {
        let memory = self.reserve::<T>(len)?;
        for index in 0..len {
            let element = make(self, index)?;
            if let Some(place) = memory.get_mut(index) {
                place.write(element);
            }
        }
        // SAFETY: the loop above initialized every element of `memory`, which has `len` elements or, while measuring, none.
        Ok(unsafe { &mut *(core::ptr::from_mut(memory) as *mut [T]) })
    }

    /// Room for elements that are set to zero only as they come into use. Empty while measuring.
    ///
    /// # Errors
    /// [`Error::RegionTooSmall`] if the region ends before, or if the size overflows.
    pub fn growing<T: Zeroable + Copy>(&mut self, shape: impl Shape) -> Result<Growing<'r, T>> {
        Ok(Growing { memory: self.reserve(shape)?, live: 0 })
    }

    /// An empty list with room for `capacity` elements. Memory that is never filled is never touched. While measuring, the
    /// list has no room.
    ///
    /// # Errors
    /// [`Error::RegionTooSmall`] if the region ends before, or if the size overflows.
    pub fn list<T: Copy>(&mut self, capacity: usize) -> Result<List<'r, T>> {
        Ok(List { memory: self.reserve(capacity)?, len: 0 })
    }

    fn reserve<T>(&mut self, shape: impl Shape) -> Result<&'r mut [MaybeUninit<T>]> {
        const { assert!(align_of::<T>() <= ALIGN) };
        let len = shape.elements();
        let end = len
            .and_then(|len| len.checked_mul(size_of::<T>()))
            .and_then(|bytes| bytes.checked_next_multiple_of(ALIGN))
            .and_then(|bytes| self.used.checked_add(bytes))
            .filter(|end| *end <= isize::MAX as usize)
            .ok_or(Error::RegionTooSmall { need: usize::MAX, have: self.size })?;
        let begin = core::mem::replace(&mut self.used, end);
        if self.start.is_null() {
            return Ok(&mut []);
        }
        if end > self.size {
            return Err(Error::RegionTooSmall { need: end, have: self.size });
        }
        let len = len.unwrap_or(0);
        // SAFETY: `begin..end` lies within the region, which is borrowed mutably for 'r; `used` only grows, so no byte is
        // handed out twice; `begin` is a multiple of ALIGN from an aligned start, which suffices for T.
        Ok(unsafe { core::slice::from_raw_parts_mut(self.start.add(begin).cast(), len) })
    }
}

/// A slice whose elements are set to zero as they come into use, so that gigabytes of cache cost no page before it is
/// needed.
pub struct Growing<'r, T> {
    memory: &'r mut [MaybeUninit<T>],
    live: usize,
}

impl<T: Zeroable + Copy> Growing<'_, T> {
    /// How many elements there is room for.
    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// Makes the first `len` elements usable; those that were not yet are zero.
    ///
    /// # Panics
    /// If `len` exceeds the capacity.
    pub fn grow(&mut self, len: usize) -> &mut [T] {
        if len > self.live {
            for element in &mut self.memory[self.live..len] {
                element.write(T::zeroed());
            }
            self.live = len;
        }
        self.live_mut()
    }

    /// The elements in use.
    pub fn live(&self) -> &[T] {
        // SAFETY: `grow` initialized the first `live` elements.
        unsafe { core::slice::from_raw_parts(self.memory.as_ptr().cast(), self.live) }
    }

    /// The elements in use.
    pub fn live_mut(&mut self) -> &mut [T] {
        // SAFETY: `grow` initialized the first `live` elements; the borrow is exclusive.
        unsafe { core::slice::from_raw_parts_mut(self.memory.as_mut_ptr().cast(), self.live) }
    }
}

/// A list that grows within the memory carved for it.
pub struct List<'r, T> {
    memory: &'r mut [MaybeUninit<T>],
    len: usize,
}

impl<'r, T: Copy> List<'r, T> {
    /// How many elements there is room for.
    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// Adds an element at the end. False if there is no room.
    #[must_use]
    pub fn push(&mut self, element: T) -> bool {
        let Some(place) = self.memory.get_mut(self.len) else { return false };
        place.write(element);
        self.len += 1;
        true
    }

    /// Forgets all elements from `len` on, if there are so many.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The elements, which then stay as they are.
    pub fn freeze(self) -> &'r [T] {
        // SAFETY: `push` initialized the first `len` elements, and `truncate` only lowers it.
        unsafe { core::slice::from_raw_parts(self.memory.as_ptr().cast(), self.len) }
    }
}

impl<T> core::ops::Deref for List<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `push` initialized the first `len` elements, and `truncate` only lowers it.
        unsafe { core::slice::from_raw_parts(self.memory.as_ptr().cast(), self.len) }
    }
}

impl<T> core::ops::DerefMut for List<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as for `deref`; the borrow is exclusive.
        unsafe { core::slice::from_raw_parts_mut(self.memory.as_mut_ptr().cast(), self.len) }
    }
}
