//! What the tests share.
//!
//! An independent implementation, from which the engine may not differ by more than rounding:
//!
//! * [`reference`](mod@reference): gpt-oss as mathematics, in 64-bit floats.
//! * [`checkpoint`], [`safetensors`], [`npy`]: its weights, and the files that they and the expected values come from.
//!
//! What the engine is held against:
//!
//! * [`fixtures`]: tiny checkpoints in every published form, with the outputs of other implementations.
//! * [`divergence`]: how far two sets of logits are apart.
//!
//! What is held against them:
//!
//! * [`engine`]: the engine, opened with few words.
//! * [`turns`]: conversations, and what is told of them.
//!
//! What kernels are tested on:
//!
//! * [`numbers`]: numbers that are hard on an arithmetic.
//! * [`guarded`]: memory that notices when it is touched out of bounds.
//! * [`matrices`]: matrices in every format, of such numbers in such memory.
//!
//! What is wrong on purpose:
//!
//! * [`forgery`]: checkpoints taken apart and put together differently.
//!
//! All of it trusts its files, which are our own: what is wrong in one is a panic that names it.

pub mod checkpoint;
pub mod divergence;
pub mod engine;
pub mod fixtures;
pub mod forgery;
pub mod guarded;
pub mod harmony;
pub mod matrices;
pub mod npy;
pub mod numbers;
pub mod reference;
pub mod safetensors;
pub mod turns;
