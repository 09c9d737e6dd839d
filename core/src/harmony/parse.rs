//! The tokens that a model writes, as messages.
//!
//! The parser reads token ids, never text, so text that looks like a special token is text. It is total: whatever the
//! tokens, they become messages; what is out of order is told as a [`Diagnostic`], and no text is lost. Tokens may come one
//! at a time or many at once, with the same result.

use super::conversation::{ContentType, Role};
use super::header::{HeaderText, Marker, Parts};
use super::{SpecialTokens, Vocabulary};
use crate::tokenizer::Utf8Stream;

pub use super::header::MAX_HEADER;

/// What the parser has found. The texts are lent for the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'e> {
    /// A message begins.
    Header(Header<'e>),
    /// The next part of its content; not empty. All parts together are the content.
    Content(&'e str),
    /// The message is over.
    End(End),
    /// Something was out of order.
    Diagnostic(Diagnostic),
}

/// Who says what to whom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Header<'e> {
    /// Who writes.
    pub role: Role,
    /// The name of the tool; for other roles, what stands behind the colon.
    pub name: Option<&'e str>,
    /// Whom the message is for.
    pub recipient: Option<&'e str>,
    /// The channel. One of [`super::conversation::CHANNELS`], if it is one of them but for upper and lower case.
    pub channel: Option<&'e str>,
    /// What the content is written in.
    pub content_type: Option<ContentType<'e>>,
    /// The position of the first token that belongs to the message, after `<|start|>`.
    pub first_token: u64,
    /// Whether the role is missing in these tokens, as [`super::conversation::OwnTokens`] has it.
    pub after_role: bool,
}

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// By what.
    pub stop: Stop,
    /// The position after the last token that belongs to the message. Equal to [`Header::first_token`] for text in a header
    /// that was made a message of its own: its tokens belong to the message after it.
    pub end_token: u64,
}

/// What ended a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// `<|end|>`.
    End,
    /// `<|call|>`.
    Call,
    /// `<|return|>`.
    Return,
    /// `<|endoftext|>`.
    EndOfText,
    /// The beginning of the next one.
    NextMessage,
    /// The end of the input.
    EndOfInput,
}

/// Something out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What.
    pub problem: Problem,
    /// The position of the token at which it became plain: how many came before.
    pub position: u64,
}

/// What can be out of order. The comments say what the parser makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Text or a marker between messages, without `<|start|>`. A message begins.
    MissingStart,
    /// A header without a role. The role is the one given, or the assistant.
    MissingRole,
    /// The role twice. Once is enough.
    RepeatedRole,
    /// `<|channel|>` and no name. Ignored.
    MissingChannel,
    /// A channel without `<|channel|>`. It counts if there is none with it.
    MissingChannelMarker,
    /// A channel that the model was not trained on. It is the channel.
    UnknownChannel,
    /// Several channels. The last counts.
    RepeatedChannel,
    /// `to=` and no name. Ignored.
    MissingRecipient,
    /// A tool without `to=`. It is the recipient if there is no other.
    MissingRecipientMarker,
    /// Several recipients. The last counts.
    RepeatedRecipient,
    /// `<|constrain|>` and no name. Ignored.
    MissingContentType,
    /// A content type other than `json` and `code` without `<|constrain|>`. It is the content type.
    UnknownContentType,
    /// Several content types. The last counts, unless only an earlier one has `<|constrain|>`.
    RepeatedContentType,
    /// Words in a header that mean nothing. They become a message without a channel, before the one they stood in.
    UnknownHeaderText,
    /// A header of more than [`MAX_HEADER`] bytes. From the first word that is no part of a header, it is content.
    HeaderTooLong,
    /// A header that ended without `<|message|>`. From the first word that is no part of a header, it is content.
    MissingMessage,
    /// A message that another follows without an end. It is over.
    MissingEnd,
    /// A special token where it means nothing. Ignored.
    StrayToken,
    /// An id that stands for no text. In its place stands U+FFFD.
    UnknownToken,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// After a message.
    Between,
    /// In a header that `<|start|>` opened or not.
    Header {
        explicit: bool,
    },
    Content,
}

/// Turns tokens into events. Takes the same small time and memory for every token.
#[derive(Clone, Debug)]
pub struct Parser {
    special: SpecialTokens,
    /// The role that stood at the end of the prompt.
    role: Option<Role>,
    state: State,
    header: HeaderText,
    utf8: Utf8Stream,
    position: u64,
    /// Where the current message begins.
    first_token: u64,
}

/// What a token is.
enum Piece<'v> {
    Text(&'v [u8]),
    Start,
    Mark(Marker),
    Message,
    Stop(Stop),
    Unknown,
}

type Emit<'e> = dyn FnMut(Event) + 'e;

impl Parser {
    /// With a role, what comes first is the rest of a header: the prompt ended with `<|start|>` and this role. Without,
    /// `<|start|>` should come first.
    pub fn new(special: SpecialTokens, role: Option<Role>) -> Self {
        let state = if role.is_some() { State::Header { explicit: false } } else { State::Between };
        Self {
            special,
            role,
            state,
            header: HeaderText::default(),
            utf8: Utf8Stream::new(),
            position: 0,
            first_token: 0,
        }
    }

    /// Takes the next token.
    pub fn push<V: Vocabulary>(&mut self, token: u32, vocabulary: &V, emit: &mut Emit) {
        let piece = self.piece(token, vocabulary);
        if !matches!(piece, Piece::Text(_)) {
            self.flush(emit);
        }
        match piece {
            Piece::Text(bytes) => {
                let mut utf8 = core::mem::take(&mut self.utf8);
                utf8.push(bytes, &mut |text| self.text(text, emit));
                self.utf8 = utf8;
            }
            Piece::Unknown => {
                self.report(Problem::UnknownToken, emit);
                self.text("\u{fffd}", emit);
            }
            Piece::Start => {
                match self.state {
                    State::Between => {}
                    State::Header { explicit: false } if self.header.is_empty() => {
                        self.report(Problem::StrayToken, emit);
                    }
                    State::Header { explicit } => self.close_header(explicit, Some(Stop::NextMessage), emit),
                    State::Content => self.interrupt(emit),
                }
                self.begin(true, 1);
            }
            Piece::Mark(marker) => {
                if let State::Header { explicit } = self.state
                    && self.header.is_full()
                {
                    self.overflow(explicit, emit);
                }
                match self.state {
                    // A channel is the surest sign of a header; a content type alone is none.
                    State::Content if marker == Marker::Channel => {
                        self.interrupt(emit);
                        self.begin(false, 0);
                    }
                    State::Content => self.report(Problem::StrayToken, emit),
                    _ => self.begin_if_between(emit),
                }
                if let State::Header { .. } = self.state {
                    self.header.mark(marker);
                }
            }
            Piece::Message => {
                self.begin_if_between(emit);
                match self.state {
                    State::Header { explicit } => self.finish_header(explicit, emit),
                    _ => self.report(Problem::StrayToken, emit),
                }
            }
            Piece::Stop(stop) => {
                match self.state {
                    State::Between if stop == Stop::EndOfText => {}
                    State::Between => self.report(Problem::StrayToken, emit),
                    State::Header { explicit } => self.close_header(explicit, Some(stop), emit),
                    State::Content => self.end(stop, emit),
                }
                self.state = State::Between;
            }
        }
        self.position += 1;
    }

    /// Says that no more tokens come. What has begun is ended.
    pub fn finish(&mut self, emit: &mut Emit) {
        self.flush(emit);
        match self.state {
            State::Between => {}
            State::Header { explicit } => self.close_header(explicit, Some(Stop::EndOfInput), emit),
            State::Content => self.end(Stop::EndOfInput, emit),
        }
        self.state = State::Between;
    }

    /// How many tokens have been taken.
    pub fn position(&self) -> u64 {
        self.position
    }

    fn piece<'v, V: Vocabulary>(&self, token: u32, vocabulary: &'v V) -> Piece<'v> {
        let special = &self.special;
        match token {
            _ if token == special.start => Piece::Start,
            _ if token == special.channel => Piece::Mark(Marker::Channel),
            _ if token == special.constrain => Piece::Mark(Marker::Constrain),
            _ if token == special.message => Piece::Message,
            _ if token == special.end => Piece::Stop(Stop::End),
            _ if token == special.call => Piece::Stop(Stop::Call),
            _ if token == special.return_ => Piece::Stop(Stop::Return),
            _ if token == special.end_of_text => Piece::Stop(Stop::EndOfText),
            _ => vocabulary.token_bytes(token).map_or(Piece::Unknown, Piece::Text),
        }
    }

    /// A character that was held back will not be completed.
    fn flush(&mut self, emit: &mut Emit) {
        let mut utf8 = core::mem::take(&mut self.utf8);
        utf8.finish(&mut |text| self.text(text, emit));
    }

    fn text(&mut self, text: &str, emit: &mut Emit) {
        if self.state == State::Between && text.trim_start().is_empty() {
            return;
        }
        self.begin_if_between(emit);
        if let State::Header { explicit } = self.state {
            if self.header.push(text) {
                return;
            }
            self.overflow(explicit, emit);
        }
        emit(Event::Content(text));
    }

    /// A message begins `offset` tokens from here.
    fn begin(&mut self, explicit: bool, offset: u64) {
        self.state = State::Header { explicit };
        self.header.clear();
        self.first_token = self.position + offset;
    }

    fn begin_if_between(&mut self, emit: &mut Emit) {
        if self.state == State::Between {
            self.report(Problem::MissingStart, emit);
            self.begin(false, 0);
        }
    }

    fn interrupt(&mut self, emit: &mut Emit) {
        self.report(Problem::MissingEnd, emit);
        self.end(Stop::NextMessage, emit);
    }

    fn end(&self, stop: Stop, emit: &mut Emit) {
        emit(Event::End(End { stop, end_token: self.position }));
    }

    fn report(&self, problem: Problem, emit: &mut Emit) {
        emit(Event::Diagnostic(Diagnostic { problem, position: self.position }));
    }

    /// At `<|message|>`.
    fn finish_header(&mut self, explicit: bool, emit: &mut Emit) {
        let mut unknowns = 0;
        let parts = {
            let mut problem = |problem| self.report(problem, emit);
            self.header.read(self.role, explicit, &mut problem, &mut |_| unknowns += 1)
        };
        if explicit && !parts.has_role {
            self.report(Problem::MissingRole, emit);
        }
        if unknowns > 0 {
            self.report(Problem::UnknownHeaderText, emit);
            let unaddressed = Parts { recipient: None, channel: None, content_type: None, ..parts };
            emit(Event::Header(self.header_of(unaddressed)));
            let mut is_first = true;
            self.header.read(self.role, explicit, &mut |_| {}, &mut |word| {
                if !core::mem::take(&mut is_first) {
                    emit(Event::Content(" "));
                }
                emit(Event::Content(word));
            });
            emit(Event::End(End { stop: Stop::NextMessage, end_token: self.first_token }));
        }
        emit(Event::Header(self.header_of(parts)));
        self.state = State::Content;
    }

    /// The header ends without `<|message|>`. So does the message, with `stop`; or its content goes on.
    fn close_header(&mut self, explicit: bool, stop: Option<Stop>, emit: &mut Emit) {
        if stop.is_some() {
            self.report(Problem::MissingMessage, emit);
        }
        let parts = self.header.read_open(self.role, explicit, &mut |problem| self.report(problem, emit));
        let mut content = self.header.text(parts.content).peekable();
        let is_empty = content.peek().is_none()
            && parts.name.is_none()
            && parts.recipient.is_none()
            && parts.channel.is_none()
            && parts.content_type.is_none();
        // Of a bare role, or of nothing, no message is made.
        if !is_empty || stop.is_none() {
            emit(Event::Header(self.header_of(parts)));
            content.for_each(|text| emit(Event::Content(text)));
            if let Some(stop) = stop {
                self.end(stop, emit);
            }
        }
    }

    fn overflow(&mut self, explicit: bool, emit: &mut Emit) {
        self.report(Problem::HeaderTooLong, emit);
        self.close_header(explicit, None, emit);
        self.state = State::Content;
    }

    fn header_of<'h>(&self, parts: Parts<'h>) -> Header<'h> {
        Header {
            role: parts.role,
            name: parts.name,
            recipient: parts.recipient,
            channel: parts.channel,
            content_type: parts.content_type,
            first_token: self.first_token,
            after_role: !parts.has_role,
        }
    }
}
