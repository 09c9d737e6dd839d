//! Runs OpenAI's gpt-oss models inside somebody else's program.
//!
//! The host owns the memory, the threads, the files and the clock. This crate allocates nothing, reads no file, starts no
//! thread and keeps no global state: everything that needs storage tells its [`region::Layout`] first and is then built in
//! memory that the caller lends.
//!
//! The rooms, from the ground up:
//!
//! * [`error`], [`region`], [`parallel`]: what went wrong, where memory comes from, how work is shared among threads.
//! * [`mod@file`]: the containers that weights come in.
//! * [`format`](mod@format): what the bytes of a weight mean.
//! * [`kernels`]: the arithmetic, in a version for each instruction set.
//! * [`model`]: the numbers of a model, and where its weights lie.
//! * [`transformer`]: the forward pass, and a session of it.
//! * [`sampling`]: from logits to a token.
//! * [`tokenizer`]: text to token ids and back.
//! * [`harmony`]: conversations to tokens, and tokens to messages.
//! * [`schema`]: answers and arguments that meet a JSON schema.
//! * [`generation`]: a conversation turned into events.
#![no_std]
#![deny(unsafe_code)]

pub mod error;
pub mod file;
pub mod format;
pub mod generation;
pub mod harmony;
#[allow(unsafe_code)]
pub mod kernels;
pub mod model;
#[allow(unsafe_code)]
pub mod parallel;
#[allow(unsafe_code)]
pub mod region;
pub mod sampling;
pub mod schema;
pub mod tokenizer;
pub mod transformer;
