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

/// What decides about a message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    pub by_assistant: bool,
    pub is_analysis: bool,
    pub is_final: bool,
    pub has_recipient: bool,
}

impl Facts {
    pub(crate) fn of(role: Role, recipient: Option<&str>, channel: Option<&str>) -> Self {
        Self {
            by_assistant: role == Role::Assistant,
            is_analysis: channel == Some(ANALYSIS),
            is_final: channel == Some(FINAL),
            has_recipient: recipient.is_some(),
        }
    }

    pub(crate) fn of_message(message: &Message) -> Self {
        Self::of(message.role, message.recipient, message.channel)
    }
}

/// The rule of one [`History`], applied to one conversation.
pub(crate) struct Filter {
    history: History,
    /// Reasoning before this index is left out.
    before: usize,
}

impl Filter {
    /// Over what decides about the messages, in their order.
    pub(crate) fn over(history: History, messages: impl Iterator<Item = Facts>) -> Self {
        let (mut first_final, mut latest_final, mut assistant_is_final) = (None, None, false);
        for (index, message) in messages.enumerate() {
            if message.is_final {
                first_final = first_final.or(Some(index));
            }
            if message.by_assistant {
                assistant_is_final = message.is_final;
                latest_final = if message.is_final { Some(index) } else { latest_final };
            }
        }
        let before = match history {
            History::KeepAll => None,
            History::Documented => latest_final,
            History::Library => first_final.filter(|_| assistant_is_final),
        };
        Self { history, before: before.unwrap_or(0) }
    }

    /// Whether the message at this index stays.
    pub(crate) fn keeps(&self, index: usize, message: Facts) -> bool {
        let is_reasoning =
            message.is_analysis && (self.history == History::Library || message.by_assistant && !message.has_recipient);
        index >= self.before || !is_reasoning
    }
}
