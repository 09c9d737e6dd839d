//! What Ossicle asks of an operating system.

pub mod harmony;
