//! Chapter 13, third part: a conversation in one call.

use core::ffi::c_char;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};
use std::boxed::Box;
use std::path::Path;
use std::string::String;
use std::sync::{Mutex, MutexGuard, TryLockError};

use ::ossicle_host::policy::Subject;
use ::ossicle_host::{Checkpoint, Memory, harmony};
use ossicle_core::generation::Generation;
use ossicle_core::harmony::conversation::Message;

use crate::chat_host::{self, Guard, ossicle_chat_host};
use crate::chat_tools::Equipment;
use crate::checkpoint::{Opened, open, path_of};
use crate::event::ossicle_event;
use crate::generation::{
    State, ossicle_generation, ossicle_generation_append, ossicle_generation_layout, ossicle_generation_new,
};
use crate::hooks::ossicle_host;
use crate::input::{Array, Versioned, argument, demand_output, ossicle_text};
use crate::message::{
    OSSICLE_ROLE_DEVELOPER, OSSICLE_ROLE_SYSTEM, OSSICLE_ROLE_USER, ossicle_developer, ossicle_message, ossicle_system,
};
use crate::model::ossicle_model;
use crate::object::{Opaque, boxed, busy, exclusive, failed, shared, unboxed};
use crate::session::{ossicle_session_config, ossicle_session_layout, ossicle_session_new};
use crate::status::{Failure, OSSICLE_ERROR_RENDER, OSSICLE_MORE, OSSICLE_OK, Result, call, ossicle_error};
use crate::system::{Pool, lent, made, told};
use crate::tokenizer::ossicle_tokenizer;
use crate::turn::{
    begin_after, ossicle_turn, ossicle_turn_cancel, ossicle_turn_config, ossicle_turn_event, ossicle_turn_layout,
    ossicle_turn_step,
};

/// Adds messages as JSON, in the form of OpenAI's library: `{"messages": [{"role": "user", "content": "..."}]}`.
///
/// `json`: the text.
///
/// Memory: nothing is kept; memory to work in is allocated.
/// Errors: OSSICLE_ERROR_RENDER if it is not of that form; else as ossicle_generation_append.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_generation_append_json(
    generation: *mut ossicle_generation,
    json: ossicle_text,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        // SAFETY: as the header says.
        let (mut state, json) = unsafe { (exclusive(generation)?, json.read()?.unwrap_or_default()) };
        let generation = &mut state.generation;
        let append = |messages: &[Message<'_>]| {
            let mut scratch = std::vec![0; generation.scratch_size(messages)?];
            generation.append(messages, &mut scratch)
        };
        let malformed = |text: String| Failure::Host(OSSICLE_ERROR_RENDER, text);
        harmony::with_conversation(json.as_bytes(), append).map_err(malformed)??;
        Ok(OSSICLE_OK)
    })
}

/// A model, its session and a conversation, in memory of the library. One thread at a time.
pub struct ossicle_chat {
    _opaque: (),
}

pub(crate) struct Chat {
    pub generation: *mut ossicle_generation,
    pub host: ossicle_host,
    pub turn: *mut ossicle_turn,
    /// What the host lends to answers.
    pub lent: Option<ossicle_chat_host>,
    /// The tools that it carries out by itself.
    pub equipment: Option<Equipment>,
    /// Of the answer under way, if something stands between it and the program.
    pub guard: Option<Guard>,
    turn_memory: Option<Memory>,
    _memory: [Memory; 2],
    _pool: Box<Pool>,
    opened: Opened,
}

/// A chat, and what other threads may say to it meanwhile.
pub(crate) struct Shared {
    chat: Mutex<Chat>,
    /// Whether the answer under way is to end.
    is_cancelled: AtomicBool,
}

impl Opaque for ossicle_chat {
    type State = Shared;
    const KIND: u32 = u32::from_le_bytes(*b"oCha");
}

/// A chat that one call at a time may use, and whether its answer is to end.
///
/// # Safety
/// As the header says.
pub(crate) unsafe fn in_use<'a>(chat: *const ossicle_chat) -> Result<(MutexGuard<'a, Chat>, &'a AtomicBool)> {
    // SAFETY: as the caller promises.
    let Shared { chat, is_cancelled } = unsafe { shared(chat) }?;
    match chat.try_lock() {
        Ok(chat) => Ok((chat, is_cancelled)),
        Err(TryLockError::WouldBlock) => Err(busy()),
        Err(TryLockError::Poisoned(_)) => Err(failed()),
    }
}

/// How a chat begins.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_chat_config {
    /// sizeof (ossicle_chat_config).
    pub struct_size: u32,
    /// Threads to compute with; 0 for as many as the process may use at once.
    pub threads: u32,
    /// The session; null for the defaults.
    pub session: *const ossicle_session_config,
    /// The system message; null for the default one.
    pub system: *const ossicle_system,
    /// The developer message; null for none.
    pub developer: *const ossicle_developer,
    /// OSSICLE_TOOL_*, added up: tools that the chat carries out by itself. The system message tells the model of them, every
    /// answer may call them, and the model goes on with what they answer. Python runs in a box without network and files,
    /// which needs Linux, bubblewrap and /usr/bin/python3; what it defines stays as long as the chat. The browser searches
    /// the web and opens public pages; what the model cites of them is told as a link in Markdown. It is part of a library that
    /// is built with the feature `browser`, which is a default.
    pub tools: u32,
    /// 0.
    pub reserved: u32,
    /// Who searches for the browser: `exa`, `you`, or the address of a SearXNG whose settings allow JSON; null without one.
    pub search_engine: ossicle_text,
    /// The key for `exa` or `you`, which goes to no other address; null otherwise.
    pub search_key: ossicle_text,
}

// SAFETY: pointers that may be null, and numbers.
unsafe impl Versioned for ossicle_chat_config {}

/// Opens a model by its path, and begins a conversation with it: all of the chapters above in one call.
///
/// `path`: as for ossicle_checkpoint_open. `config`: null for the defaults. `chat`: gets the chat.
///
/// Memory: the library's, until ossicle_chat_close; the configuration is read during the call only.
/// Errors: as the functions of the chapters above; OSSICLE_ERROR_TOOL if a tool of the configuration is not to be had here, and
/// OSSICLE_ERROR_ARGUMENT if the browser lacks a search engine or that its key, or either is given to what does not take it.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_chat_open(
    path: *const c_char,
    config: *const ossicle_chat_config,
    chat: *mut *mut ossicle_chat,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(chat)?;
        // SAFETY: as the header says.
        let (path, config) = unsafe { (path_of(path)?, ossicle_chat_config::read(config)?) };
        if config.reserved != 0 {
            return argument("0 in what is reserved");
        }
        // SAFETY: as the header says.
        let (engine, key) = unsafe { (config.search_engine.read()?, config.search_key.read()?) };
        let equipment = Equipment::new(config.tools, engine, key)?;
        // SAFETY: as the header says.
        let opened = unsafe { open(Checkpoint::open(Path::new(path))?, error) }?;
        let pool = Pool::new(config.threads);
        let mut session = ptr::null_mut();
        let session_memory = made(
            // SAFETY: as the header says of the configuration; the model was just made.
            |needed| unsafe { ossicle_session_layout(opened.model, config.session, needed, error) },
            // SAFETY: the same; the memory stays with the session.
            |region, size| unsafe {
                ossicle_session_new(opened.model, region, size, config.session, &mut session, error)
            },
        )?;
        let mut generation = ptr::null_mut();
        let memory = made(
            // SAFETY: both were just made.
            |needed| unsafe { ossicle_generation_layout(session, opened.tokenizer, ptr::null(), needed, error) },
            // SAFETY: the same; the memory stays with the generation.
            |region, size| unsafe {
                let config = ptr::null();
                ossicle_generation_new(session, opened.tokenizer, region, size, config, &mut generation, error)
            },
        )?;
        // SAFETY: as the header says.
        let system = unsafe { ossicle_system::read(config.system) }?;
        let struct_size = size_of::<ossicle_system>() as u32;
        let system = ossicle_system { struct_size, tools: system.tools | config.tools, ..system };
        let messages = [
            ossicle_message { role: OSSICLE_ROLE_SYSTEM, system: &system, ..empty_message() },
            ossicle_message { role: OSSICLE_ROLE_DEVELOPER, developer: config.developer, ..empty_message() },
        ];
        let count = if config.developer.is_null() { 1 } else { 2 };
        // SAFETY: as the header says of the messages' parts.
        told(unsafe { ossicle_generation_append(generation, messages.as_ptr(), count, error) })?;
        let state = Chat {
            generation,
            host: lent(&pool),
            turn: ptr::null_mut(),
            lent: None,
            equipment,
            guard: None,
            turn_memory: None,
            _memory: [session_memory, memory],
            _pool: pool,
            opened,
        };
        // SAFETY: a place for the result, by the check above.
        unsafe { chat.write(boxed(Shared { chat: Mutex::new(state), is_cancelled: AtomicBool::new(false) })) };
        Ok(OSSICLE_OK)
    })
}

pub(crate) fn empty_message() -> ossicle_message {
    ossicle_message { struct_size: size_of::<ossicle_message>() as u32, ..ossicle_message::zero() }
}

/// Whether the answer keeps to nothing.
///
/// # Safety
/// As the header says of the configuration.
unsafe fn is_free(config: &ossicle_turn_config) -> Result<bool> {
    // SAFETY: as the caller promises.
    let constraints = unsafe { Array::of(config.constraints, config.constraint_count) }?;
    for index in 0..constraints.len {
        // SAFETY: as the caller promises.
        if unsafe { constraints.get(index) }?.tool.start.is_null() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The user says something, and the model begins to answer.
///
/// `text`: what; null to let the model go on, such as after what a tool answers was appended. `config`: how to answer; null
/// for the defaults.
///
/// Memory: as ossicle_turn_new.
/// Errors: as ossicle_generation_append and ossicle_turn_new. The conversation is as before, but for an unfinished message that
/// may be ended; with OSSICLE_ERROR_CAPACITY it may also have the text, and no room for an answer.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_chat_ask(
    chat: *mut ossicle_chat,
    text: ossicle_text,
    config: *const ossicle_turn_config,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        // SAFETY: as the header says.
        let ((mut chat, is_cancelled), said) = unsafe { (in_use(chat)?, text.read()?) };
        // SAFETY: as the header says.
        let config = unsafe { ossicle_turn_config::read(config) }?;
        is_cancelled.store(false, Ordering::Relaxed);
        // SAFETY: as the header says.
        let answer_is_free = unsafe { is_free(&config) }?;
        let recipients = match &chat.equipment {
            // SAFETY: as the header says.
            Some(equipment) => unsafe { equipment.with(config.recipients, config.recipient_count) }?,
            None => Vec::new(),
        };
        let config = match &chat.equipment {
            Some(_) => {
                ossicle_turn_config { recipients: recipients.as_ptr(), recipient_count: recipients.len(), ..config }
            }
            None => config,
        };
        let config = &ossicle_turn_config { struct_size: size_of::<ossicle_turn_config>() as u32, ..config };
        let has_guard = chat.lent.is_some() || chat.equipment.is_some();
        let mut guard = has_guard.then(|| Guard::new(chat.lent, answer_is_free));
        let heard = guard.as_mut().zip(said).map(|(guard, said)| guard.hear(&Subject::Prompt(said)));
        if heard == Some(None) {
            (chat.turn, chat.turn_memory, chat.guard) = (ptr::null_mut(), None, guard);
            return Ok(OSSICLE_OK);
        }
        let heard = heard.flatten();
        let text = heard.as_deref().map_or(text, ossicle_text::of);
        let (generation, mut turn) = (chat.generation, ptr::null_mut());
        let message = ossicle_message { role: OSSICLE_ROLE_USER, text, ..empty_message() };
        let ask = |state: &mut State| match text.start.is_null() {
            true => Ok(()),
            // SAFETY: as the header says of the text.
            false => unsafe { state.take(&message, 1, Generation::append) },
        };
        let memory = made(
            // SAFETY: as the header says of the configuration.
            |needed| unsafe { ossicle_turn_layout(config, needed, error) },
            |region, size| {
                // SAFETY: the same; the memory stays with the turn.
                call(error, || unsafe { begin_after(generation, region, size, config, &mut turn, ask) })
            },
        )?;
        chat.turn_memory = Some(memory);
        (chat.turn, chat.guard) = (turn, guard);
        Ok(OSSICLE_OK)
    })
}

/// Takes the next event of the answer, and computes until there is one.
///
/// `event`: gets a pointer to it.
///
/// Returns OSSICLE_MORE with an event, and OSSICLE_OK without, once the answer is over and all events have been taken.
/// Memory: the event and its texts are part of the chat, until the next call with it.
/// Errors: OSSICLE_ERROR_STATE if nothing was asked; as ossicle_turn_step; OSSICLE_ERROR_CAPACITY if what a tool that is carried
/// out answers finds no room, and OSSICLE_ERROR_ARGUMENT if it is not UTF-8: the answer is over then.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_chat_next(
    chat: *mut ossicle_chat,
    event: *mut *const ossicle_event,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(event)?;
        // SAFETY: as the header says.
        let (mut chat, is_cancelled) = unsafe { in_use(chat) }?;
        if chat.guard.is_some() {
            let Some(found) = chat_host::next(&mut chat, is_cancelled, error)? else { return Ok(OSSICLE_OK) };
            // SAFETY: a place for the result, by the check above.
            unsafe { event.write(found) };
            return Ok(OSSICLE_MORE);
        }
        if chat.turn.is_null() {
            return Err(ossicle_core::error::Error::State("something to have been asked").into());
        }
        // SAFETY: the turn's memory is part of the chat; a place for the result, by the check above.
        unsafe { next_event(&chat, is_cancelled, event, error) }
    })
}

/// As ossicle_turn_next, but that the turn ends once that is wanted.
///
/// # Safety
/// The chat has a turn, and there is a place for the event.
pub(crate) unsafe fn next_event(
    Chat { turn, host, .. }: &Chat,
    is_cancelled: &AtomicBool,
    event: *mut *const ossicle_event,
    error: *mut ossicle_error,
) -> Result<i32> {
    let mut is_over = false;
    loop {
        // SAFETY: as the caller promises.
        let found = unsafe { ossicle_turn_event(*turn, event) };
        told(found)?;
        if found == OSSICLE_MORE || is_over {
            return Ok(found);
        }
        let status = match is_cancelled.load(Ordering::Relaxed) {
            // SAFETY: the same.
            true => unsafe { ossicle_turn_cancel(*turn) },
            // SAFETY: the same. It returns after a layer.
            false => unsafe { ossicle_turn_step(*turn, host, 0, error) },
        };
        told(status)?;
        is_over = status == OSSICLE_OK;
    }
}

/// Ends the answer under way, as soon as possible: an ossicle_chat_next that computes, or waits for a tool that the chat carries
/// out by itself, goes on to the last event, OSSICLE_STOP_CANCELLED. Code that runs is ended, and what it has defined is lost.
/// Without an answer under way it does nothing, and the next ossicle_chat_ask forgets it.
///
/// Memory: nothing is kept.
/// Errors: none of its own.
/// Threads: any, also while another call uses the chat, but ossicle_chat_close; and from a signal handler.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_chat_cancel(chat: *mut ossicle_chat) -> i32 {
    call(ptr::null_mut(), || {
        // SAFETY: as the header says.
        unsafe { shared(chat) }?.is_cancelled.store(true, Ordering::Relaxed);
        Ok(OSSICLE_OK)
    })
}

/// The generation of a chat, and what to pass with it, for what the functions above do not offer.
///
/// `generation`: gets the generation. `turn`: gets the turn under way, or null. `host`: with its struct_size set; gets the
/// threads.
///
/// Memory: they are part of the chat; the turn until the next ossicle_chat_ask.
/// Errors: OSSICLE_ERROR_STRUCT_SIZE of `host`.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_chat_parts(
    chat: *mut ossicle_chat,
    generation: *mut *mut ossicle_generation,
    turn: *mut *mut ossicle_turn,
    host: *mut ossicle_host,
) -> i32 {
    call(ptr::null_mut(), || {
        demand_output(generation)?;
        demand_output(turn)?;
        // SAFETY: as the header says.
        let (chat, _) = unsafe { in_use(chat) }?;
        // SAFETY: as the header says of `host`; places for the other results, by the checks above.
        unsafe {
            chat.host.write(host)?;
            generation.write(chat.generation);
            turn.write(chat.turn);
        }
        Ok(OSSICLE_OK)
    })
}

/// The tokenizer of a chat: for the index of schemas.
///
/// `tokenizer`: gets it.
///
/// Memory: it is part of the chat.
/// Errors: none of its own.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_chat_tokenizer(
    chat: *mut ossicle_chat,
    tokenizer: *mut *const ossicle_tokenizer,
) -> i32 {
    call(ptr::null_mut(), || {
        demand_output(tokenizer)?;
        // SAFETY: as the header says.
        let (chat, _) = unsafe { in_use(chat) }?;
        // SAFETY: a place for the result, by the check above.
        unsafe { tokenizer.write(chat.opened.tokenizer) };
        Ok(OSSICLE_OK)
    })
}

/// The model of a chat: for its adapters.
///
/// `model`: gets it.
///
/// Memory: it is part of the chat.
/// Errors: none of its own.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_chat_model(chat: *mut ossicle_chat, model: *mut *const ossicle_model) -> i32 {
    call(ptr::null_mut(), || {
        demand_output(model)?;
        // SAFETY: as the header says.
        let (chat, _) = unsafe { in_use(chat) }?;
        // SAFETY: a place for the result, by the check above.
        unsafe { model.write(chat.opened.model) };
        Ok(OSSICLE_OK)
    })
}

/// Ends a chat, and what its tools have running.
///
/// `chat`: null is none.
///
/// Memory: freed.
/// Errors: OSSICLE_ERROR_OBJECT, OSSICLE_ERROR_BUSY.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_chat_close(chat: *mut ossicle_chat) -> i32 {
    call(ptr::null_mut(), || {
        if !chat.is_null() {
            // SAFETY: as the header says.
            let state = unsafe { shared(chat) }?;
            if let Err(TryLockError::WouldBlock) = state.chat.try_lock() {
                return Err(busy());
            }
        }
        // SAFETY: as the header says.
        unsafe { unboxed(chat) }?;
        Ok(OSSICLE_OK)
    })
}
