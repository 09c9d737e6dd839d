//! The C ABI of Ossicle. It translates and decides nothing.
//!
//! `include/ossicle.h` is made from this crate and is its documentation; `cbindgen.toml` holds the preface. Each file is a
//! chapter of the header:
//!
//! * [`version`], [`status`], [`input`]: numbers, errors, and the small structs that all calls share.
//! * [`hooks`]: what the host may lend: threads, a clock, a log. [`read`]: files through the host's own reader.
//! * [`model`], [`tokenizer`], [`session`], [`adapter`], [`sampler`]: one object of the core each.
//! * [`message`], [`harmony`], [`event`]: conversations as C structs, to tokens and back.
//! * [`generation`], [`turn`]: a conversation, and one answer. [`schema`], [`constraint`]: what that has to meet.
//! * [`system`], [`checkpoint`], [`chat`], [`chat_host`], [`chat_tools`]: with an operating system: memory and threads, a path, a
//!   conversation in one call, its policy and its tools.
//!
//! [`object`] places objects into the caller's memory and tells them from anything else that a pointer may point to.
//!
//! # Safety
//! All functions of this crate share one contract, that of the header: a pointer is null, or points to what its parameter
//! says, for as long as the paragraph "Memory" says. A null, an object of another kind and an object that is in use are
//! detected and refused.
#![cfg_attr(not(feature = "host"), no_std)]
// Types bear the names that they have in C.
#![allow(non_camel_case_types)]
// The contract is that of the header, above.
#![allow(clippy::missing_safety_doc)]

mod object;

// In the order of the header's chapters, which is that of the functions in it.

pub mod version;

pub mod status;

pub mod input;

pub mod hooks;

pub mod read;

pub mod model;

pub mod tokenizer;

pub mod session;

pub mod adapter;

pub mod sampler;

pub mod message;

pub mod event;

pub mod harmony;

pub mod generation;

pub mod turn;

pub mod schema;

pub mod constraint;

#[cfg(feature = "host")]
pub mod system;

#[cfg(feature = "host")]
pub mod checkpoint;

#[cfg(feature = "host")]
pub mod chat;

#[cfg(feature = "host")]
pub mod chat_host;

#[cfg(feature = "host")]
mod chat_tools;

#[cfg(not(feature = "host"))]
mod panic;

#[cfg(all(test, feature = "host"))]
mod defects;
