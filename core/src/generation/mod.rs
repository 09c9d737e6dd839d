//! A conversation turned into events: the one state machine from messages to tokens, through the model, and back.
//!
//! A [`Generation`] owns the session and the tokens of the conversation, the model's own among them as it wrote them. A
//! [`Turn`] is one answer: it samples, parses, and tells in [`Event`]s what comes, reasoning apart from what a user may see.
//! Both are stepped; between steps nothing is owed.

mod constraint;
mod conversation;
mod draft;
mod lookup;
mod snapshot;
mod stop_strings;
mod turn;

pub use constraint::{Constrained, Constraint};
pub use conversation::{Generation, GenerationConfig};
pub use draft::Drafter;
pub use turn::{Event, MessageKind, StopReason, Turn, TurnConfig, Usage};
