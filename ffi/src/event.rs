//! Chapter 10, second part: what comes out, as events to be taken one by one.

use core::ptr;

use ossicle_core::generation::{Event, MessageKind, StopReason, Usage};
use ossicle_core::harmony::conversation::ContentType;
use ossicle_core::harmony::parse::{self, Diagnostic, Header, Problem};
use ossicle_core::region::Carver;

use crate::input::ossicle_text;
use crate::message::role_number;
use crate::sampler::ossicle_log_probability;
use crate::status::{Failure, OSSICLE_ERROR_INTERNAL, Result};

/// A message begins: role, name, recipient, channel, content_type, constrained. `recipient` names the tool that is called.
pub const OSSICLE_EVENT_MESSAGE_BEGIN: u32 = 1;
/// The next part of its text: text.
pub const OSSICLE_EVENT_DELTA: u32 = 2;
/// The message is over: token_begin, token_end; from a parser also end.
pub const OSSICLE_EVENT_MESSAGE_END: u32 = 3;
/// The model wrote something out of order, of which the best was made: problem, position, count.
pub const OSSICLE_EVENT_DIAGNOSTIC: u32 = 4;
/// The turn is over: reason, and the four numbers of tokens. The last event of a turn. Of a chat, with what all turns of the
/// answer took; text, if the policy stopped it.
pub const OSSICLE_EVENT_STOP: u32 = 5;
/// A token was drawn: drawn, top, top_count. Only if the turn's configuration asks for it.
pub const OSSICLE_EVENT_TOKEN: u32 = 6;

/// A call was carried out within the answer of a chat: name, the tool; text, what the model is told that it answered.
pub const OSSICLE_EVENT_TOOL_RESULT: u32 = 7;

/// Not known, since the event comes from a parser.
pub const OSSICLE_MESSAGE_UNKNOWN: u32 = 0;
/// The model thinking. Not for end users: it was never trained to be safe to show.
pub const OSSICLE_MESSAGE_REASONING: u32 = 1;
/// Told to the user before tools are called.
pub const OSSICLE_MESSAGE_PREAMBLE: u32 = 2;
/// The answer.
pub const OSSICLE_MESSAGE_ANSWER: u32 = 3;
/// A call of the tool that `recipient` names; its text is the argument.
pub const OSSICLE_MESSAGE_TOOL_CALL: u32 = 4;

/// The model has said all.
pub const OSSICLE_STOP_FINISHED: u32 = 1;
/// A tool is called: append what it answers, and begin the next turn.
pub const OSSICLE_STOP_TOOL_CALL: u32 = 2;
/// A stop string.
pub const OSSICLE_STOP_STRING: u32 = 3;
/// max_tokens.
pub const OSSICLE_STOP_MAX_TOKENS: u32 = 4;
/// The context is full.
pub const OSSICLE_STOP_CONTEXT_FULL: u32 = 5;
/// ossicle_turn_cancel, or ossicle_chat_cancel.
pub const OSSICLE_STOP_CANCELLED: u32 = 6;
/// The policy of an ossicle_chat_host; the text of the event is its reason.
pub const OSSICLE_STOP_POLICY: u32 = 7;

/// `<|end|>`.
pub const OSSICLE_END_END: u32 = 1;
/// `<|call|>`.
pub const OSSICLE_END_CALL: u32 = 2;
/// `<|return|>`.
pub const OSSICLE_END_RETURN: u32 = 3;
/// `<|endoftext|>`.
pub const OSSICLE_END_END_OF_TEXT: u32 = 4;
/// The beginning of the next message.
pub const OSSICLE_END_NEXT_MESSAGE: u32 = 5;
/// The end of the input.
pub const OSSICLE_END_END_OF_INPUT: u32 = 6;

/// Something that happened. Which fields count depends on `kind`; the others are zero. Later versions add to the end.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_event {
    /// OSSICLE_EVENT_*.
    pub kind: u32,
    /// OSSICLE_MESSAGE_*, of the message that the event is about.
    pub message: u32,
    /// OSSICLE_ROLE_*.
    pub role: u32,
    /// Not 0: the message keeps to its content type strictly.
    pub constrained: u32,
    /// Whole characters in UTF-8; not empty.
    pub text: ossicle_text,
    /// Null if there is none.
    pub name: ossicle_text,
    /// Whom the message is for; null if it is for all.
    pub recipient: ossicle_text,
    /// Null if there is none.
    pub channel: ossicle_text,
    /// Null if there is none.
    pub content_type: ossicle_text,
    /// Where the message begins among the tokens of the conversation, after `<|start|>`; from a parser, among those given.
    pub token_begin: u64,
    /// Where it ends, without the token that ended it.
    pub token_end: u64,
    /// OSSICLE_END_*.
    pub end: u32,
    /// What is out of order: the number of a text that ossicle_problem_text has.
    pub problem: u32,
    /// How many tokens came before the one at which that became plain.
    pub position: u64,
    /// How often it was found there.
    pub count: u32,
    /// OSSICLE_STOP_*.
    pub reason: u32,
    /// Tokens in the prompt.
    pub input_tokens: u32,
    /// Of these, how many the session held already.
    pub cached_tokens: u32,
    /// Tokens written.
    pub output_tokens: u32,
    /// Of these, how many were reasoning.
    pub reasoning_tokens: u32,
    /// The token, and the logarithm of its probability.
    pub drawn: ossicle_log_probability,
    /// The likeliest tokens, the best first.
    pub top: *const ossicle_log_probability,
    /// How many.
    pub top_count: usize,
}

impl ossicle_event {
    pub(crate) const ZERO: Self = Self {
        kind: 0,
        message: 0,
        role: 0,
        constrained: 0,
        text: ossicle_text::NONE,
        name: ossicle_text::NONE,
        recipient: ossicle_text::NONE,
        channel: ossicle_text::NONE,
        content_type: ossicle_text::NONE,
        token_begin: 0,
        token_end: 0,
        end: 0,
        problem: 0,
        position: 0,
        count: 0,
        reason: 0,
        input_tokens: 0,
        cached_tokens: 0,
        output_tokens: 0,
        reasoning_tokens: 0,
        drawn: ossicle_log_probability { token: 0, value: 0.0 },
        top: ptr::null(),
        top_count: 0,
    };
}

// What one token can bring at most: each problem once, since repeated ones are counted; two messages, one of them made of
// stray words; text of a header (512 bytes, with a space between words), of a token (256 bytes, each of which may become
// U+FFFD), and what a stop string held back; and 20 likely tokens.
const UNIT_EVENTS: usize = 40;
const UNIT_TEXT: usize = 4096;
const UNIT_TOP: usize = 20;

/// Events that wait to be taken. As long as [`Queue::has_room`], a unit of work loses none.
pub(crate) struct Queue {
    events: &'static mut [ossicle_event],
    len: usize,
    taken: usize,
    text: &'static mut [u8],
    text_len: usize,
    top: &'static mut [ossicle_log_probability],
    top_len: usize,
    /// Something found no room, against all reckoning.
    lost: bool,
}

impl Queue {
    pub fn carve(carver: &mut Carver<'static>) -> Result<Self> {
        Ok(Self {
            events: carver.filled(3 * UNIT_EVENTS, ossicle_event::ZERO)?,
            len: 0,
            taken: 0,
            text: carver.filled(2 * UNIT_TEXT, 0)?,
            text_len: 0,
            top: carver.filled(16 * UNIT_TOP, ossicle_log_probability { token: 0, value: 0.0 })?,
            top_len: 0,
            lost: false,
        })
    }

    /// Whether there is room for what one unit of work can bring. If all has been taken, there is.
    pub fn has_room(&mut self) -> bool {
        if self.taken == self.len {
            (self.len, self.taken, self.text_len, self.top_len) = (0, 0, 0, 0);
        }
        self.len + UNIT_EVENTS <= self.events.len()
            && self.text_len + UNIT_TEXT <= self.text.len()
            && self.top_len + UNIT_TOP <= self.top.len()
    }

    pub fn is_empty(&self) -> bool {
        self.taken == self.len
    }

    /// The next event, which stays where it is until the next unit of work.
    pub fn next(&mut self) -> Option<*const ossicle_event> {
        let event = self.events[..self.len].get(self.taken)?;
        self.taken += 1;
        Some(event)
    }

    /// Refuses to go on if an event was lost.
    pub fn check(&self) -> Result<()> {
        if self.lost {
            return Err(Failure::Border(OSSICLE_ERROR_INTERNAL, "an event found no room"));
        }
        Ok(())
    }

    pub fn take_turn(&mut self, event: Event<'_>) {
        match event {
            Event::Token { drawn, top } => {
                let begin = self.top_len;
                let Some(place) = self.top.get_mut(begin..begin + top.len()) else {
                    self.lost = true;
                    return;
                };
                for (place, top) in place.iter_mut().zip(top) {
                    *place = (*top).into();
                }
                let (top, top_count) = (place.as_ptr(), place.len());
                self.top_len += top_count;
                let drawn = drawn.into();
                self.push(ossicle_event { kind: OSSICLE_EVENT_TOKEN, drawn, top, top_count, ..ossicle_event::ZERO });
            }
            Event::MessageBegin { kind, header } => self.begin(kind_number(kind), &header),
            Event::Delta { kind, text } => self.delta(kind_number(kind), text),
            Event::MessageEnd { kind, tokens } => self.push(ossicle_event {
                kind: OSSICLE_EVENT_MESSAGE_END,
                message: kind_number(kind),
                token_begin: tokens.start as u64,
                token_end: tokens.end as u64,
                ..ossicle_event::ZERO
            }),
            Event::Diagnostic(diagnostic) => self.diagnostic(diagnostic),
            Event::Stop { reason, usage } => self.stop(reason, usage),
        }
    }

    pub fn take_parser(&mut self, event: parse::Event<'_>, token_begin: &mut u64) {
        match event {
            parse::Event::Header(header) => {
                *token_begin = header.first_token;
                self.begin(OSSICLE_MESSAGE_UNKNOWN, &header);
            }
            parse::Event::Content(text) => self.delta(OSSICLE_MESSAGE_UNKNOWN, text),
            parse::Event::End(end) => self.push(ossicle_event {
                kind: OSSICLE_EVENT_MESSAGE_END,
                token_begin: *token_begin,
                token_end: end.end_token,
                end: match end.stop {
                    parse::Stop::End => OSSICLE_END_END,
                    parse::Stop::Call => OSSICLE_END_CALL,
                    parse::Stop::Return => OSSICLE_END_RETURN,
                    parse::Stop::EndOfText => OSSICLE_END_END_OF_TEXT,
                    parse::Stop::NextMessage => OSSICLE_END_NEXT_MESSAGE,
                    parse::Stop::EndOfInput => OSSICLE_END_END_OF_INPUT,
                },
                ..ossicle_event::ZERO
            }),
            parse::Event::Diagnostic(diagnostic) => self.diagnostic(diagnostic),
        }
    }

    fn push(&mut self, event: ossicle_event) {
        match self.events.get_mut(self.len) {
            Some(place) => {
                *place = event;
                self.len += 1;
            }
            None => self.lost = true,
        }
    }

    fn copy(&mut self, text: &str) -> ossicle_text {
        let Some(place) = self.text.get_mut(self.text_len..self.text_len + text.len()) else {
            self.lost = true;
            return ossicle_text::NONE;
        };
        place.copy_from_slice(text.as_bytes());
        self.text_len += text.len();
        ossicle_text { start: place.as_ptr().cast(), size: place.len() }
    }

    fn begin(&mut self, message: u32, header: &Header<'_>) {
        let mut copy = |text: Option<&str>| text.map_or(ossicle_text::NONE, |text| self.copy(text));
        let (content_type, constrained) = match header.content_type {
            None => (None, 0),
            Some(ContentType::Plain(name)) => (Some(name), 0),
            Some(ContentType::Constrained(name)) => (Some(name), 1),
        };
        let event = ossicle_event {
            kind: OSSICLE_EVENT_MESSAGE_BEGIN,
            message,
            role: role_number(header.role),
            constrained,
            name: copy(header.name),
            recipient: copy(header.recipient),
            channel: copy(header.channel),
            content_type: copy(content_type),
            ..ossicle_event::ZERO
        };
        self.push(event);
    }

    /// Text that follows text becomes part of it, unless that has been taken.
    fn delta(&mut self, message: u32, text: &str) {
        let text = self.copy(text);
        if let Some(last) = self.events[self.taken..self.len].last_mut()
            && last.kind == OSSICLE_EVENT_DELTA
            && last.message == message
        {
            last.text.size += text.size;
        } else {
            self.push(ossicle_event { kind: OSSICLE_EVENT_DELTA, message, text, ..ossicle_event::ZERO });
        }
    }

    fn diagnostic(&mut self, Diagnostic { problem, position }: Diagnostic) {
        let problem = problem_number(problem);
        let same = self.events[self.taken..self.len].iter_mut().find(|event| {
            event.kind == OSSICLE_EVENT_DIAGNOSTIC && (event.problem, event.position) == (problem, position)
        });
        match same {
            Some(same) => same.count += 1,
            None => self.push(ossicle_event {
                kind: OSSICLE_EVENT_DIAGNOSTIC,
                problem,
                position,
                count: 1,
                ..ossicle_event::ZERO
            }),
        }
    }

    fn stop(&mut self, reason: StopReason, usage: Usage) {
        self.push(ossicle_event {
            kind: OSSICLE_EVENT_STOP,
            reason: match reason {
                StopReason::Finished => OSSICLE_STOP_FINISHED,
                StopReason::ToolCall => OSSICLE_STOP_TOOL_CALL,
                StopReason::StopString => OSSICLE_STOP_STRING,
                StopReason::MaxTokens => OSSICLE_STOP_MAX_TOKENS,
                StopReason::ContextFull => OSSICLE_STOP_CONTEXT_FULL,
                StopReason::Cancelled => OSSICLE_STOP_CANCELLED,
            },
            input_tokens: usage.input_tokens as u32,
            cached_tokens: usage.cached_tokens as u32,
            output_tokens: usage.output_tokens as u32,
            reasoning_tokens: usage.reasoning_tokens as u32,
            ..ossicle_event::ZERO
        });
    }
}

pub(crate) fn kind_number(kind: MessageKind) -> u32 {
    match kind {
        MessageKind::Reasoning => OSSICLE_MESSAGE_REASONING,
        MessageKind::Preamble => OSSICLE_MESSAGE_PREAMBLE,
        MessageKind::Answer => OSSICLE_MESSAGE_ANSWER,
        MessageKind::ToolCall => OSSICLE_MESSAGE_TOOL_CALL,
    }
}

const PROBLEMS: [(Problem, &core::ffi::CStr); 19] = [
    (Problem::MissingStart, c"text or a marker between messages"),
    (Problem::MissingRole, c"a header without a role"),
    (Problem::RepeatedRole, c"the role twice"),
    (Problem::MissingChannel, c"<|channel|> and no name"),
    (Problem::MissingChannelMarker, c"a channel without <|channel|>"),
    (Problem::UnknownChannel, c"a channel that the model was not trained on"),
    (Problem::RepeatedChannel, c"several channels"),
    (Problem::MissingRecipient, c"to= and no name"),
    (Problem::MissingRecipientMarker, c"a tool without to="),
    (Problem::RepeatedRecipient, c"several recipients"),
    (Problem::MissingContentType, c"<|constrain|> and no name"),
    (Problem::UnknownContentType, c"an unknown content type without <|constrain|>"),
    (Problem::RepeatedContentType, c"several content types"),
    (Problem::UnknownHeaderText, c"words in a header that mean nothing"),
    (Problem::HeaderTooLong, c"a header that is too long"),
    (Problem::MissingMessage, c"a header without <|message|>"),
    (Problem::MissingEnd, c"a message without an end"),
    (Problem::StrayToken, c"a special token where it means nothing"),
    (Problem::UnknownToken, c"an id that stands for no text"),
];

/// From 1, in the order of the parser's documentation.
fn problem_number(problem: Problem) -> u32 {
    PROBLEMS.iter().position(|(known, _)| *known == problem).map_or(0, |index| index as u32 + 1)
}

/// Chapter 10: events.
///
/// What is out of order, in English, as text that ends in a zero byte. Known for every number.
///
/// Memory: the text is constant.
/// Errors: none.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ossicle_problem_text(problem: u32) -> *const core::ffi::c_char {
    let known = (problem as usize).checked_sub(1).and_then(|index| PROBLEMS.get(index));
    known.map_or(c"a problem that this version does not know", |(_, text)| text).as_ptr()
}
