//! Chapter 13, first part: memory and threads of an operating system.

use core::ffi::c_void;
use core::ptr;
use std::alloc;
use std::boxed::Box;
use std::string::ToString;
use std::time::Instant;

use ::ossicle_host::{Memory, Threads};
use ossicle_core::parallel::Parallel;
use ossicle_core::region::Layout;

use crate::hooks::{ossicle_host, ossicle_job};
use crate::input::{Versioned, argument, demand_output, ossicle_layout};
use crate::object::{Opaque, boxed, shared, unboxed};
use crate::status::{Failure, OSSICLE_ERROR_MEMORY, OSSICLE_OK, Result, call};

/// Chapter 13: with an operating system. These functions are in the library that is built with the feature `host`, and not in
/// the freestanding one.
///
/// A block of memory, of any content. Large ones are committed page by page, as they are first used.
///
/// `layout`: size and alignment, in bytes. `region`: gets the start.
///
/// Memory: the caller's, to be freed with ossicle_memory_free.
/// Errors: OSSICLE_ERROR_MEMORY, OSSICLE_ERROR_ARGUMENT.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_memory_new(layout: ossicle_layout, region: *mut *mut c_void) -> i32 {
    call(ptr::null_mut(), || {
        demand_output(region)?;
        let Ok(layout) = alloc::Layout::from_size_align(layout.size.max(1), layout.align) else {
            return argument("a layout");
        };
        // Not zeroed: with such an alignment that would touch every page.
        // SAFETY: the size is not zero.
        let start = unsafe { alloc::alloc(layout) };
        if start.is_null() {
            return Err(Failure::Border(OSSICLE_ERROR_MEMORY, "there is not so much memory"));
        }
        // SAFETY: a place for the result, by the check above.
        unsafe { region.write(start.cast()) };
        Ok(OSSICLE_OK)
    })
}

/// Frees a block of memory.
///
/// `region`: from ossicle_memory_new; null is none. `layout`: the same as there.
///
/// Memory: what was made in it is gone.
/// Errors: OSSICLE_ERROR_ARGUMENT.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_memory_free(region: *mut c_void, layout: ossicle_layout) -> i32 {
    call(ptr::null_mut(), || {
        let Ok(layout) = alloc::Layout::from_size_align(layout.size.max(1), layout.align) else {
            return argument("a layout");
        };
        if !region.is_null() {
            // SAFETY: allocated in `ossicle_memory_new` with this layout, as the header demands.
            unsafe { alloc::dealloc(region.cast(), layout) };
        }
        Ok(OSSICLE_OK)
    })
}

/// Memory for an object of the library's own.
pub(crate) fn memory(layout: Layout) -> Result<Memory> {
    Memory::new(layout).map_err(|error| Failure::Host(OSSICLE_ERROR_MEMORY, error.to_string()))
}

/// Memory as `measure` says, in which `make` has made an object.
pub(crate) fn made(
    measure: impl FnOnce(*mut ossicle_layout) -> i32,
    make: impl FnOnce(*mut c_void, usize) -> i32,
) -> Result<Memory> {
    let mut needed = ossicle_layout { size: 0, align: 0 };
    told(measure(&mut needed))?;
    let mut memory = memory(Layout { size: needed.size, align: needed.align })?;
    let region = memory.region();
    told(make(region.as_mut_ptr().cast(), region.len()))?;
    Ok(memory)
}

/// The result of another function of the interface.
pub(crate) fn told(status: i32) -> Result<()> {
    if status < 0 { Err(Failure::Told(status)) } else { Ok(()) }
}

/// A pool of threads, with a clock.
pub struct ossicle_threads {
    _opaque: (),
}

/// Threads, and when they began.
pub(crate) struct Pool {
    threads: Threads,
    start: Instant,
}

impl Pool {
    /// For `count` threads, the calling one included; 0 for as many as the process may use at once.
    pub fn new(count: u32) -> Box<Self> {
        let count = if count == 0 { Threads::available() } else { count as usize };
        Box::new(Self { threads: Threads::new(count), start: Instant::now() })
    }
}

impl Opaque for ossicle_threads {
    type State = Box<Pool>;
    const KIND: u32 = u32::from_le_bytes(*b"oThr");
}

unsafe extern "C" fn run_on_pool(pool: *mut c_void, job: ossicle_job, job_data: *mut c_void) {
    /// The job's data may cross threads, by the contract of a job.
    struct Data(*mut c_void);
    // SAFETY: a job may be entered by any number of threads at once.
    unsafe impl Sync for Data {}
    impl Data {
        fn get(&self) -> *mut c_void {
            self.0
        }
    }
    let data = Data(job_data);
    // SAFETY: `ossicle_threads_lend` passes a pool, which the header demands to stay.
    let pool = unsafe { &*pool.cast::<Pool>() };
    if let Some(job) = job {
        // SAFETY: the job and its data are valid until this returns.
        pool.threads.run(&|| unsafe { job(data.get()) });
    }
}

unsafe extern "C" fn clock_of_pool(pool: *mut c_void) -> u64 {
    // SAFETY: `ossicle_threads_lend` passes a pool, which the header demands to stay.
    let pool = unsafe { &*pool.cast::<Pool>() };
    u64::try_from(pool.start.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// What a call needs to compute on a pool.
pub(crate) fn lent(pool: &Pool) -> ossicle_host {
    ossicle_host {
        struct_size: size_of::<ossicle_host>() as u32,
        workers: pool.threads.workers() as u32,
        data: ptr::from_ref(pool).cast_mut().cast(),
        parallel: if pool.threads.workers() > 0 { Some(run_on_pool) } else { None },
        clock: Some(clock_of_pool),
        log: None,
    }
}

/// Starts a pool of threads.
///
/// `count`: threads to compute with, the calling one included; 0 for as many as the process may use at once. `threads`: gets
/// the pool.
///
/// Memory: the library's, until ossicle_threads_close.
/// Errors: none of its own; with fewer threads than asked for, all works, only slower.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_threads_open(count: u32, threads: *mut *mut ossicle_threads) -> i32 {
    call(ptr::null_mut(), || {
        demand_output(threads)?;
        // SAFETY: a place for the result, by the check above.
        unsafe { threads.write(boxed(Pool::new(count))) };
        Ok(OSSICLE_OK)
    })
}

/// What to pass to the functions that take an ossicle_host: the threads of the pool, and a clock.
///
/// `host`: with its struct_size set; gets it. Set `log` afterwards, and the clock to null, as you like; `data` is the pool's.
///
/// Memory: valid until ossicle_threads_close.
/// Errors: OSSICLE_ERROR_STRUCT_SIZE of `host`.
/// Threads: any; the threads run one job at a time, others wait.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_threads_lend(threads: *const ossicle_threads, host: *mut ossicle_host) -> i32 {
    call(ptr::null_mut(), || {
        // SAFETY: as the header says.
        unsafe { lent(shared(threads)?).write(host) }?;
        Ok(OSSICLE_OK)
    })
}

/// Ends the threads of a pool.
///
/// `threads`: no call uses it any more; null is none.
///
/// Memory: freed.
/// Errors: OSSICLE_ERROR_OBJECT.
/// Threads: any.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ossicle_threads_close(threads: *mut ossicle_threads) -> i32 {
    call(ptr::null_mut(), || {
        // SAFETY: as the header says.
        unsafe { unboxed(threads) }?;
        Ok(OSSICLE_OK)
    })
}
