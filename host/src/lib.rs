//! What Ossicle asks of an operating system: mapped files, memory, threads, the features of the processor; and the vocabulary
//! that it brings along; a box for the Python that the model writes. And where a deployer's policy stands.

mod checkpoint;
pub mod harmony;
pub mod kernels;
mod memory;
pub mod policy;
pub mod python;
pub mod schema;
mod threads;
pub mod vocabulary;

pub use checkpoint::{Checkpoint, OpenError};
pub use memory::Memory;
pub use threads::Threads;
