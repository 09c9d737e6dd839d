//! What Ossicle asks of an operating system: mapped files, memory, threads, the features of the processor; and the vocabulary
//! that it brings along; a box for the Python that the model writes, and a browser. And where a deployer's policy stands.

mod adapter;
#[cfg(feature = "browser")]
pub mod browser;
mod checkpoint;
#[cfg(feature = "grammar")]
pub mod grammar;
pub mod harmony;
#[cfg(feature = "hub")]
pub mod hub;
pub mod kernels;
mod memory;
pub mod policy;
pub mod prefix_cache;
pub mod python;
mod read_files;
pub mod schema;
mod threads;
pub mod tools;
pub mod vocabulary;

pub use adapter::AdapterFiles;
pub use checkpoint::{Checkpoint, OpenError};
pub use memory::Memory;
pub use threads::Threads;
