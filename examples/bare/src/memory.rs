//! The memory that the linker script sets aside: an arena for objects, and a stack whose depth is measured.

use core::mem::{MaybeUninit, take};
use core::slice;

use ossicle_core::region::Layout;

unsafe extern "C" {
    static mut arena_start: MaybeUninit<u8>;
    static arena_end: u8;
    static mut stack_start: u32;
}

/// What is left of the arena. Objects come one after the other, and stay.
pub struct Arena {
    rest: &'static mut [MaybeUninit<u8>],
    size: usize,
}

impl Arena {
    /// The whole of it; to be called once.
    pub fn all() -> Self {
        // SAFETY: the linker script keeps these bytes for us, in order, and there is one caller.
        let rest = unsafe {
            let start = &raw mut arena_start;
            slice::from_raw_parts_mut(start, (&raw const arena_end).addr() - start.addr())
        };
        Self { size: rest.len(), rest }
    }

    /// Memory for one object.
    pub fn take(&mut self, layout: Layout) -> &'static mut [MaybeUninit<u8>] {
        let skipped = self.rest.as_ptr().align_offset(layout.align);
        let (taken, rest) = take(&mut self.rest).split_at_mut(skipped + layout.size);
        self.rest = rest;
        &mut taken[skipped..]
    }

    /// How many bytes are taken.
    pub fn used(&self) -> usize {
        self.size - self.rest.len()
    }
}

/// The stack, which grows down over a pattern.
pub struct Stack {
    painted_end: *mut u32,
    top: usize,
}

const PAINT: u32 = 0x0551_C1E0;

/// What the function that paints may have below its own locals.
const SPARED: usize = 1024;

impl Stack {
    /// Paints all that is below the caller.
    #[inline(never)]
    pub fn painted() -> Self {
        let local = MaybeUninit::<u32>::uninit();
        let top = local.as_ptr().addr();
        let mut place = &raw mut stack_start;
        while place.addr() < top - SPARED {
            // SAFETY: the stack's own memory, below all that is in use.
            unsafe {
                place.write_volatile(PAINT);
                place = place.add(1);
            }
        }
        Self { painted_end: place, top }
    }

    /// How far down, in bytes, anything was written since.
    pub fn deepest(&self) -> usize {
        let mut place = &raw mut stack_start;
        while place < self.painted_end {
            // SAFETY: a word of the stack that was painted.
            if unsafe { place.read_volatile() } != PAINT {
                break;
            }
            place = place.wrapping_add(1);
        }
        self.top - place.addr()
    }
}
