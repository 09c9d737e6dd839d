//! Memory that notices when it is touched out of bounds.

#[cfg_attr(target_family = "wasm", path = "guarded/plain.rs")]
mod pages;

use bytemuck::Pod;

pub use pages::Guarded;

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
