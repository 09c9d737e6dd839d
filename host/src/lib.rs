//! What Ossicle asks of an operating system: mapped files, memory, and threads.

mod checkpoint;
mod memory;
mod threads;

pub use checkpoint::{Checkpoint, OpenError};
pub use memory::Memory;
pub use threads::Threads;
