//! Chapter 13, second part: a model by its path.

use core::ffi::c_char;
use core::ptr;
use std::boxed::Box;
use std::ffi::CStr;
use std::path::Path;
use std::string::ToString;
use std::vec::Vec;

use ::ossicle_host::vocabulary::{TokenizerJson, o200k_harmony_index};
use ::ossicle_host::{Checkpoint, Memory, OpenError};
use ossicle_core::tokenizer::Tokenizer;

use crate::input::{argument, demand_output, ossicle_bytes};
use crate::model::{ossicle_model, ossicle_model_config, ossicle_model_layout, ossicle_model_new};
use crate::object::{Opaque, boxed, layout, place, shared, unboxed};
use crate::status::{Failure, OSSICLE_ERROR_SYSTEM, OSSICLE_OK, Result, call, ossicle_error, status_of};
use crate::system::{made, memory};
use crate::tokenizer::{ossicle_tokenizer, ossicle_tokenizer_config, ossicle_tokenizer_layout, ossicle_tokenizer_new};

/// The files of a model, mapped into memory, with its tokenizer. Shared freely between threads.
pub struct ossicle_checkpoint {
    _opaque: (),
}

pub(crate) struct Opened {
    pub model: *mut ossicle_model,
    pub tokenizer: *mut ossicle_tokenizer,
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
pub(crate) unsafe fn open(checkpoint: Checkpoint, error: *mut ossicle_error) -> Result<Opened> {
    let checkpoint = Box::new(checkpoint);
    let files = checkpoint.bytes();
    let files: Vec<_> = files.iter().map(|file| of_bytes(file)).collect();
    let config = ossicle_model_config {
        struct_size: size_of::<ossicle_model_config>() as u32,
        file_count: files.len() as u32,
        files: files.as_ptr(),
        config_json: checkpoint.config_json().map_or(NO_BYTES, of_bytes),
        sources: ptr::null(),
        experts_size: 0,
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
            let mut memory = memory(layout::<ossicle_tokenizer>(Tokenizer::layout(&source)?))?;
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
pub(crate) unsafe fn path_of<'a>(path: *const c_char) -> Result<&'a str> {
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
