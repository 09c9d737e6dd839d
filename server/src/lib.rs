//! Serves a gpt-oss model over OpenAI's Responses API.

pub mod answer;
pub mod conversation;
mod error;
pub mod request;
mod seal;
#[cfg(test)]
mod stream_rules;

pub use error::ApiError;
pub use seal::Seal;
