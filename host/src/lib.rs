//! What Ossicle asks of an operating system: mapped files, memory, threads, the features of the processor; and the vocabulary
//! that it brings along. And where a deployer's policy stands.

mod checkpoint;
pub mod harmony;
pub mod kernels;
mod memory;
pub mod policy;
pub mod schema;
mod threads;
pub mod vocabulary;

pub use checkpoint::{Checkpoint, OpenError};
pub use memory::Memory;
pub use threads::Threads;
