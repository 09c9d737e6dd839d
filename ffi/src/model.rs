//! Chapter 6: the model.

use core::ffi::c_void;

use ossicle_core::file::Storage;
use ossicle_core::kernels::{CpuFeatures, Kernels};
use ossicle_core::model::{Files, Model, Offload};
use ossicle_core::region::{ALIGN, Carver, Layout};

use crate::input::{Array, Versioned, argument, demand_output, ossicle_bytes, ossicle_layout, ossicle_text, slice_of};
use crate::object::{Opaque, layout, place, shared};
use crate::read::{Sources, ossicle_source};
use crate::status::{OSSICLE_OK, Result, call, ossicle_error};

/// A model: the numbers of its files, and where in them each weight lies. Shared freely between threads.
pub struct ossicle_model {
    _opaque: (),
}

/// Most files that a model can consist of.
pub const OSSICLE_FILES_MAX: usize = 64;

/// The files of a model.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_model_config {
    /// sizeof (ossicle_model_config).
    pub struct_size: u32,
    /// How many files: from 1 to OSSICLE_FILES_MAX.
    pub file_count: u32,
    /// A GGUF file, or all parts of a split one in order; or the safetensors files of a checkpoint in any order.
    pub files: *const ossicle_bytes,
    /// The config.json that comes with safetensors files; null for GGUF.
    pub config_json: ossicle_bytes,
    /// Where the files come from if they are not in memory, as many as there are files; null if they are. Then `files` are their
    /// heads (ossicle_file_read_head), what all tokens need is read once, into the region of the model, and experts are read there
    /// as tokens choose them. The callbacks are called on any of the threads that a call is lent, several at once.
    pub sources: *const ossicle_source,
    /// With sources: bytes for the experts that stay in memory, at least one of each layer; 0 for as many as there are, and without
    /// sources. Those are kept that were chosen most. The results are the same for any size.
    pub experts_size: u64,
}

// SAFETY: pointers that may be null, and numbers.
unsafe impl Versioned for ossicle_model_config {}

/// The numbers of a model. Later versions add to the end.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_model_numbers {
    /// Transformer layers.
    pub layers: u32,
    /// Values in the residual stream.
    pub hidden: u32,
    /// Values between the two matrices of an expert.
    pub intermediate: u32,
    /// Experts in a layer.
    pub experts: u32,
    /// Experts that work on a token.
    pub experts_per_token: u32,
    /// Query heads.
    pub heads: u32,
    /// Key-value heads.
    pub kv_heads: u32,
    /// Values in a head.
    pub head_dim: u32,
    /// Positions that a windowed layer sees.
    pub window: u32,
    /// Tokens that the model knows: logits in a row.
    pub vocabulary: u32,
    /// Positions that the model was made for.
    pub context_tokens: u32,
    /// Tensors in the files.
    pub tensors: u32,
}

/// A model, its files, and its numbers as C has them.
pub(crate) struct State {
    pub files: Files<'static>,
    pub model: Model<'static, 'static>,
    numbers: ossicle_model_numbers,
}

impl Opaque for ossicle_model {
    type State = State;
    const KIND: u32 = u32::from_le_bytes(*b"oMod");
}

/// Copies of the lists of a configuration.
struct Lists<'w> {
    files: &'w mut [&'w [u8]],
    sources: &'w mut [ossicle_source],
}

impl<'w> Lists<'w> {
    /// Room for them. Empty while measuring.
    fn carve(carver: &mut Carver<'w>, config: &ossicle_model_config) -> Result<Self> {
        let count = config.file_count as usize;
        if !(1..=OSSICLE_FILES_MAX).contains(&count) {
            return argument("from 1 to 64 files");
        }
        let sources = if config.sources.is_null() { 0 } else { count };
        Ok(Self { files: carver.filled(count, &[][..])?, sources: carver.filled(sources, ossicle_source::zero())? })
    }

    /// # Safety
    /// As the header says of the configuration; the bytes are valid for good.
    unsafe fn fill(self, config: &ossicle_model_config) -> Result<(&'w [&'w [u8]], Sources<'w>)> {
        // SAFETY: as the caller promises.
        for (place, file) in self.files.iter_mut().zip(unsafe { slice_of(config.files, config.file_count as usize) }?) {
            // SAFETY: as the caller promises.
            *place = unsafe { file.read() }?.unwrap_or_default();
        }
        // SAFETY: as the caller promises.
        let sources = unsafe { Array::of(config.sources, self.sources.len()) }?;
        for (index, place) in self.sources.iter_mut().enumerate() {
            // SAFETY: within the array.
            *place = unsafe { sources.get(index) }?;
            if place.read.is_none() {
                return argument("sources with a read callback");
            }
        }
        Ok((self.files, Sources(self.sources)))
    }
}

/// # Safety
/// As the header says of the configuration; the bytes are valid for good.
unsafe fn open<'w>(
    config: &ossicle_model_config,
    files: &'w [&'w [u8]],
    storage: Option<&'w dyn Storage>,
) -> Result<Files<'w>> {
    let experts_size = match usize::try_from(config.experts_size) {
        Ok(0) | Err(_) => usize::MAX,
        Ok(size) => size,
    };
    if storage.is_none() && config.experts_size != 0 {
        return argument("sources with experts_size");
    }
    let offload = storage.map(|storage| Offload { storage, experts_size });
    // SAFETY: as the caller promises.
    let json = unsafe { config.config_json.read() }?;
    Ok(match (offload, json) {
        (None, None) => Files::gguf(files)?,
        (None, Some(json)) => Files::safetensors(files, json)?,
        (Some(offload), None) => Files::gguf_offloaded(files, offload)?,
        (Some(offload), Some(json)) => Files::safetensors_offloaded(files, json, offload)?,
    })
}

/// Memory for the lists of a configuration, where it is only looked at.
#[repr(align(64))]
struct Scratch([core::mem::MaybeUninit<u8>; LISTS_SIZE_MAX]);

/// What the largest lists take.
const LISTS_SIZE_MAX: usize = OSSICLE_FILES_MAX * (size_of::<&[u8]>() + size_of::<ossicle_source>()) + 2 * ALIGN;

/// Chapter 6: the model.
///
/// How much memory a model takes, besides its files. Reads their headers.
///
/// `config`: the files. `layout`: gets the size and alignment in bytes: some hundred kilobytes, or with sources what is read into
/// memory too.
///
/// Memory: nothing is kept.
/// Errors: OSSICLE_ERROR_FILE with the file and the byte offset; OSSICLE_ERROR_ARGUMENT if there is experts_size without sources; with
/// sources OSSICLE_ERROR_BUFFER if a head ends before its header, and OSSICLE_ERROR_CAPACITY if experts_size is not enough for one of
/// each layer: the text says how much is.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_model_layout(
    config: *const ossicle_model_config,
    layout: *mut ossicle_layout,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(layout)?;
        // SAFETY: as the header says.
        let config = unsafe { ossicle_model_config::read(config) }?;
        let mut scratch = Scratch([core::mem::MaybeUninit::uninit(); LISTS_SIZE_MAX]);
        let lists = Lists::carve(&mut Carver::placing(&mut scratch.0)?, &config)?;
        // SAFETY: as the header says.
        let (files, sources) = unsafe { lists.fill(&config) }?;
        let storage = (!config.sources.is_null()).then_some(&sources as &dyn Storage);
        // SAFETY: as the header says.
        let files = unsafe { open(&config, files, storage) }?;
        let behind = lists_size(&config)?.saturating_add(Model::layout(&files)?.size);
        let needed = self::layout::<ossicle_model>(Layout { size: behind, align: 64 });
        // SAFETY: a place for the result, by the check above.
        unsafe { layout.write(needed.into()) };
        Ok(OSSICLE_OK)
    })
}

/// What the lists of a model take.
fn lists_size(config: &ossicle_model_config) -> Result<usize> {
    let mut carver = Carver::measuring();
    Lists::carve(&mut carver, config)?;
    carver.carve_each(1, |_, _| Ok(Sources(&[])))?;
    Ok(carver.layout().size)
}

/// Makes a model. Finds every weight; only headers are read, so this takes milliseconds for any size. With sources all is read that
/// is not an expert's.
///
/// `region`, `region_size`: memory as ossicle_model_layout says, in bytes. `config`: the files. `model`: gets the model.
///
/// Memory: the region, the bytes of the files and config_json have to stay as they are while the model is in use, and what the data
/// of sources points to. The struct and its arrays are read during the call only. There is nothing to free: forget the model, and
/// the memory is the caller's again.
/// Errors: as ossicle_model_layout; OSSICLE_ERROR_CALLBACK if a read failed; OSSICLE_ERROR_FILE, OSSICLE_ERROR_TENSOR with the
/// file, the byte offset and the tensor; OSSICLE_ERROR_REGION_SIZE, OSSICLE_ERROR_REGION_ALIGN.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_model_new(
    region: *mut c_void,
    region_size: usize,
    config: *const ossicle_model_config,
    model: *mut *mut ossicle_model,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(model)?;
        // SAFETY: as the header says.
        let config = unsafe { ossicle_model_config::read(config) }?;
        let make = |behind: &'static mut [core::mem::MaybeUninit<u8>]| {
            let size = lists_size(&config)?.min(behind.len());
            let (lists, rest) = behind.split_at_mut(size);
            let mut carver = Carver::placing(lists)?;
            // SAFETY: as the header says.
            let (files, sources) = unsafe { Lists::carve(&mut carver, &config)?.fill(&config) }?;
            let sources = &*carver.carve_each(1, |_, _| Ok(Sources(sources.0)))?;
            let storage = (!config.sources.is_null()).then_some(&sources[0] as &dyn Storage);
            // SAFETY: as the header says.
            let files = unsafe { open(&config, files, storage) }?;
            let found = Model::new(rest, &files)?;
            Ok(State { files, model: found, numbers: numbers(&found) })
        };
        // SAFETY: as the header says.
        let made = unsafe { place::<ossicle_model>(region, region_size, make) }?;
        // SAFETY: a place for the result, by the check above.
        unsafe { model.write(made) };
        Ok(OSSICLE_OK)
    })
}

fn numbers(model: &Model<'_, '_>) -> ossicle_model_numbers {
    let config = model.config();
    ossicle_model_numbers {
        layers: config.layers as u32,
        hidden: config.hidden as u32,
        intermediate: config.intermediate as u32,
        experts: config.experts as u32,
        experts_per_token: config.experts_per_token as u32,
        heads: config.heads as u32,
        kv_heads: config.kv_heads as u32,
        head_dim: config.head_dim as u32,
        window: config.window as u32,
        vocabulary: config.vocabulary as u32,
        context_tokens: config.context_tokens as u32,
        tensors: model.tensors().count() as u32,
    }
}

/// The numbers of a model.
///
/// `numbers`: gets a pointer to them.
///
/// Memory: they are part of the model.
/// Errors: none of its own.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_model_numbers_of(
    model: *const ossicle_model,
    numbers: *mut *const ossicle_model_numbers,
) -> i32 {
    call(core::ptr::null_mut(), || {
        demand_output(numbers)?;
        // SAFETY: as the header says.
        let state = unsafe { shared(model) }?;
        // SAFETY: a place for the result, by the check above.
        unsafe { numbers.write(&state.numbers) };
        Ok(OSSICLE_OK)
    })
}

/// Reads every weight and refuses the first that is not a finite number. Takes as long as reading the files.
///
/// Memory: nothing is kept.
/// Errors: OSSICLE_ERROR_TENSOR with the file, the byte offset and the tensor; OSSICLE_ERROR_CALLBACK if a read failed.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_model_check_values(model: *const ossicle_model, error: *mut ossicle_error) -> i32 {
    call(error, || {
        // SAFETY: as the header says.
        unsafe { shared(model) }?.model.check_values()?;
        Ok(OSSICLE_OK)
    })
}

/// Every kernel set that the processor can run, the fastest first.
///
/// # Safety
/// The processor has those features, besides what it or its operating system says.
pub(crate) unsafe fn available_kernels(vouched: CpuFeatures) -> impl Iterator<Item = Kernels> {
    #[cfg(feature = "host")]
    let features = ossicle_host::kernels::features();
    #[cfg(not(feature = "host"))]
    let features = CpuFeatures::detect();
    let features = features.and(vouched);
    // SAFETY: by our own contract; the sets are Ossicle's.
    ossicle_kernels_asm::sets().filter_map(move |set| unsafe { Kernels::with(set, features) })
}

/// The names of the kernel sets that this processor can run, the fastest first; not those that ossicle_session_config.cpu
/// would have to vouch for. All give the same results.
///
/// `index`: from 0. `name`: gets the name; no text if there are no more.
///
/// Memory: the text is constant.
/// Errors: none of its own.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_kernels_name(index: u32, name: *mut ossicle_text) -> i32 {
    call(core::ptr::null_mut(), || {
        demand_output(name)?;
        // SAFETY: nothing is vouched for.
        let found = unsafe { available_kernels(CpuFeatures::NONE) }.nth(index as usize);
        // SAFETY: a place for the result, by the check above.
        unsafe { name.write(found.map_or(ossicle_text::NONE, |kernels| ossicle_text::of(kernels.name()))) };
        Ok(OSSICLE_OK)
    })
}
