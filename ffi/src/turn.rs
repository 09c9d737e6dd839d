//! Chapter 12, second part: one answer of the model.

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;

use ossicle_core::generation::{Constraint, Turn, TurnConfig};
use ossicle_core::region::Carver;
use ossicle_core::transformer::{DRAFT_TOKENS, Progress};

use crate::constraint::{self, ossicle_constraint};
use crate::event::{Queue, ossicle_event};
use crate::generation::{self, ossicle_generation};
use crate::hooks::{Hooks, OSSICLE_LOG_INFO, ossicle_host};
use crate::input::{Versioned, argument, copy, demand_output, ossicle_layout, ossicle_text, slice_of};
use crate::object::{Exclusive, Opaque, exclusive, layout, place};
use crate::sampler::ossicle_sampler_config;
use crate::status::{Failure, OSSICLE_MORE, OSSICLE_OK, Result, call, ossicle_error};

/// One answer of the model. One thread at a time, the same as its generation.
pub struct ossicle_turn {
    _opaque: (),
}

pub(crate) struct State {
    turn: Turn<'static>,
    queue: Queue,
    over: bool,
    generation: *mut ossicle_generation,
    /// What the turn was begun with.
    #[cfg(feature = "host")]
    config: TurnConfig<'static>,
    /// Which the turn has.
    #[cfg(feature = "host")]
    constraints: *mut [Constraint<'static>],
}

impl Opaque for ossicle_turn {
    type State = State;
    const KIND: u32 = u32::from_le_bytes(*b"oTur");
}

/// Reasoning is not bounded.
pub const OSSICLE_REASONING_UNLIMITED: u32 = 0;
/// The model answers without any reasoning.
pub const OSSICLE_REASONING_NONE: u32 = 1;
/// After reasoning_tokens of reasoning the model is led on to its answer.
pub const OSSICLE_REASONING_LIMITED: u32 = 2;

/// Nothing is drafted.
pub const OSSICLE_DRAFT_NOTHING: u32 = 0xffff_ffff;

/// How one answer is to be written.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_turn_config {
    /// sizeof (ossicle_turn_config).
    pub struct_size: u32,
    /// Most tokens to write; 0 for as many as the context holds.
    pub max_tokens: u32,
    /// OSSICLE_REASONING_*.
    pub reasoning: u32,
    /// Tokens of reasoning, for OSSICLE_REASONING_LIMITED.
    pub reasoning_tokens: u32,
    /// Not 0: the model may write any header, not only well-formed ones with known channels and tools.
    pub free_headers: u32,
    /// Not 0: each token is told in an event.
    pub log_probabilities: u32,
    /// With so many of the likeliest tokens; at most 20.
    pub top_log_probabilities: u32,
    /// Most tokens to draft, from 1; 0 for 23, OSSICLE_DRAFT_NOTHING for none. What followed where the last tokens stood in the
    /// conversation before is computed together with the token before it, if that is likely to pay. The answer is the same to
    /// the bit, and comes sooner where it repeats what was said; an ossicle_turn_step then has more tokens in a layer. Bounded
    /// by the session's logits_rows and batch_tokens, less one.
    pub draft_tokens: u32,
    /// How tokens are drawn; null for the defaults.
    pub sampler: *const ossicle_sampler_config,
    /// Texts that end the turn where they come in an answer or a preamble, of 1 to 124 bytes; they are not part of it.
    pub stop: *const ossicle_text,
    /// How many.
    pub stop_count: usize,
    /// The tools that may be called, by their full names: `functions.f`, `python`.
    pub recipients: *const ossicle_text,
    /// How many.
    pub recipient_count: usize,
    /// What the answer and the arguments of tools keep to; for a message that several are for, the first. Not with free_headers.
    pub constraints: *const ossicle_constraint,
    /// How many.
    pub constraint_count: usize,
}

// SAFETY: pointers that may be null, and numbers.
unsafe impl Versioned for ossicle_turn_config {}

/// `vocabulary`: tokens of the generation's; none while measuring.
///
/// # Safety
/// As the header says of the configuration.
unsafe fn carve(
    carver: &mut Carver<'static>,
    config: *const ossicle_turn_config,
    vocabulary: Option<usize>,
) -> Result<(TurnConfig<'static>, &'static mut [Constraint<'static>], Queue)> {
    // SAFETY: as the caller promises.
    let config = unsafe { ossicle_turn_config::read(config) }?;
    // SAFETY: as the caller promises.
    let constraints = unsafe { constraint::carve(carver, config.constraints, config.constraint_count, vocabulary) }?;
    let reasoning_tokens = match config.reasoning {
        OSSICLE_REASONING_UNLIMITED => None,
        OSSICLE_REASONING_NONE => Some(0),
        OSSICLE_REASONING_LIMITED => Some(config.reasoning_tokens as usize),
        _ => return argument("from OSSICLE_REASONING_UNLIMITED to OSSICLE_REASONING_LIMITED"),
    };
    // SAFETY: as the caller promises.
    let config = unsafe {
        TurnConfig {
            sampler: ossicle_sampler_config::read(config.sampler)?.carve(carver)?,
            max_tokens: config.max_tokens as usize,
            reasoning_tokens,
            stop: carve_texts(carver, config.stop, config.stop_count)?,
            recipients: carve_texts(carver, config.recipients, config.recipient_count)?,
            constrain_headers: config.free_headers == 0,
            log_probabilities: (config.log_probabilities != 0).then_some(config.top_log_probabilities as usize),
            draft_tokens: match config.draft_tokens {
                0 => DRAFT_TOKENS,
                OSSICLE_DRAFT_NOTHING => 0,
                most => most as usize,
            },
            ..TurnConfig::default()
        }
    };
    Ok((config, constraints, Queue::carve(carver)?))
}

/// Copies of texts.
///
/// # Safety
/// As the header says of the texts.
unsafe fn carve_texts(
    carver: &mut Carver<'static>,
    texts: *const ossicle_text,
    count: usize,
) -> Result<&'static [&'static str]> {
    // SAFETY: as the caller promises.
    let texts = unsafe { slice_of(texts, count) }?;
    for text in texts {
        // SAFETY: as the caller promises.
        unsafe { text.read() }?;
    }
    Ok(carver.carve_each(count, |carver, index| {
        let text = texts.get(index).copied().unwrap_or(ossicle_text::NONE);
        // SAFETY: as the caller promises; it was read before.
        copy(carver, unsafe { text.read() }.ok().flatten().unwrap_or_default())
    })?)
}

/// How much memory a turn takes. The memory of one that is over can be used for the next.
///
/// `config`: how to answer; null for the defaults. `layout`: gets the size and alignment in bytes, some 33 kilobytes.
///
/// Memory: nothing is kept.
/// Errors: OSSICLE_ERROR_ARGUMENT, OSSICLE_ERROR_STRUCT_SIZE; OSSICLE_ERROR_OBJECT of a schema.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_turn_layout(
    config: *const ossicle_turn_config,
    layout: *mut ossicle_layout,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(layout)?;
        let mut carver = Carver::measuring();
        // SAFETY: as the header says.
        unsafe { carve(&mut carver, config, None) }?;
        // SAFETY: a place for the result, by the check above.
        unsafe { layout.write(self::layout::<ossicle_turn>(carver.layout()).into()) };
        Ok(OSSICLE_OK)
    })
}

/// Begins an answer: the prompt is the conversation, and the beginning of a message of the assistant. An earlier turn of the
/// generation is over.
///
/// `generation`: the conversation. `region`, `region_size`: memory as ossicle_turn_layout says, in bytes. `config`: the same
/// as there. `turn`: gets the turn.
///
/// Memory: the region and the generation have to stay as they are while the turn is in use, and so do the schemas of its
/// constraints; the configuration is copied. There is nothing to free.
/// Errors: as ossicle_turn_layout; OSSICLE_ERROR_ARGUMENT if the index of a schema is of another vocabulary;
/// OSSICLE_ERROR_SETTING if a number is outside its range, or if there are constraints and free headers;
/// OSSICLE_ERROR_BUSY of a schema; OSSICLE_ERROR_CAPACITY if the context is full; OSSICLE_ERROR_REGION_SIZE,
/// OSSICLE_ERROR_REGION_ALIGN. The conversation is as before; only if the context is full, an unfinished message is ended.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_turn_new(
    generation: *mut ossicle_generation,
    region: *mut c_void,
    region_size: usize,
    config: *const ossicle_turn_config,
    turn: *mut *mut ossicle_turn,
    error: *mut ossicle_error,
) -> i32 {
    // SAFETY: as the header says.
    call(error, || unsafe { begin_after(generation, region, region_size, config, turn, |_| Ok(())) })
}

/// Begins an answer after `prepare`, which is called once nothing about the configuration can be refused any more.
///
/// # Safety
/// As the header says of [`ossicle_turn_new`].
pub(crate) unsafe fn begin_after(
    generation: *mut ossicle_generation,
    region: *mut c_void,
    region_size: usize,
    config: *const ossicle_turn_config,
    turn: *mut *mut ossicle_turn,
    prepare: impl FnOnce(&mut generation::State) -> Result<()>,
) -> Result<i32> {
    demand_output(turn)?;
    // SAFETY: as the caller promises.
    let mut owner = unsafe { exclusive(generation) }?;
    let vocabulary = Some(owner.generation.tokenizer().vocabulary_len());
    let make = |behind: &'static mut [MaybeUninit<u8>]| {
        // SAFETY: as the caller promises.
        let (config, constraints, queue) = unsafe { carve(&mut Carver::placing(behind)?, config, vocabulary) }?;
        config.check(!constraints.is_empty())?;
        prepare(&mut owner)?;
        let constraints = &raw mut *constraints;
        // SAFETY: they were just made, and nothing else uses them while the turn is there.
        let turn = Turn::new(&mut owner.generation, config)?.with_constraints(unsafe { &mut *constraints })?;
        Ok(State {
            turn,
            queue,
            over: false,
            generation,
            #[cfg(feature = "host")]
            config,
            #[cfg(feature = "host")]
            constraints,
        })
    };
    // SAFETY: as the caller promises.
    let made = unsafe { place::<ossicle_turn>(region, region_size, make) }?;
    // SAFETY: a place for the result, by the check above.
    unsafe { turn.write(made) };
    Ok(OSSICLE_OK)
}

/// Whether an answer may go on after a turn that is over.
///
/// # Safety
/// As the header says of the turn.
#[cfg(feature = "host")]
pub(crate) unsafe fn has_tokens_left(turn: *const ossicle_turn) -> Result<bool> {
    // SAFETY: as the caller promises.
    let state = unsafe { exclusive(turn) }?;
    let State { turn, config, .. } = &*state;
    Ok(config.max_tokens == 0 || config.max_tokens > turn.usage().output_tokens)
}

/// Begins the next turn of an answer in the place of one that is over, for which tokens are left, with what is left of its
/// configuration and other random numbers.
///
/// # Safety
/// As the header says of the turn.
#[cfg(feature = "host")]
pub(crate) unsafe fn go_on(turn: *mut ossicle_turn) -> Result<()> {
    // SAFETY: as the caller promises.
    let mut both = unsafe { Both::of(turn) }?;
    let Both { turn, generation } = &mut both;
    let State { turn, over, config, constraints, .. } = &mut **turn;
    // Another place in the random numbers, far from what a turn can use.
    config.sampler.seed = config.sampler.seed.wrapping_add(1 << 32);
    let usage = turn.usage();
    config.max_tokens = config.max_tokens.saturating_sub(usage.output_tokens);
    config.reasoning_tokens = config.reasoning_tokens.map(|most| most.saturating_sub(usage.reasoning_tokens));
    let next = Turn::new(&mut generation.generation, *config)?;
    // SAFETY: the turn that had them is over and goes.
    *turn = next.with_constraints(unsafe { &mut **constraints })?;
    *over = false;
    Ok(())
}

/// A turn and its generation, in use.
struct Both<'a> {
    turn: Exclusive<'a, ossicle_turn>,
    generation: Exclusive<'a, ossicle_generation>,
}

impl Both<'_> {
    /// # Safety
    /// As the header says.
    unsafe fn of(turn: *const ossicle_turn) -> Result<Self> {
        // SAFETY: as the caller promises.
        let turn = unsafe { exclusive(turn) }?;
        // SAFETY: as the caller promises.
        let generation = unsafe { exclusive(turn.generation.cast_const()) }?;
        Ok(Self { turn, generation })
    }

    /// One unit of work, for which there must be room.
    fn step(&mut self, hooks: &Hooks) -> Result<Progress> {
        let State { turn, queue, over, .. } = &mut *self.turn;
        let generation::State { generation, .. } = &mut *self.generation;
        if *over {
            return Ok(Progress::Done);
        }
        let progress = turn.step(generation, hooks, &mut |event| queue.take_turn(event));
        let progress = hooks.logging(progress.map_err(Failure::from))?;
        queue.check()?;
        if progress == Progress::Done {
            *over = true;
            let usage = turn.usage();
            hooks.log(
                OSSICLE_LOG_INFO,
                format_args!("turn over: {} tokens read, {} written", usage.input_tokens, usage.output_tokens),
            );
        }
        Ok(progress)
    }
}

/// Does a part of the work: a layer of the prompt, or of a token. Between steps nothing is owed: stopping is not calling.
///
/// `host`: threads and clock; null for the calling thread and no clock. `budget`: with a clock, microseconds after which to
/// return; without one, layers to compute. At least one layer is computed, unless events have to be taken first.
///
/// Returns OSSICLE_MORE while the turn is under way, and OSSICLE_OK once it is over; events may wait in either case.
/// Errors: OSSICLE_ERROR_NOT_FINITE; OSSICLE_ERROR_CALLBACK if a mask of the host's failed, or a read of experts; OSSICLE_ERROR_STATE
/// as ossicle_session_step, if no token is allowed, if another turn has taken a schema, or if a later call with the generation has
/// ended the turn; OSSICLE_ERROR_TOKEN if a damaged index of the tokenizer has given a token that the model does not have. Except
/// where the turn has ended, it can be stepped again, which asks masks again, or cancelled.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_turn_step(
    turn: *mut ossicle_turn,
    host: *const ossicle_host,
    budget: u64,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        // SAFETY: as the header says.
        let (mut both, hooks) = unsafe { (Both::of(turn)?, Hooks::read(host)?) };
        let mut budget = hooks.budget(budget);
        while both.turn.over || both.turn.queue.has_room() {
            match both.step(&hooks)? {
                Progress::Done => return Ok(OSSICLE_OK),
                Progress::More if budget.spend() => break,
                Progress::More => {}
            }
        }
        Ok(OSSICLE_MORE)
    })
}

/// Takes the next event that waits, without computing anything.
///
/// `event`: gets a pointer to it.
///
/// Returns OSSICLE_MORE with an event, and OSSICLE_OK without, if none waits.
/// Memory: the event and its texts are part of the turn, until the next call that computes.
/// Errors: none of its own.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_turn_event(turn: *mut ossicle_turn, event: *mut *const ossicle_event) -> i32 {
    call(ptr::null_mut(), || {
        demand_output(event)?;
        // SAFETY: as the header says.
        let Some(found) = unsafe { exclusive(turn) }?.queue.next() else { return Ok(OSSICLE_OK) };
        // SAFETY: a place for the result, by the check above.
        unsafe { event.write(found) };
        Ok(OSSICLE_MORE)
    })
}

/// Takes the next event, and computes until there is one.
///
/// `host`: threads; null for the calling thread. `event`: gets a pointer to it.
///
/// Returns OSSICLE_MORE with an event, and OSSICLE_OK without, once the turn is over and all events have been taken.
/// Memory: the event and its texts are part of the turn, until the next call that computes.
/// Errors: as ossicle_turn_step.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_turn_next(
    turn: *mut ossicle_turn,
    host: *const ossicle_host,
    event: *mut *const ossicle_event,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        demand_output(event)?;
        // SAFETY: as the header says.
        let (mut both, hooks) = unsafe { (Both::of(turn)?, Hooks::read(host)?) };
        while both.turn.queue.is_empty() && !both.turn.over {
            // All has been taken, so there is room.
            both.turn.queue.has_room();
            both.step(&hooks)?;
        }
        let Some(found) = both.turn.queue.next() else { return Ok(OSSICLE_OK) };
        // SAFETY: a place for the result, by the check above.
        unsafe { event.write(found) };
        Ok(OSSICLE_MORE)
    })
}

/// Is handed an event. Returns 0, or anything else to end the turn.
pub type ossicle_event_handler = Option<unsafe extern "C" fn(data: *mut c_void, event: *const ossicle_event) -> i32>;

/// Runs the turn to its end and hands each event to a function, those that wait first.
///
/// `host`: threads; null for the calling thread. `data`: handed to `handle`. `handle`: takes the events. If it asks for the
/// end, the turn is cancelled, and the events of that come too.
///
/// Memory: an event and its texts are valid during the call of `handle`.
/// Errors: as ossicle_turn_step.
/// Threads: one at a time; `handle` is called on the calling thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_turn_run(
    turn: *mut ossicle_turn,
    host: *const ossicle_host,
    data: *mut c_void,
    handle: ossicle_event_handler,
    error: *mut ossicle_error,
) -> i32 {
    call(error, || {
        let Some(handle) = handle else { return argument("a function that takes events") };
        // SAFETY: as the header says.
        let (mut both, hooks) = unsafe { (Both::of(turn)?, Hooks::read(host)?) };
        loop {
            let mut cancelled = false;
            while let Some(event) = both.turn.queue.next() {
                // SAFETY: the host's function, with the host's data; the event is valid for the call.
                cancelled |= unsafe { handle(data, event) } != 0;
            }
            if both.turn.over {
                return Ok(OSSICLE_OK);
            }
            // All has been taken, so there is room.
            both.turn.queue.has_room();
            if cancelled { cancel(&mut both) } else { both.step(&hooks).map(|_| ()) }?;
        }
    })
}

fn cancel(both: &mut Both<'_>) -> Result<()> {
    let State { turn, queue, over, .. } = &mut *both.turn;
    turn.cancel(&mut both.generation.generation, &mut |event| queue.take_turn(event));
    *over = true;
    queue.check()
}

/// Ends the turn where it is; its last events are to be taken. What was written stays in the conversation.
///
/// Returns OSSICLE_MORE, having done nothing, if events have to be taken first.
/// Errors: none of its own. A turn that is over stays so; one that a later call with the generation has ended has no more
/// events.
/// Threads: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_turn_cancel(turn: *mut ossicle_turn) -> i32 {
    call(ptr::null_mut(), || {
        // SAFETY: as the header says.
        let mut both = unsafe { Both::of(turn) }?;
        if both.turn.over {
            return Ok(OSSICLE_OK);
        }
        if !both.turn.queue.has_room() {
            return Ok(OSSICLE_MORE);
        }
        cancel(&mut both)?;
        Ok(OSSICLE_OK)
    })
}
