//! Chapter 13, fourth part: what the host lends to a chat: its policy, and its tools.

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};
use std::borrow::ToOwned;
use std::collections::VecDeque;
use std::string::String;
use std::vec::Vec;

use ::ossicle_host::policy::{Held, Next, Part, Subject, Told, Verdict};
use ::ossicle_host::tools::{MOST_CALLS, TOO_LONG};
use ossicle_core::error::Error;
use ossicle_core::generation::{Generation, MessageKind};
use ossicle_core::harmony::conversation::{COMMENTARY, Role};

use crate::chat::{Chat, empty_message, in_use, next_event, ossicle_chat};
use crate::chat_tools::{Citing, Equipment};
use crate::event::{
    OSSICLE_EVENT_DELTA, OSSICLE_EVENT_MESSAGE_BEGIN, OSSICLE_EVENT_MESSAGE_END, OSSICLE_EVENT_STOP,
    OSSICLE_EVENT_TOKEN, OSSICLE_EVENT_TOOL_RESULT, OSSICLE_MESSAGE_ANSWER, OSSICLE_MESSAGE_PREAMBLE,
    OSSICLE_MESSAGE_REASONING, OSSICLE_MESSAGE_TOOL_CALL, OSSICLE_STOP_CANCELLED, OSSICLE_STOP_POLICY,
    OSSICLE_STOP_TOOL_CALL, kind_number, ossicle_event,
};
use crate::generation::ossicle_generation;
use crate::input::{Versioned, argument, ossicle_text, slice_of};
use crate::message::{OSSICLE_ROLE_TOOL, ossicle_message};
use crate::object::exclusive;
use crate::sampler::ossicle_log_probability;
use crate::status::{Failure, OSSICLE_MORE, OSSICLE_OK, Result, call, ossicle_error};
use crate::turn::{go_on, has_tokens_left, ossicle_turn, ossicle_turn_cancel, ossicle_turn_event};

/// What the user says.
pub const OSSICLE_SUBJECT_PROMPT: u32 = 1;
/// The argument of a call, whose tool is `tool`.
pub const OSSICLE_SUBJECT_TOOL_CALL: u32 = 2;
/// What the tool `tool` answers.
pub const OSSICLE_SUBJECT_TOOL_RESULT: u32 = 3;
/// What the model tells the user, before it calls tools or at the end.
pub const OSSICLE_SUBJECT_ANSWER: u32 = 4;

/// Nothing passes, and the answer ends: OSSICLE_STOP_POLICY.
pub const OSSICLE_VERDICT_STOP: u32 = 0;
/// The text passes.
pub const OSSICLE_VERDICT_ALLOW: u32 = 1;
/// Another text passes in its place.
pub const OSSICLE_VERDICT_REPLACE: u32 = 2;

/// A text that is judged.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_subject {
    /// OSSICLE_SUBJECT_*.
    pub kind: u32,
    /// 0.
    pub reserved: u32,
    /// The tool that it is about, by its full name, such as `functions.f`; null if it is about none.
    pub tool: ossicle_text,
    /// The text.
    pub text: ossicle_text,
}

/// Judges a text: OSSICLE_VERDICT_ALLOW; OSSICLE_VERDICT_REPLACE, with the text that passes in `other`; whatever else it
/// returns, stops, with a reason in `other` or without. The text in `other` is copied when the callback has returned; if the
/// text passes, it is not read.
pub type ossicle_policy =
    Option<unsafe extern "C" fn(data: *mut c_void, subject: *const ossicle_subject, other: *mut ossicle_text) -> u32>;

/// Carries out the call of a tool, by its full name, such as `functions.f`. The argument was written by the model: text like any
/// other from outside. Returns 0, with what the tool answers in `result`, which is copied when the callback has returned; or
/// anything else to leave the call to the program: then `result` is not read, and the answer ends with OSSICLE_STOP_TOOL_CALL.
pub type ossicle_tool_handler = Option<
    unsafe extern "C" fn(
        data: *mut c_void,
        tool: ossicle_text,
        argument: ossicle_text,
        result: *mut ossicle_text,
    ) -> i32,
>;

/// What the host lends to a chat. Every callback is optional, and is called on the thread that calls the chat.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_chat_host {
    /// sizeof (ossicle_chat_host).
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Handed to both callbacks.
    pub data: *mut c_void,
    /// Judges what the user says, the arguments of calls, what tools answer, and what the model tells the user, before anybody
    /// else sees it: messages then come whole, when they have been judged. Reasoning is not judged. Null judges nothing.
    pub policy: ossicle_policy,
    /// Carries out calls, but those of tools that the chat has itself, after which the model goes on in the same answer, with the
    /// tokens and the reasoning that are left of what the answer may have. Null leaves calls to the program, and so are those
    /// after the 64th of an answer and those after which no token is left, of whichever tool.
    pub tool: ossicle_tool_handler,
}

// SAFETY: pointers that may be null, and numbers.
unsafe impl Versioned for ossicle_chat_host {}

/// Lends a policy and tools to a chat, from the next ossicle_chat_ask on.
///
/// `host`: the callbacks; null for none any more.
///
/// With a policy a text may be stopped: the answer then ends with OSSICLE_STOP_POLICY, and the text of that event is the reason. A
/// prompt or the answer of a tool that is stopped is not part of the conversation. What the model itself has written stays there
/// as it wrote it, whatever is told in its place. What the program appends by ossicle_chat_parts is not judged, nor the events
/// that it takes from the turn there.
///
/// Memory: the struct is copied; `data` has to stay until the first ossicle_chat_ask after others were lent, or the chat ends.
/// Errors: OSSICLE_ERROR_STRUCT_SIZE; OSSICLE_ERROR_ARGUMENT if `reserved` is not 0.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_chat_lend(
    chat: *mut ossicle_chat,
    host: *const ossicle_chat_host,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        // SAFETY: as the header says.
        let ((mut chat, _), host) = unsafe { (in_use(chat)?, ossicle_chat_host::read(host)?) };
        if host.reserved != 0 {
            return argument("0 in what is reserved");
        }
        chat.lent = (host.policy.is_some() || host.tool.is_some()).then_some(host);
        Ok(OSSICLE_OK)
    })
}

impl ossicle_chat_host {
    fn judge(&self, subject: &Subject<'_>) -> Verdict {
        let Some(policy) = self.policy else { return Verdict::Allow };
        let asked = ossicle_subject {
            kind: match subject {
                Subject::Prompt(_) => OSSICLE_SUBJECT_PROMPT,
                Subject::ToolCall { .. } => OSSICLE_SUBJECT_TOOL_CALL,
                Subject::ToolResult { .. } => OSSICLE_SUBJECT_TOOL_RESULT,
                Subject::Answer(_) => OSSICLE_SUBJECT_ANSWER,
            },
            reserved: 0,
            tool: subject.tool().map_or(ossicle_text::NONE, ossicle_text::of),
            text: ossicle_text::of(subject.text()),
        };
        let mut other = ossicle_text::NONE;
        // SAFETY: the host's function, with the host's data; the texts are valid for the call.
        let verdict = unsafe { policy(self.data, &raw const asked, &raw mut other) };
        if verdict == OSSICLE_VERDICT_ALLOW {
            return Verdict::Allow;
        }
        // SAFETY: as the header says of the text that the callback has set.
        let other = unsafe { other.read() }.ok().flatten().map(ToOwned::to_owned);
        match (verdict, other) {
            (OSSICLE_VERDICT_REPLACE, Some(other)) => Verdict::Replace(other),
            (OSSICLE_VERDICT_REPLACE, None) => Verdict::Stop("the policy gave no text".to_owned()),
            (_, reason) => Verdict::Stop(reason.unwrap_or_else(|| "the policy".to_owned())),
        }
    }

    /// What a tool answers, if the host carries the call out.
    fn carry_out(&self, tool: &str, argument: &str) -> Result<Option<String>> {
        let Some(handler) = self.tool else { return Ok(None) };
        let mut result = ossicle_text::NONE;
        let (tool, argument) = (ossicle_text::of(tool), ossicle_text::of(argument));
        // SAFETY: the host's function, with the host's data; the texts are valid for the call.
        let status = unsafe { handler(self.data, tool, argument, &raw mut result) };
        if status != 0 {
            return Ok(None);
        }
        // SAFETY: as the header says of the text that the callback has set.
        let result = unsafe { result.read() }?;
        Ok(Some(result.unwrap_or_default().to_owned()))
    }
}

/// An event with texts of its own.
struct OwnedEvent {
    event: ossicle_event,
    texts: [Option<String>; 5],
    top: Vec<ossicle_log_probability>,
}

impl OwnedEvent {
    /// With a text and a name in place of the event's.
    fn new(event: ossicle_event, text: Option<String>, name: Option<String>) -> Self {
        Self { event, texts: [text, name, None, None, None], top: Vec::new() }
    }

    /// # Safety
    /// The event's texts are valid.
    unsafe fn of(event: &ossicle_event) -> Self {
        // SAFETY: as the caller promises.
        let own = |text: &ossicle_text| unsafe { text.read() }.ok().flatten().map(ToOwned::to_owned);
        let ossicle_event { text, name, recipient, channel, content_type, .. } = event;
        let texts = [text, name, recipient, channel, content_type].map(own);
        // SAFETY: as the caller promises.
        let top = unsafe { slice_of(event.top, event.top_count) }.unwrap_or_default().to_vec();
        Self { event: *event, texts, top }
    }

    /// As the program sees it, for as long as this one is there.
    fn lend(&self) -> ossicle_event {
        let [text, name, recipient, channel, content_type] =
            self.texts.each_ref().map(|text| text.as_deref().map_or(ossicle_text::NONE, ossicle_text::of));
        let top = if self.top.is_empty() { ptr::null() } else { self.top.as_ptr() };
        ossicle_event { text, name, recipient, channel, content_type, top, ..self.event }
    }

    fn text(&self) -> &str {
        self.texts[0].as_deref().unwrap_or_default()
    }

    fn recipient(&self) -> Option<&str> {
        self.texts[2].as_deref()
    }

    fn channel(&self) -> Option<&str> {
        self.texts[3].as_deref()
    }
}

impl Told for OwnedEvent {
    fn part(&self) -> Part<'_> {
        match self.event.kind {
            OSSICLE_EVENT_MESSAGE_BEGIN => Part::Begin {
                kind: match self.event.message {
                    OSSICLE_MESSAGE_REASONING => MessageKind::Reasoning,
                    OSSICLE_MESSAGE_PREAMBLE => MessageKind::Preamble,
                    OSSICLE_MESSAGE_TOOL_CALL => MessageKind::ToolCall,
                    _ => MessageKind::Answer,
                },
                tool: self.recipient(),
            },
            OSSICLE_EVENT_DELTA => Part::Text(self.text()),
            OSSICLE_EVENT_TOKEN => Part::Detail,
            OSSICLE_EVENT_MESSAGE_END => Part::End,
            _ => Part::Other,
        }
    }

    fn text(kind: MessageKind, text: String) -> Self {
        delta(kind_number(kind), text)
    }
}

/// A part of the text of a message of this kind.
fn delta(message: u32, text: String) -> OwnedEvent {
    OwnedEvent::new(ossicle_event { kind: OSSICLE_EVENT_DELTA, message, ..ossicle_event::ZERO }, Some(text), None)
}

/// What stands between the turns of an answer and the program.
pub(crate) struct Guard {
    host: ossicle_chat_host,
    citing: Citing,
    held: Held<OwnedEvent>,
    /// Events that may be taken.
    ready: VecDeque<OwnedEvent>,
    /// The one that was taken last, and as the program sees it.
    taken: Option<(OwnedEvent, ossicle_event)>,
    /// The call that the model writes: the tool, the channel, the argument.
    called: [String; 3],
    /// How many the host has carried out.
    calls: usize,
    /// What earlier turns of the answer took.
    before: ossicle_event,
    is_over: bool,
}

impl Guard {
    /// `answer_is_free`: what it cites may become links.
    pub fn new(host: Option<ossicle_chat_host>, answer_is_free: bool) -> Self {
        Self {
            host: host.unwrap_or_else(ossicle_chat_host::zero),
            citing: Citing::new(answer_is_free),
            held: Held::default(),
            ready: VecDeque::new(),
            taken: None,
            called: Default::default(),
            calls: 0,
            before: ossicle_event::ZERO,
            is_over: false,
        }
    }

    /// The text that the model is told of what somebody says; none if the policy stops it, which ends the answer.
    pub fn hear(&mut self, subject: &Subject<'_>) -> Option<String> {
        match self.host.judge(subject) {
            Verdict::Allow => Some(subject.text().to_owned()),
            Verdict::Replace(other) => Some(other),
            Verdict::Stop(reason) => {
                self.end(ossicle_event { reason: OSSICLE_STOP_POLICY, ..ossicle_event::ZERO }, Some(reason));
                None
            }
        }
    }

    /// The last event, with what all turns took: `last` has what the last one did.
    fn end(&mut self, last: ossicle_event, text: Option<String>) {
        let event = ossicle_event { kind: OSSICLE_EVENT_STOP, reason: last.reason, ..sum(&self.before, &last) };
        self.ready.push_back(OwnedEvent::new(event, text, None));
        self.is_over = true;
    }

    /// An event of the turn, but its last.
    fn take(&mut self, event: OwnedEvent, turn: *mut ossicle_turn, equipment: Option<&Equipment>) {
        if self.host.policy.is_none() {
            return self.pass(event, equipment);
        }
        let message = match self.held.take(event) {
            Next::Pass(event) => return self.pass(event, equipment),
            Next::Wait => return,
            Next::Judge(message) => message,
        };
        let events = match self.host.judge(&message.subject()) {
            Verdict::Allow => message.release(),
            Verdict::Replace(text) => message.replace(text),
            Verdict::Stop(reason) => {
                let last = ossicle_event { reason: OSSICLE_STOP_POLICY, ..cancel(turn) };
                return self.end(last, Some(reason));
            }
        };
        events.into_iter().for_each(|event| self.pass(event, equipment));
    }

    /// The last event of the turn: if it stopped to call a tool that is carried out, another turn follows.
    fn stop(
        &mut self,
        last: ossicle_event,
        (turn, generation): (*mut ossicle_turn, *mut ossicle_generation),
        mut equipment: Option<&mut Equipment>,
        is_cancelled: &AtomicBool,
    ) -> Result<()> {
        let [tool, channel, argument] = &self.called;
        if last.reason == OSSICLE_STOP_TOOL_CALL && is_cancelled.load(Ordering::Relaxed) {
            self.end(ossicle_event { reason: OSSICLE_STOP_CANCELLED, ..last }, None);
            return Ok(());
        }
        let is_called = last.reason == OSSICLE_STOP_TOOL_CALL && self.calls < MOST_CALLS;
        // If what the tool answers cannot be taken, the answer is over.
        self.is_over = true;
        // SAFETY: the turn is part of the chat.
        let is_called = is_called && unsafe { has_tokens_left(turn) }?;
        let is_cancelled = || is_cancelled.load(Ordering::Relaxed);
        let own = equipment.as_mut().filter(|_| is_called);
        let result = own.and_then(|equipment| equipment.call(tool, argument, &is_cancelled));
        let is_own = result.is_some();
        let result = match result {
            None if is_called => self.host.carry_out(tool, argument)?,
            result => result,
        };
        let Some(result) = result else {
            self.end(last, None);
            return Ok(());
        };
        self.calls += 1;
        let (tool, channel) = (tool.clone(), channel.clone());
        self.before = sum(&self.before, &last);
        let Some(mut text) = self.hear(&Subject::ToolResult { tool: &tool, text: &result }) else { return Ok(()) };
        if let Some(equipment) = equipment {
            equipment.note(&tool, &text);
        }
        let append = |text: &str| {
            let message = ossicle_message {
                role: OSSICLE_ROLE_TOOL,
                name: ossicle_text::of(&tool),
                recipient: ossicle_text::of(Role::Assistant.name()),
                channel: ossicle_text::of(&channel),
                text: ossicle_text::of(text),
                ..empty_message()
            };
            // SAFETY: the texts above are valid; the generation is part of the chat.
            unsafe { exclusive(generation)?.take(&raw const message, 1, Generation::append) }
        };
        match append(&text) {
            Err(Failure::Core(Error::Capacity { .. })) if is_own => {
                text = TOO_LONG.to_owned();
                append(&text)?;
            }
            appended => appended?,
        }
        // SAFETY: the turn is part of the chat.
        unsafe { go_on(turn) }?;
        let event = ossicle_event { kind: OSSICLE_EVENT_TOOL_RESULT, ..ossicle_event::ZERO };
        self.ready.push_back(OwnedEvent::new(event, Some(text), Some(tool)));
        self.is_over = false;
        Ok(())
    }

    /// An event that may be taken.
    fn pass(&mut self, event: OwnedEvent, equipment: Option<&Equipment>) {
        match event.part() {
            Part::Begin { kind: MessageKind::ToolCall, tool } => {
                let channel = event.channel().unwrap_or(COMMENTARY);
                self.called = [tool.unwrap_or_default().to_owned(), channel.to_owned(), String::new()];
            }
            Part::Text(text) if event.event.message == OSSICLE_MESSAGE_TOOL_CALL => self.called[2].push_str(text),
            _ => {}
        }
        let is_told = [OSSICLE_MESSAGE_ANSWER, OSSICLE_MESSAGE_PREAMBLE].contains(&event.event.message);
        let Some(equipment) = equipment.filter(|_| is_told) else { return self.ready.push_back(event) };
        let text = match event.part() {
            Part::Text(text) => Some(self.citing.take(text, equipment)),
            Part::End => Some(self.citing.finish()),
            _ => None,
        };
        let is_text = matches!(event.part(), Part::Text(_));
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.ready.push_back(delta(event.event.message, text));
        }
        if !is_text {
            self.ready.push_back(event);
        }
    }
}

fn sum(one: &ossicle_event, other: &ossicle_event) -> ossicle_event {
    ossicle_event {
        input_tokens: one.input_tokens.saturating_add(other.input_tokens),
        cached_tokens: one.cached_tokens.saturating_add(other.cached_tokens),
        output_tokens: one.output_tokens.saturating_add(other.output_tokens),
        reasoning_tokens: one.reasoning_tokens.saturating_add(other.reasoning_tokens),
        ..ossicle_event::ZERO
    }
}

/// The next event of a chat with a guard; none once the answer is over.
pub(crate) fn next(
    chat: &mut Chat,
    is_cancelled: &AtomicBool,
    error: *mut ossicle_error,
) -> Result<Option<*const ossicle_event>> {
    loop {
        let Some(guard) = &mut chat.guard else { return Ok(None) };
        if let Some(event) = guard.ready.pop_front() {
            let shown = event.lend();
            return Ok(Some(&raw const guard.taken.insert((event, shown)).1));
        }
        if guard.is_over {
            return Ok(None);
        }
        let mut event = ptr::null();
        // SAFETY: the answer is not over, so there is a turn.
        let status = unsafe { next_event(chat, is_cancelled, &raw mut event, error) }?;
        let Chat { guard: Some(guard), turn, generation, equipment, .. } = chat else { return Ok(None) };
        if status == OSSICLE_OK {
            // The program has taken the last event from the turn.
            guard.is_over = true;
            continue;
        }
        // SAFETY: the event is valid until the next call with the turn.
        let event = unsafe { OwnedEvent::of(&*event) };
        match event.event.kind {
            OSSICLE_EVENT_STOP => {
                guard.stop(event.event, (*turn, *generation), equipment.as_mut(), is_cancelled)?;
            }
            _ => guard.take(event, *turn, equipment.as_ref()),
        }
    }
}

/// Ends a turn: what it took. Events that wait are lost.
fn cancel(turn: *mut ossicle_turn) -> ossicle_event {
    let mut last = ossicle_event::ZERO;
    loop {
        // SAFETY: the turn's memory is part of the chat.
        let status = unsafe { ossicle_turn_cancel(turn) };
        let mut event = ptr::null();
        // SAFETY: the same; an event is valid until the next call with the turn.
        while let Some(found) = unsafe { (ossicle_turn_event(turn, &raw mut event) == OSSICLE_MORE).then(|| *event) } {
            if found.kind == OSSICLE_EVENT_STOP {
                last = found;
            }
        }
        if status != OSSICLE_MORE {
            return last;
        }
    }
}
