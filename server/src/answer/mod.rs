//! Answers: from what the model does to what the API says about it.

mod chat;
mod event;
mod response;

pub use chat::ChatAnswer;
pub use event::{AnswerEvent, End, TokenText};
pub use response::{Presentation, ResponseAnswer, ServerEvent};

#[cfg(test)]
mod tests;
