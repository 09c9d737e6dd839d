//! Chapter 7: the tokenizer.

use core::ffi::{c_char, c_void};
use core::mem::MaybeUninit;

use ossicle_core::region::Layout;
use ossicle_core::tokenizer::vocabulary::gguf;
use ossicle_core::tokenizer::{Harmony, RankFile, Specials, Tokenizer};

use crate::input::{
    Versioned, argument, counted, demand_output, gather, ossicle_bytes, ossicle_layout, ossicle_text, slice_of,
    slice_of_mut,
};
use crate::model::ossicle_model;
use crate::object::{Opaque, layout, place, shared};
use crate::status::{OSSICLE_OK, Result, call, ossicle_error};

/// Turns text into token ids and back. Shared freely between threads.
pub struct ossicle_tokenizer {
    _opaque: (),
}

impl Opaque for ossicle_tokenizer {
    type State = Tokenizer<'static>;
    const KIND: u32 = u32::from_le_bytes(*b"oTok");
}

/// Where the vocabulary comes from: one of the three.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_tokenizer_config {
    /// sizeof (ossicle_tokenizer_config).
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// The vocabulary in this model's GGUF file.
    pub model: *const ossicle_model,
    /// An index that ossicle_tokenizer_save wrote, at a multiple of 64 bytes. It is used in place, and takes no other memory. It
    /// belongs to this version of the library and to machines of the same byte order: others may refuse it (OSSICLE_ERROR_FILE).
    pub index: ossicle_bytes,
    /// A rank file of tiktoken, `o200k_base.tiktoken`, to which the special tokens of o200k_harmony are added.
    pub ranks: ossicle_bytes,
}

// SAFETY: pointers that may be null, and numbers.
unsafe impl Versioned for ossicle_tokenizer_config {}

/// No special token is recognized in the text: right for every text that a user, a tool or a file provides.
pub const OSSICLE_SPECIALS_NONE: u32 = 0;
/// All special tokens are recognized in the text. Only for text that the program wrote itself.
pub const OSSICLE_SPECIALS_ALL: u32 = 1;

/// Measures (without a region) or makes a tokenizer.
///
/// # Safety
/// As the header says of the configuration.
unsafe fn build<T>(
    config: *const ossicle_tokenizer_config,
    work: impl FnOnce(&dyn Fn(Option<&'static mut [MaybeUninit<u8>]>) -> Result<Built>) -> Result<T>,
) -> Result<T> {
    // SAFETY: as the caller promises.
    let config = unsafe { ossicle_tokenizer_config::read(config) }?;
    // SAFETY: as the caller promises.
    let (index, ranks) = unsafe { (config.index.read::<'static>()?, config.ranks.read::<'static>()?) };
    match (config.model.is_null(), index, ranks) {
        (false, None, None) => {
            // SAFETY: as the caller promises.
            let Some((tokens, types)) = unsafe { shared(config.model) }?.files.vocabulary() else {
                return argument("a model whose file has a vocabulary");
            };
            let Some(types) = types else {
                return argument("a vocabulary with the types of the tokens, tokenizer.ggml.token_type");
            };
            work(&|region| build_from(&gguf(tokens, types), region))
        }
        (true, Some(index), None) => work(&|region| {
            Ok(match region {
                None => Built::Layout(Layout { size: 0, align: 64 }),
                Some(_) => Built::Tokenizer(Tokenizer::open(index)?),
            })
        }),
        (true, None, Some(ranks)) => work(&|region| build_from(&Harmony(RankFile(ranks)), region)),
        _ => argument("one source of the vocabulary: a model, an index or ranks"),
    }
}

#[allow(clippy::large_enum_variant, reason = "it lives as long as a call")]
enum Built {
    Layout(Layout),
    Tokenizer(Tokenizer<'static>),
}

fn build_from(
    source: &impl ossicle_core::tokenizer::Source,
    region: Option<&'static mut [MaybeUninit<u8>]>,
) -> Result<Built> {
    Ok(match region {
        None => Built::Layout(Tokenizer::layout(source)?),
        Some(region) => Built::Tokenizer(Tokenizer::new(source, region)?),
    })
}

/// Chapter 7: the tokenizer.
///
/// How much memory a tokenizer takes.
///
/// `config`: the vocabulary. `layout`: gets the size and alignment in bytes: about 10 MB for the vocabulary of gpt-oss,
/// nearly nothing for an index.
///
/// Memory: nothing is kept.
/// Errors: OSSICLE_ERROR_VOCABULARY, OSSICLE_ERROR_FILE.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_tokenizer_layout(
    config: *const ossicle_tokenizer_config,
    layout: *mut ossicle_layout,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(layout)?;
        // SAFETY: as the header says.
        let built = unsafe { build(config, |build| build(None)) }?;
        let Built::Layout(behind) = built else { return argument("a vocabulary") };
        // SAFETY: a place for the result, by the check above.
        unsafe { layout.write(self::layout::<ossicle_tokenizer>(behind).into()) };
        Ok(OSSICLE_OK)
    })
}

/// Makes a tokenizer.
///
/// `region`, `region_size`: memory as ossicle_tokenizer_layout says, in bytes. `config`: the vocabulary. `tokenizer`: gets
/// the tokenizer.
///
/// Memory: the region has to stay as it is while the tokenizer is in use, and so has an index; a model and ranks are needed
/// during the call only.
/// Errors: as ossicle_tokenizer_layout; OSSICLE_ERROR_REGION_SIZE, OSSICLE_ERROR_REGION_ALIGN.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_tokenizer_new(
    region: *mut c_void,
    region_size: usize,
    config: *const ossicle_tokenizer_config,
    tokenizer: *mut *mut ossicle_tokenizer,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(tokenizer)?;
        let make = |behind: &'static mut [MaybeUninit<u8>]| {
            // SAFETY: as the header says.
            match unsafe { build(config, |build| build(Some(behind))) }? {
                Built::Tokenizer(tokenizer) => Ok(tokenizer),
                Built::Layout(_) => argument("a vocabulary"),
            }
        };
        // SAFETY: as the header says.
        let made = unsafe { place::<ossicle_tokenizer>(region, region_size, make) }?;
        // SAFETY: a place for the result, by the check above.
        unsafe { tokenizer.write(made) };
        Ok(OSSICLE_OK)
    })
}

/// The size of the vocabulary: one more than the highest id.
///
/// `count`: gets it.
///
/// Errors: none of its own.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_tokenizer_vocabulary(tokenizer: *const ossicle_tokenizer, count: *mut u32) -> i32 {
    call(core::ptr::null_mut(), || {
        demand_output(count)?;
        // SAFETY: as the header says.
        let tokenizer = unsafe { shared(tokenizer) }?;
        // SAFETY: a place for the result, by the check above.
        unsafe { count.write(tokenizer.vocabulary_len() as u32) };
        Ok(OSSICLE_OK)
    })
}

/// Text to token ids.
///
/// `text`: in UTF-8. `specials`: OSSICLE_SPECIALS_NONE or OSSICLE_SPECIALS_ALL. `tokens`, `capacity`: where the ids go, and
/// for how many there is room: one for each byte of text is always enough. What is behind the ids there may change. `count`:
/// gets how many there are, also if there is not room for all.
///
/// Memory: nothing is kept.
/// Errors: OSSICLE_ERROR_BUFFER; the ids that fit are in place.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_tokenizer_encode(
    tokenizer: *const ossicle_tokenizer,
    text: ossicle_text,
    specials: u32,
    tokens: *mut u32,
    capacity: usize,
    count: *mut usize,
) -> i32 {
    call(core::ptr::null_mut(), || {
        demand_output(count)?;
        // SAFETY: as the header says.
        let (tokenizer, text) = unsafe { (shared(tokenizer)?, text.read()?.unwrap_or_default()) };
        // SAFETY: as the header says.
        let tokens = unsafe { slice_of_mut(tokens, capacity) }?;
        let specials = match specials {
            OSSICLE_SPECIALS_NONE => Specials::None,
            OSSICLE_SPECIALS_ALL => Specials::All,
            _ => return argument("OSSICLE_SPECIALS_NONE or OSSICLE_SPECIALS_ALL"),
        };
        // SAFETY: a place for the result, by the check above.
        unsafe { counted(tokenizer.encode_into(text, specials, tokens), count) }
    })
}

/// Token ids to text: the bytes of the tokens, one after another. A part of a text may begin or end within a character.
///
/// `tokens`, `count`: the ids; those that are no token give nothing. `buffer`, `buffer_size`: where the bytes go, without a
/// zero at the end. `size`: gets how many bytes there are, also if there is not room for all.
///
/// Errors: OSSICLE_ERROR_BUFFER; the tokens that fit are in place.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_tokenizer_decode(
    tokenizer: *const ossicle_tokenizer,
    tokens: *const u32,
    count: usize,
    buffer: *mut c_char,
    buffer_size: usize,
    size: *mut usize,
) -> i32 {
    call(core::ptr::null_mut(), || {
        demand_output(size)?;
        // SAFETY: as the header says.
        let (tokenizer, tokens) = unsafe { (shared(tokenizer)?, slice_of(tokens, count)?) };
        // SAFETY: as the header says.
        let buffer = unsafe { slice_of_mut(buffer.cast::<u8>(), buffer_size) }?;
        // SAFETY: a place for the result, by the check above.
        unsafe { counted(tokenizer.decode_into(tokens, buffer), size) }
    })
}

/// The bytes that a token stands for, special ones for their name.
///
/// `bytes`: gets them; null if there is no such token.
///
/// Memory: they are part of the tokenizer.
/// Errors: none of its own.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_tokenizer_token(
    tokenizer: *const ossicle_tokenizer,
    token: u32,
    bytes: *mut ossicle_bytes,
) -> i32 {
    call(core::ptr::null_mut(), || {
        demand_output(bytes)?;
        // SAFETY: as the header says.
        let found = unsafe { shared(tokenizer) }?.token_bytes(token);
        let none = ossicle_bytes { start: core::ptr::null(), size: 0 };
        let found = found.map_or(none, |found| ossicle_bytes { start: found.as_ptr().cast(), size: found.len() });
        // SAFETY: a place for the result, by the check above.
        unsafe { bytes.write(found) };
        Ok(OSSICLE_OK)
    })
}

/// The id of a special token.
///
/// `name`: such as `<|start|>`. `token`: gets the id.
///
/// Errors: OSSICLE_ERROR_ARGUMENT if there is none of that name.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_tokenizer_special(
    tokenizer: *const ossicle_tokenizer,
    name: ossicle_text,
    token: *mut u32,
) -> i32 {
    call(core::ptr::null_mut(), || {
        demand_output(token)?;
        // SAFETY: as the header says.
        let (tokenizer, name) = unsafe { (shared(tokenizer)?, name.read()?.unwrap_or_default()) };
        let Some(found) = tokenizer.special(name) else { return argument("the name of a special token") };
        // SAFETY: a place for the result, by the check above.
        unsafe { token.write(found) };
        Ok(OSSICLE_OK)
    })
}

/// The tokenizer as an index: constant data that a program can carry along, so that nothing is built when it starts.
///
/// `buffer`, `buffer_size`: where the bytes go. `size`: gets how many bytes there are, also if there is not room for all.
///
/// Errors: OSSICLE_ERROR_BUFFER; what fits is in place.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_tokenizer_save(
    tokenizer: *const ossicle_tokenizer,
    buffer: *mut c_void,
    buffer_size: usize,
    size: *mut usize,
) -> i32 {
    call(core::ptr::null_mut(), || {
        // SAFETY: as the header says.
        let tokenizer = unsafe { shared(tokenizer) }?;
        // SAFETY: as the header says.
        unsafe { gather(buffer, buffer_size, size, |write| tokenizer.save(write)) }
    })
}
