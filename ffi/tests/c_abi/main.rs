//! What the header promises, held against programs in C and C++: those of `tests/c` and the examples.
//!
//! gcc and g++ have to be there. clang, valgrind, cmake and pkg-config are used where they are; what they would have checked is
//! said to be skipped where they are not.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod examples;
mod interface;
mod package;
mod programs;
mod snapshot;
mod turn;
