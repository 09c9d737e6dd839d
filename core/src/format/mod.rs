//! Number formats, scalar and exact: what the bytes of a weight mean.
//!
//! Every conversion to f32 here is exact. What rounds is called `quantize`, and serves to write files. bf16 and f16 come from the crate `half`.

mod matrix;
pub mod mxfp4;
pub mod q8_0;

pub use matrix::{Matrix, Values, Vector};
