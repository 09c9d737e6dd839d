//! Chapter 8, second part: adapters.

use core::ffi::c_void;

use ossicle_core::error::Error;
use ossicle_core::model::{Adapter, AdapterFile};
use ossicle_core::transformer::ADAPTERS_MAX;

use crate::generation::ossicle_generation;
use crate::input::{Array, Versioned, argument, demand_output, ossicle_bytes, ossicle_layout};
use crate::model::ossicle_model;
use crate::object::{Opaque, exclusive, layout, place, shared};
use crate::session::ossicle_session;
use crate::status::{OSSICLE_OK, Result, call, ossicle_error};

/// What fine-tuning changed in a model: a low-rank adapter (LoRA). Shared freely between threads, and sessions of its model.
pub struct ossicle_adapter {
    _opaque: (),
}

impl Opaque for ossicle_adapter {
    type State = Adapter<'static>;
    const KIND: u32 = u32::from_le_bytes(*b"oAda");
}

/// Most adapters that a session has at once.
pub const OSSICLE_ADAPTERS_MAX: usize = 8;

const _: () = assert!(OSSICLE_ADAPTERS_MAX == ADAPTERS_MAX);

/// The files of an adapter.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_adapter_config {
    /// sizeof (ossicle_adapter_config).
    pub struct_size: u32,
    /// A GGUF file of llama.cpp's converter, or the adapter_model.safetensors that PEFT saves.
    pub file: ossicle_bytes,
    /// The adapter_config.json beside the latter; null for GGUF.
    pub config_json: ossicle_bytes,
}

// SAFETY: pointers that may be null, and numbers.
unsafe impl Versioned for ossicle_adapter_config {}

/// An adapter in use.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_adapted {
    /// sizeof (ossicle_adapted).
    pub struct_size: u32,
    /// What it counts, besides what its file says; 0 for 1.
    pub scale: f32,
    /// The adapter.
    pub adapter: *const ossicle_adapter,
}

// SAFETY: a pointer that may be null, and numbers.
unsafe impl Versioned for ossicle_adapted {}

/// # Safety
/// As the header says of the configuration; the bytes are valid for good.
unsafe fn open(config: *const ossicle_adapter_config) -> Result<AdapterFile<'static>> {
    // SAFETY: as the caller promises.
    let (file, config) = unsafe {
        let config = ossicle_adapter_config::read(config)?;
        (config.file.read()?, config.config_json.read()?)
    };
    let Some(file) = file else { return argument("the bytes of an adapter") };
    Ok(match config {
        None => AdapterFile::gguf(file)?,
        Some(json) => AdapterFile::peft(file, json)?,
    })
}

/// How much memory an adapter takes, besides its file: some kilobytes for each layer, and about half the size of the file, whose
/// second halves are transposed. Reads headers only.
///
/// `model`: what it was trained on, in any layout of its files. `config`: the files. `layout`: gets the size and alignment in
/// bytes.
///
/// Memory: nothing is kept.
/// Errors: OSSICLE_ERROR_FILE with the byte offset, also for adapters with more than low-rank changes of the matrices in layers,
/// such as DoRA, or trained embeddings.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_adapter_layout(
    model: *const ossicle_model,
    config: *const ossicle_adapter_config,
    layout: *mut ossicle_layout,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(layout)?;
        // SAFETY: as the header says.
        let (model, file) = unsafe { (shared(model)?, open(config)?) };
        let needed = self::layout::<ossicle_adapter>(Adapter::layout(&file, model.model.config())?);
        // SAFETY: a place for the result, by the check above.
        unsafe { layout.write(needed.into()) };
        Ok(OSSICLE_OK)
    })
}

/// Makes an adapter.
///
/// `model`: as there. `region`, `region_size`: memory as ossicle_adapter_layout says, in bytes. `config`: the same as there.
/// `adapter`: gets the adapter.
///
/// Memory: the region and the bytes of the file have to stay as they are while a session has the adapter; config_json is read
/// during the call only. There is nothing to free.
/// Errors: OSSICLE_ERROR_FILE with the byte offset; OSSICLE_ERROR_REGION_SIZE, OSSICLE_ERROR_REGION_ALIGN.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_adapter_new(
    model: *const ossicle_model,
    region: *mut c_void,
    region_size: usize,
    config: *const ossicle_adapter_config,
    adapter: *mut *mut ossicle_adapter,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(adapter)?;
        // SAFETY: as the header says.
        let (model, file) = unsafe { (shared(model)?, open(config)?) };
        // SAFETY: as the header says.
        let made = unsafe {
            place::<ossicle_adapter>(region, region_size, |behind| Ok(Adapter::new(behind, &file, &model.model)?))
        }?;
        // SAFETY: a place for the result, by the check above.
        unsafe { adapter.write(made) };
        Ok(OSSICLE_OK)
    })
}

/// The largest rank of its changes: what adapter_rank of the session's configuration has to be at least.
///
/// `rank`: gets it.
///
/// Errors: none of its own.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_adapter_rank(adapter: *const ossicle_adapter, rank: *mut u32) -> i32 {
    call(core::ptr::null_mut(), || {
        demand_output(rank)?;
        // SAFETY: as the header says.
        let found = unsafe { shared(adapter) }?.rank() as u32;
        // SAFETY: a place for the result, by the check above.
        unsafe { rank.write(found) };
        Ok(OSSICLE_OK)
    })
}

/// The adapters of a call.
type Adapted = ([(Adapter<'static>, f32); ADAPTERS_MAX], usize);

/// # Safety
/// As the header says of the array.
unsafe fn adapted(adapters: *const ossicle_adapted, count: usize) -> Result<Option<Adapted>> {
    // SAFETY: as the caller promises.
    let list = unsafe { Array::of(adapters, count) }?;
    if count > ADAPTERS_MAX {
        return Err(Error::Capacity { what: "adapters", need: count, have: ADAPTERS_MAX }.into());
    }
    let mut found: Option<Adapted> = None;
    for index in 0..count {
        // SAFETY: within the array; as the header says of the adapter.
        let element = unsafe {
            let element = list.get(index)?;
            (*shared(element.adapter)?, if element.scale == 0.0 { 1.0 } else { element.scale })
        };
        let (all, len) = found.get_or_insert(([element; ADAPTERS_MAX], 0));
        all[index] = element;
        *len = index + 1;
    }
    Ok(found)
}

fn slice(adapted: &Option<Adapted>) -> &[(Adapter<'static>, f32)] {
    adapted.as_ref().map_or(&[], |(all, len)| &all[..*len])
}

/// The session goes on with these adapters, and none that it had before. It is empty afterwards, unless they are the same as
/// before and count the same: what it holds depends on them.
///
/// `adapters`, `count`: at most OSSICLE_ADAPTERS_MAX; with none, the model is as it was.
///
/// Memory: the adapters have to stay as they are until the session has others.
/// Errors: OSSICLE_ERROR_CAPACITY if there are too many, or the rank of one is above adapter_rank of the session's configuration;
/// OSSICLE_ERROR_SETTING if one was made for another model, or counts with what is not a finite number; OSSICLE_ERROR_STATE if a
/// batch is under way. The session is as before.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_session_adapt(
    session: *mut ossicle_session,
    adapters: *const ossicle_adapted,
    count: usize,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        // SAFETY: as the header says.
        let (mut session, adapters) = unsafe { (exclusive(session)?, adapted(adapters, count)?) };
        session.adapt(slice(&adapters))?;
        Ok(OSSICLE_OK)
    })
}

/// As ossicle_session_adapt, for the session of a conversation, which stays as it is and is computed anew in the next turn. A turn
/// under way is over.
///
/// `adapters`, `count`: as there.
///
/// Memory: as there.
/// Errors: as there; OSSICLE_ERROR_CAPACITY also if what the model was saying cannot be ended for want of room.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_generation_adapt(
    generation: *mut ossicle_generation,
    adapters: *const ossicle_adapted,
    count: usize,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        // SAFETY: as the header says.
        let (mut state, adapters) = unsafe { (exclusive(generation)?, adapted(adapters, count)?) };
        state.generation.adapt(slice(&adapters))?;
        Ok(OSSICLE_OK)
    })
}
