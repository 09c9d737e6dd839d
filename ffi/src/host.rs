//! Chapter 13: paths, threads and memory of an operating system. Only in the library that is built with `host`.

use core::ffi::{c_char, c_void};
use core::ptr;
use std::alloc;
use std::boxed::Box;
use std::ffi::CStr;
use std::path::Path;
use std::string::{String, ToString};
use std::time::Instant;
use std::vec::Vec;

use ::ossicle_host::vocabulary::{TokenizerJson, o200k_harmony_index};
use ::ossicle_host::{Checkpoint, Memory, OpenError, Threads, harmony};
use ossicle_core::harmony::conversation::Message;
use ossicle_core::harmony::render::Renderer;
use ossicle_core::parallel::Parallel;
use ossicle_core::tokenizer::Tokenizer;

use crate::event::ossicle_event;
use crate::generation::ossicle_generation_append;
use crate::generation::{ossicle_generation, ossicle_generation_layout, ossicle_generation_new};
use crate::hooks::{ossicle_host, ossicle_job};
use crate::input::{Versioned, argument, demand_output, ossicle_bytes, ossicle_layout, ossicle_text};
use crate::message::{
    OSSICLE_ROLE_DEVELOPER, OSSICLE_ROLE_SYSTEM, OSSICLE_ROLE_USER, ossicle_developer, ossicle_message, ossicle_system,
};
use crate::model::{ossicle_model, ossicle_model_config, ossicle_model_layout, ossicle_model_new};
use crate::object::{Opaque, boxed, exclusive, layout, place, shared, unboxed};
use crate::session::{ossicle_session_config, ossicle_session_layout, ossicle_session_new};
use crate::status::{
    Failure, OSSICLE_ERROR_MEMORY, OSSICLE_ERROR_RENDER, OSSICLE_ERROR_SYSTEM, OSSICLE_OK, Result, call, ossicle_error,
    status_of,
};
use crate::tokenizer::{ossicle_tokenizer, ossicle_tokenizer_config, ossicle_tokenizer_layout, ossicle_tokenizer_new};
use crate::turn::{ossicle_turn, ossicle_turn_config, ossicle_turn_layout, ossicle_turn_new, ossicle_turn_next};

/// The result of another function of the interface.
fn told(status: i32) -> Result<()> {
    if status < 0 { Err(Failure::Told(status)) } else { Ok(()) }
}

/// Chapter 13: with an operating system. These functions are in the library that is built with the feature `host`, and not in
/// the freestanding one.
///
/// A block of memory, zeroed. Pages are committed as they are first used.
///
/// `layout`: size and alignment, in bytes. `region`: gets the start.
///
/// Memory: the caller's, to be freed with ossicle_memory_free.
/// Errors: OSSICLE_ERROR_MEMORY, OSSICLE_ERROR_ARGUMENT.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_memory_new(layout: ossicle_layout, region: *mut *mut c_void) -> i32 {
    call(ptr::null_mut(), || {
        demand_output(region)?;
        let Ok(layout) = alloc::Layout::from_size_align(layout.size.max(1), layout.align) else {
            return argument("a layout");
        };
        // SAFETY: the size is not zero.
        let start = unsafe { alloc::alloc_zeroed(layout) };
        if start.is_null() {
            return Err(Failure::Border(OSSICLE_ERROR_MEMORY, "there is not so much memory"));
        }
        // SAFETY: a place for the result, by the check above.
        unsafe { region.write(start.cast()) };
        Ok(OSSICLE_OK)
    })
}

/// Frees a block of memory.
///
/// `region`: from ossicle_memory_new; null is none. `layout`: the same as there.
///
/// Memory: what was made in it is gone.
/// Errors: OSSICLE_ERROR_ARGUMENT.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_memory_free(region: *mut c_void, layout: ossicle_layout) -> i32 {
    call(ptr::null_mut(), || {
        let Ok(layout) = alloc::Layout::from_size_align(layout.size.max(1), layout.align) else {
            return argument("a layout");
        };
        if !region.is_null() {
            // SAFETY: allocated in `ossicle_memory_new` with this layout, as the header demands.
            unsafe { alloc::dealloc(region.cast(), layout) };
        }
        Ok(OSSICLE_OK)
    })
}

/// A pool of threads, with a clock.
pub struct ossicle_threads {
    _opaque: (),
}

pub(crate) struct Pool {
    threads: Threads,
    start: Instant,
}

impl Opaque for ossicle_threads {
    type State = Box<Pool>;
    const KIND: u32 = u32::from_le_bytes(*b"oThr");
}

unsafe extern "C" fn run_on_pool(pool: *mut c_void, job: ossicle_job, job_data: *mut c_void) {
    /// The job's data may cross threads, by the contract of a job.
    struct Data(*mut c_void);
    // SAFETY: a job may be entered by any number of threads at once.
    unsafe impl Sync for Data {}
    impl Data {
        fn get(&self) -> *mut c_void {
            self.0
        }
    }
    let data = Data(job_data);
    // SAFETY: `ossicle_threads_lend` passes a pool, which the header demands to stay.
    let pool = unsafe { &*pool.cast::<Pool>() };
    if let Some(job) = job {
        // SAFETY: the job and its data are valid until this returns.
        pool.threads.run(&|| unsafe { job(data.get()) });
    }
}

unsafe extern "C" fn clock_of_pool(pool: *mut c_void) -> u64 {
    // SAFETY: `ossicle_threads_lend` passes a pool, which the header demands to stay.
    let pool = unsafe { &*pool.cast::<Pool>() };
    u64::try_from(pool.start.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn lent(pool: &Pool) -> ossicle_host {
    ossicle_host {
        struct_size: size_of::<ossicle_host>() as u32,
        workers: pool.threads.workers() as u32,
        data: ptr::from_ref(pool).cast_mut().cast(),
        parallel: if pool.threads.workers() > 0 { Some(run_on_pool) } else { None },
        clock: Some(clock_of_pool),
        log: None,
    }
}

/// Starts a pool of threads.
///
/// `count`: threads to compute with, the calling one included; 0 for as many as the process may use at once. `threads`: gets
/// the pool.
///
/// Memory: the library's, until ossicle_threads_close.
/// Errors: none of its own; with fewer threads than asked for, all works, only slower.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_threads_open(count: u32, threads: *mut *mut ossicle_threads) -> i32 {
    call(ptr::null_mut(), || {
        demand_output(threads)?;
        let count = if count == 0 { Threads::available() } else { count as usize };
        let pool = Pool { threads: Threads::new(count), start: Instant::now() };
        // SAFETY: a place for the result, by the check above.
        unsafe { threads.write(boxed(Box::new(pool))) };
        Ok(OSSICLE_OK)
    })
}

/// What to pass to the functions that take an ossicle_host: the threads of the pool, and a clock.
///
/// `host`: gets it. Set `log` afterwards, and the clock to null, as you like; `data` is the pool's.
///
/// Memory: valid until ossicle_threads_close.
/// Errors: none of its own.
/// Threads: any; the threads run one job at a time, others wait.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_threads_lend(threads: *const ossicle_threads, host: *mut ossicle_host) -> i32 {
    call(ptr::null_mut(), || {
        demand_output(host)?;
        // SAFETY: as the header says.
        let pool = unsafe { shared(threads) }?;
        // SAFETY: a place for the result, by the check above.
        unsafe { host.write(lent(pool)) };
        Ok(OSSICLE_OK)
    })
}

/// Ends the threads of a pool.
///
/// `threads`: no call uses it any more; null is none.
///
/// Memory: freed.
/// Errors: OSSICLE_ERROR_OBJECT.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_threads_close(threads: *mut ossicle_threads) -> i32 {
    call(ptr::null_mut(), || {
        // SAFETY: as the header says.
        unsafe { unboxed(threads) }?;
        Ok(OSSICLE_OK)
    })
}

/// The files of a model, mapped into memory, with its tokenizer. Shared freely between threads.
pub struct ossicle_checkpoint {
    _opaque: (),
}

pub(crate) struct Opened {
    model: *mut ossicle_model,
    tokenizer: *mut ossicle_tokenizer,
    // What the two lie in, and point to.
    _memory: [Memory; 2],
    _checkpoint: Box<Checkpoint>,
}

impl Opaque for ossicle_checkpoint {
    type State = Opened;
    const KIND: u32 = u32::from_le_bytes(*b"oChe");
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let status = match &error {
            OpenError::Core { error, .. } => status_of(error),
            OpenError::Io { .. } | OpenError::Format { .. } => OSSICLE_ERROR_SYSTEM,
        };
        Self::Host(status, error.to_string())
    }
}

/// # Safety
/// As the header says of the error.
unsafe fn open(checkpoint: Checkpoint, error: *mut ossicle_error) -> Result<Opened> {
    let checkpoint = Box::new(checkpoint);
    let files = checkpoint.bytes();
    let files: Vec<_> = files.iter().map(|file| of_bytes(file)).collect();
    let config = ossicle_model_config {
        struct_size: size_of::<ossicle_model_config>() as u32,
        file_count: files.len() as u32,
        files: files.as_ptr(),
        config_json: checkpoint.config_json().map_or(NO_BYTES, of_bytes),
    };
    let mut model = ptr::null_mut();
    let model_memory = made(
        // SAFETY: the structs above; the bytes stay with the checkpoint.
        |needed| unsafe { ossicle_model_layout(&config, needed, error) },
        // SAFETY: the same; the memory stays with it too.
        |region, size| unsafe { ossicle_model_new(region, size, &config, &mut model, error) },
    )?;
    let mut tokenizer = ptr::null_mut();
    // SAFETY: just made.
    let state = unsafe { shared(model.cast_const()) }?;
    let beside = checkpoint.paths().first().map(|path| path.with_file_name("tokenizer.json"));
    let tokenizer_memory = match beside.filter(|path| state.files.vocabulary().is_none() && path.exists()) {
        Some(path) => {
            let system = |error: &dyn ToString| {
                Failure::Host(OSSICLE_ERROR_SYSTEM, std::format!("{}: {}", path.display(), error.to_string()))
            };
            let text = std::fs::read(&path).map_err(|error| system(&error))?;
            let source = TokenizerJson::parse(&text).map_err(|error| system(&error))?;
            let mut memory = Memory::new(layout::<ossicle_tokenizer>(Tokenizer::layout(&source)?));
            let region = memory.region();
            // SAFETY: the memory stays with the tokenizer.
            tokenizer = unsafe {
                place::<ossicle_tokenizer>(region.as_mut_ptr().cast(), region.len(), |behind| {
                    Ok(Tokenizer::new(&source, behind)?)
                })
            }?;
            memory
        }
        None => {
            let has_vocabulary = state.files.vocabulary().is_some();
            let config = ossicle_tokenizer_config {
                struct_size: size_of::<ossicle_tokenizer_config>() as u32,
                reserved: 0,
                model: if has_vocabulary { model } else { ptr::null_mut() },
                index: if has_vocabulary { NO_BYTES } else { of_bytes(o200k_harmony_index()) },
                ranks: NO_BYTES,
            };
            made(
                // SAFETY: the structs above.
                |needed| unsafe { ossicle_tokenizer_layout(&config, needed, error) },
                // SAFETY: the same; the memory stays with the tokenizer.
                |region, size| unsafe { ossicle_tokenizer_new(region, size, &config, &mut tokenizer, error) },
            )?
        }
    };
    Ok(Opened { model, tokenizer, _memory: [model_memory, tokenizer_memory], _checkpoint: checkpoint })
}

const NO_BYTES: ossicle_bytes = ossicle_bytes { start: ptr::null(), size: 0 };

fn of_bytes(bytes: &[u8]) -> ossicle_bytes {
    ossicle_bytes { start: bytes.as_ptr().cast(), size: bytes.len() }
}

/// Memory as `measure` says, in which `make` has made an object.
fn made(
    measure: impl FnOnce(*mut ossicle_layout) -> i32,
    make: impl FnOnce(*mut c_void, usize) -> i32,
) -> Result<Memory> {
    let mut needed = ossicle_layout { size: 0, align: 0 };
    told(measure(&mut needed))?;
    let mut memory = Memory::new(ossicle_core::region::Layout { size: needed.size, align: needed.align });
    let region = memory.region();
    told(make(region.as_mut_ptr().cast(), region.len()))?;
    Ok(memory)
}

/// Opens a model by its path: a GGUF file (any part of a split one), a safetensors file or index, or the folder of a
/// checkpoint. The tokenizer comes from the GGUF file, from the tokenizer.json beside safetensors files, or from the library
/// itself.
///
/// `path`: ends in a zero byte. `checkpoint`: gets the checkpoint.
///
/// Memory: the library's, until ossicle_checkpoint_close. Whoever changes the files meanwhile changes the weights.
/// Errors: OSSICLE_ERROR_SYSTEM if a file cannot be read; as ossicle_model_new, ossicle_tokenizer_new.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_checkpoint_open(
    path: *const c_char,
    checkpoint: *mut *mut ossicle_checkpoint,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(checkpoint)?;
        // SAFETY: as the header says.
        let path = unsafe { path_of(path) }?;
        // SAFETY: as the header says.
        let opened = unsafe { open(Checkpoint::open(Path::new(path))?, error) }?;
        // SAFETY: a place for the result, by the check above.
        unsafe { checkpoint.write(boxed(opened)) };
        Ok(OSSICLE_OK)
    })
}

/// # Safety
/// Null, or a text that ends in a zero byte.
unsafe fn path_of<'a>(path: *const c_char) -> Result<&'a str> {
    if path.is_null() {
        return argument("a path");
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(path) }.to_str().or_else(|_| argument("a path in UTF-8"))
}

/// Opens a GGUF file that is open already.
///
/// `descriptor`: of the file. `checkpoint`: gets the checkpoint.
///
/// Memory: the library's, until ossicle_checkpoint_close. The descriptor stays the caller's, and can be closed at once.
/// Errors: as ossicle_checkpoint_open.
/// Threads: any.
/// Since: 0.1.
#[cfg(unix)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_checkpoint_open_descriptor(
    descriptor: i32,
    checkpoint: *mut *mut ossicle_checkpoint,
    error: *mut ossicle_error,
) -> i32 {
    use std::os::fd::FromRawFd;

    call(error, || {
        demand_output(checkpoint)?;
        if descriptor < 0 {
            return argument("the descriptor of an open file");
        }
        // SAFETY: the descriptor is the caller's to lend; it is not closed here.
        let file = core::mem::ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(descriptor) });
        // SAFETY: as the header says.
        let opened = unsafe { open(Checkpoint::of_file(&file)?, error) }?;
        // SAFETY: a place for the result, by the check above.
        unsafe { checkpoint.write(boxed(opened)) };
        Ok(OSSICLE_OK)
    })
}

/// The model of a checkpoint.
///
/// `model`: gets the model.
///
/// Memory: it is part of the checkpoint.
/// Errors: none of its own.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_checkpoint_model(
    checkpoint: *const ossicle_checkpoint,
    model: *mut *const ossicle_model,
) -> i32 {
    call(ptr::null_mut(), || {
        demand_output(model)?;
        // SAFETY: as the header says.
        let opened = unsafe { shared(checkpoint) }?;
        // SAFETY: a place for the result, by the check above.
        unsafe { model.write(opened.model) };
        Ok(OSSICLE_OK)
    })
}

/// The tokenizer of a checkpoint.
///
/// `tokenizer`: gets the tokenizer.
///
/// Memory: it is part of the checkpoint.
/// Errors: none of its own.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_checkpoint_tokenizer(
    checkpoint: *const ossicle_checkpoint,
    tokenizer: *mut *const ossicle_tokenizer,
) -> i32 {
    call(ptr::null_mut(), || {
        demand_output(tokenizer)?;
        // SAFETY: as the header says.
        let opened = unsafe { shared(checkpoint) }?;
        // SAFETY: a place for the result, by the check above.
        unsafe { tokenizer.write(opened.tokenizer) };
        Ok(OSSICLE_OK)
    })
}

/// Closes a checkpoint.
///
/// `checkpoint`: nothing uses its model and tokenizer any more; null is none.
///
/// Memory: freed.
/// Errors: OSSICLE_ERROR_OBJECT.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_checkpoint_close(checkpoint: *mut ossicle_checkpoint) -> i32 {
    call(ptr::null_mut(), || {
        // SAFETY: as the header says.
        unsafe { unboxed(checkpoint) }?;
        Ok(OSSICLE_OK)
    })
}

/// The vocabulary of gpt-oss that comes with the library, as an index for ossicle_tokenizer_config.
///
/// `index`: gets start and size.
///
/// Memory: constant.
/// Errors: none.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_vocabulary_index(index: *mut ossicle_bytes) -> i32 {
    call(ptr::null_mut(), || {
        demand_output(index)?;
        // SAFETY: a place for the result, by the check above.
        unsafe { index.write(of_bytes(o200k_harmony_index())) };
        Ok(OSSICLE_OK)
    })
}

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
        state.turn += 1;
        let generation = &mut state.generation;
        let append = |messages: &[Message<'_>]| {
            let renderer = Renderer::new(generation.tokenizer(), *generation.special());
            let mut scratch = std::vec![0; renderer.scratch_size(messages)?];
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
    generation: *mut ossicle_generation,
    host: ossicle_host,
    turn: *mut ossicle_turn,
    turn_memory: Option<Memory>,
    _memory: [Memory; 2],
    _pool: Box<Pool>,
    _opened: Opened,
}

impl Opaque for ossicle_chat {
    type State = Chat;
    const KIND: u32 = u32::from_le_bytes(*b"oCha");
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
}

// SAFETY: pointers that may be null, and numbers.
unsafe impl Versioned for ossicle_chat_config {}

/// Opens a model by its path, and begins a conversation with it: all of the chapters above in one call.
///
/// `path`: as for ossicle_checkpoint_open. `config`: null for the defaults. `chat`: gets the chat.
///
/// Memory: the library's, until ossicle_chat_close; the configuration is read during the call only.
/// Errors: as the functions of the chapters above.
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
        // SAFETY: as the header says.
        let opened = unsafe { open(Checkpoint::open(Path::new(path))?, error) }?;
        let count = if config.threads == 0 { Threads::available() } else { config.threads as usize };
        let pool = Box::new(Pool { threads: Threads::new(count), start: Instant::now() });
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
        let default = ossicle_system { struct_size: size_of::<ossicle_system>() as u32, ..ossicle_system::zero() };
        let messages = [
            ossicle_message {
                role: OSSICLE_ROLE_SYSTEM,
                system: if config.system.is_null() { &default } else { config.system },
                ..empty_message()
            },
            ossicle_message { role: OSSICLE_ROLE_DEVELOPER, developer: config.developer, ..empty_message() },
        ];
        let count = if config.developer.is_null() { 1 } else { 2 };
        // SAFETY: as the header says of the messages' parts.
        told(unsafe { ossicle_generation_append(generation, messages.as_ptr(), count, error) })?;
        let state = Chat {
            generation,
            host: lent(&pool),
            turn: ptr::null_mut(),
            turn_memory: None,
            _memory: [session_memory, memory],
            _pool: pool,
            _opened: opened,
        };
        // SAFETY: a place for the result, by the check above.
        unsafe { chat.write(boxed(state)) };
        Ok(OSSICLE_OK)
    })
}

fn empty_message() -> ossicle_message {
    ossicle_message { struct_size: size_of::<ossicle_message>() as u32, ..ossicle_message::zero() }
}

/// The user says something, and the model begins to answer.
///
/// `text`: what; null to let the model go on, such as after what a tool answers was appended. `config`: how to answer; null
/// for the defaults.
///
/// Memory: nothing is kept.
/// Errors: as ossicle_generation_append and ossicle_turn_new.
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
        let mut chat = unsafe { exclusive(chat) }?;
        chat.turn = ptr::null_mut();
        if !text.start.is_null() {
            let message = ossicle_message { role: OSSICLE_ROLE_USER, text, ..empty_message() };
            // SAFETY: as the header says of the text.
            told(unsafe { ossicle_generation_append(chat.generation, &message, 1, error) })?;
        }
        let (generation, mut turn) = (chat.generation, ptr::null_mut());
        let memory = made(
            // SAFETY: as the header says of the configuration.
            |needed| unsafe { ossicle_turn_layout(config, needed, error) },
            // SAFETY: the same; the memory stays with the turn.
            |region, size| unsafe { ossicle_turn_new(generation, region, size, config, &mut turn, error) },
        )?;
        chat.turn_memory = Some(memory);
        chat.turn = turn;
        Ok(OSSICLE_OK)
    })
}

/// Takes the next event of the answer, and computes until there is one.
///
/// `event`: gets a pointer to it.
///
/// Returns OSSICLE_MORE with an event, and OSSICLE_OK without, once the answer is over and all events have been taken.
/// Memory: the event and its texts are part of the chat, until the next call with it.
/// Errors: OSSICLE_ERROR_STATE if nothing was asked; as ossicle_turn_step.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_chat_next(
    chat: *mut ossicle_chat,
    event: *mut *const ossicle_event,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        // SAFETY: as the header says.
        let chat = unsafe { exclusive(chat) }?;
        if chat.turn.is_null() {
            return Err(ossicle_core::error::Error::State("something to have been asked").into());
        }
        // SAFETY: the turn's memory is part of the chat.
        let status = unsafe { ossicle_turn_next(chat.turn, &chat.host, event, error) };
        told(status)?;
        Ok(status)
    })
}

/// The generation of a chat, and what to pass with it, for what the functions above do not offer.
///
/// `generation`: gets the generation. `turn`: gets the turn under way, or null. `host`: gets the threads.
///
/// Memory: they are part of the chat; the turn until the next ossicle_chat_ask.
/// Errors: none of its own.
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
        demand_output(host)?;
        // SAFETY: as the header says.
        let chat = unsafe { exclusive(chat) }?;
        // SAFETY: places for the results, by the checks above.
        unsafe {
            generation.write(chat.generation);
            turn.write(chat.turn);
            host.write(chat.host);
        }
        Ok(OSSICLE_OK)
    })
}

/// Ends a chat.
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
        // SAFETY: as the header says.
        unsafe { unboxed(chat) }?;
        Ok(OSSICLE_OK)
    })
}
