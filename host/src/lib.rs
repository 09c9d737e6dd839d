//! What Ossicle asks of an operating system: mapped files, memory, threads, and the vocabulary that it brings along.

mod checkpoint;
pub mod harmony;
mod memory;
mod threads;
pub mod vocabulary;

pub use checkpoint::{Checkpoint, OpenError};
pub use memory::Memory;
pub use threads::Threads;
