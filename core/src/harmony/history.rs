//! Which past messages a prompt leaves out.
//!
//! The model was trained without the reasoning that led to earlier answers. Calls of tools and what the tools answered stay
//! in every policy but the official library's, which knows only the channel.

use super::conversation::{ANALYSIS, FINAL, Message, Role};

/// What happens to reasoning in past messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum History {
    /// The vendor's guide: reasoning before the latest final message is left out, all after it stays. So a turn that waits
    /// for a tool keeps the reasoning of that turn only.
    #[default]
    Documented,
    /// The official library: only if the last message of the assistant is final, whatever stands on the analysis channel
    /// before the first final message is left out.
    Library,
    /// Everything stays.
    KeepAll,
}

/// The rule of one [`History`], applied to one conversation.
pub(crate) struct Filter {
    history: History,
    /// Reasoning before this index is left out.
    before: usize,
}

impl Filter {
    pub(crate) fn new(history: History, messages: &[Message]) -> Self {
        let is_final = |message: &Message| message.channel == Some(FINAL);
        let by_assistant = |message: &&Message| message.role == Role::Assistant;
        let before = match history {
            History::KeepAll => None,
            History::Documented => messages.iter().rposition(|message| by_assistant(&message) && is_final(message)),
            History::Library if messages.iter().rfind(by_assistant).is_some_and(is_final) => {
                messages.iter().position(is_final)
            }
            History::Library => None,
        };
        Self { history, before: before.unwrap_or(0) }
    }

    /// Whether the message at this index stays.
    pub(crate) fn keeps(&self, index: usize, message: &Message) -> bool {
        let is_reasoning = message.channel == Some(ANALYSIS)
            && (self.history == History::Library || message.role == Role::Assistant && message.recipient.is_none());
        index >= self.before || !is_reasoning
    }
}
