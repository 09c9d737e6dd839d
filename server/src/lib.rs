//! Serves a gpt-oss model over OpenAI's Responses API, and over Chat Completions.
//!
//! * [`request`]: from JSON to a task for the model. [`conversation`]: from a task to the messages of its prompt.
//! * [`answer`]: from what the model does to what the API says about it. Neither has input or output of its own.
//! * [`Server`] brings them together: one thread owns the model, others speak HTTP, and a database keeps responses.
//!
//! `docs/server.md` describes every route and field.

mod access;
pub mod answer;
mod builtin;
pub mod conversation;
mod error;
mod gated;
mod judge;
mod metrics;
mod prompt;
pub mod request;
mod rounds;
mod routes;
mod seal;
mod server;
mod service;
mod settings;
mod store;
#[cfg(test)]
mod stream_rules;
mod worker;

pub use builtin::{BoxedInterpreter, BoxedWeb, NewInterpreter, NewWeb};
pub use error::ApiError;
pub use gated::Policy;
pub use seal::Seal;
pub use server::{Server, ServerError, Stop};
pub use settings::Settings;
pub use worker::{Engine, Script, WorkerError};
