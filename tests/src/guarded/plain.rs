use std::ops::{Deref, DerefMut};

use bytemuck::Pod;

/// Values as they are elsewhere in memory: WebAssembly has no pages that could be made inaccessible.
pub struct Guarded<T>(Vec<T>);

impl<T: Pod> Guarded<T> {
    /// A copy of the values.
    pub fn copy_of(values: &[T]) -> Self {
        Self(values.to_vec())
    }
}

impl<T> Deref for Guarded<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}
