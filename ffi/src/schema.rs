//! Chapter 12, third part: schemas.

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;

use ossicle_core::error::Error;
use ossicle_core::region::{ALIGN, Carver, Layout};
use ossicle_core::schema::{Schema, SchemaError, SchemaMask, TokenIndex, Unsupported};

use crate::input::{Versioned, argument, copy, demand_output, ossicle_layout, ossicle_text};
use crate::object::{Opaque, exclusive, layout, place, shared};
use crate::status::{Failure, OSSICLE_MORE, OSSICLE_OK, Result, call, ossicle_error, tell};
use crate::tokenizer::ossicle_tokenizer;

/// What schemas need to know of a vocabulary. Shared freely between threads.
pub struct ossicle_token_index {
    _opaque: (),
}

impl Opaque for ossicle_token_index {
    type State = TokenIndex<'static>;
    const KIND: u32 = u32::from_le_bytes(*b"oInd");
}

/// A compiled JSON schema, and the state of a text that is to meet it. For one turn at a time.
pub struct ossicle_schema {
    _opaque: (),
}

pub(crate) struct State {
    pub mask: SchemaMask<'static>,
    /// What has begun the text: an address, of which nothing is read.
    pub holder: usize,
    /// Tokens in the vocabulary of the index.
    pub vocabulary: usize,
    text: &'static str,
    warnings: &'static [SchemaError],
}

impl Opaque for ossicle_schema {
    type State = State;
    const KIND: u32 = u32::from_le_bytes(*b"oSch");
}

/// A JSON schema.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_schema_config {
    /// sizeof (ossicle_schema_config).
    pub struct_size: u32,
    /// Not 0: keywords that cannot be enforced are left out, and ossicle_schema_warning tells which. By default they are an
    /// error. docs/structured.md has what can be enforced.
    pub ignore_unsupported: u32,
    /// The schema, as JSON; at most 262144 bytes.
    pub text: ossicle_text,
}

// SAFETY: pointers that may be null, and numbers.
unsafe impl Versioned for ossicle_schema_config {}

/// How much memory an index takes. One serves all schemas of a vocabulary.
///
/// `tokenizer`: the vocabulary, which has to be that of the generation. `layout`: gets the size and alignment in bytes: a
/// few MB for the vocabulary of gpt-oss.
///
/// Memory: nothing is kept.
/// Errors: none of its own.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_token_index_layout(
    tokenizer: *const ossicle_tokenizer,
    layout: *mut ossicle_layout,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(layout)?;
        // SAFETY: as the header says.
        let behind = TokenIndex::layout(unsafe { shared(tokenizer) }?)?;
        // SAFETY: a place for the result, by the check above.
        unsafe { layout.write(self::layout::<ossicle_token_index>(behind).into()) };
        Ok(OSSICLE_OK)
    })
}

/// Makes an index: sorts the vocabulary, so it takes some time.
///
/// `tokenizer`: the vocabulary. `region`, `region_size`: memory as ossicle_token_index_layout says, in bytes. `index`: gets
/// the index.
///
/// Memory: the region and the tokenizer have to stay as they are while the index is in use. There is nothing to free.
/// Errors: OSSICLE_ERROR_REGION_SIZE, OSSICLE_ERROR_REGION_ALIGN.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_token_index_new(
    tokenizer: *const ossicle_tokenizer,
    region: *mut c_void,
    region_size: usize,
    index: *mut *mut ossicle_token_index,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(index)?;
        // SAFETY: as the header says.
        let tokenizer = *unsafe { shared(tokenizer) }?;
        let make = |behind: &'static mut [MaybeUninit<u8>]| Ok(TokenIndex::new(behind, tokenizer)?);
        // SAFETY: as the header says.
        let made = unsafe { place::<ossicle_token_index>(region, region_size, make) }?;
        // SAFETY: a place for the result, by the check above.
        unsafe { index.write(made) };
        Ok(OSSICLE_OK)
    })
}

/// # Safety
/// As the header says of the configuration.
unsafe fn read(config: *const ossicle_schema_config) -> Result<(&'static str, Unsupported)> {
    // SAFETY: as the caller promises.
    let config = unsafe { ossicle_schema_config::read(config) }?;
    // SAFETY: as the caller promises.
    let Some(text) = unsafe { config.text.read() }? else { return argument("the text of a schema") };
    Ok((text, if config.ignore_unsupported == 0 { Unsupported::Refuse } else { Unsupported::Ignore }))
}

/// What is wrong in the text of a schema.
fn in_text(error: Error, text: &'static str) -> Failure {
    match error {
        Error::Schema(error) => Failure::Schema(error, text),
        other => other.into(),
    }
}

/// How many bytes the copy of the text, the schema, and its mask or what compiling takes, come to, one behind the other.
fn sizes(text: &'static str, index: &TokenIndex<'_>) -> Result<[usize; 3]> {
    let failed = |error| in_text(error, text);
    let (schema, scratch) = (Schema::layout(text).map_err(failed)?, Schema::scratch_layout(text).map_err(failed)?);
    Ok([text.len().next_multiple_of(ALIGN), schema.size, scratch.size.max(SchemaMask::layout(index)?.size)])
}

fn sum(sizes: [usize; 3]) -> usize {
    sizes.into_iter().fold(0, usize::saturating_add)
}

/// How much memory a schema takes, with the state of a text.
///
/// `index`: of the vocabulary. `config`: the schema. `layout`: gets the size and alignment in bytes: 1.8 MiB with the
/// vocabulary of gpt-oss, and 220 to 310 bytes for each byte of the text, most of which is never touched.
///
/// Memory: nothing is kept.
/// Errors: OSSICLE_ERROR_SCHEMA if the text is not JSON, or too long.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_schema_layout(
    index: *const ossicle_token_index,
    config: *const ossicle_schema_config,
    layout: *mut ossicle_layout,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(layout)?;
        // SAFETY: as the header says.
        let (index, (text, _)) = unsafe { (shared(index)?, read(config)?) };
        let behind = Layout { size: sum(sizes(text, index)?), align: ALIGN };
        // SAFETY: a place for the result, by the check above.
        unsafe { layout.write(self::layout::<ossicle_schema>(behind).into()) };
        Ok(OSSICLE_OK)
    })
}

/// Compiles a schema, for the constraints of turns (ossicle_turn_config). It serves one turn after another; turns at the same
/// time take one each.
///
/// `index`: of the vocabulary. `region`, `region_size`: memory as ossicle_schema_layout says, in bytes. `config`: the same as
/// there. `schema`: gets the schema.
///
/// Memory: the region, the index and its tokenizer have to stay as they are while the schema is in use; the text is copied.
/// There is nothing to free.
/// Errors: OSSICLE_ERROR_SCHEMA if the text is not JSON, no schema, takes too much memory, or demands what cannot be enforced:
/// the offset of the error is that in the text, and its own text names the keyword, what was expected and the path, as in
/// `schema, byte 22: not: expected a keyword that can be enforced, at #/properties/a/not`; OSSICLE_ERROR_REGION_SIZE,
/// OSSICLE_ERROR_REGION_ALIGN.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_schema_new(
    index: *const ossicle_token_index,
    region: *mut c_void,
    region_size: usize,
    config: *const ossicle_schema_config,
    schema: *mut *mut ossicle_schema,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(schema)?;
        // SAFETY: as the header says.
        let (index, (text, unsupported)) = unsafe { (*shared(index)?, read(config)?) };
        let vocabulary = index.tokenizer().vocabulary_len();
        let sizes = sizes(text, &index)?;
        let make = |behind: &'static mut [MaybeUninit<u8>]| {
            let have = behind.len();
            let too_small = || Error::RegionTooSmall { need: sum(sizes), have };
            let (copy, behind) = behind.split_at_mut_checked(sizes[0]).ok_or_else(too_small)?;
            let (compiled, last) = behind.split_at_mut_checked(sizes[1]).ok_or_else(too_small)?;
            if last.len() < sizes[2] {
                return Err(too_small().into());
            }
            let text = self::copy(&mut Carver::placing(copy)?, text)?;
            let schema = Schema::new(compiled, last, text, unsupported).map_err(|error| in_text(error, text))?;
            let mask = SchemaMask::new(last, &schema, index)?;
            Ok(State { mask, holder: 0, vocabulary, text, warnings: schema.warnings() })
        };
        // SAFETY: as the header says.
        let made = unsafe { place::<ossicle_schema>(region, region_size, make) }?;
        // SAFETY: a place for the result, by the check above.
        unsafe { schema.write(made) };
        Ok(OSSICLE_OK)
    })
}

/// What of a schema is not enforced, if that was asked for.
///
/// `number`: which of it, from 0. `warning`: with its struct_size set; gets what ossicle_schema_new would have told.
///
/// Returns OSSICLE_MORE if there is such a warning, and OSSICLE_OK, having written nothing, if there are not so many.
/// Errors: none of its own.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_schema_warning(
    schema: *const ossicle_schema,
    number: u32,
    warning: *mut ossicle_error,
) -> i32 {
    call(ptr::null_mut(), || {
        demand_output(warning)?;
        // SAFETY: as the header says.
        let state = unsafe { exclusive(schema) }?;
        let Some(found) = state.warnings.get(number as usize) else { return Ok(OSSICLE_OK) };
        // SAFETY: as the header says.
        unsafe { tell(&Failure::Schema(*found, state.text), warning) };
        Ok(OSSICLE_MORE)
    })
}
