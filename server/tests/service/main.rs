//! The server over HTTP.

mod answers;
mod client;
mod limits;
mod policy;
#[path = "../../src/stream_rules.rs"]
mod stream_rules;
mod tools;
