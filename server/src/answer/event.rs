use ossicle_core::generation::{MessageKind, Usage};

use crate::error::ApiError;

/// What happens while the model answers, on its way from the thread that computes: [`ossicle_core::generation::Event`]
/// with texts of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum AnswerEvent {
    /// The model has begun to work on it.
    Begin,
    /// A token of text was drawn. Only if probabilities are asked for.
    Token {
        /// It.
        drawn: TokenText,
        /// The likeliest ones.
        top: Vec<TokenText>,
    },
    /// A message begins.
    MessageBegin {
        /// What it is.
        kind: MessageKind,
        /// The tool that is called.
        recipient: Option<String>,
    },
    /// The next part of its text.
    Delta(String),
    /// The message is over.
    MessageEnd,
    /// The server carries out the call that the message was.
    ToolBegin,
    /// The tool that the message called has answered, and the model goes on.
    ToolResult {
        /// With this.
        text: String,
        /// The addresses that a search found.
        sources: Vec<String>,
    },
    /// The answer is over. Nothing comes after it.
    Stop {
        /// How.
        end: End,
        /// What it took.
        usage: Usage,
    },
}

/// A token with the logarithm of its probability.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenText {
    /// What it stands for; not always whole characters.
    pub bytes: Vec<u8>,
    /// At most 0.
    pub log_probability: f32,
}

/// How an answer ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The model has said all.
    Completed,
    /// The tokens that it may write, or those of the context, are used up.
    Length,
    /// Somebody wanted it so.
    Cancelled,
    /// The policy did not let it pass, for this reason.
    Filtered(String),
    /// The server failed.
    Failed(ApiError),
}

impl End {
    /// In a word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
            Self::Filtered(_) => "filtered",
            Self::Failed(_) => "failed",
        }
    }
}
