//! The server over HTTP.

mod adapters;
mod answers;
mod client;
mod limits;
mod policy;
mod prefixes;
#[path = "../../src/stream_rules.rs"]
mod stream_rules;
mod tools;
