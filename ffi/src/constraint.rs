//! Chapter 12, fourth part: what the messages of a turn keep to.

use core::ffi::c_void;
use core::ptr;

use ossicle_core::error::{Error, Result as CoreResult};
use ossicle_core::generation::{Constrained, Constraint};
use ossicle_core::region::Carver;
use ossicle_core::sampling::TokenMask;

use crate::input::{Array, Versioned, argument, copy, ossicle_text};
use crate::object::{Exclusive, demand_kind, exclusive};
use crate::schema::ossicle_schema;
use crate::status::Result;

/// The content of a message begins; whatever came before is forgotten.
pub type ossicle_mask_begin = Option<unsafe extern "C" fn(data: *mut c_void)>;

/// Says which tokens may come next, before each token of the content is drawn. `allowed` has one bit for each token of the
/// vocabulary, the lowest bit of the first word for token 0, in `words` words. All bits are set; the function clears those of
/// the tokens that may not come. What it does to the bits of special tokens and to those beyond the vocabulary means nothing.
/// `may_end` is 0; the function sets it to 1 if the content may end here. Returns 0, or anything else if it fails: then the
/// step of the turn fails with OSSICLE_ERROR_CALLBACK, and asks again if it is repeated.
pub type ossicle_mask_allowed =
    Option<unsafe extern "C" fn(data: *mut c_void, allowed: *mut u32, words: usize, may_end: *mut u32) -> i32>;

/// Is told the token of the content that was drawn.
pub type ossicle_mask_accept = Option<unsafe extern "C" fn(data: *mut c_void, token: u32)>;

/// A mask of the host's own: which tokens may come next in the content of a message.
///
/// Memory: `data` has to be valid while the turn is in use; the struct is copied.
/// Threads: the callbacks are called on the thread that steps the turn, during the call. They may not call Ossicle with the
/// turn or its generation, which would be refused with OSSICLE_ERROR_BUSY; the tokenizer may be used.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_token_mask {
    /// sizeof (ossicle_token_mask).
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Handed to every callback.
    pub data: *mut c_void,
    /// Null if nothing is to be done.
    pub begin: ossicle_mask_begin,
    /// Says what may come.
    pub allowed: ossicle_mask_allowed,
    /// Null if nothing is to be done.
    pub accept: ossicle_mask_accept,
}

// SAFETY: pointers that may be null, and numbers.
unsafe impl Versioned for ossicle_token_mask {}

/// What the content of certain messages of a turn keeps to: one of `schema` and `mask`. Reasoning and all other messages stay
/// free. It holds from the `<|message|>` of a header on, and the message can end only where it says so. If the turn stops for
/// another reason than OSSICLE_STOP_FINISHED or OSSICLE_STOP_TOOL_CALL, the message is cut off, and does not meet the schema yet.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_constraint {
    /// sizeof (ossicle_constraint).
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// The tool whose argument is meant, by its full name, such as `functions.f`; null, and not an empty text, for the answer.
    /// With a constraint for the answer, the turn ends with one answer.
    pub tool: ossicle_text,
    /// A schema that is met; null for none. Its index has to be of the generation's vocabulary.
    pub schema: *mut ossicle_schema,
    /// A mask of the host's; null for none.
    pub mask: *const ossicle_token_mask,
}

// SAFETY: pointers that may be null, and numbers.
unsafe impl Versioned for ossicle_constraint {}

impl ossicle_constraint {
    /// # Safety
    /// As the header says.
    unsafe fn source(&self) -> Result<Source> {
        match (self.schema.is_null(), self.mask.is_null()) {
            (false, true) => Ok(Source::Schema(self.schema)),
            (true, false) => {
                // SAFETY: as the caller promises.
                let mask = unsafe { ossicle_token_mask::read(self.mask) }?;
                if mask.allowed.is_none() {
                    return argument("a mask with a function that says what may come");
                }
                Ok(Source::Host(mask))
            }
            _ => argument("a schema or a mask in each constraint"),
        }
    }
}

/// What a turn keeps to, in its own memory. `vocabulary`: tokens of the generation's; none while measuring, when schemas are not
/// used either, since turns under way may do so.
///
/// # Safety
/// As the header says of the constraints.
pub(crate) unsafe fn carve(
    carver: &mut Carver<'static>,
    constraints: *const ossicle_constraint,
    count: usize,
    vocabulary: Option<usize>,
) -> Result<&'static mut [Constraint<'static>]> {
    // SAFETY: as the caller promises.
    let given = unsafe { Array::of(constraints, count) }?;
    for index in 0..count {
        // SAFETY: as the caller promises.
        let constraint = unsafe { given.get(index) }?;
        // SAFETY: as the caller promises.
        if unsafe { constraint.tool.read() }? == Some("") {
            return argument("the name of a tool, or null for the answer");
        }
        // SAFETY: as the caller promises.
        let Source::Schema(schema) = unsafe { constraint.source() }? else { continue };
        match vocabulary {
            // SAFETY: as the caller promises.
            None => unsafe { demand_kind(schema.cast_const()) }?,
            // SAFETY: as the caller promises.
            Some(vocabulary) if vocabulary == unsafe { exclusive(schema.cast_const()) }?.vocabulary => {}
            Some(_) => return argument("a schema with an index of the generation's vocabulary"),
        }
    }
    let masks = carver.carve_each(count, |carver, index| {
        // SAFETY: as the caller promises; all of it was read before.
        let constraint = unsafe { given.get(index) }.unwrap_or(ossicle_constraint::zero());
        // SAFETY: the same.
        let tool = unsafe { constraint.tool.read() }.unwrap_or_default();
        let on = match tool {
            None => Constrained::Answer,
            Some(tool) => Constrained::Call(copy(carver, tool)?),
        };
        // SAFETY: the same.
        let source = unsafe { constraint.source() }.unwrap_or(Source::Schema(ptr::null_mut()));
        Ok(Mask { on, source, lost: false })
    })?;
    let mut masks = masks.iter_mut();
    Ok(carver.try_from_fn(count, |_| {
        // There are as many.
        let mask = masks.next().ok_or(Error::Mask("a mask for each constraint"))?;
        Ok(Constraint { on: mask.on, mask })
    })?)
}

#[derive(Clone, Copy)]
enum Source {
    Schema(*mut ossicle_schema),
    Host(ossicle_token_mask),
}

/// The mask of a constraint.
struct Mask {
    on: Constrained<'static>,
    source: Source,
    /// A part of the text is missing from the schema's state.
    lost: bool,
}

impl Mask {
    /// The schema, if the text that it follows is that of this mask.
    fn schema(&self, schema: *const ossicle_schema) -> CoreResult<Exclusive<'_, ossicle_schema>> {
        // SAFETY: as the header says of a constraint, for as long as the turn is in use.
        let schema = unsafe { exclusive(schema) }.ok().filter(|_| !self.lost);
        schema
            .filter(|schema| schema.holder == ptr::from_ref(self).addr())
            .ok_or(Error::State("a schema that no other turn uses"))
    }
}

impl TokenMask for Mask {
    fn begin(&mut self) {
        match self.source {
            // SAFETY: as the header says of a constraint, for as long as the turn is in use.
            Source::Schema(schema) => match unsafe { exclusive(schema.cast_const()) } {
                Ok(mut schema) => {
                    schema.holder = ptr::from_ref(self).addr();
                    schema.mask.begin();
                    self.lost = false;
                }
                Err(_) => self.lost = true,
            },
            Source::Host(mask) => {
                if let Some(begin) = mask.begin {
                    // SAFETY: the host's function, with the host's data.
                    unsafe { begin(mask.data) };
                }
            }
        }
    }

    fn allowed(&mut self, words: &mut [u32]) -> CoreResult<bool> {
        match self.source {
            Source::Schema(schema) => self.schema(schema)?.mask.allowed(words),
            Source::Host(mask) => {
                let failed = Err(Error::Mask("a callback that says what may come"));
                let Some(allowed) = mask.allowed else { return failed };
                let mut may_end = 0;
                words.fill(u32::MAX);
                // SAFETY: the host's function, with the host's data and as much memory as it is told.
                let status = unsafe { allowed(mask.data, words.as_mut_ptr(), words.len(), &raw mut may_end) };
                if status == 0 { Ok(may_end != 0) } else { failed }
            }
        }
    }

    fn all_allowed(&mut self, words: &mut [u32]) -> CoreResult<bool> {
        match self.source {
            Source::Schema(schema) => self.schema(schema)?.mask.all_allowed(words),
            Source::Host(_) => self.allowed(words),
        }
    }

    fn accept(&mut self, token: u32) -> bool {
        match self.source {
            Source::Schema(schema) => {
                let accepted = self.schema(schema).map(|mut schema| schema.mask.accept(token));
                self.lost |= accepted.is_err();
                accepted.unwrap_or(false)
            }
            Source::Host(mask) => {
                if let Some(accept) = mask.accept {
                    // SAFETY: the host's function, with the host's data.
                    unsafe { accept(mask.data, token) };
                }
                true
            }
        }
    }
}
