//! Chapter 9: from logits to a token.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use ossicle_core::region::{Carver, Layout};
use ossicle_core::sampling::{LogProbability, Sampler, SamplerConfig, top_log_probabilities};

use crate::input::{Versioned, argument, demand_output, ossicle_layout, slice_of, slice_of_mut};
use crate::object::{Opaque, exclusive, layout, place};
use crate::status::{OSSICLE_OK, Result, call, ossicle_error};

/// Draws tokens. One thread at a time.
pub struct ossicle_sampler {
    _opaque: (),
}

impl Opaque for ossicle_sampler {
    type State = Sampler<'static>;
    const KIND: u32 = u32::from_le_bytes(*b"oSam");
}

/// What to add to the logit of a token.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_logit_bias {
    /// The token.
    pub token: u32,
    /// Natural logarithm of the factor on its odds; minus infinity forbids it.
    pub bias: f32,
}

/// A token and the natural logarithm of its probability under the model, before temperature, bias and cuts.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_log_probability {
    /// The token.
    pub token: u32,
    /// At most 0.
    pub value: f32,
}

/// How tokens are drawn: bias, temperature, top-k, top-p, min-p, the draw, in this order. All zero is what OpenAI
/// recommends for these models: the model's own distribution.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_sampler_config {
    /// sizeof (ossicle_sampler_config).
    pub struct_size: u32,
    /// Not 0: always take the likeliest token, the lowest id among equals.
    pub greedy: u32,
    /// Divides the logits; 0 for 1.
    pub temperature: f32,
    /// Only so many of the likeliest tokens are drawn from; 0 for all.
    pub top_k: u32,
    /// Only the fewest of the likeliest tokens that together have this probability; 0 for all.
    pub top_p: f32,
    /// Only tokens with at least this share of the likeliest one's probability; 0 for all.
    pub min_p: f32,
    /// Where the random numbers start: the same seed draws the same tokens, on every machine.
    pub seed: u64,
    /// By ascending token.
    pub logit_bias: *const ossicle_logit_bias,
    /// How many of them.
    pub logit_bias_count: usize,
}

// SAFETY: pointers that may be null, and numbers.
unsafe impl Versioned for ossicle_sampler_config {}

impl ossicle_sampler_config {
    /// The same for the core, its biases copied.
    ///
    /// # Safety
    /// As the header says of the configuration.
    pub(crate) unsafe fn carve<'r>(&self, carver: &mut Carver<'r>) -> Result<SamplerConfig<'r>> {
        // SAFETY: as the caller promises.
        let biases = unsafe { slice_of(self.logit_bias, self.logit_bias_count) }?;
        let or = |value: f32, default: f32| if value == 0.0 { default } else { value };
        Ok(SamplerConfig {
            temperature: if self.greedy == 0 { or(self.temperature, 1.0) } else { 0.0 },
            top_k: self.top_k,
            top_p: or(self.top_p, 1.0),
            min_p: self.min_p,
            seed: self.seed,
            logit_bias: carver.try_from_fn(biases.len(), |index| Ok((biases[index].token, biases[index].bias)))?,
        })
    }
}

/// Chapter 9: the sampler.
///
/// How much memory a sampler takes. A turn (chapter 12) has its own; this one is for those who run the session themselves.
///
/// `config`: how to draw; null for the defaults. `layout`: gets the size and alignment in bytes.
///
/// Memory: nothing is kept.
/// Errors: OSSICLE_ERROR_ARGUMENT.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_sampler_layout(
    config: *const ossicle_sampler_config,
    layout: *mut ossicle_layout,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(layout)?;
        // SAFETY: as the header says.
        let config = unsafe { ossicle_sampler_config::read(config) }?;
        let mut carver = Carver::measuring();
        // SAFETY: as the header says.
        unsafe { config.carve(&mut carver) }?;
        let needed: Layout = self::layout::<ossicle_sampler>(carver.layout());
        // SAFETY: a place for the result, by the check above.
        unsafe { layout.write(needed.into()) };
        Ok(OSSICLE_OK)
    })
}

/// Makes a sampler at the start of its random numbers.
///
/// `region`, `region_size`: memory as ossicle_sampler_layout says, in bytes. `config`: the same as there. `sampler`: gets
/// the sampler.
///
/// Memory: the region has to stay as it is while the sampler is in use; the configuration is copied.
/// Errors: OSSICLE_ERROR_SETTING if a number is outside its range; OSSICLE_ERROR_REGION_SIZE, OSSICLE_ERROR_REGION_ALIGN.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_sampler_new(
    region: *mut c_void,
    region_size: usize,
    config: *const ossicle_sampler_config,
    sampler: *mut *mut ossicle_sampler,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(sampler)?;
        // SAFETY: as the header says.
        let config = unsafe { ossicle_sampler_config::read(config) }?;
        let make = |behind: &'static mut [MaybeUninit<u8>]| {
            // SAFETY: as the header says.
            Ok(Sampler::new(unsafe { config.carve(&mut Carver::placing(behind)?) }?)?)
        };
        // SAFETY: as the header says.
        let made = unsafe { place::<ossicle_sampler>(region, region_size, make) }?;
        // SAFETY: a place for the result, by the check above.
        unsafe { sampler.write(made) };
        Ok(OSSICLE_OK)
    })
}

/// Draws a token.
///
/// `logits`, `count`: one row of logits. `allowed`, `allowed_words`: one bit for each token that may be drawn, the lowest bit
/// of the first word for token 0; tokens beyond the words are not allowed; null for all. `token`: gets the token.
///
/// Memory: nothing is kept.
/// Errors: OSSICLE_ERROR_STATE if no token is allowed.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_sampler_sample(
    sampler: *mut ossicle_sampler,
    logits: *const f32,
    count: usize,
    allowed: *const u32,
    allowed_words: usize,
    token: *mut u32,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(token)?;
        // SAFETY: as the header says.
        let (mut sampler, logits) = unsafe { (exclusive(sampler)?, slice_of(logits, count)?) };
        let drawn = if allowed.is_null() {
            sampler.sample(logits, |_| true)?
        } else {
            // SAFETY: as the header says.
            let words = unsafe { slice_of(allowed, allowed_words) }?;
            sampler.sample(logits, |token| {
                words.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
            })?
        };
        // SAFETY: a place for the result, by the check above.
        unsafe { token.write(drawn) };
        Ok(OSSICLE_OK)
    })
}

/// The likeliest tokens, the best first, the lowest id first among equals.
///
/// `logits`, `count`: one row of logits. `top`, `capacity`: where they go, and how many are wanted: at most 64. `found`:
/// gets how many there are.
///
/// Memory: nothing is kept.
/// Errors: OSSICLE_ERROR_ARGUMENT.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_log_probabilities(
    logits: *const f32,
    count: usize,
    top: *mut ossicle_log_probability,
    capacity: usize,
    found: *mut usize,
) -> i32 {
    call(core::ptr::null_mut(), || {
        demand_output(found)?;
        // SAFETY: as the header says.
        let (logits, top) = unsafe { (slice_of(logits, count)?, slice_of_mut(top, capacity)?) };
        let mut best = [LogProbability::default(); 64];
        let Some(best) = best.get_mut(..top.len()) else { return argument("at most 64 tokens") };
        let len = top_log_probabilities(logits, best);
        for (place, best) in top.iter_mut().zip(&best[..len]) {
            *place = (*best).into();
        }
        // SAFETY: a place for the result, by the check above.
        unsafe { found.write(len) };
        Ok(OSSICLE_OK)
    })
}

impl From<LogProbability> for ossicle_log_probability {
    fn from(LogProbability { token, value }: LogProbability) -> Self {
        Self { token, value }
    }
}
