//! What may be shown of an answer.

use std::io::{self, IsTerminal, Write};

use ossicle_core::generation::{Event, MessageKind};
use ossicle_host::policy::{Part, Told};

/// Something that happened, in texts of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    /// A message begins.
    Begin {
        /// What it is.
        kind: MessageKind,
        /// The tool that is called, by its full name.
        tool: Option<String>,
        /// The channel.
        channel: Option<String>,
    },
    /// The next part of its text.
    Text {
        /// What the message is.
        kind: MessageKind,
        /// It.
        text: String,
    },
    /// The message is over.
    End(MessageKind),
    /// What a tool answered.
    Result(String),
}

impl Shown {
    /// An event, if it is of a message.
    pub fn of(event: Event<'_>) -> Option<Self> {
        let owned = |text: &str| text.to_owned();
        match event {
            Event::MessageBegin { kind, header } => {
                Some(Self::Begin { kind, tool: header.recipient.map(owned), channel: header.channel.map(owned) })
            }
            Event::Delta { kind, text } => Some(Self::Text { kind, text: owned(text) }),
            Event::MessageEnd { kind, .. } => Some(Self::End(kind)),
            Event::Token { .. } | Event::Diagnostic(_) | Event::Stop { .. } => None,
        }
    }
}

impl Told for Shown {
    fn part(&self) -> Part<'_> {
        match self {
            Self::Begin { kind, tool, .. } => Part::Begin { kind: *kind, tool: tool.as_deref() },
            Self::Text { text, .. } => Part::Text(text),
            Self::End(_) => Part::End,
            Self::Result(_) => Part::Other,
        }
    }

    fn text(kind: MessageKind, text: String) -> Self {
        Self::Text { kind, text }
    }
}

/// Whether messages of this kind are for the user.
pub fn is_told(kind: MessageKind) -> bool {
    matches!(kind, MessageKind::Answer | MessageKind::Preamble)
}

/// Shows what comes: the answer on standard output, all else dimmed on standard error.
pub fn printer(show_reasoning: bool) -> impl FnMut(&Shown) {
    let (dim, plain) = if io::stderr().is_terminal() { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
    move |shown| {
        match shown {
            Shown::Result(text) => eprintln!("{dim}{}{plain}", text.trim_end()),
            Shown::Text { kind, text } if is_told(*kind) => print!("{text}"),
            Shown::End(kind) if is_told(*kind) => println!(),
            Shown::Text { kind: MessageKind::Reasoning, text } if show_reasoning => eprint!("{dim}{text}{plain}"),
            Shown::End(MessageKind::Reasoning) if show_reasoning => eprintln!(),
            Shown::Begin { kind: MessageKind::ToolCall, tool, .. } => {
                eprint!("{dim}[{}] ", tool.as_deref().unwrap_or_default());
            }
            Shown::Text { kind: MessageKind::ToolCall, text } => eprint!("{text}"),
            Shown::End(MessageKind::ToolCall) => eprintln!("{plain}"),
            _ => {}
        }
        // A terminal that is gone is noticed when the line is written.
        let _ = io::stdout().flush();
    }
}
