//! Where the policy of whoever deploys a model stands: it sees what goes to the model and what comes from it, and may
//! change or stop it.
//!
//! [`Gate`] is the interface. [`ProgramGate`] asks a program, in whatever language; [`question`] and [`label`] are how a model is
//! asked. [`Held`] keeps a message back until it has been judged, and [`AuditLog`] what was decided.

#[cfg(feature = "audit")]
mod audit;
mod held;
mod model;
mod program;

#[cfg(feature = "audit")]
pub use audit::{AuditLog, Origin};
pub use held::{Held, Next, Part, Told};
pub use model::{label, question};
pub use program::ProgramGate;

/// What is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// What the user says.
    Prompt(&'a str),
    /// The model wants to call a tool.
    ToolCall {
        /// Its full name.
        tool: &'a str,
        /// With this.
        argument: &'a str,
    },
    /// A tool answered the model.
    ToolResult {
        /// Its full name.
        tool: &'a str,
        /// This.
        text: &'a str,
    },
    /// What the model says to the user, before it calls tools or at the end.
    Answer(&'a str),
}

impl<'a> Subject<'a> {
    /// In a word: `prompt`, `tool_call`, `tool_result`, `answer`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Prompt(_) => "prompt",
            Self::ToolCall { .. } => "tool_call",
            Self::ToolResult { .. } => "tool_result",
            Self::Answer(_) => "answer",
        }
    }

    /// The text that is judged.
    pub fn text(&self) -> &'a str {
        match self {
            Self::Prompt(text) | Self::Answer(text) | Self::ToolResult { text, .. } => text,
            Self::ToolCall { argument, .. } => argument,
        }
    }

    /// The tool that it is about.
    pub fn tool(&self) -> Option<&'a str> {
        match self {
            Self::ToolCall { tool, .. } | Self::ToolResult { tool, .. } => Some(tool),
            Self::Prompt(_) | Self::Answer(_) => None,
        }
    }
}

/// What is to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Allow,
    /// This passes in its place.
    Replace(String),
    /// Nothing passes, and the answer ends, for this reason.
    Stop(String),
}

impl Verdict {
    /// In a word: `allow`, `replace`, `stop`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Replace(_) => "replace",
            Self::Stop(_) => "stop",
        }
    }
}

/// A policy.
pub trait Gate: Send + Sync {
    /// Judges. May take its time: it is called on a thread that can wait. Once `is_cancelled`, nobody waits for it any more, and
    /// whatever it says then, nothing passes.
    fn judge(&self, subject: &Subject<'_>, is_cancelled: &dyn Fn() -> bool) -> Verdict;
}
