//! Chapter 8: a session of the model.

use core::ffi::c_void;

use ossicle_core::kernels::{CpuFeatures, Kernels};
use ossicle_core::transformer::{CacheFormat, Logits, Precision, Progress, Session, SessionConfig};

use crate::hooks::{Hooks, ossicle_host};
use crate::input::{Versioned, argument, demand_output, gather, ossicle_bytes, ossicle_layout, ossicle_text, slice_of};
use crate::model::{available_kernels, ossicle_model};
use crate::object::{Opaque, exclusive, layout, place, shared};
use crate::status::{Failure, OSSICLE_ERROR_SETTING, OSSICLE_MORE, OSSICLE_OK, Result, call, ossicle_error};

/// One timeline of tokens through a model. One thread at a time; it may move between threads.
pub struct ossicle_session {
    _opaque: (),
}

impl Opaque for ossicle_session {
    type State = Session<'static, 'static>;
    const KIND: u32 = u32::from_le_bytes(*b"oSes");
}

/// Activations in 16 bits where they meet quantized weights, keys and values in f16 unless said otherwise.
pub const OSSICLE_PRECISION_STANDARD: u32 = 0;
/// All activations in f32, keys and values too unless said otherwise. Takes twice the cache, and several times the time.
pub const OSSICLE_PRECISION_PRECISE: u32 = 1;

/// Keys and values as goes with the precision.
pub const OSSICLE_CACHE_DEFAULT: u32 = 0;
/// In single precision.
pub const OSSICLE_CACHE_F32: u32 = 1;
/// In half precision.
pub const OSSICLE_CACHE_F16: u32 = 2;
/// In the upper half of single precision: less exact than f16, and for models whose keys or values f16 cannot hold.
pub const OSSICLE_CACHE_BF16: u32 = 3;
/// In signed bytes, with a scale for each key and each value of a head: little more than half of f16, and less exact.
pub const OSSICLE_CACHE_INT8: u32 = 4;

/// AArch64: the processor has FEAT_DotProd.
pub const OSSICLE_CPU_DOTPROD: u32 = 1;
/// AArch64: the processor has FEAT_I8MM, and FEAT_DotProd.
pub const OSSICLE_CPU_I8MM: u32 = 2;

/// No logits are computed.
pub const OSSICLE_LOGITS_NONE: u32 = 0;
/// Logits after the last token.
pub const OSSICLE_LOGITS_LAST: u32 = 1;
/// Logits after each token.
pub const OSSICLE_LOGITS_ALL: u32 = 2;

/// How large a session is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_session_config {
    /// sizeof (ossicle_session_config).
    pub struct_size: u32,
    /// Positions that the session can hold; 0 for 8192, or the model's context if that is less.
    pub context_tokens: u32,
    /// Most tokens that ossicle_session_start takes; 0 for 128.
    pub batch_tokens: u32,
    /// Most positions of a batch whose logits can be asked for; 0 for 24, one and those of 23 tokens that a turn drafts.
    pub logits_rows: u32,
    /// How far ossicle_session_rewind can surely go back, besides to position 0; 0 for 256.
    pub rewind_tokens: u32,
    /// OSSICLE_PRECISION_STANDARD or OSSICLE_PRECISION_PRECISE.
    pub precision: u32,
    /// Name of a kernel set; null for the fastest that this processor runs.
    pub kernels: ossicle_text,
    /// OSSICLE_CPU_* that the caller knows the processor to have, added up. An operating system says them, and so does an x86
    /// processor itself; 0 is never wrong.
    pub cpu: u64,
    /// The largest rank of the adapters that it can be given (ossicle_adapter_rank); 0 if it gets none. It takes 4 bytes for each,
    /// for each token of a batch and each expert that works on it.
    pub adapter_rank: u32,
    /// OSSICLE_CACHE_*: what keys and values are kept in.
    pub cache_format: u32,
}

// SAFETY: pointers that may be null, and numbers.
unsafe impl Versioned for ossicle_session_config {}

/// # Safety
/// As the header says of the configuration.
pub(crate) unsafe fn config_of(
    model: &ossicle_core::model::Model<'_, '_>,
    config: *const ossicle_session_config,
) -> Result<(SessionConfig, Kernels)> {
    // SAFETY: as the caller promises.
    let config = unsafe { ossicle_session_config::read(config) }?;
    let most = model.config().context_tokens;
    let default = SessionConfig::default();
    let or = |value: u32, default: usize| if value == 0 { default.min(most) } else { value as usize };
    let precision = match config.precision {
        OSSICLE_PRECISION_STANDARD => Precision::Standard,
        OSSICLE_PRECISION_PRECISE => Precision::Precise,
        _ => return argument("OSSICLE_PRECISION_STANDARD or OSSICLE_PRECISION_PRECISE"),
    };
    let cache = match config.cache_format {
        OSSICLE_CACHE_DEFAULT => None,
        OSSICLE_CACHE_F32 => Some(CacheFormat::F32),
        OSSICLE_CACHE_F16 => Some(CacheFormat::F16),
        OSSICLE_CACHE_BF16 => Some(CacheFormat::Bf16),
        OSSICLE_CACHE_INT8 => Some(CacheFormat::Int8),
        _ => return argument("OSSICLE_CACHE_*"),
    };
    let sizes = SessionConfig {
        context_tokens: or(config.context_tokens, default.context_tokens),
        batch_tokens: or(config.batch_tokens, default.batch_tokens),
        logits_rows: or(config.logits_rows, default.logits_rows),
        rewind_tokens: or(config.rewind_tokens, default.rewind_tokens),
        precision,
        cache,
        adapter_rank: config.adapter_rank as usize,
    };
    let mut features = CpuFeatures::NONE;
    for (bit, feature) in [(OSSICLE_CPU_DOTPROD, CpuFeatures::DOTPROD), (OSSICLE_CPU_I8MM, CpuFeatures::I8MM)] {
        if config.cpu & u64::from(bit) != 0 {
            features = features.and(feature);
        }
    }
    if config.cpu & !u64::from(OSSICLE_CPU_DOTPROD | OSSICLE_CPU_I8MM) != 0 {
        return argument("a sum of OSSICLE_CPU_*");
    }
    // SAFETY: as the caller promises.
    let mut kernels_here = unsafe { available_kernels(features) };
    // SAFETY: as the caller promises.
    let kernels = match unsafe { config.kernels.read() }? {
        None => kernels_here.next().unwrap_or(Kernels::portable()),
        Some(name) => kernels_here.find(|kernels| kernels.name() == name).ok_or(Failure::Border(
            OSSICLE_ERROR_SETTING,
            "kernels: expected the name of a kernel set that this processor runs",
        ))?,
    };
    Ok((sizes, kernels))
}

/// Chapter 8: the session.
///
/// How much memory a session takes: known to the byte, cache included.
///
/// `model`: the model. `config`: how large; null for the defaults. `layout`: gets the size and alignment in bytes. With the
/// defaults a session of gpt-oss-20b takes some 277 MB, most of it cache, whose pages are touched as positions fill.
///
/// Memory: nothing is kept.
/// Errors: OSSICLE_ERROR_SETTING; OSSICLE_ERROR_ARGUMENT if the precision or the format of the cache is none of those there are.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_session_layout(
    model: *const ossicle_model,
    config: *const ossicle_session_config,
    layout: *mut ossicle_layout,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(layout)?;
        // SAFETY: as the header says.
        let model = &unsafe { shared(model) }?.model;
        // SAFETY: as the header says.
        let (config, _) = unsafe { config_of(model, config) }?;
        let needed = self::layout::<ossicle_session>(Session::layout(model, &config)?);
        // SAFETY: a place for the result, by the check above.
        unsafe { layout.write(needed.into()) };
        Ok(OSSICLE_OK)
    })
}

/// Makes an empty session. After this no call fails for want of memory.
///
/// `model`: the model. `region`, `region_size`: memory as ossicle_session_layout says, in bytes; it need not be zero.
/// `config`: the same as there. `session`: gets the session.
///
/// Memory: the region and the model have to stay as they are while the session is in use. There is nothing to free.
/// Errors: OSSICLE_ERROR_SETTING, OSSICLE_ERROR_REGION_SIZE, OSSICLE_ERROR_REGION_ALIGN.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_session_new(
    model: *const ossicle_model,
    region: *mut c_void,
    region_size: usize,
    config: *const ossicle_session_config,
    session: *mut *mut ossicle_session,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(session)?;
        // SAFETY: as the header says; the model stays for good.
        let model = &unsafe { shared(model) }?.model;
        // SAFETY: as the header says.
        let (config, kernels) = unsafe { config_of(model, config) }?;
        // SAFETY: as the header says.
        let made = unsafe {
            place::<ossicle_session>(region, region_size, |behind| Ok(Session::new(behind, model, kernels, &config)?))
        }?;
        // SAFETY: a place for the result, by the check above.
        unsafe { session.write(made) };
        Ok(OSSICLE_OK)
    })
}

/// Begins a batch: tokens that follow those that the session holds. ossicle_session_step computes it.
///
/// `tokens`, `count`: the ids, at most batch_tokens. `logits`: whose logits to compute: OSSICLE_LOGITS_NONE,
/// OSSICLE_LOGITS_LAST or OSSICLE_LOGITS_ALL.
///
/// Memory: the tokens are copied.
/// Errors: OSSICLE_ERROR_STATE if a batch is under way; OSSICLE_ERROR_CAPACITY if there are more tokens or logits than
/// there is room for; OSSICLE_ERROR_TOKEN. The session is as before.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_session_start(
    session: *mut ossicle_session,
    tokens: *const u32,
    count: usize,
    logits: u32,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        let logits = match logits {
            OSSICLE_LOGITS_NONE => Logits::None,
            OSSICLE_LOGITS_LAST => Logits::Last,
            OSSICLE_LOGITS_ALL => Logits::All,
            _ => return argument("OSSICLE_LOGITS_NONE, OSSICLE_LOGITS_LAST or OSSICLE_LOGITS_ALL"),
        };
        // SAFETY: as the header says.
        let (mut session, tokens) = unsafe { (exclusive(session)?, slice_of(tokens, count)?) };
        session.start(tokens, logits)?;
        Ok(OSSICLE_OK)
    })
}

/// Computes a part of the batch, a layer at a time. Between steps nothing is owed: stopping is not calling.
///
/// `host`: threads and clock; null for the calling thread and no clock. `budget`: with a clock, microseconds after which to
/// return; without one, layers to compute. At least one layer is computed.
///
/// Returns OSSICLE_MORE while the batch is under way, and OSSICLE_OK once it is done, or if there is none.
/// Errors: OSSICLE_ERROR_NOT_FINITE, and OSSICLE_ERROR_CALLBACK if experts of a model with sources could not be read; the batch is
/// given up, and the session is where it was before it. OSSICLE_ERROR_STATE if another session is being stepped with the same model,
/// and it has sources: the batch is as it was, and the call can be repeated.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_session_step(
    session: *mut ossicle_session,
    host: *const ossicle_host,
    budget: u64,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        // SAFETY: as the header says.
        let (mut session, hooks) = unsafe { (exclusive(session)?, Hooks::read(host)?) };
        let mut budget = hooks.budget(budget);
        loop {
            match hooks.logging(session.step(&hooks).map_err(Failure::from))? {
                Progress::Done => return Ok(OSSICLE_OK),
                Progress::More if budget.spend() => return Ok(OSSICLE_MORE),
                Progress::More => {}
            }
        }
    })
}

/// Gives up the batch under way, if there is one. The session is where it was before it.
///
/// Errors: none of its own.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_session_cancel(session: *mut ossicle_session) -> i32 {
    call(core::ptr::null_mut(), || {
        // SAFETY: as the header says.
        unsafe { exclusive(session) }?.cancel();
        Ok(OSSICLE_OK)
    })
}

/// Goes back: the session holds the first `position` tokens again.
///
/// Errors: OSSICLE_ERROR_STATE if a batch is under way, or the session has not been that far; OSSICLE_ERROR_REWIND if the
/// windowed layers no longer hold what is visible from there. The session is as before.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_session_rewind(
    session: *mut ossicle_session,
    position: u32,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        // SAFETY: as the header says.
        unsafe { exclusive(session) }?.rewind(position as usize)?;
        Ok(OSSICLE_OK)
    })
}

/// All that the session holds as bytes: to go on from in another process, to fork it, to come back to. A batch under way is no
/// part of it.
///
/// `buffer`, `buffer_size`: where the bytes go. `size`: gets how many bytes there are, also if there is not room for all.
///
/// Errors: OSSICLE_ERROR_BUFFER; what fits is in place.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_session_save(
    session: *const ossicle_session,
    buffer: *mut c_void,
    buffer_size: usize,
    size: *mut usize,
) -> i32 {
    call(core::ptr::null_mut(), || {
        // SAFETY: as the header says.
        let session = unsafe { exclusive(session) }?;
        // SAFETY: as the header says.
        unsafe { gather(buffer, buffer_size, size, |write| session.save(write)) }
    })
}

/// The session holds what another held when it was saved: of the same model, precision, format of the cache and adapters, with any kernels
/// and threads, and of any size that fits in here. It goes on with the same bits.
///
/// `bytes`: what ossicle_session_save wrote.
///
/// Memory: nothing is kept.
/// Errors: OSSICLE_ERROR_FILE if that is not such a snapshot, or not as it was written; OSSICLE_ERROR_CAPACITY if the context is
/// too small; OSSICLE_ERROR_STATE if a batch is under way. The session is as before.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_session_restore(
    session: *mut ossicle_session,
    bytes: ossicle_bytes,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        // SAFETY: as the header says.
        let (mut session, bytes) = unsafe { (exclusive(session)?, bytes.read()?.unwrap_or_default()) };
        session.restore(bytes)?;
        Ok(OSSICLE_OK)
    })
}

/// The session holds what another holds, of the same model, precision, format of the cache and adapters and of any size that fits in here;
/// it goes on with the same bits, and neither notices the other. A batch under way in the other is no part of it.
///
/// `origin`: the other session.
///
/// Memory: nothing is kept.
/// Errors: OSSICLE_ERROR_STATE if a batch is under way here, or if the model, the precision, the format of the cache or the adapters are
/// others; OSSICLE_ERROR_CAPACITY if the context is too small; OSSICLE_ERROR_BUSY if the two are one. The session is as before.
/// Threads: one at a time, with the other session too.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_session_fork(
    session: *mut ossicle_session,
    origin: *const ossicle_session,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        // SAFETY: as the header says.
        let (mut session, origin) = unsafe { (exclusive(session)?, exclusive(origin)?) };
        session.fork_from(&origin)?;
        Ok(OSSICLE_OK)
    })
}

/// How many tokens the session holds.
///
/// `position`: gets the number.
///
/// Errors: none of its own.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_session_position(session: *const ossicle_session, position: *mut u32) -> i32 {
    call(core::ptr::null_mut(), || {
        demand_output(position)?;
        // SAFETY: as the header says.
        let found = unsafe { exclusive(session) }?.position() as u32;
        // SAFETY: a place for the result, by the check above.
        unsafe { position.write(found) };
        Ok(OSSICLE_OK)
    })
}

/// The logits of the last batch: as many rows as were asked for, of one number for each token of the vocabulary. The same
/// bits for the same weights and tokens, whatever the threads, the kernels and the steps.
///
/// `logits`, `count`: get the start and the number of all values; none while a batch is under way.
///
/// Memory: they are part of the session, until the next call with it.
/// Errors: none of its own.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_session_logits(
    session: *const ossicle_session,
    logits: *mut *const f32,
    count: *mut usize,
) -> i32 {
    call(core::ptr::null_mut(), || {
        demand_output(logits)?;
        demand_output(count)?;
        // SAFETY: as the header says.
        let session = unsafe { exclusive(session) }?;
        let found = session.logits();
        // SAFETY: places for the results, by the checks above.
        unsafe {
            logits.write(found.as_ptr());
            count.write(found.len());
        }
        Ok(OSSICLE_OK)
    })
}
