use crate::harmony::conversation::FINAL;
use crate::sampling::TokenMask;

/// What a constraint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Constrained<'t> {
    /// The answer: a message on the final channel.
    Answer,
    /// A call of the tool with this full name, such as `functions.f`.
    Call(&'t str),
}

/// A mask that the content of certain messages of a turn keeps to. Reasoning and all other messages stay free.
pub struct Constraint<'t> {
    /// Which messages.
    pub on: Constrained<'t>,
    /// Which tokens may come next in them.
    pub mask: &'t mut dyn TokenMask,
}

impl Constraint<'_> {
    /// Whether a message with this recipient and channel is meant.
    pub(super) fn is_on(&self, recipient: Option<&str>, channel: Option<&str>) -> bool {
        match self.on {
            Constrained::Answer => recipient.is_none() && channel == Some(FINAL),
            Constrained::Call(name) => recipient == Some(name),
        }
    }
}
