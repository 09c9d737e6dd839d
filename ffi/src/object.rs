//! Objects at the start of the caller's memory, behind pointers that may turn out to be anything.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::mem::{MaybeUninit, size_of};
use core::ops::{Deref, DerefMut};
use core::slice;
use core::sync::atomic::{AtomicU32, Ordering};

use ossicle_core::error::Error;
use ossicle_core::region::{ALIGN, Layout};

use crate::status::{
    Failure, OSSICLE_ERROR_ARGUMENT, OSSICLE_ERROR_BUSY, OSSICLE_ERROR_FAILED, OSSICLE_ERROR_OBJECT,
    OSSICLE_ERROR_STATE, Result,
};

/// A type that C knows by pointer only.
pub(crate) trait Opaque {
    /// What is behind it.
    type State;
    /// Tells it from the others.
    const KIND: u32;
}

/// What is at the start of every object.
#[repr(C, align(64))]
struct Placed<S> {
    kind: AtomicU32,
    access: AtomicU32,
    /// Where it was made: it does not work elsewhere, since it points into its own memory.
    address: usize,
    state: UnsafeCell<S>,
}

// States of `access`.
const FREE: u32 = 0;
const IN_USE: u32 = 1;
const FAILED: u32 = 2;
const GIVEN: u32 = 3;

const fn size<O: Opaque>() -> usize {
    size_of::<Placed<O::State>>()
}

/// What an object takes, with this much memory behind it.
pub(crate) fn layout<O: Opaque>(behind: Layout) -> Layout {
    const { assert!(align_of::<Placed<O::State>>() == ALIGN) };
    Layout { size: behind.size.saturating_add(size::<O>()), align: ALIGN }
}

/// Makes an object in the caller's memory; `make` gets the memory behind it.
///
/// # Safety
/// `region` is null or valid for `len` bytes, and is the object's alone from now on.
pub(crate) unsafe fn place<O: Opaque>(
    region: *mut c_void,
    len: usize,
    make: impl FnOnce(&'static mut [MaybeUninit<u8>]) -> Result<O::State>,
) -> Result<*mut O> {
    if region.is_null() {
        return Err(Failure::Border(OSSICLE_ERROR_ARGUMENT, "expected a region"));
    }
    if !region.addr().is_multiple_of(ALIGN) {
        return Err(Error::RegionAlign { need: ALIGN }.into());
    }
    let Some(behind) = len.checked_sub(size::<O>()) else {
        return Err(Error::RegionTooSmall { need: size::<O>(), have: len }.into());
    };
    // An object that was here before is none any more, whatever comes of this.
    // SAFETY: the start of the region, which is aligned and large enough.
    unsafe { region.cast::<u32>().write(0) };
    // SAFETY: within the region, which is lent for good.
    let behind = unsafe { slice::from_raw_parts_mut(region.cast::<MaybeUninit<u8>>().add(size::<O>()), behind) };
    let state = make(behind).map_err(|failure| match failure {
        Failure::Core(Error::RegionTooSmall { need, .. }) => {
            Error::RegionTooSmall { need: need.saturating_add(size::<O>()), have: len }.into()
        }
        other => other,
    })?;
    let placed = Placed {
        kind: AtomicU32::new(O::KIND),
        access: AtomicU32::new(FREE),
        address: region.addr(),
        state: UnsafeCell::new(state),
    };
    // SAFETY: the start of the region, which is aligned and large enough.
    unsafe { region.cast::<Placed<O::State>>().write(placed) };
    Ok(region.cast())
}

/// # Safety
/// `object` is null, or readable for at least 64 bytes.
unsafe fn find<'a, O: Opaque>(object: *const O) -> Result<&'a Placed<O::State>> {
    if object.is_null() || !object.addr().is_multiple_of(ALIGN) {
        return Err(Failure::Border(
            OSSICLE_ERROR_ARGUMENT,
            "expected an object, found a null or a misaligned pointer",
        ));
    }
    let start = object.cast::<Placed<()>>();
    // SAFETY: every object begins like this, and any bytes are valid numbers.
    let (kind, address) = unsafe { ((*start).kind.load(Ordering::Acquire), (&raw const (*start).address).read()) };
    if kind != O::KIND || address != object.addr() {
        return Err(Failure::Border(OSSICLE_ERROR_OBJECT, "expected an object of the kind that the function is about"));
    }
    // SAFETY: it was placed here as this kind.
    Ok(unsafe { &*object.cast::<Placed<O::State>>() })
}

/// Refuses what is no object of this kind, without using it.
///
/// # Safety
/// As for [`find`].
pub(crate) unsafe fn demand_kind<O: Opaque>(object: *const O) -> Result<()> {
    // SAFETY: as the caller promises.
    unsafe { find(object) }.map(|_| ())
}

/// An object that is shared between threads and never changes.
///
/// # Safety
/// As for [`find`].
pub(crate) unsafe fn shared<'a, O: Opaque>(object: *const O) -> Result<&'a O::State> {
    // SAFETY: objects of these kinds are only ever shared.
    Ok(unsafe { &*find(object)?.state.get() })
}

/// An object that one call at a time may use.
///
/// # Safety
/// As for [`find`].
pub(crate) unsafe fn exclusive<'a, O: Opaque>(object: *const O) -> Result<Exclusive<'a, O>> {
    // SAFETY: as the caller promises.
    let placed = unsafe { find(object) }?;
    match placed.access.compare_exchange(FREE, IN_USE, Ordering::Acquire, Ordering::Relaxed) {
        Ok(_) => Ok(Exclusive { placed, after: FREE }),
        Err(FAILED) => Err(failed()),
        Err(GIVEN) => Err(Failure::Border(OSSICLE_ERROR_STATE, "expected an object that is not part of another")),
        Err(_) => Err(busy()),
    }
}

pub(crate) fn failed() -> Failure {
    Failure::Border(OSSICLE_ERROR_FAILED, "the object was left unusable by an earlier defect")
}

pub(crate) fn busy() -> Failure {
    Failure::Border(OSSICLE_ERROR_BUSY, "the object is in use by another call")
}

/// An object that this call alone uses.
pub(crate) struct Exclusive<'a, O: Opaque> {
    placed: &'a Placed<O::State>,
    after: u32,
}

impl<O: Opaque> Exclusive<'_, O> {
    /// From now on the object is part of another.
    pub fn give(&mut self) {
        self.after = GIVEN;
    }
}

impl<O: Opaque> Deref for Exclusive<'_, O> {
    type Target = O::State;

    fn deref(&self) -> &O::State {
        // SAFETY: `access` keeps every other call away.
        unsafe { &*self.placed.state.get() }
    }
}

impl<O: Opaque> DerefMut for Exclusive<'_, O> {
    fn deref_mut(&mut self) -> &mut O::State {
        // SAFETY: `access` keeps every other call away.
        unsafe { &mut *self.placed.state.get() }
    }
}

impl<O: Opaque> Drop for Exclusive<'_, O> {
    fn drop(&mut self) {
        #[cfg(feature = "host")]
        let after = if std::thread::panicking() { FAILED } else { self.after };
        #[cfg(not(feature = "host"))]
        let after = self.after;
        self.placed.access.store(after, Ordering::Release);
    }
}

/// An object in memory of its own.
#[cfg(feature = "host")]
pub(crate) fn boxed<O: Opaque>(state: O::State) -> *mut O {
    let mut memory = std::boxed::Box::<Placed<O::State>>::new_uninit();
    let address = memory.as_ptr().addr();
    let placed =
        Placed { kind: AtomicU32::new(O::KIND), access: AtomicU32::new(FREE), address, state: UnsafeCell::new(state) };
    memory.write(placed);
    std::boxed::Box::into_raw(memory).cast()
}

/// Ends an object that [`boxed`] made. Null is none.
///
/// # Safety
/// As for [`find`]; nobody uses the object any more.
#[cfg(feature = "host")]
pub(crate) unsafe fn unboxed<O: Opaque>(object: *mut O) -> Result<()> {
    if object.is_null() {
        return Ok(());
    }
    // SAFETY: as the caller promises.
    let placed = unsafe { find(object.cast_const()) }?;
    if placed.access.load(Ordering::Acquire) == IN_USE {
        return Err(busy());
    }
    placed.kind.store(0, Ordering::Release);
    // SAFETY: it was made by `boxed`, and is no object any more.
    drop(unsafe { std::boxed::Box::from_raw(object.cast::<Placed<O::State>>()) });
    Ok(())
}
