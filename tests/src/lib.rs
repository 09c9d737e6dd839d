//! What the tests share.

pub mod checkpoint;
pub mod divergence;
pub mod fixtures;
pub mod npy;
pub mod reference;
pub mod safetensors;
