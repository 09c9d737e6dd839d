//! Asking for memory before it is needed.

/// Asks for the cache line with an element of `slice`, without waiting for it. Does nothing of consequence if there is no such
/// element, or on processors that cannot be asked.
#[inline]
pub fn prefetch<T>(slice: &[T], index: usize) {
    let place = slice.as_ptr().wrapping_add(index);
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    // SAFETY: this reads nothing, so that any address will do.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(place.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: this reads nothing, so that any address will do.
    unsafe {
        core::arch::asm!("prfm pldl1keep, [{place}]", place = in(reg) place, options(readonly, nostack, preserves_flags));
    }
    let _ = place;
}
