//! Chapter 12, first part: a conversation with the model.

use core::ffi::c_void;
use core::mem::{MaybeUninit, needs_drop};
use core::ptr;

use ossicle_core::error::{Error, Result as CoreResult};
use ossicle_core::generation::{Generation, GenerationConfig};
use ossicle_core::harmony::conversation::Message;
use ossicle_core::region::{ALIGN, Layout};
use ossicle_core::transformer::Session;

use crate::harmony::with_messages;
use crate::input::{Versioned, demand_output, gather, ossicle_bytes, ossicle_layout};
use crate::message::{history_of, ossicle_message};
use crate::object::{Opaque, exclusive, layout, place, shared};
use crate::session::ossicle_session;
use crate::status::{OSSICLE_OK, Result, call, ossicle_error};
use crate::tokenizer::ossicle_tokenizer;

/// A conversation as tokens, and the session that has taken in the first of them. One thread at a time; it may move between
/// threads.
pub struct ossicle_generation {
    _opaque: (),
}

pub(crate) struct State {
    pub generation: Generation<'static, 'static>,
    scratch: &'static mut [MaybeUninit<u8>],
}

impl Opaque for ossicle_generation {
    type State = State;
    const KIND: u32 = u32::from_le_bytes(*b"oGen");
}

/// How large a conversation is, and what happens to its past.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_generation_config {
    /// sizeof (ossicle_generation_config).
    pub struct_size: u32,
    /// Most messages that the conversation can have; 0 for 1024.
    pub messages: u32,
    /// OSSICLE_HISTORY_*: what happens to past reasoning.
    pub history: u32,
    /// Bytes to put messages together in: as many as the largest developer message with its tools, and 100 for each message
    /// of a call; 0 for 65536.
    pub scratch_size: u32,
}

// SAFETY: numbers.
unsafe impl Versioned for ossicle_generation_config {}

const SCRATCH: usize = 65536;

/// # Safety
/// As the header says of the configuration.
unsafe fn config_of(config: *const ossicle_generation_config) -> Result<(GenerationConfig, usize)> {
    // SAFETY: as the caller promises.
    let config = unsafe { ossicle_generation_config::read(config) }?;
    let messages = if config.messages == 0 { GenerationConfig::default().messages } else { config.messages as usize };
    let scratch = if config.scratch_size == 0 { SCRATCH } else { config.scratch_size as usize };
    // It may be all that 32 bits can address.
    let too_large = Error::Setting { name: "scratch_size", expected: "a size that memory can have" };
    let scratch = scratch.checked_next_multiple_of(ALIGN).ok_or(too_large)?;
    Ok((GenerationConfig { messages, history: history_of(config.history)? }, scratch))
}

/// Chapter 12: a conversation with the model.
///
/// How much memory a generation takes, besides its session.
///
/// `session`: the session that it will take over. `tokenizer`: of the same vocabulary. `config`: how large; null for the
/// defaults. `layout`: gets the size and alignment in bytes.
///
/// Memory: nothing is kept.
/// Errors: OSSICLE_ERROR_ARGUMENT; OSSICLE_ERROR_SETTING if scratch_size is more than memory can have.
/// Threads: the session's.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_generation_layout(
    session: *const ossicle_session,
    tokenizer: *const ossicle_tokenizer,
    config: *const ossicle_generation_config,
    layout: *mut ossicle_layout,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(layout)?;
        // SAFETY: as the header says.
        let (session, tokenizer) = unsafe { (exclusive(session)?, shared(tokenizer)?) };
        // SAFETY: as the header says.
        let (config, scratch) = unsafe { config_of(config) }?;
        let inner = Generation::layout(tokenizer, session.config().context_tokens, &config)?;
        let behind = Layout { size: inner.size.saturating_add(scratch), ..inner };
        // SAFETY: a place for the result, by the check above.
        unsafe { layout.write(self::layout::<ossicle_generation>(behind).into()) };
        Ok(OSSICLE_OK)
    })
}

/// Begins an empty conversation.
///
/// `session`: an empty session, which becomes part of the generation: from now on calls with the session itself fail with
/// OSSICLE_ERROR_STATE. `tokenizer`: of the same vocabulary. `region`, `region_size`: memory as ossicle_generation_layout
/// says, in bytes. `config`: the same as there. `generation`: gets the generation.
///
/// Memory: the region, the session's region and the tokenizer have to stay as they are while the generation is in use. There
/// is nothing to free.
/// Errors: OSSICLE_ERROR_VOCABULARY if the vocabulary has not the tokens of the format, or more tokens than the model;
/// OSSICLE_ERROR_STATE if the session holds tokens; OSSICLE_ERROR_REGION_SIZE, OSSICLE_ERROR_REGION_ALIGN. The session is as
/// before.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_generation_new(
    session: *mut ossicle_session,
    tokenizer: *const ossicle_tokenizer,
    region: *mut c_void,
    region_size: usize,
    config: *const ossicle_generation_config,
    generation: *mut *mut ossicle_generation,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(generation)?;
        // SAFETY: as the header says.
        let (mut session, tokenizer) = unsafe { (exclusive(session)?, *shared(tokenizer)?) };
        // SAFETY: as the header says.
        let (config, _) = unsafe { config_of(config) }?;
        let inner = Generation::layout(&tokenizer, session.config().context_tokens, &config)?.size;
        const { assert!(!needs_drop::<Session<'_, '_>>()) };
        // SAFETY: if the generation is made, the original is never used again; if not, the copy is not, and leaves nothing
        // behind.
        let copy = unsafe { ptr::read(&raw const *session) };
        let make = |behind: &'static mut [MaybeUninit<u8>]| {
            let (inner, scratch) = behind.split_at_mut(inner.min(behind.len()));
            Ok(State { generation: Generation::new(inner, copy, tokenizer, &config)?, scratch })
        };
        // SAFETY: as the header says.
        let made = unsafe { place::<ossicle_generation>(region, region_size, make) }?;
        session.give();
        // SAFETY: a place for the result, by the check above.
        unsafe { generation.write(made) };
        Ok(OSSICLE_OK)
    })
}

impl State {
    /// Hands messages over to the generation in its own scratch memory, to be appended or to replace what is there.
    ///
    /// # Safety
    /// As the header says of [`ossicle_generation_append`].
    pub unsafe fn take(
        &mut self,
        messages: *const ossicle_message,
        count: usize,
        with: impl FnOnce(&mut Generation<'static, 'static>, &[Message<'_>], &mut [u8]) -> CoreResult<()>,
    ) -> Result<()> {
        let Self { generation, scratch } = self;
        // SAFETY: as the caller promises.
        unsafe { with_messages(messages, count, scratch, |messages, scratch| Ok(with(generation, messages, scratch)?)) }
    }
}

/// Adds messages at the end: at first the system's and developer's, later what the user says and tools answer. What the
/// model wrote is there already. A turn that is under way is over, and what it has written stays.
///
/// `messages`, `count`: the messages.
///
/// Memory: nothing is kept.
/// Errors: OSSICLE_ERROR_RENDER if a message cannot be rendered; OSSICLE_ERROR_BUFFER if scratch_size is too small for it;
/// OSSICLE_ERROR_TOKEN if one of its own_tokens is none of the model's; OSSICLE_ERROR_CAPACITY if the context or the list of
/// messages is full. The conversation is as before, but for an unfinished message that may be ended, and, where room is short,
/// without the reasoning of earlier answers that goes with the next message anyway.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_generation_append(
    generation: *mut ossicle_generation,
    messages: *const ossicle_message,
    count: usize,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        // SAFETY: as the header says.
        unsafe { exclusive(generation)?.take(messages, count, Generation::append) }?;
        Ok(OSSICLE_OK)
    })
}

/// Makes `messages` the whole conversation. What the session holds of it already is not computed again.
///
/// `messages`, `count`: the messages.
///
/// Memory: nothing is kept.
/// Errors: as ossicle_generation_append; the conversation is then empty.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_generation_replace(
    generation: *mut ossicle_generation,
    messages: *const ossicle_message,
    count: usize,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        // SAFETY: as the header says.
        unsafe { exclusive(generation)?.take(messages, count, Generation::replace) }?;
        Ok(OSSICLE_OK)
    })
}

/// The conversation as bytes, and all that the session has taken in of it: to go on in another process without computing
/// anything again, to branch off, to come back to. Of a turn under way, it is what the model has said so far.
///
/// `buffer`, `buffer_size`: where the bytes go. `size`: gets how many bytes there are, also if there is not room for all.
///
/// Errors: OSSICLE_ERROR_BUFFER; what fits is in place.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_generation_save(
    generation: *const ossicle_generation,
    buffer: *mut c_void,
    buffer_size: usize,
    size: *mut usize,
) -> i32 {
    call(ptr::null_mut(), || {
        // SAFETY: as the header says.
        let generation = &unsafe { exclusive(generation) }?.generation;
        // SAFETY: as the header says.
        unsafe { gather(buffer, buffer_size, size, |write| generation.save(write)) }
    })
}

/// Makes a conversation that was saved the whole conversation: with the same model, precision, format of the cache and adapters, with any
/// kernels and threads, and in any size that it fits in. A turn that is under way is over.
///
/// `bytes`: what ossicle_generation_save wrote.
///
/// Memory: nothing is kept.
/// Errors: OSSICLE_ERROR_FILE if that is not such a snapshot, or not as it was written; OSSICLE_ERROR_CAPACITY if there is not
/// enough room; OSSICLE_ERROR_TOKEN. The conversation is as before.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_generation_restore(
    generation: *mut ossicle_generation,
    bytes: ossicle_bytes,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        // SAFETY: as the header says.
        let (mut state, bytes) = unsafe { (exclusive(generation)?, bytes.read()?.unwrap_or_default()) };
        state.generation.restore(bytes)?;
        Ok(OSSICLE_OK)
    })
}

/// Makes the conversation of another generation the whole conversation, with all that its session has taken in: to try several ways on from
/// there. Model, precision, format of the cache and adapters are the same, the size any that it fits in. A turn that is under way here is
/// over; of one there, this conversation has what was said so far. Neither notices what becomes of the other.
///
/// `origin`: the other generation.
///
/// Memory: nothing is kept.
/// Errors: OSSICLE_ERROR_STATE if the model, the precision, the format of the cache or the adapters are others; OSSICLE_ERROR_CAPACITY if
/// there is not enough room; OSSICLE_ERROR_BUSY if the two are one. The conversation is as before.
/// Threads: one at a time, with the other generation too.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_generation_fork(
    generation: *mut ossicle_generation,
    origin: *const ossicle_generation,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        // SAFETY: as the header says.
        let (mut state, origin) = unsafe { (exclusive(generation)?, exclusive(origin)?) };
        state.generation.fork_from(&origin.generation)?;
        Ok(OSSICLE_OK)
    })
}

/// Goes back to where the conversation had only its first messages. A turn that is under way is over. What the session no
/// longer holds from there, the next turn computes again.
///
/// `messages`: how many stay.
///
/// Errors: OSSICLE_ERROR_STATE if not so many are finished. The conversation is as before.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_generation_rewind(
    generation: *mut ossicle_generation,
    messages: u32,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        // SAFETY: as the header says.
        unsafe { exclusive(generation) }?.generation.rewind(messages as usize)?;
        Ok(OSSICLE_OK)
    })
}

/// How many messages of the conversation are finished: those that were given, without reasoning that was dropped, and the
/// model's own.
///
/// `messages`: gets the number.
///
/// Errors: none of its own.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_generation_messages(generation: *const ossicle_generation, messages: *mut u32) -> i32 {
    call(ptr::null_mut(), || {
        demand_output(messages)?;
        // SAFETY: as the header says.
        let found = unsafe { exclusive(generation) }?.generation.boundaries().len() - 1;
        // SAFETY: a place for the result, by the check above.
        unsafe { messages.write(found as u32) };
        Ok(OSSICLE_OK)
    })
}

/// The tokens of the conversation, the model's own among them.
///
/// `tokens`, `count`: get the first and the number of them.
///
/// Memory: they are part of the generation, until the next call with it or its turn.
/// Errors: none of its own.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_generation_tokens(
    generation: *const ossicle_generation,
    tokens: *mut *const u32,
    count: *mut usize,
) -> i32 {
    call(ptr::null_mut(), || {
        demand_output(tokens)?;
        demand_output(count)?;
        // SAFETY: as the header says.
        let state = unsafe { exclusive(generation) }?;
        let found = state.generation.tokens();
        // SAFETY: places for the results, by the checks above.
        unsafe {
            tokens.write(found.as_ptr());
            count.write(found.len());
        }
        Ok(OSSICLE_OK)
    })
}

/// How many tokens of the conversation the session has taken in: with the number of all tokens, the progress of a long
/// prompt.
///
/// `position`: gets the number.
///
/// Errors: none of its own.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_generation_position(generation: *const ossicle_generation, position: *mut u32) -> i32 {
    call(ptr::null_mut(), || {
        demand_output(position)?;
        // SAFETY: as the header says.
        let generation = &unsafe { exclusive(generation) }?.generation;
        // Tokens that may follow do not count.
        let found = generation.session().position().min(generation.tokens().len());
        // SAFETY: a place for the result, by the check above.
        unsafe { position.write(found as u32) };
        Ok(OSSICLE_OK)
    })
}
