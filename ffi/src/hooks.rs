//! Chapter 4: what the host may lend: threads, a clock, a log.

use core::ffi::{c_char, c_void};
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};

use ossicle_core::parallel::Parallel;

use crate::input::Versioned;
use crate::status::{Result, Text};

/// A piece of work that any number of threads may enter at once.
pub type ossicle_job = Option<unsafe extern "C" fn(job_data: *mut c_void)>;

/// Runs `job(job_data)` on as many of the host's threads as it likes, each any number of times (even none), and returns when
/// all of these calls have returned. Ossicle shares the work out inside, and does on the calling thread what others have
/// not done. A serial implementation is `job(job_data);`, or nothing.
pub type ossicle_parallel = Option<unsafe extern "C" fn(data: *mut c_void, job: ossicle_job, job_data: *mut c_void)>;

/// A clock that does not go back, in microseconds from any beginning.
pub type ossicle_clock = Option<unsafe extern "C" fn(data: *mut c_void) -> u64>;

/// Takes a line of text, without a line feed, that does not end in a zero byte.
pub type ossicle_log = Option<unsafe extern "C" fn(data: *mut c_void, level: u32, text: *const c_char, size: usize)>;

/// Something failed. The call that logs it returns it too.
pub const OSSICLE_LOG_ERROR: u32 = 1;
/// Something happened.
pub const OSSICLE_LOG_INFO: u32 = 3;

/// What the host lends to a call. Every field is optional; where a call takes one, null means none of them.
///
/// Memory: read during the call only.
/// Threads: callbacks are called on the calling thread, during the call; jobs run wherever `parallel` puts them. No callback
/// may call Ossicle with the objects of the call, which would be refused with OSSICLE_ERROR_BUSY.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_host {
    /// sizeof (ossicle_host).
    pub struct_size: u32,
    /// How many threads besides the caller `parallel` has; 0 if it does not know.
    pub workers: u32,
    /// Handed to every callback.
    pub data: *mut c_void,
    /// The host's threads; null computes on the calling thread.
    pub parallel: ossicle_parallel,
    /// The host's clock; with it, budgets are in microseconds.
    pub clock: ossicle_clock,
    /// The host's log.
    pub log: ossicle_log,
}

// SAFETY: pointers that may be null, and numbers.
unsafe impl Versioned for ossicle_host {}

/// The callbacks of one call.
pub(crate) struct Hooks(ossicle_host);

// SAFETY: of the callbacks only `parallel` is reached through `Parallel`, on the thread of the call; `data` is not touched.
unsafe impl Sync for Hooks {}

impl Hooks {
    /// # Safety
    /// Null, or as the header says.
    pub unsafe fn read(host: *const ossicle_host) -> Result<Self> {
        // SAFETY: as the caller promises.
        unsafe { ossicle_host::read(host) }.map(Self)
    }

    /// A budget, which begins to run.
    pub fn budget(&self, budget: u64) -> Budget<'_> {
        match self.now() {
            Some(now) => Budget { hooks: self, units: None, deadline: now.saturating_add(budget) },
            None => Budget { hooks: self, units: Some(budget), deadline: 0 },
        }
    }

    fn now(&self) -> Option<u64> {
        // SAFETY: the host's function, with the host's data.
        self.0.clock.map(|clock| unsafe { clock(self.0.data) })
    }

    pub fn log(&self, level: u32, line: core::fmt::Arguments<'_>) {
        if let Some(log) = self.0.log {
            let mut text = Text::<256>::default();
            // Cut where the room ends.
            let _ = text.write_fmt(line);
            let bytes = text.as_bytes();
            // SAFETY: the host's function, with the host's data; the text is valid for the call.
            unsafe { log(self.0.data, level, bytes.as_ptr().cast(), bytes.len()) };
        }
    }

    /// Logs what fails.
    pub fn logging<T>(&self, result: Result<T>) -> Result<T> {
        result.inspect_err(|failure| self.log(OSSICLE_LOG_ERROR, format_args!("{failure}")))
    }
}

/// How much a call may still do: at least one unit of work.
pub(crate) struct Budget<'h> {
    hooks: &'h Hooks,
    /// Units of work, where there is no clock.
    units: Option<u64>,
    deadline: u64,
}

impl Budget<'_> {
    /// A unit of work was done: whether that was the last.
    pub fn spend(&mut self) -> bool {
        match &mut self.units {
            Some(units) => {
                *units = units.saturating_sub(1);
                *units == 0
            }
            None => self.hooks.now().is_none_or(|now| now >= self.deadline),
        }
    }
}

/// A job of the core, and whether it panicked on some thread.
struct Job<'j> {
    job: &'j (dyn Fn() + Sync),
    panicked: AtomicBool,
}

unsafe extern "C" fn enter(data: *mut c_void) {
    // SAFETY: `run` below passes a job, which outlives the host's calls.
    let job = unsafe { &*data.cast::<Job<'_>>() };
    #[cfg(feature = "host")]
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job.job)).is_err() {
        job.panicked.store(true, Ordering::Relaxed);
    }
    #[cfg(not(feature = "host"))]
    (job.job)();
}

impl Parallel for Hooks {
    fn workers(&self) -> usize {
        if self.0.parallel.is_some() { self.0.workers.max(1) as usize } else { 0 }
    }

    fn run(&self, job: &(dyn Fn() + Sync)) {
        let Some(parallel) = self.0.parallel else { return };
        let job = Job { job, panicked: AtomicBool::new(false) };
        // SAFETY: the host's function, with the host's data. It returns when no thread uses the job any more.
        unsafe { parallel(self.0.data, Some(enter), (&raw const job).cast_mut().cast()) };
        assert!(!job.panicked.load(Ordering::Relaxed), "a job panicked on a thread of the host");
    }
}
