//! A message between the model and everybody else.

use ossicle_core::generation::MessageKind;

use super::Subject;

/// An event of an answer, in the words of whoever is told of it.
pub trait Told: Sized {
    /// What it is to a message.
    fn part(&self) -> Part<'_>;

    /// All of the text of a message of this kind.
    fn text(kind: MessageKind, text: String) -> Self;
}

/// What an event is to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// The message begins.
    Begin {
        /// What it is.
        kind: MessageKind,
        /// The tool that is called, by its full name.
        tool: Option<&'a str>,
    },
    /// The next part of its text.
    Text(&'a str),
    /// Something else that belongs to it.
    Detail,
    /// It is over.
    End,
    /// Nothing.
    Other,
}

/// A message that is held until it has been judged.
#[derive(Debug)]
pub struct Held<E> {
    events: Vec<E>,
    kind: Option<MessageKind>,
    tool: String,
    text: String,
}

/// What is to be done with an event.
#[derive(Debug)]
pub enum Next<E> {
    /// It passes.
    Pass(E),
    /// It waits for the rest of its message.
    Wait,
    /// The message is whole and has to be judged.
    Judge(Held<E>),
}

impl<E> Default for Held<E> {
    /// No message.
    fn default() -> Self {
        Self { events: Vec::new(), kind: None, tool: String::new(), text: String::new() }
    }
}

impl<E: Told> Held<E> {
    /// Takes an event. Reasoning passes: it is not for end users anyway.
    pub fn take(&mut self, event: E) -> Next<E> {
        match event.part() {
            Part::Begin { kind: MessageKind::Reasoning, .. } => {
                *self = Self::default();
                return Next::Pass(event);
            }
            Part::Begin { kind, tool } => {
                *self = Self { kind: Some(kind), tool: tool.unwrap_or_default().to_owned(), ..Self::default() };
            }
            Part::Text(text) if self.kind.is_some() => self.text.push_str(text),
            Part::Detail | Part::End if self.kind.is_some() => {}
            _ => return Next::Pass(event),
        }
        let is_whole = event.part() == Part::End;
        self.events.push(event);
        if is_whole { Next::Judge(std::mem::take(self)) } else { Next::Wait }
    }

    /// What is judged.
    pub fn subject(&self) -> Subject<'_> {
        match self.kind {
            Some(MessageKind::ToolCall) => Subject::ToolCall { tool: &self.tool, argument: &self.text },
            _ => Subject::Answer(&self.text),
        }
    }

    /// The events of the message as it was.
    pub fn release(self) -> Vec<E> {
        self.events
    }

    /// The events of the message with another text: its beginning, all of the text, its end.
    pub fn replace(self, text: String) -> Vec<E> {
        let mut events = self.events.into_iter();
        let begin = events.next();
        let text = self.kind.filter(|_| !text.is_empty()).map(|kind| E::text(kind, text));
        begin.into_iter().chain(text).chain(events.next_back()).collect()
    }
}

#[cfg(test)]
mod tests {
    use ossicle_core::generation::MessageKind;

    use super::{Held, Next, Part, Subject, Told};

    #[derive(Clone, Debug, PartialEq)]
    enum Word {
        Begin(MessageKind),
        Text(String),
        Token,
        End,
        Stop,
    }

    impl Told for Word {
        fn part(&self) -> Part<'_> {
            match self {
                Self::Begin(kind) => Part::Begin { kind: *kind, tool: Some("functions.look") },
                Self::Text(text) => Part::Text(text),
                Self::Token => Part::Detail,
                Self::End => Part::End,
                Self::Stop => Part::Other,
            }
        }

        fn text(_: MessageKind, text: String) -> Self {
            Self::Text(text)
        }
    }

    fn text(text: &str) -> Word {
        Word::Text(text.into())
    }

    #[test]
    fn messages_wait_until_they_are_whole_and_reasoning_does_not() {
        let mut held = Held::default();
        let reasoning = [Word::Begin(MessageKind::Reasoning), Word::Token, text("hm"), Word::End];
        for event in reasoning {
            assert!(matches!(held.take(event.clone()), Next::Pass(passed) if passed == event));
        }
        let call = [Word::Begin(MessageKind::ToolCall), Word::Token, text("{"), text("}")];
        for event in &call {
            assert!(matches!(held.take(event.clone()), Next::Wait));
        }
        assert!(matches!(held.take(Word::Stop), Next::Pass(Word::Stop)), "what is no part of a message passes");
        let Next::Judge(whole) = held.take(Word::End) else { panic!("it is whole") };
        assert_eq!(whole.subject(), Subject::ToolCall { tool: "functions.look", argument: "{}" });
        assert_eq!(whole.release(), [&call[..], &[Word::End]].concat());
        assert!(matches!(held.take(text("stray")), Next::Pass(_)));
    }

    #[test]
    fn a_message_with_another_text_begins_and_ends_as_before() {
        for (other, told) in [("good", vec![text("good")]), ("", Vec::new())] {
            let mut held = Held::default();
            let begin = Word::Begin(MessageKind::Preamble);
            for event in [begin.clone(), text("b"), Word::Token, text("ad")] {
                held.take(event);
            }
            let Next::Judge(whole) = held.take(Word::End) else { panic!("it is whole") };
            assert_eq!(whole.subject(), Subject::Answer("bad"));
            assert_eq!(whole.replace(other.into()), [vec![begin], told, vec![Word::End]].concat());
        }
    }

    #[test]
    fn a_message_that_never_ends_passes_nothing() {
        let mut held = Held::default();
        held.take(Word::Begin(MessageKind::Answer));
        held.take(text("secret"));
        assert!(matches!(held.take(Word::Begin(MessageKind::Answer)), Next::Wait));
        let Next::Judge(whole) = held.take(Word::End) else { panic!("it is whole") };
        assert_eq!(whole.release(), [Word::Begin(MessageKind::Answer), Word::End]);
    }
}
