//! Chapter 11: harmony by itself, for those who run the session themselves.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use ossicle_core::error::Error;
use ossicle_core::harmony::SpecialTokens;
use ossicle_core::harmony::conversation::{Message, Role};
use ossicle_core::harmony::parse::Parser;
use ossicle_core::harmony::render::{Ending, Form, RenderError, Renderer};
use ossicle_core::region::{ALIGN, Carver};
use ossicle_core::tokenizer::Tokenizer;

use crate::event::{Queue, ossicle_event};
use crate::input::{Array, Versioned, argument, counted, demand_output, ossicle_layout, slice_of, slice_of_mut};
use crate::message::{carve_messages, history_of, ossicle_message, role_of};
use crate::object::{Opaque, exclusive, layout, place, shared};
use crate::status::{Failure, OSSICLE_MORE, OSSICLE_OK, Result, call, ossicle_error};
use crate::tokenizer::ossicle_tokenizer;

/// The beginning of a message of the assistant, which the model is to write.
pub const OSSICLE_ENDING_PROMPT: u32 = 0;
/// Nothing.
pub const OSSICLE_ENDING_NOTHING: u32 = 1;
/// Nothing, but a last message of the assistant on the final channel ends with `<|return|>`, as when the model writes it.
pub const OSSICLE_ENDING_TRAINING: u32 = 2;

/// What the model was trained on and writes itself.
pub const OSSICLE_FORM_TRAINED: u32 = 0;
/// What OpenAI's library openai-harmony 0.0.8 writes, token by token.
pub const OSSICLE_FORM_LIBRARY: u32 = 1;

/// How a conversation becomes tokens.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_render_config {
    /// sizeof (ossicle_render_config).
    pub struct_size: u32,
    /// OSSICLE_HISTORY_*.
    pub history: u32,
    /// OSSICLE_FORM_*.
    pub form: u32,
    /// OSSICLE_ENDING_*.
    pub ending: u32,
}

// SAFETY: numbers.
unsafe impl Versioned for ossicle_render_config {}

/// Lends `work` the messages as the core has them, and what is left of the scratch memory.
///
/// # Safety
/// As the header says of the messages.
pub(crate) unsafe fn with_messages<T>(
    messages: *const ossicle_message,
    count: usize,
    scratch: &mut [MaybeUninit<u8>],
    work: impl FnOnce(&[Message<'_>], &mut [u8]) -> Result<T>,
) -> Result<T> {
    // SAFETY: as the caller promises.
    let messages = unsafe { Array::of(messages, count) }?;
    let mut carver = Carver::measuring();
    // SAFETY: as the caller promises.
    unsafe { carve_messages(&mut carver, messages) }?;
    let (need, have) = (carver.layout().size, scratch.len());
    let Some((lists, rest)) = scratch.split_at_mut_checked(need) else {
        return Err(Error::Render(RenderError::ScratchTooSmall { need, have }).into());
    };
    // SAFETY: as the caller promises.
    let messages = unsafe { carve_messages(&mut Carver::placing(lists)?, messages) }?;
    rest.fill(MaybeUninit::new(0));
    // SAFETY: all of it was just written.
    let rest = unsafe { &mut *(core::ptr::from_mut(rest) as *mut [u8]) };
    work(messages, rest).map_err(|failure| match failure {
        Failure::Core(Error::Render(RenderError::ScratchTooSmall { need: text, .. })) => {
            Error::Render(RenderError::ScratchTooSmall { need: text.saturating_add(need), have }).into()
        }
        other => other,
    })
}

/// Chapter 11: harmony. A generation (chapter 12) does all of this; these functions are for those who run the session
/// themselves.
///
/// A conversation as the tokens of a prompt.
///
/// `messages`, `message_count`: the conversation. `config`: how; null for the defaults. `scratch`, `scratch_size`: memory to
/// work in, at a multiple of 64 bytes; some kilobytes, and as much as the largest developer message with its tools. `tokens`,
/// `capacity`: where the ids go, and for how many there is room. `count`: gets how many there are, also if there is not room
/// for all.
///
/// Memory: nothing is kept.
/// Errors: OSSICLE_ERROR_RENDER if the conversation cannot be rendered; OSSICLE_ERROR_BUFFER if `tokens` or `scratch` is too
/// small: the text of the error tells which.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_harmony_render(
    tokenizer: *const ossicle_tokenizer,
    messages: *const ossicle_message,
    message_count: usize,
    config: *const ossicle_render_config,
    scratch: *mut c_void,
    scratch_size: usize,
    tokens: *mut u32,
    capacity: usize,
    count: *mut usize,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(count)?;
        // SAFETY: as the header says.
        let (tokenizer, config) = unsafe { (shared(tokenizer)?, ossicle_render_config::read(config)?) };
        // SAFETY: as the header says.
        let (scratch, tokens) = unsafe {
            (slice_of_mut(scratch.cast::<MaybeUninit<u8>>(), scratch_size)?, slice_of_mut(tokens, capacity)?)
        };
        if !scratch.is_empty() && !scratch.as_ptr().addr().is_multiple_of(ALIGN) {
            return Err(Error::RegionAlign { need: ALIGN }.into());
        }
        let mut renderer = Renderer::new(tokenizer, SpecialTokens::of(tokenizer)?);
        renderer.history = history_of(config.history)?;
        renderer.form = match config.form {
            OSSICLE_FORM_TRAINED => Form::Trained,
            OSSICLE_FORM_LIBRARY => Form::Library,
            _ => return argument("OSSICLE_FORM_TRAINED or OSSICLE_FORM_LIBRARY"),
        };
        let ending = match config.ending {
            OSSICLE_ENDING_PROMPT => Ending::NextMessage(Role::Assistant),
            OSSICLE_ENDING_NOTHING => Ending::Nothing,
            OSSICLE_ENDING_TRAINING => Ending::Training,
            _ => return argument("an ending from OSSICLE_ENDING_PROMPT to OSSICLE_ENDING_TRAINING"),
        };
        let (mut need, have) = (0, tokens.len());
        let mut put = |token| {
            if let Some(place) = tokens.get_mut(need) {
                *place = token;
            }
            need += 1;
        };
        let render =
            |messages: &[Message<'_>], scratch: &mut [u8]| Ok(renderer.render(messages, ending, scratch, &mut put)?);
        // SAFETY: as the header says.
        unsafe { with_messages(messages, message_count, scratch, render) }?;
        let result = if need > have { Err(Error::BufferTooSmall { need, have }) } else { Ok(need) };
        // SAFETY: a place for the result, by the check above.
        unsafe { counted(result, count) }
    })
}

/// Turns tokens that a model wrote into events. Total: no tokens make it fail, and no text is lost. One thread at a time.
pub struct ossicle_parser {
    _opaque: (),
}

pub(crate) struct State {
    parser: Parser,
    tokenizer: Tokenizer<'static>,
    queue: Queue,
    token_begin: u64,
    finished: bool,
}

impl Opaque for ossicle_parser {
    type State = State;
    const KIND: u32 = u32::from_le_bytes(*b"oPar");
}

/// The prompt did not end with the beginning of a message.
pub const OSSICLE_PARSER_NO_ROLE: u32 = 5;

/// How much memory a parser takes.
///
/// `layout`: gets the size and alignment in bytes, some 33 kilobytes.
///
/// Errors: none of its own.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_parser_layout(layout: *mut ossicle_layout) -> i32 {
    call(core::ptr::null_mut(), || {
        demand_output(layout)?;
        let mut carver = Carver::measuring();
        Queue::carve(&mut carver)?;
        // SAFETY: a place for the result, by the check above.
        unsafe { layout.write(self::layout::<ossicle_parser>(carver.layout()).into()) };
        Ok(OSSICLE_OK)
    })
}

/// Makes a parser.
///
/// `tokenizer`: of the vocabulary that the tokens are from. `region`, `region_size`: memory as ossicle_parser_layout says, in
/// bytes. `role`: OSSICLE_ROLE_*: the role that stood at the end of the prompt, after which the model goes on with the rest
/// of a header; or OSSICLE_PARSER_NO_ROLE. `parser`: gets the parser.
///
/// Memory: the region and the tokenizer have to stay as they are while the parser is in use.
/// Errors: OSSICLE_ERROR_VOCABULARY if the vocabulary has not the tokens of the format; OSSICLE_ERROR_REGION_SIZE,
/// OSSICLE_ERROR_REGION_ALIGN.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_parser_new(
    tokenizer: *const ossicle_tokenizer,
    region: *mut c_void,
    region_size: usize,
    role: u32,
    parser: *mut *mut ossicle_parser,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(parser)?;
        // SAFETY: as the header says.
        let tokenizer = *unsafe { shared(tokenizer) }?;
        let role = if role == OSSICLE_PARSER_NO_ROLE { None } else { Some(role_of(role)?) };
        let special = SpecialTokens::of(&tokenizer)?;
        let make = |behind: &'static mut [MaybeUninit<u8>]| {
            let queue = Queue::carve(&mut Carver::placing(behind)?)?;
            Ok(State { parser: Parser::new(special, role), tokenizer, queue, token_begin: 0, finished: false })
        };
        // SAFETY: as the header says.
        let made = unsafe { place::<ossicle_parser>(region, region_size, make) }?;
        // SAFETY: a place for the result, by the check above.
        unsafe { parser.write(made) };
        Ok(OSSICLE_OK)
    })
}

/// Hands tokens to a parser.
///
/// `tokens`, `count`: the next tokens. `taken`: gets how many were taken.
///
/// Returns OSSICLE_MORE if events have to be taken before the other tokens can be.
/// Memory: nothing is kept.
/// Errors: OSSICLE_ERROR_STATE after ossicle_parser_finish.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_parser_push(
    parser: *mut ossicle_parser,
    tokens: *const u32,
    count: usize,
    taken: *mut usize,
) -> i32 {
    call(core::ptr::null_mut(), || {
        demand_output(taken)?;
        // SAFETY: as the header says.
        let (mut state, tokens) = unsafe { (exclusive(parser)?, slice_of(tokens, count)?) };
        let State { parser, tokenizer, queue, token_begin, finished } = &mut *state;
        if *finished {
            return Err(Error::State("a parser that is not finished").into());
        }
        let mut done = 0;
        for token in tokens {
            if !queue.has_room() {
                break;
            }
            parser.push(*token, &*tokenizer, &mut |event| queue.take_parser(event, token_begin));
            done += 1;
        }
        queue.check()?;
        // SAFETY: a place for the result, by the check above.
        unsafe { taken.write(done) };
        Ok(if done < tokens.len() { OSSICLE_MORE } else { OSSICLE_OK })
    })
}

/// Says that no more tokens come. What has begun is ended; its events are to be taken.
///
/// Returns OSSICLE_MORE, having done nothing, if events have to be taken first.
/// Errors: none of its own; a second call does nothing.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_parser_finish(parser: *mut ossicle_parser) -> i32 {
    call(core::ptr::null_mut(), || {
        // SAFETY: as the header says.
        let mut state = unsafe { exclusive(parser) }?;
        let State { parser, queue, token_begin, finished, .. } = &mut *state;
        if !*finished {
            if !queue.has_room() {
                return Ok(OSSICLE_MORE);
            }
            parser.finish(&mut |event| queue.take_parser(event, token_begin));
            queue.check()?;
            *finished = true;
        }
        Ok(OSSICLE_OK)
    })
}

/// Takes the next event.
///
/// `event`: gets a pointer to it.
///
/// Returns OSSICLE_MORE with an event, and OSSICLE_OK without, if none waits.
/// Memory: the event and its texts are part of the parser, until the next ossicle_parser_push or ossicle_parser_finish.
/// Errors: none of its own.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_parser_event(parser: *mut ossicle_parser, event: *mut *const ossicle_event) -> i32 {
    call(core::ptr::null_mut(), || {
        demand_output(event)?;
        // SAFETY: as the header says.
        let Some(found) = unsafe { exclusive(parser) }?.queue.next() else { return Ok(OSSICLE_OK) };
        // SAFETY: a place for the result, by the check above.
        unsafe { event.write(found) };
        Ok(OSSICLE_MORE)
    })
}
