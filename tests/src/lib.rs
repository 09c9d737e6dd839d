//! What the tests share.

pub mod harmony;
